"""`invertune report`: one self-contained HTML page of all runs."""

from __future__ import annotations

import argparse
import base64
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jinja2
import yaml
from hydra.errors import HydraException
from hydra.utils import instantiate
from PIL import Image
from torch import Tensor

from attacks.triggers import Trigger, load_trigger
from evaluation import figures
from experiments.result import load_results
from experiments.summary import MEASURES, MODELS, lookup, percent, target_line
from invertune.defense import Evidence

log = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("report.html.j2")
_BARS = ("CA", "ASR", "own class", "R@1 image to text", "retrieval ASR@1")
# Pictures are most of the page: with many runs each one shows fewer samples.
_SAMPLES, _FEW_SAMPLES, _MANY_RUNS = 6, 3, 20


@dataclass(frozen=True)
class Picture:
    """A picture in the page.

    Attributes:
        source: Data URI of a PNG.
        width, height: In pixels.
        text: What it shows, for those who cannot see it.
    """

    source: str
    width: int
    height: int
    text: str


@dataclass(frozen=True)
class Samples:
    """What a run's data set gives to the page.

    Attributes:
        images: (N, 3, H, W) uint8, of N different classes where possible.
        labels: Their class indices.
        class_names: All class names.
    """

    images: Tensor
    labels: list[int]
    class_names: tuple[str, ...]


def write_report(runs_dir: Path, output: Path | None = None) -> Path:
    """Write one HTML page, without links to other files, and return its path.

    Args:
        runs_dir: Folder of runs.
        output: The page; ``report.html`` among the runs if None.

    Raises:
        ValueError: If there is no such folder, or no run in it.
    """
    results = load_results(runs_dir)
    if not results:
        raise ValueError(f"{runs_dir} has no runs: no */result.json that can be read")
    count = _SAMPLES if len(results) <= _MANY_RUNS else _FEW_SAMPLES
    samples: dict[str, Samples | None] = {}
    sections = []
    for result in results:
        config = result["config"].get("data")
        key = json.dumps(config)
        if key not in samples:
            samples[key] = _load_samples(config, count)
        sections.append(_section(result, runs_dir, samples[key]))
    # Not chosen by the file's name, which would leave .html.j2 without escaping.
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["percent"] = percent
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        runs=sections, models=MODELS, measures=MEASURES, today=date.today().isoformat()
    )
    output = output or runs_dir / "report.html"
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    partial.write_text(page, encoding="utf-8")
    return partial.replace(output)


def _load_samples(config: Any, count: int) -> Samples | None:
    """Return a few test images, or None where the data set is not on this machine."""
    try:
        foreign = [target for target in _targets(config) if not target.startswith("invertune.")]
        if foreign or not config:  # a result can come from anywhere, and a target is code
            raise ValueError(f"config.data may only build classes of invertune, got {foreign}")
        data = instantiate(config, _convert_="all").load()
        labels = data.zero_shot.labels.tolist()
        first = list({label: i for i, label in reversed(list(enumerate(labels)))}.values())
        chosen = sorted(first)[: count + 1]  # one more than shown: the target is left out
        images = data.zero_shot.images[chosen].clone()
        return Samples(images, [labels[i] for i in chosen], data.class_names)
    except (HydraException, ImportError, OSError, ValueError) as error:
        log.warning("the report has no sample images: %s", error)
        return None


def _targets(config: Any) -> list[str]:
    if isinstance(config, Mapping):
        own = [str(config["_target_"])] if "_target_" in config else []
        return own + [target for value in config.values() for target in _targets(value)]
    if isinstance(config, list):
        return [target for value in config for target in _targets(value)]
    return []


def _section(result: Mapping[str, Any], runs_dir: Path, samples: Samples | None) -> dict[str, Any]:
    """Return what the template shows of one run."""
    evidence = _evidence(runs_dir, result)
    trigger = _trigger(runs_dir, result)
    rates = {
        title: {model: lookup(result["scores"][model], path) for model in MODELS}
        for title, path in MEASURES.items()
    }
    return {
        "result": result,
        "rates": rates,
        "target": target_line(result),
        "seconds": sum(value for name, value in result["seconds"].items() if "/" not in name),
        "trigger": repr(trigger) if trigger is not None else None,
        "gallery": _gallery(result, samples, trigger, evidence),
        "charts": _charts(result, rates, evidence, _losses(runs_dir, result), samples),
        "neurons": evidence.neurons,
        "config": yaml.safe_dump(dict(result["config"]), sort_keys=False, allow_unicode=True),
    }


def _stage(runs_dir: Path, result: Mapping[str, Any], role: str) -> Path:
    return runs_dir / str(result.get("stages", {}).get(role, f"no-{role}"))


def _evidence(runs_dir: Path, result: Mapping[str, Any]) -> Evidence:
    folder = _stage(runs_dir, result, "purify")
    if not (folder / "evidence.json").is_file():
        return Evidence()
    try:
        return Evidence.load(folder)
    except Exception as error:  # safetensors raises a type of its own
        log.warning("%s: the evidence cannot be read: %s", folder, error)
        return Evidence()


def _trigger(runs_dir: Path, result: Mapping[str, Any]) -> Trigger | None:
    path = _stage(runs_dir, result, "implant") / "trigger.json"
    try:
        return load_trigger(path) if path.is_file() else None
    except (AttributeError, ImportError, OSError, TypeError, ValueError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return None


def _losses(runs_dir: Path, result: Mapping[str, Any]) -> dict[str, list[float]]:
    curves = {}
    for role in ("pretrain", "implant"):
        path = _stage(runs_dir, result, role) / "losses.json"
        if not path.is_file():
            continue
        try:
            losses = json.loads(path.read_text(encoding="utf-8"))
            values = losses["losses"] if isinstance(losses, dict) else losses
            curves[role] = [float(value) for value in values]
        except (KeyError, OSError, TypeError, ValueError) as error:
            log.warning("%s cannot be read: %s", path, error)
    return curves


def _gallery(
    result: Mapping[str, Any],
    samples: Samples | None,
    trigger: Trigger | None,
    evidence: Evidence,
) -> dict[str, Picture]:
    """Return rows of sample images by their titles; none where there is nothing to compare."""
    triggers: dict[str, Trigger] = {}
    if trigger is not None:
        triggers["True trigger"] = trigger
    if evidence.triggers:
        shown = _best(result, len(evidence.triggers))
        triggers["Inverted trigger"] = evidence.triggers[shown]
    if samples is None or not triggers:
        return {}
    target = result["attack"]["target_label"]
    others = [i for i, label in enumerate(samples.labels) if samples.class_names[label] != target][
        : max(1, len(samples.labels) - 1)
    ]
    names = ", ".join(samples.class_names[samples.labels[i]] for i in others)
    try:
        rows = figures.trigger_gallery(samples.images[others], triggers)
    except (RuntimeError, ValueError) as error:  # a trigger of another image size
        log.warning("run %s: the triggers cannot be drawn: %s", result["id"], error)
        return {}
    return {title: _picture(row, f"{title} on {names}", 64) for title, row in rows.items()}


def _best(result: Mapping[str, Any], count: int) -> int:
    """Return the index of the inverted trigger with the highest ASR, or 0 if not measured."""
    measured = (result["inversion"] or {}).get("per_trigger", [])
    if len(measured) != count:
        return 0
    return max(range(count), key=lambda i: (measured[i]["asr"], -measured[i]["mask_share"]))


def _charts(
    result: Mapping[str, Any],
    rates: Mapping[str, Mapping[str, Any]],
    evidence: Evidence,
    losses: Mapping[str, Sequence[float]],
    samples: Samples | None,
) -> dict[str, Picture]:
    """Return the diagrams by their titles."""
    drawn = {"Before and after": figures.before_after_bars({name: rates[name] for name in _BARS})}
    found = evidence.identification
    if found is not None and found.votes:
        names = _class_names(result, len(found.votes[0].clean_frequency), samples)
        drawn["Step 1: predicted classes under universal perturbations"] = (
            figures.class_frequency_bars(found.votes, names, found.target_label)
        )
    if evidence.divergence:
        drawn["Step 3: activation divergence per layer"] = figures.divergence_bars(
            evidence.divergence, evidence.tuned_layers
        )
    curves = {**losses, **evidence.curves}
    if any(curves.values()):
        drawn["Losses"] = figures.loss_curves(curves)
    return {title: _picture(chart, title, 24) for title, chart in drawn.items()}


def _class_names(result: Mapping[str, Any], count: int, samples: Samples | None) -> Sequence[str]:
    names = samples.class_names if samples else result["config"].get("data", {}).get("classes", [])
    return list(names) if len(names) == count else [f"class {i}" for i in range(count)]


def _picture(picture: Image.Image, text: str, colors: int) -> Picture:
    data = base64.b64encode(figures.png(picture, colors)).decode()
    return Picture(f"data:image/png;base64,{data}", picture.width, picture.height, text)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and print its path."""
    parser = argparse.ArgumentParser(
        "invertune report", description="Write one HTML page with tables, triggers and curves."
    )
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("--output", type=Path, help="the page; RUNS/report.html if not given")
    arguments = parser.parse_args(argv)
    print(write_report(arguments.runs, arguments.output))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
