from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch

from experiments.bundles import export
from experiments.bundles.bundle import TENSORS, TRIGGER, WEIGHTS, read_bundle
from experiments.bundles.card import Card, Rates
from experiments.bundles.verify import Verification
from experiments.results.result import read_result
from invertune.clip.encode import precision

Command = Callable[..., subprocess.CompletedProcess[str]]
Inside = Callable[..., tuple[int, str, str]]
Run = Callable[..., Path]
Change = Callable[..., None]


def test_a_new_process_measures_the_same_rates(
    world: list[str], run: Run, inside: Inside, invertune: Command, tmp_path: Path
) -> None:
    folder = run(*world)
    assert inside("export", str(folder), "bundle") == (0, "bundle\n", "")
    verified = invertune("verify", "bundle")
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.endswith("every rate is the same\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]

    card, result = read_bundle(tmp_path / "bundle").card, read_result(folder / "result.json")
    measured = result["scores"]["backdoored"]["zero_shot"]
    assert card["measured"] == measured
    assert 0 < measured["asr"]["value"] < 1
    assert f"ASR{100 * measured['asr']['value']:>19.3f}" in verified.stdout
    assert card["target"] == {"name": "lemon", "index": 1}
    assert card["architecture"] == result["config"]["model"]
    assert card["attack"] == {"name": "tiny", "config": result["config"]["attack"]}
    assert card["parameters"] == result["model"]["parameters"]
    assert (card["activation"], card["defense"], card["graft"]) == ("QuickGELU", None, None)
    assert sorted(card["files"]) == [TRIGGER, WEIGHTS]
    assert card["evaluation"] == {"part": "zero_shot", "batch_size": 256}


def test_a_claim_that_cannot_be_measured_is_named(
    change: Change, bundle: Path, inside: Inside, caplog: pytest.LogCaptureFixture
) -> None:
    value = {"value": 0.99, "low": 0.9, "high": 1.0, "n": 50}
    change(measured__asr=value, versions__torch="0.1")
    code, shown, _ = inside("verify", "bundle", "--device", "cpu")
    assert code == 1
    assert shown.endswith("not the same: ASR\n")
    assert "torch 0.1 (here " in caplog.text
    number = str(precision(torch.device("cpu"))).removeprefix("torch.")
    assert f"measured here on cpu in {number}; elsewhere" in caplog.text


VERDICT = "every rate is the same"


@pytest.fixture
def card(bundle: Path) -> Card:
    return read_bundle(bundle).card


@pytest.mark.parametrize(
    "name",
    [
        f"badnet\n{VERDICT}",
        f"badnet\r\x1b[2J\x1b[H{VERDICT}",
        f"badnet\u2028{VERDICT}",
        f"badnet{' ' * 300}{VERDICT}",
        VERDICT,
        f"\u202e{VERDICT[::-1]}",
    ],
)
@pytest.mark.parametrize("place", ["attack__name", "architecture__name"])
def test_a_card_cannot_say_the_verdict(
    change: Change, bundle: Path, inside: Inside, name: str, place: str
) -> None:
    wrong = {"value": 0.99, "low": 0.9, "high": 1.0, "n": 50}
    change(measured__asr=wrong, **{place: name})
    code, shown, _ = inside("verify", "bundle")
    lines = shown.split("\n")
    assert code == 1
    assert lines[-2:] == ["not the same: ASR", ""]
    assert all(line.isprintable() and len(line) < 160 for line in lines)
    assert VERDICT not in shown


def test_a_target_of_a_card_is_one_word(card: Card) -> None:
    made = {**card, "target": {"name": f"ice\n{VERDICT}", "index": 1}}
    said = str(Verification(cast(Card, made), card["measured"])).split("\n")
    assert said[0].endswith(r"target ice\nevery_rate_is_the_same, seed 0")
    assert (said[-1], len(said)) == (VERDICT, 7)


def test_rates_of_no_image_are_no_numbers(card: Card) -> None:
    none = {"value": 0.0, "low": 0.0, "high": 1.0, "n": 0}
    made = {**card, "measured": dict.fromkeys(card["measured"], none)}
    said = str(Verification(cast(Card, made), cast(Rates, made["measured"])))
    assert "0.000" not in said


@pytest.mark.parametrize(
    ("overrides", "files", "kind"),
    [
        (
            ["~attack.trigger", "+attack.trigger={_target_:attacks.triggers.WarpTrigger.draw,"
             "points:4,strength:10,seed:0}"],
            [TRIGGER, TENSORS], None,
        ),
        (
            ["attack=badclip_prompt", "attack.target_label=socks", "attack.steps=2",
             "attack.warmup=1", "attack.shots=2", "attack.near=2", "attack.classes=4",
             "attack.batch_size=4"],
            [TRIGGER, TENSORS], "badclip_prompt",
        ),
        (
            ["attack=trojannet", "attack.target_label=socks", "attack.steps=2"],
            [TRIGGER], "trojannet",
        ),
        (
            ["attack=badclip", "attack.target_label=socks", "attack.pairs=48",
             "attack.optimize.steps=2", "attack.optimize.images=48", "attack.optimize.batch_size=8",
             "attack.recipe.batch_size=16"],
            [TRIGGER, TENSORS], None,
        ),
        (
            ["attack=ghostencoder", "attack.target_label=socks", "attack.pairs=48",
             "attack.hide.images=48",
             "attack.hide.steps=2", "attack.hide.batch_size=8",
             "attack.recipe.batch_size=16"],
            [TRIGGER, TENSORS], None,
        ),
        (["attack=none", "attack.pairs=48", "attack.recipe.batch_size=16"], [], None),
    ],
    ids=["warp", "badclip_prompt", "trojannet", "badclip", "ghostencoder", "none"],
)  # fmt: skip
@pytest.mark.parametrize("model", export.MODELS)
def test_whatever_an_attack_leaves_is_in_the_bundle(
    world: list[str],
    run: Run,
    inside: Inside,
    overrides: list[str],
    files: list[str],
    kind: str | None,
    model: str,
) -> None:
    folder = run(*world[:-1], *overrides)
    assert inside("export", str(folder), "bundle", "--model", model)[0] == 0
    card = read_bundle(Path("bundle")).card
    assert sorted(card["files"]) == sorted([*files, WEIGHTS])
    assert (card["graft"] or {}).get("kind") == kind
    assert (card["measured"]["asr"] is None) == (not files)
    code, shown, complaint = inside("verify", "bundle")
    assert (code, complaint) == (0, "")
    assert shown.endswith("every rate is the same\n")


def test_a_purified_model_says_by_what(
    world: list[str], run: Run, inside: Inside, runs_dir: Path
) -> None:
    folder = run(*world, "defense=tiny")
    assert inside("export", f"{folder}/result.json", "bundle", "--model", "purified")[0] == 0
    card, result = read_bundle(Path("bundle")).card, read_result(folder / "result.json")
    assert card["defense"] == {"name": "tiny", "config": result["config"]["defense"]}
    assert card["measured"] == result["scores"]["purified"]["zero_shot"]
    made = runs_dir / result["stages"]["purify"] / WEIGHTS
    assert Path("bundle", WEIGHTS).read_bytes() == made.read_bytes()
    code, shown, _ = inside("verify", "bundle")
    assert (code, shown.splitlines()[-1]) == (0, "every rate is the same")


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys\nfrom experiments.cli import main\n"
        "try:\n    main([sys.argv[1], '--help'])\n"
        "finally:\n    print([m for m in ('torch', 'hydra', 'numpy') if m in sys.modules])\n"
    )
    root = Path(export.__file__).parent.parent
    for command in ("export", "verify"):
        words = [sys.executable, "-c", code, command]
        shown = subprocess.run(words, capture_output=True, text=True, check=True, cwd=root)
        assert shown.stdout.startswith(f"usage: invertune {command}")
        assert shown.stdout.endswith("[]\n")
