"""What a defense found on its way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from invertune.perturb.triggers import InvertedTrigger

FILE, TENSORS = "evidence.json", "triggers.safetensors"

# What JSON can hold: a number, a text, a series, or one of these by name (of a layer, a class).
Finding = float | str | None | Sequence["Finding"] | Mapping[str, "Finding"]


@dataclass(frozen=True)
class Vote:
    """What one generator of universal perturbations did to the class frequencies.

    Attributes:
        generator: Its name.
        clean_frequency, perturbed_frequency: Share of images predicted as each class, C values; of
            classes that count as one, the first has it all.
        weight: Factor on its gains when the generators are compared.
    """

    generator: str
    clean_frequency: list[float]
    perturbed_frequency: list[float]
    weight: float

    @property
    def gain(self) -> list[float]:
        """Return P_adv - P_clean, C values."""
        pairs = zip(self.perturbed_frequency, self.clean_frequency, strict=True)
        return [perturbed - clean for perturbed, clean in pairs]


@dataclass(frozen=True)
class Survival:
    """Which classes still answer to one form of trigger while its budget shrinks.

    Attributes:
        form: The family's name.
        budgets: Ever smaller, in the family's unit.
        classes: At each budget, the classes that were still optimized.
        success: Share of images, not optimized on, that each of those sends to its class.
        pull: How surely: the mean over all these images of how much more similar they are then to
            the class than to any other, 0 where they are not, in units of the mean by which the
            model tells clean images.
    """

    form: str
    budgets: list[float]
    classes: list[list[int]]
    success: list[list[float]]
    pull: list[list[float]]

    def lead(self, label: int, place: int) -> float:
        """Return how far a class's pull stands above the largest other one at a budget.

        A class that was left behind before has none.
        """
        pulls = dict(zip(self.classes[place], self.pull[place], strict=True))
        own = pulls.pop(label, 0.0)
        return own - max(pulls.values(), default=0.0)

    def leads(self, label: int, last: int) -> list[float]:
        """Return the leads at the ``last`` budgets, the smallest one last."""
        return [self.lead(label, place) for place in range(len(self.budgets))][-last:]


def standing(
    before: Sequence[Survival], again: Sequence[Survival], judged: int
) -> dict[tuple[int, str], float]:
    """Return how far classes stand above all others, by class and form.

    At every budget a class's leads in step 1, where the strongest other classes take part, and in
    the verification, where luck does not last, are averaged; the furthest one counts.

    Args:
        before: What survived step 1; a form that is not among them, or a budget that it does not
            have, counts by ``again`` alone.
        again: What survived the verification; its classes are the ones returned.
        judged: How many of the smallest budgets count.
    """
    first = {one.form: one for one in before}
    leads: dict[tuple[int, str], float] = {}
    for one in again:
        other = first.get(one.form)
        places = range(len(one.budgets))[-judged:]
        for label in {label for labels in one.classes for label in labels}:
            at = []
            for place in places:
                both = [one.lead(label, place)]
                if other is not None and one.budgets[place] in other.budgets:
                    both.append(other.lead(label, other.budgets.index(one.budgets[place])))
                at.append(sum(both) / len(both))
            leads[label, one.form] = max(at)
    return leads


@dataclass(frozen=True)
class Identification:
    """Which class is the backdoor's target.

    Attributes:
        target_label: Index of the class.
        gain: How far it stands out, as whoever named it measures that: its gain in frequency (the
            mean over the generators by weight), its lead (`standing`, of the verification too) or
            its robust z (`ActivationScan`).
        runner_up: Index of the next class.
        runner_up_gain: That one's.
        votes: What every generator did; none where the target was found in another way.
        order: Classes, most suspicious first, as far as they were told apart.
        alike: Groups of classes that the model's texts hardly tell apart; each counts as one class,
            under its first.
        survival: What survived in every form of trigger; none where that was not looked at.
        again: The same of the verification.
    """

    target_label: int
    gain: float
    runner_up: int
    runner_up_gain: float
    votes: list[Vote] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    alike: list[list[int]] = field(default_factory=list)
    survival: list[Survival] = field(default_factory=list)
    again: list[Survival] = field(default_factory=list)

    @property
    def targets(self) -> list[int]:
        """The target, and the classes that count as one with it."""
        return self.group(self.target_label)

    def group(self, label: int) -> list[int]:
        """Return a class, and those that count as one with it."""
        groups = (group for group in self.alike if label in group)
        return next(groups, [label])


@dataclass(frozen=True)
class Verdict:
    """Whether a model is backdoored.

    Attributes:
        kind: ``backdoored``, ``clean`` or ``undecided``.
        p: How often a clean model would look at least as suspicious, if the laws of `Verification`
            hold; far below what was seen of clean models it orders models and is no probability.
        alarm: Largest ``p`` that is called backdoored: the rate of false alarms.
        clear: Smallest ``p`` that is called clean.
        form: The form of trigger that told.
        lead: How far the class stood above the best other one there.
        doubt: Why it is ``undecided`` whatever ``p`` is; empty where ``p`` decides.
    """

    kind: str
    p: float
    alarm: float
    clear: float
    form: str
    lead: float
    doubt: str = ""


@dataclass(frozen=True)
class Evidence:
    """What a defense found on its way, for tables and the report; all of it may be left out.

    Attributes:
        identification: Which class the backdoor sends images to.
        verdict: Whether there is one; None from a defense that does not ask.
        triggers: Inverted triggers.
        curves: Loss curves by name.
        seconds: Time by step.
        findings: Whatever else it found, by name, in `evidence.json` beside the fields above.
            InverTune has ``divergence`` (of each layer, before tuning), ``tuned_layers`` (the most
            divergent ones, on which ``activation`` acts where it has a weight), ``neurons`` (size
            of the backdoor's cluster and of the layer, for each of those) and ``p_after_round``
            (the smallest p that `Verification.left` gives a repaired class, after each round that
            may have another after it).
    """

    identification: Identification | None = None
    verdict: Verdict | None = None
    triggers: list[InvertedTrigger] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = {own.name for own in dataclasses.fields(self)} & set(self.findings)
        if taken:
            raise ValueError(f"findings have names of their own, got {', '.join(sorted(taken))}")

    def save(self, folder: Path) -> None:
        """Write ``evidence.json`` and ``triggers.safetensors``.

        Raises:
            ValueError: If a finding is nothing that JSON holds, such as a tensor or an infinity.
        """
        plain = {
            "identification": asdict(self.identification) if self.identification else None,
            "verdict": asdict(self.verdict) if self.verdict else None,
            "triggers": [trigger.form for trigger in self.triggers],
            **self.findings,
            "curves": self.curves,
            "seconds": self.seconds,
        }
        try:
            text = json.dumps(plain, indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"evidence holds finite numbers and texts: {error}") from error
        (folder / FILE).write_text(text, encoding="utf-8")
        tensors = {
            f"{i}.{name}": tensor.contiguous()
            for i, trigger in enumerate(self.triggers)
            for name, tensor in trigger.tensors().items()
        }
        # Written even without triggers, so that every folder of evidence has the same files.
        safetensors.torch.save_file(tensors, folder / TENSORS)

    @classmethod
    def load(cls, folder: Path) -> Evidence:
        """Read what `save` wrote."""
        plain: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        found, verdict = plain.pop("identification"), plain.pop("verdict", None)
        if found is not None:
            found["votes"] = [Vote(**vote) for vote in found["votes"]]
            for part in ("survival", "again"):
                found[part] = [Survival(**one) for one in found.get(part, [])]
        return cls(
            identification=Identification(**found) if found else None,
            verdict=Verdict(**verdict) if verdict else None,
            triggers=_triggers(plain.pop("triggers"), folder / TENSORS),
            curves=plain.pop("curves"),
            seconds=plain.pop("seconds"),
            findings=plain,
        )


def _triggers(forms: Sequence[str], path: Path) -> list[InvertedTrigger]:
    parts: list[dict[str, Tensor]] = [{} for _ in forms]
    for name, tensor in safetensors.torch.load_file(path).items():
        number, _, own = name.partition(".")
        parts[int(number)][own] = tensor
    return [InvertedTrigger.of(form, own) for form, own in zip(forms, parts, strict=True)]
