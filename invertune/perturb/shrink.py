"""Optimize many triggers side by side while their budget shrinks, and judge what they still do.

At a generous budget every class can be reached, from almost any start; at a small one gradients
find nothing, but what was found before may survive. On a backdoored model one class does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.clip.encode import autocast
from invertune.clip.fast import folded
from invertune.clip.models import CLIP
from invertune.data.bundle import to_float
from invertune.fields import check_all, check_counts, check_is, check_positive, check_types
from invertune.finite import check_finite
from invertune.perturb.families import Family, check_budgets
from invertune.perturb.optimize import fast_attention, frozen
from invertune.perturb.triggers import InvertedTrigger

_AT_ONCE = 512  # images in a pass, of up to 64 pixels; of larger ones as many as fill its memory
_PIXELS = _AT_ONCE * 64**2
# Cosine of the prompts' features, less the mean of all, from which on two classes are one.
# Different classes of the small world have up to 0.67; "a van" and "a minivan" have 0.99.
_SAME = 0.95
_EQUAL = 1e-3  # distance of unit vectors that float32 hardly tells from 0


@dataclass(frozen=True)
class Effort:
    """How much is done at one budget.

    Attributes:
        steps: Adam steps.
        images: Clean images a step and trigger.
        pace: Factor on the family's learning rate.
        classes: How many classes are kept for it, most promising first; None for all.
    """

    steps: int
    images: int
    pace: float = 1.0
    classes: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "steps", "images")
        check_positive(self, "pace")
        if self.classes is not None:
            check_counts(self, "classes", least=2)


@dataclass(frozen=True)
class Shrinking:
    """A family and the budgets that it goes through.

    Attributes:
        family: What the triggers are made of.
        budgets: Ever smaller, in the family's own unit.
        lr: Adam's learning rate.
        efforts: What is done at every budget, where it is not what is done in other forms.
    """

    family: Family
    budgets: Sequence[float]
    lr: float
    efforts: Sequence[Effort] = ()

    def __post_init__(self) -> None:
        check_types(self)
        check_is(self, "family", Family)
        check_positive(self, "lr")
        check_all(self, "efforts", Effort)
        check_budgets(self.budgets)

    @property
    def name(self) -> str:
        """The family's."""
        return self.family.name

    def triggers(
        self, free: Sequence[Tensor], labels: Tensor, budget: float | Tensor, side: int
    ) -> InvertedTrigger:
        """Return finished triggers, with all that `optimize` goes on from in their ``origin``.

        Args:
            free: The family's free tensors, (K, ...) each.
            labels: (K,) class of every trigger.
            budget: Of the family; one for all, or (K,).
            side: Of the images, in pixels.
        """
        budgets = torch.as_tensor(budget).expand(len(labels)).to(free[0])
        with torch.no_grad():
            built = self.family.build(list(free), side, budgets.view(-1, 1, 1, 1))
        named = {f"free{place}": tensor for place, tensor in enumerate(free)}
        return dataclasses.replace(built, origin={"label": labels, "budget": budgets, **named})

    def origin(self, triggers: Sequence[InvertedTrigger]) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the free tensors, labels and budgets of triggers that `triggers` made.

        Raises:
            ValueError: If they are of another family, or nothing says what they were made of.
        """
        for trigger in triggers:
            if trigger.form != self.name or "free0" not in trigger.origin:
                raise ValueError(f"{self.name} cannot go on with a trigger of {trigger.form}")
        names = sorted(name for name in triggers[0].origin if name.startswith("free"))
        stacked = {
            name: torch.stack([trigger.origin[name] for trigger in triggers])
            for name in ("label", "budget", *names)
        }
        return [stacked[name] for name in names], stacked["label"], stacked["budget"]


def counted_as(classifier: Tensor) -> Tensor:
    """Return the class that each class counts as, (C,) on the CPU: the first of those like it.

    Args:
        classifier: (D, C) zero-shot classifier, columns of unit norm.
    """
    # A model's texts have much in common, one of random weights almost all.
    own = classifier - classifier.mean(dim=1, keepdim=True)
    own = F.normalize(own, dim=0)
    near = (own.T @ own >= _SAME).cpu()
    # Texts that are the same have nothing left if all are; and a class is like itself.
    gaps = torch.cdist(classifier.T, classifier.T).cpu()
    near |= (gaps < _EQUAL) | torch.eye(len(near), dtype=torch.bool)
    near = near | near.T
    # The first of all that are like it, and of what these are like, and so on.
    first, count = torch.arange(len(near)), len(near)
    while True:
        spread = torch.where(near, first.expand(count, -1), count).amin(dim=1)
        if torch.equal(spread, first):
            return first
        first = spread


def groups_of(same: Tensor) -> list[list[int]]:
    """Return the groups of classes that count as one, (C,) by `counted_as`, the first one first."""
    groups = [(same == one).nonzero().flatten().tolist() for one in sorted(set(same.tolist()))]
    return [group for group in groups if len(group) > 1]


@dataclass(frozen=True)
class Suspect:
    """A model, and the clean images and classes that triggers are optimized with.

    Classes that the model's texts hardly tell apart share what a backdoor does to one of them, so
    they count as one, which is their first.

    Attributes:
        model: Stays as it is.
        classifier: (D, C) zero-shot classifier.
        images: (N, 3, H, W) uint8, drawn from with replacement.
        temperature: Divides the similarities in the loss.
    """

    model: CLIP
    classifier: Tensor
    images: Tensor
    temperature: float

    @property
    def side(self) -> int:
        """Of the images, in pixels."""
        return int(self.images.shape[-1])

    @functools.cached_property
    def same(self) -> Tensor:
        """The class that each class counts as, (C,) on the CPU."""
        return counted_as(self.classifier)

    @functools.cached_property
    def classes(self) -> Tensor:
        """The classes without those that count as another one, (K,)."""
        classes: Tensor = self.same.unique()  # type: ignore[no-untyped-call]
        return classes

    @property
    def alike(self) -> list[list[int]]:
        """Groups of classes that count as one, each with its first class first."""
        return groups_of(self.same)

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Hold the model as fast as it can be for gradients of images, inside the block."""
        with frozen(self.model), folded(self.model), fast_attention(self.model):
            yield

    def similarities(self, images: Tensor) -> Tensor:
        """Return the similarities of images, (B, 3, H, W) in [0, 1], to the classes, (B, C).

        Of classes that count as one the first has the largest, the others have minus infinity.
        """
        with autocast(self.model.device):
            features = self.model.encode_image(images)
        return self.classified(features)

    def classified(self, features: Tensor) -> Tensor:
        """Return the same of image features, (B, D), that are encoded already."""
        found = self.model.similarities(features, self.classifier)
        if len(self.classes) == len(self.same):
            return found
        index = self.same.to(found.device).expand(len(found), -1)
        merged = torch.full_like(found, -torch.inf)
        return merged.scatter_reduce(1, index, found, "amax")


def optimize(
    suspect: Suspect,
    shrinking: Shrinking,
    free: Sequence[Tensor],
    labels: Tensor,
    budget: float | Tensor,
    effort: Effort,
    *,
    stage: str,
    generator: torch.Generator,
) -> tuple[list[Tensor], list[list[float]]]:
    """Pull every trigger to its label; return the free tensors, and every step's losses.

    Args:
        suspect: What it is optimized against, inside `Suspect.ready`.
        shrinking: Gives family and learning rate.
        free: The family's free tensors, (K, ...) each.
        labels: (K,) class of every trigger.
        budget: Of the family; one for all, or (K,).
        effort: How much.
        stage: Name in error messages.
        generator: Source of every random number.

    Raises:
        NonFiniteLossError: If a loss becomes NaN or infinite.
    """
    model, count = suspect.model, len(labels)
    free = [tensor.detach().clone().requires_grad_() for tensor in free]
    adam = torch.optim.Adam(free, lr=shrinking.lr * effort.pace)
    # Triggers do not see each other, so a pass may hold any number of them.
    together = max(1, at_once(suspect.side) // effort.images)
    parts = [torch.arange(count)[i : i + together] for i in range(0, count, together)]
    budgets = torch.as_tensor(budget).expand(count).view(-1, 1, 1, 1).to(free[0])
    losses = []
    for step in range(effort.steps):
        index = torch.randint(
            len(suspect.images), (count, effort.images), generator=generator
        )  # fmt: skip
        adam.zero_grad()
        found = []
        for part in parts:
            triggers = shrinking.family.build([t[part] for t in free], suspect.side, budgets[part])
            rows = torch.arange(len(part)).repeat_interleave(effort.images)
            batch = to_float(suspect.images[index[part].flatten()]).to(model.device)
            logits = suspect.similarities(triggers.one(rows)(batch)) / suspect.temperature
            wanted = labels[part].repeat_interleave(effort.images).to(model.device)
            loss = F.cross_entropy(logits, wanted, reduction="none").view(len(part), -1).mean(1)
            check_finite(loss.sum(), stage, step)
            loss.sum().backward()  # type: ignore[no-untyped-call]
            found += loss.tolist()
        losses.append(found)
        adam.step()
    return [tensor.detach() for tensor in free], losses


@dataclass(frozen=True)
class Effect:
    """What triggers do to images that do not show their labels anyway.

    Attributes:
        success: (K,) share of images that each sends to its label.
        pull: (K,) mean over the images of how much more similar they are then to the label than to
            any other class, 0 where they are not.
    """

    success: Tensor
    pull: Tensor


def success(
    suspect: Suspect, triggers: InvertedTrigger, labels: Tensor, images: Tensor, own: Tensor
) -> Tensor:
    """Return the share of images that every trigger sends to its label; see `effect`."""
    return effect(suspect, triggers, labels, images, own).success


@torch.no_grad()
def effect(
    suspect: Suspect, triggers: InvertedTrigger, labels: Tensor, images: Tensor, own: Tensor
) -> Effect:
    """Return what every trigger does, on the CPU.

    Images that show the label without a trigger are left out; where that are all, it is 0.

    Args:
        suspect: The model, inside `Suspect.ready`.
        triggers: K of them, with a leading dimension.
        labels: (K,) class of every trigger.
        images: (N, 3, H, W) uint8 that were not optimized on.
        own: (N,) what the model takes them for without a trigger.
    """
    batch = to_float(images).to(suspect.model.device)
    parts, success, pull = batch.split(at_once(suspect.side)), [], []  # type: ignore[no-untyped-call]
    for row, label in enumerate(labels.tolist()):
        trigger = triggers.one(row)
        found = torch.cat([suspect.similarities(trigger(part)) for part in parts]).cpu()
        margins = _margins(found, label)[own != label]
        count = max(1, len(margins))
        success.append(float((margins > 0).sum()) / count)
        pull.append(float(margins.clamp_min(0).sum()) / count)
    return Effect(torch.tensor(success), torch.tensor(pull))


def at_once(side: int) -> int:
    """Return how many images of a side, in pixels, go through a model together."""
    return min(_AT_ONCE, max(1, _PIXELS // side**2))


def _margins(similarities: Tensor, label: int) -> Tensor:
    """Return how much larger the label's similarity is than the largest other, (N,)."""
    others = similarities.index_fill(1, torch.tensor([label]), -torch.inf)
    return similarities[:, label] - others.amax(dim=1)
