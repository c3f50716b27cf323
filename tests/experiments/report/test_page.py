from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from attacks.triggers import PatchTrigger, trigger_state
from evaluation.intervals import rate
from experiments.commands.report import main
from experiments.report.page import write_report
from experiments.report.sections import sortable
from experiments.results.result import write_result
from invertune.evidence import Evidence, Identification, Vote
from invertune.perturb.triggers import InvertedTrigger

CLASSES = {"apple": "apple-whole", "lemon": "lemon", "bell": "bell", "heart": "heart"}
ROOT = Path(__file__).parent.parent.parent
VOID = {"meta", "link", "img", "br", "hr", "input"}


def data_config(classes: dict[str, str] = CLASSES, side: int = 16) -> dict[str, Any]:
    return {"name": "icons", "image_size": side, "classes": classes}


def score(ca: float, asr: float | None, n: int = 400) -> dict[str, Any]:
    def share(value: float | None) -> dict[str, float] | None:
        return None if value is None else dict(rate(round(value * n), n))

    ks = ("r@1", "r@5", "r@10")
    return {
        "zero_shot": {
            "ca": share(ca),
            "asr": share(asr),
            "target_rate": share(None if asr is None else 0.01),
            "own_class": share(None if asr is None else ca * (1 - asr)),
        },
        "retrieval": {
            "image_to_text": {k: share(ca * 0.4) for k in ks},
            "text_to_image": {k: share(ca * 0.3) for k in ks},
            "asr": None if asr is None else {k: share(asr) for k in ks},
        },
    }


def inverted(side: int) -> InvertedTrigger:
    mask = torch.zeros(1, side, side)
    mask[:, -side // 4 :, -side // 4 :] = 0.9
    pattern = torch.rand(3, side, side, generator=torch.Generator().manual_seed(1))
    return InvertedTrigger("mask", mask, pattern, torch.zeros(3, side, side))


def write_run(runs: Path, number: int, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Write what a run leaves: result.json and the three stages that the report reads."""
    names, side = list(data["classes"]), data["image_size"]
    count = len(names)
    implant, purify, inspect = (
        runs / "stages" / f"{stage}-{number:016x}" for stage in ("implant", "purify", "inspect")
    )
    implant.mkdir(parents=True)
    purify.mkdir()
    write_pictures(inspect / "pictures", side, number)
    trigger = PatchTrigger(size=side // 4, seed=number)
    (implant / "trigger.json").write_text(json.dumps(trigger_state(trigger)))
    noise = torch.rand(300, generator=torch.Generator().manual_seed(number)).tolist()
    losses = [4 * math.exp(-i / 60) + 0.3 * noise[i] for i in range(300)]
    (implant / "losses.json").write_text(json.dumps(losses))
    clean = [1 / count] * count
    perturbed = [0.2 / (count - 1)] * count
    perturbed[1] = 0.8
    votes = [Vote(name, clean, perturbed, 1.0) for name in ("adversarial patch", "pgd")]
    Evidence(
        identification=Identification(1, 0.8 - 1 / count, 0, 0.1, votes),
        triggers=[inverted(side)],
        divergence={"layer1": 0.05, "layer2": 0.2, "layer3": 0.5, "layer4": 1.0},
        tuned_layers=["layer4"],
        neurons={"layer4": [37, 512]},
        curves={"inversion mask": losses, "tuning": losses[:40]},
    ).save(purify)
    result = {
        "schema": 1,
        "id": f"{number:016x}",
        "seed": number,
        "config": {"seed": number, "data": data, "attack": {"name": "badnet"}},
        "model": {"name": "rn50_mini", "parameters": 7_123_456, "image_size": side},
        "data": {"name": "icons", "classes": count},
        "attack": {
            "name": "badnet",
            "target_label": "lemon",
            "poison_rate": 0.05,
            "poisoned": 400,
            "pairs": 8000,
        },
        "defense": {"name": "invertune", "clean_samples": 64, "knows": "class names"},
        "identification": {
            "target_label": "lemon",
            "gain": 0.79,
            "runner_up": "apple",
            "runner_up_gain": 0.1,
            "correct": True,
        },
        "inversion": {"asr": 0.97, "mask_share": 0.05, "embedding_cosine": 0.91},
        "scores": {
            "clean": score(0.96, 0.01),
            "backdoored": score(0.95, 0.93),
            "purified": score(0.93, 0.01 * (number % 7)),
        },
        "seconds": {"implant": 61.2, "purify": 20.5, "purify/identify": 5.0},
        "peak_memory_mib": 900.0,
        "versions": {"invertune": "0.1.0", "torch": "2", "open_clip_torch": "3", "python": "3.11"},
        "stages": {
            "implant": f"stages/{implant.name}",
            "purify": f"stages/{purify.name}",
            "inspect": f"stages/{inspect.name}",
        },
        **changes,
    }
    folder = runs / f"rn50_mini-badnet-invertune-seed{number}-{number:08x}"
    write_result(folder, result)
    return result


def write_pictures(folder: Path, side: int, seed: int) -> None:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    for name in ("clean", "true", "inverted0"):
        for i in range(4):
            noise = torch.randint(256, (side, side, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(noise.numpy()).save(folder / f"{name}-{i}.png")


def write_sweep(
    runs: Path, experiment: str, axes: dict[str, list[str]], results: list[dict[str, Any]],
    overrides: list[list[str]],
) -> None:  # fmt: skip
    """Write which runs belong to a sweep."""
    jobs = [
        {"overrides": words, "run": run_folder(result), "id": result["id"],
         "stages": {role: Path(folder).name for role, folder in result["stages"].items()}}
        for result, words in zip(results, overrides, strict=True)
    ]  # fmt: skip
    sweep = {"name": f"{experiment.lower()}-00000000", "experiment": experiment,
             "created": "2026-01-01T00:00:00+00:00", "arguments": [], "axes": axes,
             "jobs": jobs}  # fmt: skip
    (runs / "sweeps").mkdir(exist_ok=True)
    (runs / "sweeps" / f"{sweep['name']}.json").write_text(json.dumps(sweep))


def run_folder(result: dict[str, Any]) -> str:
    number = int(result["id"], 16)
    return f"rn50_mini-badnet-invertune-seed{number}-{number:08x}"


class Page(HTMLParser):
    """Collects tags and text, and fails where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_has_numbers_pictures_and_no_link_to_anything_else(tmp_path: Path) -> None:
    write_run(tmp_path, 1, data_config())
    write_run(tmp_path, 2, data_config())
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert "97.0 %" in page.text  # ASR of the inverted trigger
    assert re.search(r"93\.0\s+90\.", page.text)  # ASR 372/400 and the low end of its interval
    assert "✓ lemon" in page.text
    assert "layer4: 37 of 512" in page.text
    assert "PatchTrigger(size=4" in page.text
    images = page.all("img")
    assert len(images) == 5 + 2 * 5  # five rows of samples for the attack, and for each run
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] for image in images)
    drawings = page.all("svg")
    assert len(drawings) == 2 * 4
    assert all(drawing["aria-label"] for drawing in drawings)
    links = [link["href"] or "" for link in page.all("a") + page.all("link")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= {
        tag["id"] for _, tag in page.tags if "id" in tag
    }
    assert not re.search(r"https?://", html)
    opened = [details for details in page.all("details") if details.get("class") == "run"]
    assert ["open" in details for details in opened] == [True, False]


def test_a_run_says_where_it_comes_from(tmp_path: Path) -> None:
    versions = {"invertune": "0.1.0", "torch": "2", "open_clip_torch": "3", "python": "3.11",
                "commit": "0123abc"}  # fmt: skip
    first = write_run(tmp_path, 1, data_config(), versions=versions)
    write_sweep(tmp_path, "T1", {"seed": ["1", "2"]}, [first], [["seed=1"]])
    (tmp_path / first["stages"]["implant"]).rename(tmp_path / "elsewhere")
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    written = json.loads((tmp_path / run_folder(first) / "result.json").read_text())
    assert written["sha256"] in page.text
    for part in ("0123abc", "0000000000000001", "open_clip_torch 3", "t1-00000000"):
        assert part in page.text
    assert page.text.count("not on this machine") == 1
    assert first["stages"]["implant"] in page.text
    assert "image_size: 16" in page.text  # of the config


def test_every_body_row_has_a_cell_for_every_heading_that_sorts(tmp_path: Path) -> None:
    write_run(tmp_path, 1, data_config())
    html = write_report(tmp_path).read_text(encoding="utf-8")
    table = html.split('<table id="runs" class="sortable">')[1].split("</table>")[0]
    head, body = table.split("<tbody>")
    assert head.count("<button") == body.count("<td") == 15
    assert 'document.querySelectorAll("table.sortable")' in html


def test_whatever_is_missing_is_left_out(tmp_path: Path) -> None:
    no_score = {"clean": None, "backdoored": score(0.9, None), "purified": None}
    attack = {"name": "none", "target_label": None, "poison_rate": 0, "poisoned": 0, "pairs": 8}
    write_run(
        tmp_path, 1, data_config(), stages={}, attack=attack, identification=None,
        inversion=None, scores=no_score,
    )  # fmt: skip
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.all("img") == []
    assert len(page.all("svg")) == 1  # the bars of what was measured
    assert "90.0" in page.text


def test_results_alone_make_a_page_without_the_packages_that_made_them(tmp_path: Path) -> None:
    write_run(tmp_path, 1, data_config())
    shutil.rmtree(tmp_path / "stages")
    code = (
        "import sys; from experiments.commands.report import main; main(sys.argv[1:]); "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'open_clip', 'hydra')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=ROOT)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.all("img") == []
    assert page.text.count("not on this machine") == 3


def test_a_result_cannot_make_the_report_call_what_it_names(tmp_path: Path) -> None:
    marker = tmp_path / "called"
    evil = {"_target_": "pathlib.Path.touch", "self": str(marker)}
    result = write_run(tmp_path, 1, {**data_config(), "style": evil})
    trigger = tmp_path / result["stages"]["implant"] / "trigger.json"
    trigger.write_text(json.dumps(evil))
    assert "touch(" in Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert not marker.exists()


def test_names_from_a_result_are_escaped(tmp_path: Path) -> None:
    defense = {"name": "<script>alert(1)</script>", "clean_samples": 1, "knows": "nothing"}
    write_run(tmp_path, 1, data_config(), defense=defense)
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_class_names_and_layers_are_escaped_in_drawings(tmp_path: Path) -> None:
    evil = "</svg><script>alert(1)</script>"
    result = write_run(tmp_path, 1, data_config({**CLASSES, evil: "x"}))
    path = tmp_path / result["stages"]["purify"] / "evidence.json"
    found = json.loads(path.read_text())
    found["divergence"] = {evil: 1.0, **found["divergence"]}
    path.write_text(json.dumps(found))
    html = write_report(tmp_path).read_text(encoding="utf-8")
    Page(html)
    assert "<script>alert" not in html


def test_a_damaged_stage_costs_only_what_it_shows(tmp_path: Path) -> None:
    write_run(tmp_path, 1, data_config())
    next(tmp_path.glob("stages/purify-*/evidence.json")).write_text("[1")
    next(tmp_path.glob("stages/implant-*/trigger.json")).write_text("{")
    next(tmp_path.glob("stages/implant-*/losses.json")).write_text("{")
    next(tmp_path.glob("stages/inspect-*/pictures/true-0.png")).write_bytes(b"damaged")
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.all("img") == []
    assert len(page.all("svg")) == 1


def test_an_experiment_has_a_table_and_its_diagrams(tmp_path: Path) -> None:
    attack = {"name": "none", "target_label": None, "poison_rate": 0, "poisoned": 0, "pairs": 8}
    runs = [write_run(tmp_path, 1, data_config()),
            write_run(tmp_path, 2, data_config(), attack=attack)]  # fmt: skip
    words = [["attack=badnet"], ["attack=none"]]
    for name in ("F1", "F3"):
        write_sweep(tmp_path, name, {"attack": ["badnet", "none"]}, runs, words)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    tables = [table for table in page.all("table") if table.get("class") == "sortable"]
    assert len(tables) == 3  # F1, F3 and all runs
    assert len(page.all("svg")) == 2 * 2 + 2 * 4  # and four in the details of each run
    shown = [drawing["aria-label"] or "" for drawing in page.all("svg")]
    assert [label for label in shown if label.startswith("Predicted classes")] == [
        "Predicted classes, rn50_mini, badnet, seed 1",
        "Predicted classes, rn50_mini, none, seed 2",
    ]
    assert {"F1", "F3", "summary", "details", "triggers"} <= {tag.get("id") for _, tag in page.tags}


def test_a_study_is_drawn_with_its_default(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, number, data_config()) for number in (1, 2)]
    key = "defense.tune.clusters"
    write_sweep(tmp_path, "F4", {key: ["2", "4"]}, runs, [[f"{key}=2"], [f"{key}=4"]])
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    labels = [drawing["aria-label"] for drawing in page.all("svg")][:2]
    assert labels == ["CA after, %", "ASR after, %"]
    assert re.search(r"default: clusters \d", page.text)


def test_a_run_is_told_from_others_of_its_name_by_what_is_special(tmp_path: Path) -> None:
    for number, steps in ((1, 10), (2, 10), (3, 20)):
        tune = {"steps": steps, "weight": number / 2, "seed": number}
        config = {"seed": number, "data": data_config(), "defense": {"tune": tune}}
        write_run(tmp_path, number, data_config(), config=config)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    for name in ("weight=0.5", "weight=1", "steps=20, weight=1.5"):
        assert (
            len(re.findall(rf"(?<!, ){name}\s", page.text)) == 2
        )  # in the table and above details
    assert "steps=10" not in page.text


def test_a_column_of_numbers_is_sorted_by_them() -> None:
    rows = [["a", "**10.5 [9, 11]**", "<0.001", "3 of 9", "-1"],
            ["b", "-", "0.2", "x", "1e-3"],
            ["2c", "9.5", "–", "1 of 9", "−2"]]  # fmt: skip
    table = sortable(["name", "CA", "p", "found", "gain"], rows)
    assert table["titles"] == [
        ("name", False), ("CA", True), ("p", True), ("found", False), ("gain", True),
    ]  # fmt: skip
    keys = [[cell["key"] for cell in row] for row in table["rows"]]
    assert keys == [
        [None, 10.5, 0.001, None, -1],
        [None, None, 0.2, None, 0.001],
        [None, 9.5, None, None, -2],
    ]
    bold = table["rows"][0][1]
    assert (bold["text"], bold["interval"], bold["bold"]) == ("10.5", "[9, 11]", True)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_folder_without_runs_is_an_error_in_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"^\S+ (is not a folder of runs|has no runs.*)$"):
        write_report(tmp_path / name)


def test_the_command_writes_where_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, 1, data_config())
    wanted = tmp_path / "pages" / "mine.html"
    assert main([str(tmp_path), "--output", str(wanted)]) == 0
    assert capsys.readouterr().out.strip() == str(wanted)
    assert wanted.is_file()


def test_a_hundred_runs_stay_below_ten_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the default picture size; what one of many runs adds is measured on three of them."""
    monkeypatch.setattr("experiments.report.page._MANY_RUNS", 2)
    classes = {f"class number {i}": f"icon-{i}" for i in range(100)}
    for number in range(3):
        write_run(tmp_path, number, data_config(classes, side=64))
    assert 100 * write_report(tmp_path).stat().st_size / 3 < 10e6


def test_pictures_end_where_the_page_would_grow_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_run(tmp_path, number, data_config())
    monkeypatch.setattr("experiments.report.page._PICTURES", 1)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert len(page.all("img")) == 5 + 5  # the gallery and the first run


def test_the_page_says_which_runs_are_in_the_table_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_run(tmp_path, number, data_config())
    monkeypatch.setattr("experiments.report.page._DETAILS", 2)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert len([tag for tag in page.all("details") if tag.get("class") == "run"]) == 2
    assert "the first 2 of 3 runs" in page.text
    assert [link["href"] for link in page.all("a") if "#run-" in (link["href"] or "")] == [
        "#run-1", "#run-1", "#run-2",
    ]  # fmt: skip
