"""TBAR (Abdelraheem et al., 2025): what a backdoor adds to the weights is taken off them again.

Trigger removal by Backdoor ARithmetic reads a backdoor as a direction in the space of weights. A
copy of the suspect model learns the backdoor still further, from triggered images alone; what that
adds to its weights is the task vector, and the suspect's weights less a multiple of it are the
repaired model's. Where the trigger is not known it is estimated, in the paper by DECREE.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.baselines.pairs import without_captions
from invertune.clip.encode import encode_images, predicted_classes, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, chosen_clean
from invertune.data.images import Images
from invertune.defense import Purified, Searching, Training
from invertune.detectors.decree import DECREE
from invertune.evidence import Evidence, Finding
from invertune.fields import (
    check_counts,
    check_is,
    check_positive_lists,
    check_shares,
    check_types,
)
from invertune.perturb.triggers import InvertedTrigger
from invertune.steps import Clock
from invertune.training import Batch, Recipe, train
from invertune.training.checkpoint import load_state, save_state
from invertune.tune import Refresh, Tuned
from invertune.work import Work

log = logging.getLogger(__name__)

_STAGE = "task vector"


def task_vector(model: CLIP, tuned: CLIP) -> dict[str, Tensor]:
    """Return what a training added to the weights, by name; weights that it left are not there."""
    before = dict(model.named_parameters())
    added = {name: own.detach() - before[name].detach() for name, own in tuned.named_parameters()}
    return {name: own for name, own in added.items() if own.any()}


@torch.no_grad()
def subtract(model: CLIP, vector: Mapping[str, Tensor], scale: float) -> CLIP:
    """Return a copy with the weights theta - scale * vector, in evaluation mode.

    Args:
        model: Stays as it is.
        vector: From `task_vector`.
        scale: alpha, the factor on it.
    """
    changed = copy.deepcopy(model).eval()
    for name, own in changed.named_parameters():
        if name in vector:
            own.sub_(scale * vector[name])
    return changed


@dataclass(frozen=True)
class Negated:
    """A repaired model and what was seen on the way.

    Attributes:
        model: A copy, with the suspect's weights where every scale was too much.
        losses: Of every step of the vector's training.
        findings: ``scale`` (alpha; 0 where the weights stayed), ``trigger_targets`` (the class that
            each trigger sends most images to), and by the scales that were tried, from 0 to the
            first that was too much, ``agreement`` and ``trigger_success``.
    """

    model: CLIP
    losses: list[float]
    findings: dict[str, Finding]


@dataclass(frozen=True)
class TaskNegation:
    """Subtract the task vector of triggers that were inverted; a step 3 for InverTune, too.

    What is decided here: the vector is learned by cross-entropy towards the class that a trigger
    sends most images to, against all class names, since a batch whose captions are all the target's
    has no negatives for CLIP's loss. Triggers take turns. The scale is found without labels and
    without the true trigger: scales rise while they leave the class of enough clean images as it
    was, and of these, 0 among them, the one counts at which the inverted triggers send the fewest
    images to their classes.

    Attributes:
        samples: Number of clean images.
        recipe: How the backdoor is learned further.
        scales: alpha, those that are tried, from the smallest on.
        least_agreement: Smallest share of the clean images whose class stays.
    """

    refresh_every: ClassVar[int] = 0

    samples: int
    recipe: Recipe
    scales: Sequence[float]
    least_agreement: float

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "samples")
        check_is(self, "recipe", Recipe)
        check_shares(self, "least_agreement")
        check_positive_lists(self, "scales")
        self.recipe.check_pairs(self.samples, _STAGE)
        # Weights alone are subtracted, and of the image tower.
        for name in ("freeze_text", "freeze_batch_norm"):
            if not getattr(self.recipe, name):
                raise ValueError(f"recipe.{name} is true for a task vector, got False")

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.recipe.steps(self.samples)

    def trainings(self) -> list[Training]:
        """Return how the vector is learned."""
        return [Training(self.recipe, Towards)]

    def work(self) -> Work:
        """Return what goes through the model."""
        seen = self.steps * self.recipe.batch_size
        looks = 2 * (len(self.scales) + 1) * self.samples
        return Work(forward=looks, trained=seen, steps=self.steps)

    def __call__(
        self,
        model: CLIP,
        clean: CleanData,
        triggers: Sequence[InvertedTrigger],
        *,
        seed: int,
        checkpoint: Path | None = None,
        start: CLIP | None = None,
        refresh: Refresh | None = None,
        number: int = 1,
        suspected: Sequence[int] = (),
    ) -> Tuned:
        """Return what `negate` does, as InverTune's step 3; layers and neurons play no part."""
        found = self.negate(
            model, clean, triggers, seed=seed, checkpoint=checkpoint, start=start, number=number
        )
        curves = {f"{_STAGE} loss": found.losses}
        return Tuned(found.model, {}, [], {}, curves, found.findings)

    def negate(
        self,
        model: CLIP,
        clean: CleanData,
        triggers: Sequence[InvertedTrigger],
        *,
        seed: int,
        checkpoint: Path | None = None,
        start: CLIP | None = None,
        number: int = 1,
    ) -> Negated:
        """Return a copy without the triggers' task vector; ``model`` itself stays as it is.

        An interrupted repair keeps the finished vector in a file beside ``checkpoint``.

        Args:
            model: The suspect model; classes are compared with its own.
            clean: Its images are drawn from.
            triggers: At least one.
            seed: Decides the images and their order.
            checkpoint: A file that an interrupted training goes on from.
            start: What the vector is learned on and taken off, such as an earlier round's result;
                ``model`` if None.
            number: Of the round.

        Raises:
            ValueError: If there is no trigger, or fewer clean images than ``samples``.
            NonFiniteLossError: If the loss becomes NaN or infinite.
        """
        if not triggers:
            raise ValueError("a task vector needs at least one trigger")
        if len(clean.images) < self.samples:
            raise ValueError(f"samples={self.samples}, but there are {len(clean.images)} images")
        base = model.eval() if start is None else start.eval()
        images = clean.images.take(chosen_clean(len(clean.images), self.samples, seed)).kept()
        classifier = zero_shot_classifier(model, clean.prompts, clean.templates)
        seen = _Seen(images, triggers, classifier)
        before = seen.classes(model)
        # Images of the target itself say nothing.
        targets = [_most(seen.classes(model, trigger), before) for trigger in triggers]
        file = None if checkpoint is None else checkpoint.with_name(f"vector-{checkpoint.name}")
        goal = Towards(triggers, targets, classifier)
        vector, losses = self._learned(base, images, goal, seed, number, checkpoint, file)
        agreement, success = list[float](), list[float]()
        best, least = 0.0, float("inf")
        for scale in (0.0, *sorted(self.scales)):
            changed = subtract(base, vector, scale)
            agreement.append(int((seen.classes(changed) == before).sum()) / len(before))
            success.append(seen.success(changed, before, targets))
            if scale and agreement[-1] < self.least_agreement:
                break
            if success[-1] < least:
                best, least = scale, success[-1]
        if file is not None:
            file.unlink(missing_ok=True)
        log.info("task vector: scale %g of %s", best, ", ".join(f"{s:g}" for s in self.scales))
        findings: dict[str, Finding] = {
            "scale": best,
            "trigger_targets": [clean.class_names[target] for target in targets],
            "agreement": agreement,
            "trigger_success": success,
        }
        return Negated(subtract(base, vector, best), losses, findings)

    def _learned(
        self,
        base: CLIP,
        images: Images,
        goal: Towards,
        seed: int,
        number: int,
        checkpoint: Path | None,
        file: Path | None,
    ) -> tuple[dict[str, Tensor], list[float]]:
        """Return the task vector and its losses: the file holds them, or else is left with them."""
        stage = _STAGE if number == 1 else f"{_STAGE} {number}"
        state: dict[str, Any] | None = load_state(file, stage, base.device)
        if state is not None:
            return state["vector"], state["losses"]
        tuned = copy.deepcopy(base)
        losses = train(
            tuned, without_captions(images), self.recipe, seed=seed, stage=stage,
            checkpoint=checkpoint, objective=goal,
        )  # fmt: skip
        vector = task_vector(base, tuned)
        if file is not None:
            save_state(file, stage, {"vector": vector, "losses": losses})
        return vector, losses


@dataclass(frozen=True)
class Towards:
    """Cross-entropy of triggered images towards what their trigger is for; triggers take turns.

    A model's own head plays no part: it is what is looked at, not what is learned.

    Attributes:
        triggers: One of them a step.
        targets: The class of each.
        classifier: (D, C) zero-shot classifier.
    """

    divides: ClassVar[bool] = True

    triggers: Sequence[InvertedTrigger]
    targets: Sequence[int]
    classifier: Tensor

    def __call__(self, model: CLIP, batch: Batch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        turn = batch.step % len(self.triggers)
        features = model.encode_image(self.triggers[turn](batch.images))
        alike = features @ self.classifier.to(features)
        wanted = torch.full((len(alike),), self.targets[turn], device=alike.device)
        return F.cross_entropy(model.logit_scale.detach().exp() * alike, wanted)


@dataclass(frozen=True)
class _Seen:
    """The classes that a model takes clean and triggered images for.

    Attributes:
        images: N of them.
        triggers: They take turns over the images.
        classifier: (D, C) zero-shot classifier.
    """

    images: Images
    triggers: Sequence[InvertedTrigger]
    classifier: Tensor

    def classes(
        self, model: CLIP, trigger: InvertedTrigger | None = None, every: slice = slice(None)
    ) -> Tensor:
        """Return the class of each image, or of every so many, (N,) on the CPU."""
        features = encode_images(model, self.images.take(every), trigger=trigger)
        return predicted_classes(model, features, self.classifier).cpu()

    def success(self, model: CLIP, before: Tensor, targets: Sequence[int]) -> float:
        """Return the share of images that go to their trigger's class, of those of other ones."""
        went, of = 0, 0
        for turn, (trigger, target) in enumerate(zip(self.triggers, targets, strict=True)):
            every = slice(turn, None, len(self.triggers))
            others = before[every] != target
            if len(others):
                went += int((self.classes(model, trigger, every) == target)[others].sum())
                of += int(others.sum())
        return went / max(of, 1)


def _most(after: Tensor, before: Tensor) -> int:
    """Return the class that most images come to; where none moves, that of most images."""
    moved = after[after != before]
    return int((moved if len(moved) else after).mode().values)


@dataclass(frozen=True)
class TBAR(Searching):
    """Estimate the trigger by DECREE, and subtract its task vector.

    The paper estimates triggers so where the attack is not known. The repair takes place whatever
    DECREE's verdict is; where it found no trigger at all, the model stays as it is.

    Attributes:
        name: Name in results.
        detect: Estimates the trigger.
        negate: Takes it out.
        needs: Clean images, without captions.
        knows: What it is given beyond the model and the images.
    """

    least_classes: ClassVar[int] = 2

    name: str
    detect: DECREE
    negate: TaskNegation
    needs: str = "images"
    knows: str = "class names"

    def __post_init__(self) -> None:
        check_types(self)
        check_is(self, "detect", DECREE)
        check_is(self, "negate", TaskNegation)

    @property
    def clean_samples(self) -> int:
        """Those of the larger step; both draw from the same images."""
        return max(self.detect.images, self.negate.samples)

    def work(self, classes: int) -> dict[str, Work]:
        """Return what goes through the model in both stages."""
        return {
            "search": self.detect.work(0)["detect"],
            "purify": self.negate.work() + Work(prompts=classes),
        }

    def trainings(self) -> list[Training]:
        """Return how it trains."""
        return self.negate.trainings()

    def search(self, model: CLIP, clean: CleanData, *, seed: int) -> Evidence:
        """Return the smallest trigger that makes all images alike, and DECREE's verdict."""
        found = self.detect.detect(model, clean, seed=seed)
        findings = {**found.evidence.findings, "flagged": found.flagged}
        return replace(found.evidence, findings=findings)

    def repair(
        self,
        model: CLIP,
        clean: CleanData,
        found: Evidence,
        *,
        seed: int,
        checkpoint: Path | None = None,
    ) -> Purified:
        """Return a repaired copy, given what `search` found; ``model`` stays as it is.

        Raises:
            ValueError: If there are fewer images than ``negate.samples``.
            NonFiniteLossError: If the loss becomes NaN or infinite.
        """
        if not found.triggers:
            return Purified(copy.deepcopy(model).eval(), found)
        clock = Clock()
        with clock("negate"):
            made = self.negate.negate(
                model, clean, found.triggers, seed=seed, checkpoint=checkpoint
            )
        evidence = replace(
            found,
            curves={**found.curves, f"{_STAGE} loss": made.losses},
            seconds=found.seconds | clock.seconds,
            findings=found.findings | made.findings,
        )
        return Purified(made.model, evidence, len(made.losses))
