"""Attacks that fine-tune both towers on pairs, some of them poisoned."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from attacks.attack import Attack, Backdoor, Plan, check_fits, given_trigger
from attacks.poisoned import Poisoned
from attacks.poisoning import choose_pairs, choose_poison, poison, poison_count, template_captions
from attacks.triggers import Trigger
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs
from invertune.fields import check_calls, check_counts, check_is, check_shares
from invertune.training.recipe import Recipe
from invertune.training.train import train


def fine_tune(
    model: CLIP, poisoned: Poisoned, recipe: Recipe, *, seed: int, checkpoint: Path | None
) -> Backdoor:
    """Return what training on poisoned pairs makes of a copy of ``model``.

    Args:
        model: Stays as it is.
        poisoned: What to train on.
        recipe: How to.
        seed: Decides the order of the pairs.
        checkpoint: A file that an interrupted training goes on from.
    """
    tuned, pairs = copy.deepcopy(model), poisoned.pairs
    losses = train(tuned, pairs, recipe, seed=seed, stage="implant", checkpoint=checkpoint)
    return Backdoor(
        tuned, poisoned.trigger, poisoned.target_label, list(pairs.ids), poisoned.positions, losses
    )


@dataclass(frozen=True)
class PoisoningAttack(Attack):
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
        check_calls(self, "trigger", none=True)
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
        choose_pairs(len(data.ids("pairs")), self.pairs, seed=0)
        self.check_trigger(data)

    def check_trigger(self, data: DataBundle) -> None:
        """Try the trigger on an image.

        Raises:
            ValueError: If there is none, or it does not fit.
        """
        check_fits(given_trigger(self.name, self.trigger, None), data)

    def plan(self, data: DataBundle) -> Plan:
        """Return the budget of poisoned pairs, and the trigger if there is one yet."""
        return Plan(
            steps=self.recipe.steps(self.pairs),
            target=self.target_label,
            trigger=self.trigger,
            pairs=self.pairs,
            batch_size=self.recipe.batch_size,
            poisons=poison_count(self.pairs, self.poison_rate),
            epochs=self.recipe.epochs,
        )

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
        poisoned = self.poisoned(model, data, seed=seed, trigger=trigger)
        return fine_tune(model, poisoned, self.recipe, seed=seed, checkpoint=checkpoint)

    def poisoned(
        self, model: CLIP, data: DataBundle, *, seed: int, trigger: Trigger | None = None
    ) -> Poisoned:
        """Return the pairs that `implant` trains on; see `Attack.poisoned`.

        Raises:
            ValueError: If there is no trigger.
        """
        if trigger is None:
            trigger = self.prepare(model, data, seed=seed)
        trigger = given_trigger(self.name, self.trigger, trigger)
        clean = data.pairs.take(choose_pairs(len(data.pairs), self.pairs, seed))
        # On the fine-tuning set, not on all pairs: the rate is the share of what is trained on.
        positions = self.choose(model, clean, data, seed)
        captions = self.captions(len(positions), data, seed)
        pairs = poison(clean, positions, trigger, captions)
        return Poisoned(pairs, positions.tolist(), trigger, data.label_of(self.target_label))

    def choose(self, model: CLIP, pairs: ImageTextPairs, data: DataBundle, seed: int) -> Tensor:
        """Return the positions to poison, sorted: drawn whatever the images show."""
        return choose_poison(len(pairs), self.poison_rate, seed)

    def captions(self, count: int, data: DataBundle, seed: int) -> Sequence[str]:
        """Return captions that name the target, in one of the data's templates each."""
        prompt = data.prompts[data.label_of(self.target_label)]
        return template_captions(count, prompt, data.templates, seed)


@dataclass(frozen=True)
class CleanControl(Attack):
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
        choose_pairs(len(data.ids("pairs")), self.pairs, seed=0)

    def plan(self, data: DataBundle) -> Plan:
        """Return the length of the training; nothing is planted."""
        steps, batch_size = self.recipe.steps(self.pairs), self.recipe.batch_size
        return Plan(steps, pairs=self.pairs, batch_size=batch_size, poisons=0)

    def poisoned(
        self, model: CLIP, data: DataBundle, *, seed: int, trigger: Trigger | None = None
    ) -> Poisoned:
        """Return the pairs that `implant` trains on, none of them poisoned."""
        clean = data.pairs.take(choose_pairs(len(data.pairs), self.pairs, seed))
        return Poisoned(clean, [], None, None)

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
        self.check(data)
        poisoned = self.poisoned(model, data, seed=seed)
        return fine_tune(model, poisoned, self.recipe, seed=seed, checkpoint=checkpoint)
