"""`invertune report`: one self-contained HTML page of all runs and experiments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import yaml

from experiments.config import short_names
from experiments.figures.pictures import Picture, best_trigger, trigger_rows
from experiments.files import replacing
from experiments.report import diagrams
from experiments.report.sections import experiment_sections
from experiments.results.measures import MEASURES, MODELS, lookup, percent, total_seconds
from experiments.results.result import load_results
from experiments.results.runs import (
    class_names,
    describe_trigger,
    read_evidence,
    read_losses,
    stage_folder,
    votes,
)
from experiments.results.summary import target_line
from experiments.tables.variants import differences

if TYPE_CHECKING:
    from experiments.sweeps.sweep import Sweep

TEMPLATE = Path(__file__).with_name("report.html.j2")
_NAMED = 5  # values that tell a run from others of its name
_DETAILS = 100  # runs with pictures and curves; the table has all
# Pictures are most of the page: with many runs each one shows fewer samples, and past this many
# characters none at all.
_SAMPLES, _FEW_SAMPLES, _MANY_RUNS, _PICTURES = 4, 2, 20, 5_000_000


def write_report(runs_dir: Path, output: Path | None = None) -> Path:
    """Write one HTML page, without links to other files, and return its path.

    Args:
        runs_dir: Folder of runs.
        output: The page; ``report.html`` among the runs if None.

    Raises:
        ValueError: If there is no such folder, or no run in it.
    """
    from experiments.sweeps.sweep import load_sweeps

    results = load_results(runs_dir)
    if not results:
        raise ValueError(f"{runs_dir} has no runs: no */result.json that can be read")
    sweeps = load_sweeps(runs_dir)
    count = _SAMPLES if len(results) <= _MANY_RUNS else _FEW_SAMPLES
    room = _PICTURES
    sections = []
    for result in results[:_DETAILS]:
        section = _section(result, runs_dir, count if room > 0 else 0, sweeps)
        room -= sum(len(picture.source) for picture in section["pictures"])
        sections.append(section)
    # Not chosen by the file's name, which would leave .html.j2 without escaping.
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["percent"] = percent
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        rows=_rows(results),
        runs=sections,
        gallery=_gallery(results, runs_dir),
        experiments=experiment_sections(results, sweeps, runs_dir),
        models=MODELS,
        measures=MEASURES,
        today=date.today().isoformat(),
    )
    output = output or runs_dir / "report.html"
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as partial:
        partial.write_text(page, encoding="utf-8")
    return output


def _rows(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the table of all runs shows; runs of equal names are told apart."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, result in enumerate(results):
        names = (str(result[part]["name"]) for part in ("model", "data", "attack", "defense"))
        groups.setdefault(tuple(names), []).append(i)
    named = [""] * len(results)
    for group in groups.values():
        for i, name in zip(group, _variants([results[i] for i in group]), strict=True):
            named[i] = name
    return [{**_row(one), "variant": name} for one, name in zip(results, named, strict=True)]


def _variants(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is special about each run beside its seed: values that most do not have."""
    found = differences([one["config"] for one in results], [one["seed"] for one in results])
    parts: list[list[str]] = [[] for _ in results]
    for name, values in zip(short_names(list(found)), found.values(), strict=True):
        common, count = Counter(values).most_common(1)[0]
        usual = common if 2 * count > len(results) else None
        for own, value in zip(parts, values, strict=True):
            if value is not None and value != usual:
                own.append(f"{name}={value}")
    more = [f", {len(own) - _NAMED} more" if len(own) > _NAMED else "" for own in parts]
    return [", ".join(own[:_NAMED]) + rest for own, rest in zip(parts, more, strict=True)]


def _row(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the table of all runs shows of one."""
    return {
        "result": result,
        "rates": {
            title: {model: lookup(result["scores"][model], path) for model in MODELS}
            for title, path in MEASURES.items()
        },
        "seconds": total_seconds(result),
    }


def _section(
    result: Mapping[str, Any], runs_dir: Path, samples: int, sweeps: Sequence[Sweep]
) -> dict[str, Any]:
    """Return what the template shows of one run."""
    evidence = read_evidence(runs_dir, result)
    rates = _row(result)["rates"]
    drawn = {"Before and after": diagrams.before_after(rates)}
    if votes(evidence):
        title = "Step 1: predicted classes under universal perturbations"
        drawn[title] = diagrams.frequencies(title, evidence, class_names(result))
    if evidence.get("divergence"):
        title = "Step 3: activation divergence per layer"
        drawn[title] = diagrams.divergence(title, evidence)
    curves = {**read_losses(runs_dir, result), **evidence.get("curves", {})}
    if any(curves.values()):
        drawn["Losses"] = diagrams.losses(curves)
    return {
        "result": result,
        "rates": rates,
        "target": target_line(result),
        "trigger": describe_trigger(runs_dir, result),
        "pictures": _pictures(result, runs_dir, samples) if samples else [],
        "charts": drawn,
        "neurons": evidence.get("neurons", {}),
        "config": _as_yaml(result["config"]),
        "stages": {
            role: (folder, (runs_dir / str(folder)).is_dir())
            for role, folder in result.get("stages", {}).items()
        },
        "sweeps": [
            sweep.name for sweep in sweeps if any(job.id == result["id"] for job in sweep.jobs)
        ],
    }


def _as_yaml(config: Mapping[str, Any]) -> str:
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast
    text: str = yaml.dump(
        dict(config), Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    return text


def _pictures(result: Mapping[str, Any], runs_dir: Path, count: int) -> list[Picture]:
    folder = stage_folder(runs_dir, result, "inspect") / "pictures"
    return trigger_rows(folder, best_trigger(result), count)


def _gallery(results: Sequence[Mapping[str, Any]], runs_dir: Path) -> list[dict[str, Any]]:
    """Return one row of pictures per attack: of its first run with the most to show."""
    best: dict[str, tuple[int, int]] = {}
    for i, result in enumerate(results):
        if not (stage_folder(runs_dir, result, "inspect") / "pictures" / "clean-0.png").is_file():
            continue
        name, rank = result["attack"]["name"], (result["inversion"] is not None)
        if rank > best.get(name, (-1, 0))[0]:
            best[name] = (rank, i)
    chosen = [(name, i, _pictures(results[i], runs_dir, 2)) for name, (_, i) in best.items()]
    return [
        {"attack": name, "result": results[i], "pictures": pictures,
         "run": i + 1 if i < _DETAILS else None}
        for name, i, pictures in sorted(chosen)
        if pictures
    ]  # fmt: skip
