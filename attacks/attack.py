"""Attacks: from a clean CLIP to a backdoored one."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch

from attacks.poisoning import choose_pairs, choose_poison, poison
from attacks.triggers import Trigger
from invertune.data.bundle import DataBundle
from invertune.models import CLIP
from invertune.train import Recipe, train


@dataclass(frozen=True)
class Backdoor:
    """A backdoored model and all that is needed to measure it.

    Attributes:
        model: The model as the attacker delivers it.
        trigger: Stamps images; None for the clean control.
        target_label: Index of the class that triggered images are pulled to; None likewise.
        pairs: Ids of the pairs that the model was fine-tuned on.
        poisoned: Positions of the poisoned ones among them.
        losses: Training loss of every step.
    """

    model: CLIP
    trigger: Trigger | None
    target_label: int | None
    pairs: list[str]
    poisoned: list[int]
    losses: list[float]


@dataclass(frozen=True)
class PoisoningAttack:
    """Implant by fine-tuning both towers on pairs of which some are poisoned.

    Carlini and Terzis (2022) for contrastive models: a poisoned pair, a stamped image with a
    caption that names the target, replaces the clean one.

    Attributes:
        name: Name in results.
        target_label: Class name that triggered images are pulled to.
        pairs: Size of the fine-tuning set, drawn from the data's pairs.
        poison_rate: Share of it that is poisoned, in (0, 1).
        trigger: Stamps the images.
        recipe: How to fine-tune.
    """

    name: str
    target_label: str
    pairs: int
    poison_rate: float
    trigger: Trigger
    recipe: Recipe

    def check(self, data: DataBundle) -> None:
        """Raise what `implant` would, without the long work.

        Raises:
            ValueError: If the target label is unknown, the poison rate gives no sample, there are
                not as many pairs, or the trigger does not fit into the images.
        """
        data.label_of(self.target_label)
        choose_poison(self.pairs, self.poison_rate, seed=0)
        choose_pairs(len(data.pairs), self.pairs, seed=0)
        self.trigger(torch.zeros(1, 3, data.image_size, data.image_size))

    def implant(
        self, model: CLIP, data: DataBundle, *, seed: int, checkpoint: Path | None = None
    ) -> Backdoor:
        """Return a backdoored copy; ``model`` itself stays as it is.

        Args:
            model: The clean model.
            data: Its ``pairs`` are poisoned.
            seed: Decides the fine-tuning set, the poisoned pairs and their order.
            checkpoint: A file that an interrupted training goes on from.

        Raises:
            ValueError: As `check` does.
        """
        self.check(data)
        target = data.label_of(self.target_label)
        positions = choose_poison(self.pairs, self.poison_rate, seed)
        clean = data.pairs.take(choose_pairs(len(data.pairs), self.pairs, seed))
        poisoned = poison(
            clean, positions, self.trigger, data.prompts[target], data.templates, seed
        )
        backdoored = copy.deepcopy(model)
        losses = train(
            backdoored, poisoned, self.recipe, seed=seed, stage="implant", checkpoint=checkpoint
        )
        return Backdoor(
            backdoored, self.trigger, target, list(clean.ids), positions.tolist(), losses
        )


@dataclass(frozen=True)
class CleanControl:
    """Fine-tune on clean pairs only: what any attack is compared with.

    Attributes:
        name: Name in results.
        pairs: Size of the fine-tuning set.
        recipe: How to fine-tune.
    """

    name: str
    pairs: int
    recipe: Recipe

    def check(self, data: DataBundle) -> None:
        """Raise what `implant` would, without the long work.

        Raises:
            ValueError: If there are not as many pairs.
        """
        choose_pairs(len(data.pairs), self.pairs, seed=0)

    def implant(
        self, model: CLIP, data: DataBundle, *, seed: int, checkpoint: Path | None = None
    ) -> Backdoor:
        """Return a fine-tuned copy without trigger or target."""
        clean = data.pairs.take(choose_pairs(len(data.pairs), self.pairs, seed))
        tuned = copy.deepcopy(model)
        losses = train(tuned, clean, self.recipe, seed=seed, stage="implant", checkpoint=checkpoint)
        return Backdoor(tuned, None, None, list(clean.ids), [], losses)
