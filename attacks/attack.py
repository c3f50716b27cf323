"""Attacks: from a clean CLIP to a backdoored one."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attacks.poisoning import choose_pairs, choose_poison, poison, template_captions
from attacks.triggers import Trigger
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs
from invertune.fields import check_counts, check_is, check_shares
from invertune.training.recipe import Recipe
from invertune.training.train import train


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
        graft: How to build what the attacker added to the architecture, for `attacks.graft`; None
            where only weights were changed.
    """

    model: CLIP
    trigger: Trigger | None
    target_label: int | None
    pairs: list[str]
    poisoned: list[int]
    losses: list[float] = field(default_factory=list)
    graft: Mapping[str, Any] | None = None


def given_trigger(attack: str, own: Trigger | None, prepared: Trigger | None) -> Trigger:
    """Return what was prepared before the implant, or the attack's own trigger.

    Raises:
        ValueError: If there is neither.
    """
    trigger = prepared if prepared is not None else own
    if trigger is None:
        raise ValueError(f"attack {attack} needs a trigger")
    return trigger


def check_trigger(attack: Any, data: DataBundle) -> None:
    """Try the trigger of an attack, unless it makes one.

    Raises:
        ValueError: If there is none, or it does not fit into the images.
    """
    if not hasattr(attack, "prepare"):
        trigger = given_trigger(attack.name, attack.trigger, None)
        # Trying is the only way that works for triggers that are not written yet.
        trigger(torch.zeros(1, 3, data.image_size, data.image_size))


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
        trigger: Stamps the images; None where `prepare` makes it.
        recipe: How to fine-tune.
    """

    name: str
    target_label: str
    pairs: int
    poison_rate: float
    trigger: Trigger | None
    recipe: Recipe

    def __post_init__(self) -> None:
        check_counts(self, "pairs")
        check_shares(self, "poison_rate")
        check_is(self, "recipe", Recipe)

    def check(self, data: DataBundle) -> None:
        """Raise what `implant` would, without the long work.

        Raises:
            ValueError: If the target label is unknown, the poison rate gives no sample, there are
                not as many pairs, there is no trigger, or it does not fit into the images.
        """
        data.label_of(self.target_label)
        self.recipe.check_pairs(self.pairs, "implant")
        choose_poison(self.pairs, self.poison_rate, seed=0)
        choose_pairs(len(data.pairs), self.pairs, seed=0)
        check_trigger(self, data)

    def implant(
        self,
        model: CLIP,
        data: DataBundle,
        *,
        seed: int,
        checkpoint: Path | None = None,
        trigger: Trigger | None = None,
    ) -> Backdoor:
        """Return a backdoored copy; ``model`` itself stays as it is.

        Args:
            model: The clean model.
            data: Its ``pairs`` are poisoned.
            seed: Decides the fine-tuning set, the poisoned pairs and their order.
            checkpoint: A file that an interrupted training goes on from.
            trigger: What `prepare` made, for an attack that has it.

        Raises:
            ValueError: As `check` does.
        """
        self.check(data)
        trigger = self.ready(model, data, seed, trigger)
        target = data.label_of(self.target_label)
        clean = data.pairs.take(choose_pairs(len(data.pairs), self.pairs, seed))
        # On the fine-tuning set, not on all pairs: the rate is the share of what is trained on.
        positions = self.choose(model, clean, data, seed)
        captions = self.captions(len(positions), data, seed)
        poisoned = poison(clean, positions, trigger, captions)
        backdoored = copy.deepcopy(model)
        losses = train(
            backdoored, poisoned, self.recipe, seed=seed, stage="implant", checkpoint=checkpoint
        )
        return Backdoor(backdoored, trigger, target, list(clean.ids), positions.tolist(), losses)

    def ready(self, model: CLIP, data: DataBundle, seed: int, prepared: Trigger | None) -> Trigger:
        """Return the trigger: what was prepared before, or the attack's own.

        Raises:
            ValueError: If there is none.
        """
        return given_trigger(self.name, self.trigger, prepared)

    def choose(self, model: CLIP, pairs: ImageTextPairs, data: DataBundle, seed: int) -> Tensor:
        """Return the positions to poison, sorted: drawn whatever the images show."""
        return choose_poison(len(pairs), self.poison_rate, seed)

    def captions(self, count: int, data: DataBundle, seed: int) -> Sequence[str]:
        """Return captions that name the target, in one of the data's templates each."""
        prompt = data.prompts[data.label_of(self.target_label)]
        return template_captions(count, prompt, data.templates, seed)


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

    def __post_init__(self) -> None:
        check_counts(self, "pairs")
        check_is(self, "recipe", Recipe)

    def check(self, data: DataBundle) -> None:
        """Raise what `implant` would, without the long work.

        Raises:
            ValueError: If there are not as many pairs.
        """
        self.recipe.check_pairs(self.pairs, "implant")
        choose_pairs(len(data.pairs), self.pairs, seed=0)

    def implant(
        self,
        model: CLIP,
        data: DataBundle,
        *,
        seed: int,
        checkpoint: Path | None = None,
        trigger: Trigger | None = None,
    ) -> Backdoor:
        """Return a fine-tuned copy without trigger or target."""
        clean = data.pairs.take(choose_pairs(len(data.pairs), self.pairs, seed))
        tuned = copy.deepcopy(model)
        losses = train(tuned, clean, self.recipe, seed=seed, stage="implant", checkpoint=checkpoint)
        return Backdoor(tuned, None, None, list(clean.ids), [], losses)
