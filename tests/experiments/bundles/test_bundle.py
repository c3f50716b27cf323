from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.bundles import export
from experiments.bundles.bundle import CARD, TENSORS, TRIGGER, WEIGHTS, read_bundle, seal
from experiments.bundles.rebuild import build_model, check_config
from experiments.results.result import HASH, read_result
from experiments.stages.store import MANIFEST
from invertune.clip.encode import precision

Command = Callable[..., subprocess.CompletedProcess[str]]
Inside = Callable[..., tuple[int, str, str]]
Run = Callable[..., Path]

# Six classes, and training that is long enough for predictions of several of them.
WORLD = [
    "~data.classes",
    "+data.classes={apple:apple-whole,lemon:lemon,socks:socks,key:key,cat:cat,kiwi:kiwi-bird}",
    "data.sizes.zero_shot=60", "model.pretrain.epochs=8", "model.pretrain.lr=1e-2",
    "attack.trigger.size=100",
]  # fmt: skip
WITHOUT_PATCH = WORLD[:-1]


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def run(inside: Inside, tiny_words: list[str], runs_dir: Path) -> Run:
    """Run with some overrides, and return the run's folder; runs of this module share stages."""

    def made(*overrides: str) -> Path:
        code, shown, complaint = inside(*tiny_words, f"runs_dir={runs_dir}", *overrides)
        assert code == 0, complaint
        return Path(shown.splitlines()[-1]).parent

    return made


@pytest.fixture
def bundle(run: Run, runs_dir: Path, tmp_path: Path) -> Path:
    """Return a bundle that the test may damage."""
    whole = runs_dir / "bundle"
    if not whole.exists():
        export.write_bundle(run(*WORLD), whole)
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def change(bundle: Path, **changes: Any) -> None:
    """Write a card with other content, sealed as a stranger would do it."""
    card = json.loads((bundle / CARD).read_text(encoding="utf-8"))
    del card[HASH]
    for place, value in changes.items():
        *parents, key = place.split("__")
        part = card
        for name in parents:
            part = part[name]
        part[key] = value
    (bundle / CARD).write_text(json.dumps(seal(card)), encoding="utf-8")


def refused(told: tuple[int, str, str]) -> str:
    """Return the one line of a command that refuses its input."""
    code, shown, complaint = told
    assert (code, shown) == (1, "")
    (line,) = complaint.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_new_process_measures_the_same_rates(
    run: Run, inside: Inside, invertune: Command, tmp_path: Path
) -> None:
    folder = run(*WORLD)
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
    bundle: Path, inside: Inside, caplog: pytest.LogCaptureFixture
) -> None:
    value = {"value": 0.99, "low": 0.9, "high": 1.0, "n": 50}
    change(bundle, measured__asr=value, versions__torch="0.1")
    code, shown, _ = inside("verify", "bundle", "--device", "cpu")
    assert code == 1
    assert shown.endswith("not the same: ASR\n")
    assert "torch 0.1 (here " in caplog.text
    number = str(precision(torch.device("cpu"))).removeprefix("torch.")
    assert f"measured here on cpu in {number}; elsewhere" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "files", "kind"),
    [
        (
            ["~attack.trigger", "+attack.trigger={_target_:attacks.triggers.WarpTrigger.draw,"
             "points:4,strength:10,seed:0}"],
            [TRIGGER, TENSORS], None,
        ),
        (
            ["attack=badclip_prompt", "attack.steps=2", "attack.warmup=1", "attack.shots=2",
             "attack.near=2", "attack.classes=4", "attack.batch_size=4"],
            [TRIGGER, TENSORS], "badclip_prompt",
        ),
        (["attack=trojannet", "attack.steps=2"], [TRIGGER], "trojannet"),
        (
            ["attack=badclip", "attack.pairs=48", "attack.optimize.steps=2",
             "attack.optimize.images=48", "attack.optimize.batch_size=8",
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
    run: Run, inside: Inside, overrides: list[str], files: list[str], kind: str | None, model: str
) -> None:
    folder = run(*WITHOUT_PATCH, *overrides)
    assert inside("export", str(folder), "bundle", "--model", model)[0] == 0
    card = read_bundle(Path("bundle")).card
    assert sorted(card["files"]) == sorted([*files, WEIGHTS])
    assert (card["graft"] or {}).get("kind") == kind
    assert (card["measured"]["asr"] is None) == (not files)
    code, shown, complaint = inside("verify", "bundle")
    assert (code, complaint) == (0, "")
    assert shown.endswith("every rate is the same\n")


def test_a_purified_model_says_by_what(run: Run, inside: Inside, runs_dir: Path) -> None:
    folder = run(*WORLD, "defense=tiny")
    assert inside("export", f"{folder}/result.json", "bundle", "--model", "purified")[0] == 0
    card, result = read_bundle(Path("bundle")).card, read_result(folder / "result.json")
    assert card["defense"] == {"name": "tiny", "config": result["config"]["defense"]}
    assert card["measured"] == result["scores"]["purified"]["zero_shot"]
    made = runs_dir / result["stages"]["purify"] / WEIGHTS
    assert Path("bundle", WEIGHTS).read_bytes() == made.read_bytes()
    code, shown, _ = inside("verify", "bundle")
    assert (code, shown.splitlines()[-1]) == (0, "every rate is the same")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _newer(bundle: Path) -> None:
    change(bundle, version=2)


def _edited(bundle: Path) -> None:
    card = json.loads((bundle / CARD).read_text(encoding="utf-8"))
    card["measured"]["asr"]["value"] = 0.5
    (bundle / CARD).write_text(json.dumps(card), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda b: _flip(b / WEIGHTS), [f"bundle/{WEIGHTS} has the SHA-256", "card.json says"]),
        (lambda b: (b / WEIGHTS).write_bytes(b"x"), [f"bundle/{WEIGHTS} has 1 bytes"]),
        (lambda b: _flip(b / TRIGGER), [f"bundle/{TRIGGER} has the SHA-256"]),
        (lambda b: (b / TRIGGER).unlink(), [f"bundle/{TRIGGER} is missing", "card.json lists it"]),
        (lambda b: (b / TENSORS).touch(), [f"bundle/{TENSORS} does not belong here"]),
        (_newer, ["bundle/card.json is of version 2, this program reads version 1"]),
        (_edited, ["bundle/card.json was edited"]),
        (lambda b: (b / CARD).write_text("{"), ["bundle/card.json is no JSON"]),
        (lambda b: (b / CARD).write_text("[" * 10**6), ["bundle/card.json is no JSON"]),
        (lambda b: (b / CARD).write_text("[]"), ["bundle/card.json is of version None"]),
        (lambda b: (b / CARD).unlink(), ["bundle is no checkpoint bundle", "no card.json"]),
        (shutil.rmtree, ["bundle is no checkpoint bundle: there is no such folder"]),
    ],
)  # fmt: skip
def test_a_damaged_bundle_is_one_line(
    bundle: Path, inside: Inside, damage: Callable[[Path], Any], said: list[str]
) -> None:
    damage(bundle)
    line = refused(inside("verify", "bundle"))
    assert all(part in line for part in said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"files": {}}, ["files: ", WEIGHTS]),
        ({"files__../x": {"sha256": "0" * 64, "bytes": 0}}, ["files: ", "'../x'"]),
        ({"measured__ca": None}, ["measured/ca: "]),
        ({"target__index": 2}, ["target 'lemon' has the index 2, in the data it is 1"]),
        ({"target__name": "zebra"}, ["'zebra'", "apple, lemon"]),
        ({"target": None}, ["trigger and target_label go together"]),
        ({"activation": "GELU"}, ["activation is GELU, but of the model QuickGELU"]),
        ({"parameters": 3}, ["parameters is 3, but of the model"]),
        (
            {"architecture__architecture__vision_cfg__width": 16},
            [f"{WEIGHTS} does not fit tiny: tensors [visual.", "the model has ["],
        ),
        ({"architecture__architecture__depth": 3}, ["card.json: its architecture", "'depth'"]),
        (
            {"architecture__architecture__text_cfg__hf_model_name": "a/b"},
            ["architecture.architecture.text_cfg.hf_model_name", "'a/b'"],
        ),
        ({"architecture__open_clip_name": "hf-hub:a/b"}, ["open_clip.list_models()", "hf-hub:a/b"]),
        (
            {"architecture": {"_target_": "invertune.clip.models.CLIP", "name": "x"}},
            ["card.json", "CLIP"],
        ),
        ({"graft": {"kind": "mine"}}, ["graft is one of trojannet, badclip_prompt, got 'mine'"]),
        ({"data__sizes": {"zero_shot": 6}}, ["data.sizes.pairs"]),
        ({"data__sizes__zero_shot": "many"}, ["card.json: its data cannot be used"]),
        ({"data__color": "red"}, ["card.json: its data", "IconWorld", "color"]),
        ({"data__templates": ["${oc.env:HOME}"]}, ["data.templates.0 is a plain value"]),
        ({"data": {"_target_": "invertune.clip.ModelSpec", "name": "x"}}, ["its data cannot"]),
        ({"data": {"_target_": "os.getcwd"}}, ["data._target_ is a class of attacks or invertune"]),
    ],
)  # fmt: skip
def test_a_card_that_cannot_be_is_one_line(
    bundle: Path, inside: Inside, changes: dict[str, Any], said: list[str]
) -> None:
    change(bundle, **changes)
    line = refused(inside("verify", "bundle"))
    assert all(part in line for part in said), line


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "builtins.eval", "torch.hub.load", "experiments.bundles.export.write_bundle",
        "invertune.clip.models.torch.hub.load", "invertune.clip.weights.Path",
        "invertune.clip.weights.load_weights", "invertune.clip.models.ModelSpec.build",
        "invertune..models.ModelSpec", "invertune", "", 3, None,
    ],
)  # fmt: skip
def test_only_own_classes_are_built(target: Any) -> None:
    check_config({"_target_": "invertune.clip.ModelSpec"}, "architecture")
    with pytest.raises(ValueError, match=r"data\.parts\.1\._target_ is a class of"):
        check_config({"parts": [{}, {"_target_": target}]}, "data")


def test_no_other_weights_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def create(name: str, pretrained: str | None, **_: Any) -> None:
        asked.append((name, pretrained))
        raise ValueError("far enough")

    monkeypatch.setattr("open_clip.create_model", create)
    config = {"_target_": "invertune.clip.ModelSpec", "name": "rn50",
              "open_clip_name": "RN50-quickgelu", "weights": "openai"}  # fmt: skip
    with pytest.raises(ValueError, match="far enough"):
        build_model(config, None, tmp_path / WEIGHTS, 0)
    assert asked == [("RN50-quickgelu", None)]


def test_a_bundle_goes_into_a_new_or_an_empty_folder(run: Run, inside: Inside) -> None:
    folder = str(run(*WORLD))
    Path("empty").mkdir()
    assert inside("export", folder, "empty")[0] == 0
    before = {path: path.read_bytes() for path in Path("empty").iterdir()}
    assert "empty exists already" in refused(inside("export", folder, "empty"))
    assert {path: path.read_bytes() for path in Path("empty").iterdir()} == before
    Path("file").write_text("in the way")
    assert "file exists already" in refused(inside("export", folder, "file"))
    assert "file" in refused(inside("export", folder, "file/bundle"))
    assert inside("export", folder, "new/bundle")[0] == 0


def test_a_run_that_is_not_there_is_one_line(
    run: Run, inside: Inside, runs_dir: Path, tmp_path: Path
) -> None:
    folder = run(*WORLD)
    Path("nothing").mkdir()
    assert "nothing is no folder of a complete run" in refused(inside("export", "nothing", "b"))
    shutil.copytree(folder, tmp_path / "runs" / folder.name)
    alone = f"runs/{folder.name}"
    assert "is not on this machine" in refused(inside("export", alone, "b"))

    stage = read_result(folder / "result.json")["stages"]["implant"]
    shutil.copytree(runs_dir / stage, tmp_path / "runs" / stage)
    assert inside("export", alone, "whole")[0] == 0
    assert "stage purify" in refused(inside("export", alone, "b", "--model", "purified"))
    _flip(tmp_path / "runs" / stage / WEIGHTS)
    assert f"{WEIGHTS} is damaged" in refused(inside("export", alone, "b"))
    (tmp_path / "runs" / stage / MANIFEST).write_text("{}")
    assert "is not on this machine" in refused(inside("export", alone, "b"))
    (tmp_path / alone / "result.json").write_text("{}")
    assert "schema version" in refused(inside("export", alone, "b"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nothing", "runs", "whole"]


def test_an_export_that_fails_leaves_nothing(
    run: Run, inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path, target: Path) -> None:
        target.write_bytes(b"a part")
        raise OSError(28, "No space left on device", str(target))

    folder = str(run(*WORLD))
    monkeypatch.setattr("shutil.copyfile", full)
    assert "No space left on device" in refused(inside("export", folder, "bundle"))
    assert list(tmp_path.iterdir()) == []


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


def test_inspect_sends_a_bundle_to_verify(bundle: Path, inside: Inside) -> None:
    line = refused(inside("inspect", "bundle"))
    assert line.endswith("invertune verify bundle measures it")
