"""What runs leave for the page, and the page as it is read back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from attacks.triggers import PatchTrigger, trigger_state
from evaluation.intervals import rate
from experiments.report.page import write_report
from experiments.results.result import write_result
from invertune.evidence import Evidence, Identification, Vote
from invertune.perturb.triggers import InvertedTrigger

VOID = {"meta", "link", "img", "br", "hr", "input"}
CLASSES = {"apple": "apple-whole", "lemon": "lemon", "bell": "bell", "heart": "heart"}


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
        findings={
            "divergence": {"layer1": 0.05, "layer2": 0.2, "layer3": 0.5, "layer4": 1.0},
            "tuned_layers": ["layer4"],
            "neurons": {"layer4": [37, 512]},
        },
        curves={"inversion mask": losses, "tuning": losses[:40]},
    ).save(purify)
    result = {
        "schema": 1,
        "id": f"{number:016x}",
        "seed": number,
        "config": {
            "seed": number,
            "data": data,
            "attack": {"name": changes.get("attack", {}).get("name", "badnet")},
        },
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
        self.html = html
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


@pytest.fixture(name="data_config")
def data_config_() -> Callable[..., dict[str, Any]]:
    """Return a data config with four classes or other ones."""
    return data_config


@pytest.fixture(name="score")
def score_() -> Callable[..., dict[str, Any]]:
    """Return a score with this CA and ASR."""
    return score


@pytest.fixture(name="write_run")
def write_run_() -> Callable[..., dict[str, Any]]:
    """Write what a run leaves and return its result."""
    return write_run


@pytest.fixture(name="write_sweep")
def write_sweep_() -> Callable[..., None]:
    """Write which runs belong to a sweep."""
    return write_sweep


@pytest.fixture
def read_page(tmp_path: Path) -> Callable[..., Page]:
    """Read a page, that of the runs below ``tmp_path`` if none is given."""

    def read(html: str | None = None) -> Page:
        return Page(write_report(tmp_path).read_text(encoding="utf-8") if html is None else html)

    return read
