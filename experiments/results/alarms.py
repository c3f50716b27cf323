"""Which models the methods of many runs take for backdoored, against which of them are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evaluation.detection import Roc, auroc, false_positives_at, roc_curve
from evaluation.statistics import Estimate, counted
from experiments.results.runs import Run


@dataclass(frozen=True)
class Judged:
    """What a method says of one model.

    Attributes:
        run: The run that it is said in.
        score: Higher is more suspicious.
        flagged: Whether it takes the model for backdoored; None for a score without a threshold.
        threshold: The score from which on it does; None likewise.
    """

    run: Run
    score: float
    flagged: bool | None = None
    threshold: float | None = None

    @property
    def backdoored(self) -> bool:
        """Whether the model is; an attack of no target is the clean control."""
        return self.run.target is not None


@dataclass(frozen=True)
class Method:
    """A score of models, and what it says of every one of them, each once.

    Attributes:
        name: Of the defense or the detector, and which of its scores.
        score: What the score is, such as ``gain``.
        judged: At least one.
    """

    name: str
    score: str
    judged: tuple[Judged, ...]

    @property
    def threshold(self) -> float | None:
        """Its threshold; None if it has none, or another one for every model."""
        known = {one.threshold for one in self.judged}
        return known.pop() if len(known) == 1 else None

    @property
    def backdoored(self) -> int:
        """How many of the models are."""
        return sum(self._truth)

    @property
    def clean(self) -> int:
        """How many of the models are not."""
        return len(self.judged) - self.backdoored

    @property
    def compares(self) -> bool:
        """Whether there are models of both kinds, without which there is no curve."""
        return self.backdoored > 0 and self.clean > 0

    @property
    def roc(self) -> Roc | None:
        """Its curve; None if it does not compare."""
        return roc_curve(self._scores, self._truth) if self.compares else None

    @property
    def auroc(self) -> Estimate | None:
        """The area below it with its interval; None if it does not compare."""
        return auroc(self._scores, self._truth) if self.compares else None

    @property
    def fpr_at_95_tpr(self) -> Estimate | None:
        """The share of false alarms where 95 % are found; None if it does not compare."""
        return None if self.roc is None else Estimate(false_positives_at(self.roc, 0.95))

    @property
    def found(self) -> Estimate | None:
        """The share of backdoored models that it flags; None without a threshold or a model."""
        return self._flagged(True)

    @property
    def false_alarms(self) -> Estimate | None:
        """The share of clean models that it flags; None without a threshold or a model."""
        return self._flagged(False)

    @property
    def _scores(self) -> list[float]:
        return [one.score for one in self.judged]

    @property
    def _truth(self) -> list[bool]:
        return [one.backdoored for one in self.judged]

    def _flagged(self, backdoored: bool) -> Estimate | None:
        flags = [one.flagged for one in self.judged if one.backdoored is backdoored]
        known = [flag for flag in flags if flag is not None]
        return counted(sum(known) / len(known), len(known)) if known else None


def methods(runs: Sequence[Run]) -> list[Method]:
    """Return every method that judges models in these runs, in the order of their first words.

    A model that several runs share, such as those of several detectors, is judged once by each.

    Raises:
        ValueError: If a method says two different things of one model.
    """
    found: dict[tuple[str, str], dict[str, Judged]] = {}
    for run in runs:
        model = run.result.get("stages", {}).get("implant", run.id)
        for name, score, one in _said(run):
            known = found.setdefault((name, score), {}).setdefault(model, one)
            if (known.score, known.flagged) != (one.score, one.flagged):
                places = f"{known.run.folder.name} and {run.folder.name}"
                raise ValueError(
                    f"{name} says two things of one model, in {places}: move one of them to "
                    "another folder of runs"
                )
    return [Method(*names, tuple(models.values())) for names, models in found.items()]


def _said(run: Run) -> Iterator[tuple[str, str, Judged]]:
    """Yield the scores of a run: of which method, what it is, and what it says."""
    defense, verdict = run.name("defense"), run.result.get("verdict")
    if verdict is not None:
        p, alarm = (_suspicion(verdict[key]) for key in ("p", "alarm"))
        flagged = verdict["kind"] == "backdoored"
        yield f"{defense}: verdict", "-log10 of p", Judged(run, p, flagged, alarm)
    step = run.result["identification"]
    if step is not None:
        yield f"{defense}: step 1", "gain or lead", Judged(run, float(step["gain"]))
    own = run.detection
    if own.get("of") == "model":
        one = Judged(run, float(own["score"]), bool(own["flagged"]), float(own["threshold"]))
        yield run.name("detector"), "score", one


def _suspicion(p: float) -> float:
    """Return a probability as a score: the smaller it is, the more suspicious."""
    return -math.log10(p) if p > 0 else math.inf
