from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.results.result import read_result
from experiments.results.runs import load_runs

Command = Callable[..., subprocess.CompletedProcess[str]]
Inside = Callable[..., tuple[int, str, str]]


def test_a_run_from_pixels_to_result(
    invertune: Command, tiny_words: list[str], tmp_path: Path
) -> None:
    first = invertune(*tiny_words, "tracking=offline")
    assert first.returncode == 0, first.stderr
    path = Path(first.stdout.splitlines()[-1])
    assert "ASR" in first.stdout
    (made,) = load_runs(tmp_path / "runs")
    result = made.result
    assert path.parent.name == f"tiny-tiny-none-seed0-{result['id'][:8]}"
    assert result["attack"]["poisoned"] == 5
    assert all((tmp_path / "runs" / stage).is_dir() for stage in result["stages"].values())
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs"]
    assert not list((tmp_path / "runs" / "stages").glob(".*"))
    assert list((tmp_path / path.parent / "wandb").glob("offline-run-*/*.wandb"))

    before = (tmp_path / path).read_bytes()
    again = invertune(*tiny_words, "tracking=offline", "evaluation.batch_size=5")
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert " s (" not in again.stderr  # nothing was made
    assert len(list((tmp_path / path.parent / "wandb").glob("offline-run-*"))) == 1

    weights = tmp_path / "runs" / result["stages"]["implant"] / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    repaired = invertune(*tiny_words)
    assert f"has 1000 of {len(whole)} bytes" in repaired.stderr
    assert weights.read_bytes() == whole  # made again, it is the same
    now = json.loads((tmp_path / path).read_text())
    assert now["scores"] == json.loads(before)["scores"]


def test_a_wrong_value_stops_a_sweep_before_it_starts(
    inside: Inside, tiny_words: list[str], tmp_path: Path
) -> None:
    code, _, complaint = inside(*tiny_words, "-m", "runs_dir=out", "device=cpu,tpu")
    assert code == 1
    assert "error: device is one of auto, cpu, cuda, got 'tpu'" in complaint
    assert "Traceback" not in complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["attack=nope"], ["'attack/nope'", "badnet", "blended"]),
        (["nope=1"], ["nope"]),
        (["seed=x"], ["seed is an integer of at least 0", "'x'"]),
        (["attack.poison_rate=3"], ["poison_rate is a share in (0, 1)", "3"]),
        (["attack.poison_rate=x"], ["poison_rate is a share in (0, 1)", "'x'"]),
        (["attack.pairs=0"], ["pairs is an integer of at least 1", "0"]),
        (["attack.pairs=1500.5"], ["pairs is an integer of at least 1", "1500.5"]),
        (["attack.recipe.batch_size=0"], ["batch_size is an integer of at least 1", "0"]),
        (["attack.recipe.batch_size=5000"], ["implant needs at least batch_size=5000 pairs"]),
        (["attack.recipe.epochs=-1"], ["epochs is positive", "-1"]),
        (["attack.recipe=null"], ["recipe is a Recipe", "None"]),
        (["attack.trigger=null"], ["needs a trigger"]),
        (["++attack.trigger.seed=x"], ["seed is an integer of at least 0", "'x'"]),
        (["attack.target_label=zebra"], ["'zebra'", "lemon"]),
        (["attack.trigger.size=400"], ["size 400 with margin 0", "32x32"]),
        (["+attack.trigger.place=middle"], ["place is one of", "'middle'"]),
        (["+attack.color=red"], ["PoisoningAttack", "color"]),
        (["model.name=ViT-B/32"], ["model.name is a plain folder name", "'ViT-B/32'"]),
        (["attack.name=../x"], ["attack.name is a plain folder name", "'../x'"]),
        (["++defense.name=/tmp/x"], ["defense.name is a plain folder name", "'/tmp/x'"]),
        (["data.name=a/b"], ["data.name is a plain folder name", "'a/b'"]),
        (["-m", "model.name=tiny,a/b"], ["model.name is a plain folder name", "'a/b'"]),
        (["runs_dir="], ["runs_dir is the path of a folder", "''"]),
        (["data.templates=[a photo]"], ["templates", "exactly once, by {}", "'a photo'"]),
        (["+data.classes.Lemon=bell"], ["'lemon' and 'Lemon' have the same"]),
        (["data.classes.lemon=nope"], ["['nope'] are no solid icons"]),
        (["tracking=online"], ["WANDB_API_KEY", "tracking=offline"]),
        (["tracking.mode=sometimes"], ["tracking.mode is one of offline, online, disabled"]),
    ],
)
def test_a_wrong_input_is_one_line_and_leaves_nothing(
    inside: Inside, tiny_words: list[str], tmp_path: Path, words: list[str], said: list[str]
) -> None:
    code, shown, complaint = inside(*tiny_words, *words)
    assert code == 1
    assert shown == ""
    (line,) = complaint.splitlines()
    assert line.startswith("error: ")
    assert "Error in call to target" not in line  # how Hydra wraps what is wrong
    assert all(part in line for part in said)
    assert not list(tmp_path.iterdir())


def test_a_verdict_goes_all_the_way(inside: Inside, tiny_words: list[str], tmp_path: Path) -> None:
    always = ["defense=tiny_scan", "defense.always_repair=true"]
    for words in (["defense=tiny_scan"], always):
        code, shown, complaint = inside(*tiny_words, *words)
        assert code == 0, complaint
        *_, line, path = shown.splitlines()
        result = read_result(tmp_path / path)
        verdict = result["verdict"]
        assert verdict is not None
        assert line.startswith(f"verdict: {verdict['kind']} (p = ")
        assert (result["inversion"] is None) == (words != always and verdict["kind"] == "clean")
    code, _, complaint = inside("report", "runs")
    assert code == 0, complaint
    page = (tmp_path / "runs" / "report.html").read_text()
    assert "which classes survive" in page
    assert "<dt>Verdict</dt><dd>clean (" in page or "<dt>Verdict</dt><dd>verdict: " in page


def test_a_number_as_the_folder_of_runs_is_its_name(
    inside: Inside, tiny_words: list[str], tmp_path: Path
) -> None:
    code, shown, complaint = inside(*tiny_words, "runs_dir=1_1", "model.name=2024")
    assert code == 0, complaint
    assert shown.splitlines()[-1].startswith("1_1/2024-tiny-none-seed0-")
    assert [path.name for path in tmp_path.iterdir()] == ["1_1"]
    code, _, complaint = inside(*tiny_words, "runs_dir=1_1", "model.name=2024", "-m", "seed=0")
    assert code == 0, complaint
    assert "1 runs, 1 complete" in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["1_1"]


def test_a_folder_that_cannot_be_is_one_line(
    inside: Inside, tiny_words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, complaint = inside(*tiny_words, "runs_dir=file/runs")
    assert code == 1
    assert complaint == "error: file/runs/stages: Not a directory\n"


def test_a_traceback_is_there_for_those_who_ask(invertune: Command, tiny_words: list[str]) -> None:
    done = invertune(*tiny_words, "seed=x", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
