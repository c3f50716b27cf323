"""Step 1 of the paper, by votes: which class does the backdoor send images to?

An untargeted universal perturbation pushes images away from where they were. On a backdoored
model a disproportionate share of them lands in the backdoor's target, so the target is the class
that gains most: argmax_y P_adv(y) - P_clean(y) (Sun et al., 2026). No one generator of
perturbations raises every backdoor, and with large budgets clean models have favorites too:
several generators with small budgets vote, each weighed by what it does on clean models.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invertune.clip.encode import encode_images, frequency, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.evidence import Identification, Vote
from invertune.fields import check_types
from invertune.perturb.perturber import Perturber, check_generators
from invertune.perturb.shrink import counted_as, groups_of
from invertune.progress import progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TargetIdentification:
    """Find the target label by the votes of several generators.

    Classes that the model's texts hardly tell apart count as one.

    Attributes:
        generators: Who votes.
        images: Number of clean images to optimize on and to count.
    """

    generators: Sequence[Perturber]
    images: int

    def __post_init__(self) -> None:
        check_types(self)
        check_generators(self)

    @property
    def samples(self) -> int:
        """Number of clean images that it uses."""
        return self.images

    def __call__(self, model: CLIP, clean: CleanData, *, seed: int) -> Identification:
        """Return the class with the largest gain over all generators, and every vote."""
        images = clean.images[: self.images]
        classifier = zero_shot_classifier(model, clean.prompts, clean.templates)
        features = encode_images(model, images).to(model.device)
        same = counted_as(classifier)
        before = _merged(frequency(model, features, classifier), same)
        votes = []
        for generator in progress(self.generators, "identify"):
            after = torch.zeros_like(before)
            for start in progress(range(generator.starts), generator.name):
                trigger = generator.perturb(
                    model, images, features, classifier=classifier, seed=seed, start=start
                )
                perturbed = encode_images(model, images, trigger=trigger)
                found = frequency(model, perturbed.to(model.device), classifier)
                after += _merged(found, same) / generator.starts
            votes.append(
                Vote(generator.name, before.tolist(), after.tolist(), 1 / generator.clean_gain)
            )
            favorite = int((after - before).argmax())
            log.info(
                "identify: %s raises %r by %.2f",
                generator.name,
                clean.class_names[favorite],
                float((after - before)[favorite]),
            )
        return decide(votes, groups_of(same))


def _merged(frequencies: Tensor, same: Tensor) -> Tensor:
    """Return class frequencies, (C,), those of classes that count as one at the first of them."""
    return torch.zeros_like(frequencies).index_add(0, same.to(frequencies.device), frequencies)


def decide(votes: Sequence[Vote], alike: Sequence[Sequence[int]] = ()) -> Identification:
    """Return the class that the generators together raise most, and the next one.

    A class's gain is the mean over the generators, by weight, of what each one raises it; what a
    generator lowers counts as 0, for a backdoor need not answer to every kind of perturbation.

    Args:
        votes: Of the generators.
        alike: Groups of classes that count as one; the votes have all at the first of each.

    Raises:
        ValueError: If there is no vote, or there are not two classes.
    """
    if not votes:
        raise ValueError("target identification needs at least one generator")
    others = {label for group in alike for label in group[1:]}
    # Gains in multiples of what the same generator does to clean models, so that a strong generator
    # is no louder than a faint one.
    raised = torch.tensor([vote.gain for vote in votes]).clamp(min=0)
    weights = torch.tensor([vote.weight for vote in votes])
    gains = weights @ raised / weights.sum()
    ranked: list[int] = gains.argsort(descending=True, stable=True).tolist()
    order = [label for label in ranked if label not in others]
    if len(order) < 2:
        raise ValueError("the model's texts tell no two classes apart")
    first, second = order[:2]
    return Identification(
        target_label=first,
        gain=float(gains[first]),
        runner_up=second,
        runner_up_gain=float(gains[second]),
        votes=list(votes),
        order=order,
        alike=[list(group) for group in alike],
    )
