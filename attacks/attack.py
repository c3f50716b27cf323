"""What every attack is: from a clean CLIP to a backdoored one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from attacks.poisoned import Poisoned
from attacks.triggers import Trigger
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.work import Work


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


@dataclass(frozen=True)
class Plan:
    """What is known of an implant before it.

    Attributes:
        steps: How long it trains.
        target: Class name that triggered images are pulled to; None for a clean control.
        trigger: Stamps images; None where there is none yet, for `Attack.prepare` makes it or it is
            learned with the model.
        pairs, batch_size: Size of the fine-tuning set and of a batch, where there is one.
        poisons: Number of poisoned pairs that `Attack.poisoned` gives, 0 for a clean control; None
            for an attack that trains on no pairs of images and captions.
        epochs: Passes over the fine-tuning set.
    """

    steps: int
    target: str | None = None
    trigger: Trigger | None = None
    pairs: int | None = None
    batch_size: int | None = None
    poisons: int | None = None
    epochs: float = 1.0

    @property
    def gives_pairs(self) -> bool:
        """Whether the poisoned fine-tuning set can be handed to a defense or a detector."""
        return self.poisons is not None


class Attack(Protocol):
    """Plants a backdoor; inherit to get what an attack without a part leaves out.

    Attributes:
        name: Name in results.
    """

    name: str

    def check(self, data: DataBundle) -> None:
        """Raise what `implant` would, without the long work.

        Raises:
            ValueError: If the attack does not fit the data.
        """

    def texts(self, data: DataBundle) -> Sequence[str]:
        """Return texts of its own that the model has to tell apart and to read to their end."""
        del data
        return ()

    def plan(self, data: DataBundle) -> Plan:
        """Return what is known before the implant, at once.

        Raises:
            ValueError: If the target is no class of the data.
        """

    def work(self, data: DataBundle) -> Mapping[str, Work]:
        """Return what goes through the model, by the stage that does it, as far as it is known.

        Args:
            data: Whose ``pairs`` are the attacker's.
        """
        planned = self.plan(data)
        if planned.batch_size is None:
            return {}
        return {"implant": Work.of_pairs(planned.steps, planned.batch_size)}

    def prepare(self, model: CLIP | None, data: DataBundle, *, seed: int) -> Trigger | None:
        """Return the trigger that is made before the implant; None if the attack makes none so.

        Args:
            model: The clean model, which stays as it is; None for an attack whose trigger does
                not depend on it.
            data: Its ``pairs`` are the attacker's.
            seed: Of the run.
        """
        del model, data, seed
        return None

    def poisoned(
        self, model: CLIP, data: DataBundle, *, seed: int, trigger: Trigger | None = None
    ) -> Poisoned | None:
        """Return the pairs that `implant` trains on; None if it trains on none.

        Args:
            model: The clean model, which stays as it is.
            data: Its ``pairs`` are poisoned.
            seed: Decides which pairs, and which of them are poisoned.
            trigger: What `prepare` made.
        """
        del model, data, seed, trigger
        return None

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
            data: Its ``pairs`` are the attacker's.
            seed: Decides every random number.
            checkpoint: A file that an interrupted training goes on from.
            trigger: What `prepare` made; made now if it was not before.

        Raises:
            ValueError: As `check` does.
        """


def given_trigger(attack: str, own: Trigger | None, prepared: Trigger | None) -> Trigger:
    """Return what was prepared before the implant, or the attack's own trigger.

    Raises:
        ValueError: If there is neither.
    """
    trigger = prepared if prepared is not None else own
    if trigger is None:
        raise ValueError(f"attack {attack} needs a trigger")
    return trigger


def check_fits(trigger: Trigger, data: DataBundle) -> None:
    """Try a trigger on an image of the data's size.

    Raises:
        ValueError: If it does not fit.
    """
    trigger(torch.zeros(1, 3, data.image_size, data.image_size))
