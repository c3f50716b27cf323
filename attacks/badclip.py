"""BadCLIP (Liang et al., 2024): a patch that is optimized on the clean model, then poisoning."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from attacks.badclip_patch import PatchOptimization
from attacks.fine_tuning import PoisoningAttack
from attacks.poisoning import SELECTIONS, natural_captions, poison_count, select_poison
from attacks.triggers import Trigger
from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs
from invertune.fields import check_is
from invertune.work import Work


@dataclass(frozen=True)
class BadCLIP(PoisoningAttack):
    """Poison with a patch optimized on the clean model, and with captions that people wrote.

    Every poisoned pair draws one of all captions that name the target; the released code draws
    from 128 of them.

    Attributes:
        optimize: How the patch is made.
        selection: Which images are poisoned, one of `attacks.poisoning.SELECTIONS`.
    """

    optimize: PatchOptimization = field(kw_only=True)
    selection: str = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_is(self, "optimize", PatchOptimization)
        if self.selection not in SELECTIONS:
            raise ValueError(f"selection is one of {', '.join(SELECTIONS)}, got {self.selection!r}")

    def check(self, data: DataBundle) -> None:
        """Raise what `implant` would, without the long work.

        Raises:
            ValueError: As `PoisoningAttack.check` does, or if no caption names the target.
        """
        super().check(data)
        natural_captions(data, data.label_of(self.target_label), 1, seed=0)

    def check_trigger(self, data: DataBundle) -> None:
        """Accept any trigger: it is made of the size of the images."""

    def work(self, data: DataBundle) -> Mapping[str, Work]:
        """Return what `Attack.work` does, with the patch and the choice of images."""
        seen = self.optimize.steps * self.optimize.batch_size
        chosen = Work(forward=self.pairs)  # all of them, to know which are near the target
        return {
            "trigger": Work(forward=seen, back=seen),
            "implant": super().work(data)["implant"] + chosen,
        }

    def prepare(self, model: CLIP | None, data: DataBundle, *, seed: int) -> Trigger:
        """Return the trigger, optimized on the clean model.

        Raises:
            ValueError: If there is no model.
        """
        if model is None:
            raise ValueError(f"attack {self.name} makes its trigger on the clean model, got None")
        target = data.label_of(self.target_label)
        return self.optimize(copy.deepcopy(model), data, target, seed=seed)

    def choose(self, model: CLIP, pairs: ImageTextPairs, data: DataBundle, seed: int) -> Tensor:
        """Return the positions to poison, sorted, by `selection`."""
        clean = copy.deepcopy(model)
        features = encode_images(clean, pairs.images)
        classifier = zero_shot_classifier(clean, data.prompts, data.templates).cpu()
        target, count = data.label_of(self.target_label), poison_count(len(pairs), self.poison_rate)
        return select_poison(features, classifier, target, count, self.selection, seed)

    def captions(self, count: int, data: DataBundle, seed: int) -> Sequence[str]:
        """Return natural captions of the target."""
        return natural_captions(data, data.label_of(self.target_label), count, seed)
