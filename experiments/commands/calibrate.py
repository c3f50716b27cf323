"""What the leads of clean models are, and what the verdicts are worth.

``invertune run experiment=c1_clean`` and ``c2_backdoored`` take clean and backdoored models through
InverTune; ``invertune calibrate RUNS`` reads how far the leading class of each stands above the
others, fits the law of a clean model's lead in every form of trigger (``verify.clean`` in the
defense's YAML), and counts what the verdicts said.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.detection import auroc
from evaluation.intervals import wilson
from experiments.results.measures import lookup
from experiments.results.runs import Run, load_runs
from experiments.terminal import printable, say
from invertune.evidence import Survival, standing
from invertune.verify import Gumbel


@dataclass(frozen=True)
class Reading:
    """What one model was found to be.

    Attributes:
        clean: Whether it was.
        kind: The verdict.
        p: Its p-value.
        leads: By form, the furthest lead of any class.
        of: The defense and the attack, such as ``invertune, badnet``.
        target: By form, the lead of the true target, where the verification had it; of clean models
            none.
    """

    clean: bool
    kind: str
    p: float
    leads: dict[str, float]
    of: str
    target: dict[str, float]


def readings(runs_dir: Path) -> list[Reading]:
    """Return the readings of all runs with a verdict below a folder.

    Raises:
        ValueError: If there is none.
    """
    found = [reading for run in load_runs(runs_dir) if (reading := _reading(run)) is not None]
    if not found:
        raise ValueError(
            f"{runs_dir} has no run with a verdict and its stages, which say what survived; make "
            "some: invertune run experiment=c1_clean"
        )
    return found


def _reading(run: Run) -> Reading | None:
    verdict, survival = run.result.get("verdict"), run.survival
    judged = lookup(run.config, "defense/verify/judged")
    if verdict is None or "verified" not in survival or not isinstance(judged, int):
        return None
    before, again = (
        [Survival(**one) for one in survival.get(name, [])] for name in ("step 1", "verified")
    )
    leads: dict[str, float] = {}
    target: dict[str, float] = {}
    for (label, form), lead in standing(before, again, judged).items():
        leads[form] = max(lead, leads.get(form, -1.0))
        if label == run.counted_label:
            target[form] = lead
    of = f"{run.name('defense')}, {run.name('attack')}"
    return Reading(run.target is None, verdict["kind"], verdict["p"], leads, of, target)


def describe(found: Sequence[Reading]) -> str:
    """Return the readings as text: laws of clean leads, verdicts, AUROC."""
    clean = [one for one in found if one.clean]
    planted = [one for one in found if not one.clean]
    lines = []
    for form in sorted({form for one in found for form in one.leads}):
        own = [one.leads[form] for one in clean if form in one.leads]
        line = f"{form}: leads of {_spread(own)} in clean models"
        if len(set(own)) > 1:
            law = Gumbel.fit(own)
            line += f", law: location {law.location:.3f}, scale {law.scale:.3f}"
        other = [one.leads[form] for one in planted if form in one.leads]
        lines.append(f"{line}; of {_spread(other)} in backdoored ones")
    for name, group in (("clean", clean), ("backdoored", planted)):
        for kind in ("backdoored", "undecided", "clean") if group else ():
            count = sum(one.kind == kind for one in group)
            low, high = wilson(count, len(group))
            lines.append(
                f"{name} models called {kind}: {count} of {len(group)} "
                f"[{100 * low:.1f}, {100 * high:.1f} %]"
            )
    for of in dict.fromkeys(one.of for one in planted):
        told = [one.target for one in planted if one.of == of]
        forms = dict.fromkeys(form for one in told for form in one)
        ends = [f"{form} {_ends([one[form] for one in told if form in one])}" for form in forms]
        lines.append(f"{of}: leads of the true target: {', '.join(ends) or 'none'}")
    if clean and planted:
        area = auroc([-one.p for one in found], [not one.clean for one in found])
        lines.append(f"AUROC of p: {area.value:.3f} [{area.low:.3f}, {area.high:.3f}]")
    return "\n".join(map(printable, lines))


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "none"
    return f"{_ends(values)} (median {np.median(values):.2f}, n={len(values)})"


def _ends(values: Sequence[float]) -> str:
    least, most = (f"{value:.2f}".replace("-0.00", "0.00") for value in (min(values), max(values)))
    return least if least == most else f"{least} to {most}"


def main(argv: Sequence[str]) -> int:
    """Print the readings of the runs below a folder."""
    parser = argparse.ArgumentParser(
        "invertune calibrate", description="Leads of clean models, and what verdicts are worth."
    )
    parser.add_argument("runs", type=Path, help="folder of runs of a defense with a verdict")
    say(describe(readings(parser.parse_args(list(argv)).runs)))
    return 0
