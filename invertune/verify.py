"""Verification: do the suspected classes survive from other starts too, and is that a backdoor?

The candidates of step 1 and as many classes drawn at random are inverted anew, in every form. What
counts is how far one class stands above the best of the others of the same model, in the same form,
at the same small budgets: an absolute success would not do, for some models have classes that
are reached easily with no backdoor behind them. What such a lead is without a backdoor was measured
on clean models; their extreme values give a p-value.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.evidence import Identification, Survival, Verdict, standing
from invertune.fields import (
    check_all,
    check_counts,
    check_positive,
    check_shares,
    check_types,
    is_number,
)
from invertune.perturb.probes import Probe
from invertune.perturb.shrink import Effort, Shrinking
from invertune.seeds import seeded
from invertune.survival import Pool, probed, scanning, survivals
from invertune.work import Work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gumbel:
    """The law of the largest of many leads, by its location and scale (both of leads)."""

    location: float
    scale: float

    def __post_init__(self) -> None:
        check_types(self)
        if not is_number(self.location):
            raise ValueError(f"location is a finite number, got {self.location!r}")
        check_positive(self, "scale")

    def tail(self, value: float) -> float:
        """Return how often a value this large or larger comes: 1 - exp(-exp(-(x - a) / b))."""
        exponent = min(50.0, -(value - self.location) / self.scale)
        return -math.expm1(-math.exp(exponent))

    @classmethod
    def fit(cls, values: Sequence[float], least: float = 0.0) -> Gumbel:
        """Return the law with the mean and deviation of the values.

        Args:
            values: Two or more.
            least: The scale is at least so much; above 0, values may all be alike.

        Raises:
            ValueError: If there are fewer than two, or the scale would be 0.
        """
        count = len(values)
        mean = sum(values) / max(1, count)
        variance = sum((value - mean) ** 2 for value in values) / max(1, count - 1)
        if len(set(values)) == 1:
            mean, variance = values[0], 0.0
        scale = math.sqrt(6 * variance) / math.pi
        if count < 2 or max(scale, least) == 0:
            raise ValueError(f"a law is fitted to different values, got {list(values)!r:.80}")
        return cls(mean - _EULER * scale, max(scale, least))


_EULER = 0.5772156649015329


def bonferroni(tails: Iterable[float], forms: int) -> float:
    """Return the p-value of so many forms together, given the tails of leads in them."""
    return min(1.0, min(tails) * forms)


def kind_of(p: float, alarm: float, clear: float) -> str:
    """Return what a p-value means, as `Verification` has the thresholds."""
    return "backdoored" if p <= alarm else "clean" if p >= clear else "undecided"


@dataclass(frozen=True)
class Verification:
    """Invert candidates and decoys from other starts; decide by the lead that is left.

    What counts is how far a class stands above the others in a form (`standing`). Its p-value is
    that form's `Gumbel` tail; of all classes and forms the smallest one, times the number of forms
    (Bonferroni): the law is that of the leading class already.

    Attributes:
        forms, probes, images, held, temperature, judged: As `SurvivalScan` has them.
        efforts: Likewise; all classes here are kept to the end.
        candidates: How many of step 1's.
        decoys: How many others, drawn at random.
        clean: Law of a clean model's lead, by form.
        alarm: Largest p-value of a backdoored model: the false-alarm rate, if the laws hold.
        clear: Smallest p-value of a clean model; in between the verdict is ``undecided``.
        one_class: Largest share of the clean images that may look like one class; beyond it, and
            beyond three times the even share, they are not of the model's world, and whatever is
            found on them is ``undecided``.
        least_perplexity: Likewise, of the classes that they look like, as a share of the most that
            so many images of so many classes can have. The minis' own world has 0.6, photographs
            0.02 to 0.32.
    """

    forms: Sequence[Shrinking]
    efforts: Sequence[Effort]
    images: int
    held: int
    temperature: float
    judged: int
    candidates: int
    decoys: int
    clean: Mapping[str, Gumbel]
    alarm: float
    clear: float
    one_class: float
    probes: Sequence[Probe] = ()
    least_perplexity: float = 0.45

    def __post_init__(self) -> None:
        check_types(self)
        check_all(self, "forms", Shrinking)
        check_all(self, "probes", Probe)
        check_all(self, "efforts", Effort)
        check_counts(self, "images", "held", "judged", "candidates", "decoys")
        check_positive(self, "temperature")
        check_shares(self, "alarm", "clear", "one_class")
        check_shares(self, "least_perplexity", zero=True)
        if not isinstance(self.clean, Mapping) or not all(
            isinstance(law, Gumbel) for law in self.clean.values()
        ):
            raise ValueError(f"clean maps forms to Gumbels, got {self.clean!r:.80}")
        if not self.forms or not self.efforts:
            raise ValueError("a verification has at least one form and one effort")
        missing = [name for name in self._names if name not in self.clean]
        if missing:
            raise ValueError(f"clean has a law of every form, none of {', '.join(missing)}")
        if self.alarm > self.clear:
            raise ValueError(f"alarm is at most clear ({self.clear}), got {self.alarm}")

    @property
    def _names(self) -> list[str]:
        """Names of all forms."""
        return [form.name for form in self.forms] + [probe.name for probe in self.probes]

    @property
    def samples(self) -> int:
        """Number of clean images that it uses."""
        return self.images + self.held

    @property
    def classes(self) -> int:
        """Number of classes that it compares."""
        return self.candidates + self.decoys

    def __call__(
        self, model: CLIP, clean: CleanData, found: Identification, *, seed: int
    ) -> tuple[Identification, Verdict]:
        """Return the class that leads furthest here, and the verdict.

        Raises:
            ValueError: If there are fewer clean images than `samples`, or classes than `classes`.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        pool = self._pool(model, clean, seed, "verify")
        found = _merged(found, pool)
        again = self._again(pool, found.order[: self.candidates], seed, "verify")
        found, verdict = self.decide(found, again)
        return found, self._doubted(verdict, pool)

    def work(self) -> Work:
        """Return what goes through a model, whatever its classes."""
        drawn = sum(probe.draws * len(probe.budgets) for probe in self.probes)
        again = scanning(self.forms, self.efforts, self.classes, self.held)
        return again + Work(forward=self.held * drawn)

    def left(
        self,
        model: CLIP,
        clean: CleanData,
        found: Identification,
        *,
        seed: int,
        stage: str,
        label: int | None = None,
    ) -> float:
        """Return the p-value of a class, inverted anew beside the next classes and decoys.

        It is looked at in the forms in which it stood out (`told`), or in all if it did in none.

        Args:
            model: A repaired one.
            clean: The defender's images.
            found: What was found in it before.
            seed, stage: Decide the starts, the images and the decoys.
            label: The class; None for the target.
        """
        label = found.target_label if label is None else label
        told = self.told(found, label) or self._names
        order = [label, *(other for other in found.order if other != label)]
        pool = self._pool(model, clean, seed, stage)
        again = self._again(pool, order[: self.candidates], seed, stage, told)
        tails = [self.clean[one.form].tail(max(one.leads(label, self.judged))) for one in again]
        return bonferroni(tails, len(again))

    def told(self, found: Identification, label: int) -> list[str]:
        """Return the forms in which a class stands out, by a p-value below `clear`."""
        leads = standing(found.survival, found.again, self.judged)
        return [
            form
            for (other, form), lead in leads.items()
            if other == label and self.clean[form].tail(lead) * len(found.again) < self.clear
        ]

    def _pool(self, model: CLIP, clean: CleanData, seed: int, stage: str) -> Pool:
        if len(clean.prompts) < self.classes:
            raise ValueError(
                f"candidates={self.candidates} and decoys={self.decoys} need {self.classes} "
                f"classes, got {len(clean.prompts)}"
            )
        return Pool.of(model, clean, self.images, self.held, self.temperature, seed, stage)

    def _again(
        self,
        pool: Pool,
        labels: Sequence[int],
        seed: int,
        stage: str,
        only: Sequence[str] | None = None,
    ) -> list[Survival]:
        """Return what survives of some classes and of decoys, and what random triggers do.

        Args:
            pool: What it is measured with.
            labels: The classes.
            seed, stage: Decide the starts and the decoys.
            only: Names of the forms; None for all.
        """
        forms = [one for one in self.forms if only is None or one.name in only]
        probes = [one for one in self.probes if only is None or one.name in only]
        classes = pool.suspect.classes
        mixed = torch.randperm(len(classes), generator=seeded(seed, stage))
        decoys = [label for label in classes[mixed].tolist() if label not in labels][: self.decoys]
        compared = torch.tensor([*labels, *decoys])
        found = survivals(pool, forms, self.efforts, compared, seed=seed, stage=stage)
        return found + probed(pool, probes, seed=seed, stage=stage)

    def decide(
        self, found: Identification, again: Sequence[Survival]
    ) -> tuple[Identification, Verdict]:
        """Return the answer, given what step 1 found and what survived here."""
        leads = standing(found.survival, again, self.judged)
        tails = {of: self.clean[of[1]].tail(lead) for of, lead in leads.items()}
        # By the lead too, for tails of large leads are all 0.
        order = sorted(tails, key=lambda of: (tails[of], -leads[of]))
        label, form = order[0]
        p = bonferroni(tails.values(), len(again))
        classes = list(dict.fromkeys(label for label, _ in order))
        second = next(of for of in order if of[0] == classes[1])
        identification = dataclasses.replace(
            found,
            target_label=label,
            gain=leads[label, form],
            runner_up=second[0],
            runner_up_gain=leads[second],
            order=classes,
            again=list(again),
        )
        verdict = Verdict(
            kind_of(p, self.alarm, self.clear), p, self.alarm, self.clear, form, leads[label, form]
        )
        return identification, verdict

    def _doubted(self, verdict: Verdict, pool: Pool) -> Verdict:
        """Return the verdict, undecided if the model knows neither images nor classes."""
        classes = len(pool.suspect.classes)
        shares = torch.bincount(pool.own).double() / len(pool.own)
        largest, perplexity = float(shares.max()), float(torch.special.entr(shares).sum().exp())
        if classes < self.classes:
            doubt = f"the model's texts tell only {classes} classes apart"
        elif largest > max(self.one_class, 3 / classes):
            doubt = f"{largest:.0%} of the clean images look like one class to the model"
        elif perplexity < self.least_perplexity * min(classes, len(pool.own)):
            doubt = (
                f"the clean images look like {perplexity:.1f} of {classes} classes to the model, "
                "by their perplexity"
            )
        else:
            return verdict
        return dataclasses.replace(verdict, kind="undecided", doubt=doubt)


def _merged(found: Identification, pool: Pool) -> Identification:
    """Return what step 1 found with the first class in place of each that counts as one with it.

    Whoever found it need not have asked which classes the model's texts tell apart.
    """
    same = pool.suspect.same.tolist()
    return dataclasses.replace(
        found,
        target_label=same[found.target_label],
        runner_up=same[found.runner_up],
        order=list(dict.fromkeys(same[label] for label in found.order)),
        alike=pool.suspect.alike,
    )
