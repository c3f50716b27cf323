from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from attacks.triggers import PatchTrigger, trigger_state
from evaluation.intervals import rate
from experiments.report import main, write_report
from invertune.defense import Evidence, Identification, Vote
from invertune.triggers import InvertedTrigger

CLASSES = {"apple": "apple-whole", "lemon": "lemon", "bell": "bell", "heart": "heart"}
VOID = {"meta", "link", "img", "br", "hr", "input"}


def data_config(classes: dict[str, str] = CLASSES, side: int = 16) -> dict[str, Any]:
    return {
        "_target_": "invertune.data.icons.IconWorld",
        "name": "icons",
        "seed": 0,
        "image_size": side,
        "sizes": {"pairs": 8, "clean": 8, "zero_shot": 4 * len(classes), "retrieval": 4},
        "classes": classes,
        "colors": {"red": [214, 40, 40], "white": [242, 242, 242], "blue": [35, 90, 200]},
        "style": {
            "_target_": "invertune.data.icons.SceneStyle",
            "turn": 15,
            "scale": [0.7, 1.0],
            "shift": 0.15,
            "contrast": 0.6,
            "background_texture": 0.1,
            "overall_texture": 0.03,
            "color_jitter": 0.04,
        },
        "templates": ["a picture of {}"],
        "captions": {
            "_target_": "invertune.data.captions.Captioner",
            "plain": ["a picture of {object}"],
            "colored": ["{object}"],
            "grounded": ["{object} on {background}"],
            "colored_share": 0.2,
            "grounded_share": 0.2,
        },
    }


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


def write_run(runs: Path, number: int, config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Write what a run leaves: result.json and the two stages that the report reads."""
    names, side = list(config["classes"]), config["image_size"]
    count = len(names)
    implant, purify = (
        runs / "stages" / f"{stage}-{number:016x}" for stage in ("implant", "purify")
    )
    implant.mkdir(parents=True)
    purify.mkdir()
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
        "config": {"seed": number, "data": config, "attack": {"name": "badnet"}},
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
        "stages": {"implant": f"stages/{implant.name}", "purify": f"stages/{purify.name}"},
        **changes,
    }
    folder = runs / f"rn50_mini-badnet-invertune-seed{number}-{number:08x}"
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(result))
    return result


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
    assert len(images) == 2 * (5 + 4)  # five rows of samples and four diagrams a run
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] for image in images)
    links = [link["href"] or "" for link in page.all("a") + page.all("link")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"https?://", html)
    assert [details.get("open", "no") for details in page.all("details")][::2] == [None, "no"]


def test_every_body_row_has_a_cell_for_every_heading_that_sorts(tmp_path: Path) -> None:
    write_run(tmp_path, 1, data_config())
    html = write_report(tmp_path).read_text(encoding="utf-8")
    table = html.split('<table id="runs">')[1].split("</table>")[0]
    head, body = table.split("<tbody>")
    assert head.count("<button") == body.count("<td") == 15


def test_whatever_is_missing_is_left_out(tmp_path: Path) -> None:
    no_score = {"clean": None, "backdoored": score(0.9, None), "purified": None}
    attack = {"name": "none", "target_label": None, "poison_rate": 0, "poisoned": 0, "pairs": 8}
    write_run(
        tmp_path, 1, data_config(), stages={}, attack=attack, identification=None,
        inversion=None, scores=no_score,
    )  # fmt: skip
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert len(page.all("img")) == 1  # the bars of what was measured
    assert "90.0" in page.text


def test_a_data_set_that_is_not_here_costs_only_its_pictures(tmp_path: Path) -> None:
    config = data_config()
    write_run(tmp_path, 1, {**config, "classes": {**CLASSES, "nothing": "no-such-icon"}})
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert len(page.all("img")) == 4


def test_a_result_cannot_make_the_report_call_what_it_names(tmp_path: Path) -> None:
    marker = tmp_path / "called"
    evil = {"_target_": "pathlib.Path.touch", "self": str(marker)}
    write_run(tmp_path, 1, {**data_config(), "style": evil})
    write_report(tmp_path)
    assert not marker.exists()


def test_names_from_a_result_are_escaped(tmp_path: Path) -> None:
    defense = {"name": "<script>alert(1)</script>", "clean_samples": 1, "knows": "nothing"}
    write_run(tmp_path, 1, data_config(), defense=defense)
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_a_damaged_stage_costs_only_what_it_shows(tmp_path: Path) -> None:
    write_run(tmp_path, 1, data_config())
    next(tmp_path.glob("stages/purify-*/triggers.safetensors")).write_bytes(b"damaged")
    next(tmp_path.glob("stages/implant-*/trigger.json")).write_text("{")
    next(tmp_path.glob("stages/implant-*/losses.json")).write_text("{")
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert len(page.all("img")) == 1


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
    monkeypatch.setattr("experiments.report._MANY_RUNS", 2)
    for number in range(3):
        write_run(tmp_path, number, data_config(side=64))
    assert 100 * write_report(tmp_path).stat().st_size / 3 < 10e6
