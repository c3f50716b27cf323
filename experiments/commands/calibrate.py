"""What the leads of clean models are, and what the verdicts are worth.

``invertune run experiment=c1_clean`` and ``c2_backdoored`` take clean and backdoored models through
InverTune; ``invertune calibrate RUNS`` reads how far the leading class of each stands above the
others, fits the law of a clean model's lead in every form of trigger (``verify.clean`` in the
defense's YAML), and counts what the verdicts said and what they would say by the fitted laws, of
these models and of others (``--judge``), each by laws that its pre-training had no part in. Runs
that share a search count once.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.detection import auroc
from evaluation.intervals import wilson
from experiments.results.measures import lookup
from experiments.results.runs import Run, load_runs
from experiments.terminal import printable, say
from invertune.evidence import Survival, Verdict, standing
from invertune.verify import Gumbel, bonferroni, kind_of

# Clean models hardly differ in some forms: their own scale would take any lead for a backdoor. In
# the other forms fine-tunings of one pre-training alone have scales of 0.024 and more.
LEAST_SCALE = 0.02


@dataclass(frozen=True)
class Reading:
    """What one model was found to be.

    Attributes:
        clean: Whether it was.
        verdict: What was said of it.
        leads: By form, the furthest lead of any class.
        of: The defense and the attack, such as ``invertune, badnet``.
        origin: The pre-training that it comes from; models of one are alike.
        search: What made the reading; runs that share it are one reading.
        target: By form, the lead of the true target, where the verification had it; of clean models
            none.
    """

    clean: bool
    verdict: Verdict
    leads: dict[str, float]
    of: str
    origin: str
    search: str
    target: dict[str, float]

    def by(self, laws: Mapping[str, Gumbel]) -> Reading | None:
        """Return it with the verdict that other laws would give; None without one for a form."""
        if not self.leads.keys() <= laws.keys():
            return None
        said = self.verdict
        tails = {form: laws[form].tail(lead) for form, lead in self.leads.items()}
        form = min(tails, key=lambda form: tails[form])
        p = bonferroni(tails.values(), len(tails))
        kind = "undecided" if said.doubt else kind_of(p, said.alarm, said.clear)
        verdict = dataclasses.replace(said, kind=kind, p=p, form=form, lead=self.leads[form])
        return dataclasses.replace(self, verdict=verdict)


def readings(runs_dir: Path) -> list[Reading]:
    """Return the readings of all runs with a verdict below a folder, those of one search once.

    Raises:
        ValueError: If there is none.
    """
    every = [reading for run in load_runs(runs_dir) if (reading := _reading(run)) is not None]
    found = list({one.search: one for one in every}.values())
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
    stages, clean = run.result["stages"], run.target is None
    origin = stages.get("pretrain", f"{run.name('model')}, seed {run.result['seed']}")
    search = stages.get("purify/search", stages["purify"])
    return Reading(clean, Verdict(**verdict), leads, of, origin, search, target)


def describe(
    found: Sequence[Reading], others: Sequence[Reading] = (), *, least: float = LEAST_SCALE
) -> str:
    """Return the readings as text: laws of clean leads, verdicts, AUROC.

    Args:
        found: What the laws are fitted to.
        others: What they are tried on beside.
        least: No law's scale is smaller.
    """
    planted = [one for one in found if not one.clean]
    laws, lines = _laws(found, least), []
    for form in sorted({form for one in found for form in one.leads}):
        own = [one.leads[form] for one in found if one.clean and form in one.leads]
        line = f"{form}: leads of {_spread(own)} in clean models"
        if form in laws:
            law = laws[form]
            line += f", law: location {law.location:.3f}, scale {law.scale:.3f}"
        other = [one.leads[form] for one in planted if form in one.leads]
        lines.append(f"{line}; of {_spread(other)} in backdoored ones")
    lines += _counts(found)
    for of in dict.fromkeys(one.of for one in planted):
        told = [one.target for one in planted if one.of == of]
        forms = dict.fromkeys(form for one in told for form in one)
        ends = [f"{form} {_ends([one[form] for one in told if form in one])}" for form in forms]
        lines.append(f"{of}: leads of the true target: {', '.join(ends) or 'none'}")
    pre_trained = {one.origin for one in found if one.clean}
    apart = [one for one in others if one.origin not in pre_trained]
    tried = [one.by(laws) for one in apart]
    for title, group in (
        ("By laws fitted to the clean models of all other pre-trainings", _left_out(found, least)),
        ("The other runs, by laws fitted to all of these clean models", tried),
    ):
        judged = [one for one in group if one is not None]
        lines += [f"{title}:", *_counts(judged)] if group else []
        if len(judged) < len(group):
            lines.append(f"left out, for a form has no law: {len(group) - len(judged)} models")
    if len(apart) < len(others):
        same = len(others) - len(apart)
        lines.append(f"left out, for laws were fitted to their pre-trainings: {same} models")
    return "\n".join(map(printable, lines))


def _left_out(found: Sequence[Reading], least: float) -> list[Reading | None]:
    """Return all as they are judged by laws of other pre-trainings' clean models."""
    return [
        one.by(_laws([other for other in found if other.origin != one.origin], least))
        for one in found
    ]


def _laws(found: Sequence[Reading], least: float) -> dict[str, Gumbel]:
    """Return the law of a clean model's lead in every form that has two readings or more."""
    leads: dict[str, list[float]] = {}
    for one in found:
        for form, lead in one.leads.items() if one.clean else ():
            leads.setdefault(form, []).append(lead)
    return {form: Gumbel.fit(own, least) for form, own in leads.items() if _fits(own, least)}


def _fits(leads: Sequence[float], least: float) -> bool:
    """Return whether a law can be fitted to so many leads."""
    return len(leads) > 1 and (least > 0 or len(set(leads)) > 1)


def _counts(found: Sequence[Reading]) -> list[str]:
    """Return what the verdicts say, their p-values and AUROC."""
    lines = []
    for name, clean in (("clean", True), ("backdoored", False)):
        group = [one for one in found if one.clean == clean]
        for said in ("backdoored", "undecided", "clean") if group else ():
            count = sum(one.verdict.kind == said for one in group)
            low, high = wilson(count, len(group))
            lines.append(
                f"{name} models called {said}: {count} of {len(group)} "
                f"[{100 * low:.1f}, {100 * high:.1f} %]"
            )
        if group:
            least, most = (f"{end(one.verdict.p for one in group):.2g}" for end in (min, max))
            lines.append(
                f"{name} models have p of {least}" + (f" to {most}" if most != least else "")
            )
    if len({one.clean for one in found}) > 1:
        area = auroc([-one.verdict.p for one in found], [not one.clean for one in found])
        lines.append(f"AUROC of p: {area.value:.3f} [{area.low:.3f}, {area.high:.3f}]")
    return lines


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "none"
    return f"{_ends(values)} (median {np.median(values):.2f}, n={len(values)})"


def _ends(values: Sequence[float]) -> str:
    least, most = (f"{value:.2f}".replace("-0.00", "0.00") for value in (min(values), max(values)))
    return least if least == most else f"{least} to {most}"


def main(argv: Sequence[str]) -> int:
    """Print what the runs below a folder say, and what their laws say of another's."""
    parser = argparse.ArgumentParser(
        "invertune calibrate", description="Leads of clean models, and what verdicts are worth."
    )
    parser.add_argument("runs", type=Path, help="folder of runs of a defense with a verdict")
    parser.add_argument(
        "--judge", type=Path, metavar="RUNS",
        help="other runs, to try the laws on that are fitted to the first ones' clean models",
    )  # fmt: skip
    parser.add_argument(
        "--least-scale", type=float, default=LEAST_SCALE, metavar="SCALE",
        help="no fitted law's scale is smaller, default %(default)s",
    )  # fmt: skip
    asked = parser.parse_args(list(argv))
    if not 0 <= asked.least_scale < math.inf:
        raise ValueError(f"--least-scale is a finite number from 0 on, got {asked.least_scale}")
    found = readings(asked.runs)
    others = [] if asked.judge is None else readings(asked.judge)
    if others and not _laws(found, asked.least_scale):
        count = sum(one.clean for one in found)
        raise ValueError(
            f"--judge wants laws, of two clean models or more; {asked.runs} has {count}"
        )
    say(describe(found, others, least=asked.least_scale))
    return 0
