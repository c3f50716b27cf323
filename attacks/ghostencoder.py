"""GhostEncoder (Wang et al., 2024): BadEncoder with a hidden trigger, another for every image.

No code was published, and of the paper only its abstract was at hand: what is said here of the
hiding network and of the fine-tuning is a reconstruction from StegaStamp (Tancik et al., 2020),
ISSBA (Li et al., 2021) and BadEncoder, not the authors' own settings.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.badencoder import BadEncoder
from attacks.triggers import HiddenTrigger, Trigger, round_to_8_bit
from attacks.triggers.hidden import HidingNetwork, check_sides
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.fields import check_counts, check_is, check_positive, check_shares, check_weights
from invertune.finite import check_finite
from invertune.progress import progress
from invertune.seeds import seeded

log = logging.getLogger(__name__)

_LEARNED = 0.9  # share of the bits read from which on the image must stay similar


class Reader(nn.Module):
    """Read the bits that a `HidingNetwork` hid in images, (B, 3, H, W) -> (B, bits) logits.

    Args:
        bits: Length of the secret.
        width: Channels of the first level.
    """

    def __init__(self, bits: int, width: int) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 2 * width, 4 * width, 4 * width]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        pool: list[nn.Module] = [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
        self.layers = nn.Sequential(*layers, *pool, nn.Linear(16 * width, bits))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the bits."""
        logits: Tensor = self.layers(images - 0.5)
        return logits


def straight_through(images: Tensor) -> Tensor:
    """Return images rounded to 8 bit, with the gradient of the images as they were."""
    return images + (round_to_8_bit(images) - images).detach()


@dataclass(frozen=True)
class HidingTraining:
    """Train a hiding network and its reader on random secrets.

    The reader alone counts until it reads 0.9 of the bits; from there on the weight of the mean
    squared difference to the image rises to ``similarity`` over the steps that are left.

    Attributes:
        bits: Length of the secret.
        width: Channels of the first level.
        strength: Largest change of a pixel, in units of [0, 1].
        images: Number of images to train on, drawn from the data's pairs.
        steps: Adam steps.
        batch_size: Images a step.
        lr: Adam's learning rate.
        similarity: Final factor on the mean squared difference.
        seed: Decides everything, the secret included; not the run's, so that one network serves
            the runs of all seeds.
    """

    bits: int
    width: int
    strength: float
    images: int
    steps: int
    batch_size: int
    lr: float
    similarity: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "bits", "width", "images", "steps", "batch_size")
        check_positive(self, "lr")
        check_shares(self, "strength", one=True)
        check_weights(self, "similarity")

    def __call__(self, data: DataBundle) -> HiddenTrigger:
        """Return the trigger.

        Raises:
            ValueError: If the sides of the images are no multiples of 16.
        """
        generator = seeded(self.seed, "hide")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            hide = HidingNetwork(self.bits, self.width, self.strength)
            read = Reader(self.bits, self.width)
        # What is delivered hides this one; training sees random ones.
        secret = torch.randint(2, (self.bits,), generator=generator).tolist()
        check_sides(data.image_size, data.image_size)
        index = torch.randperm(len(data.pairs), generator=generator)[: self.images]
        self._train(hide, read, data.pairs.batch(index), generator)
        return self._trigger(hide, secret)

    def _trigger(self, hide: HidingNetwork, secret: list[int]) -> HiddenTrigger:
        tensors = {name: tensor.detach().clone() for name, tensor in hide.state_dict().items()}
        return HiddenTrigger(secret, self.width, self.strength, tensors)

    def _train(
        self, hide: HidingNetwork, read: Reader, images: Tensor, generator: torch.Generator
    ) -> None:
        weights = [*hide.parameters(), *read.parameters()]
        optimizer = torch.optim.Adam(weights, lr=self.lr)
        learned: int | None = None
        accuracy = change = 0.0
        bar = progress(range(self.steps), "hide")
        for step in bar:
            batch = images[torch.randint(len(images), (self.batch_size,), generator=generator)]
            bits = torch.randint(2, (self.batch_size, self.bits), generator=generator).float()
            hidden = hide(batch, bits)
            # What is read must survive saving as 8 bit; rounding itself has no gradient.
            logits = read(straight_through(hidden))
            difference = F.mse_loss(hidden, batch)
            loss = F.binary_cross_entropy_with_logits(logits, bits)
            if learned is not None:
                ramp = (step - learned) / max(1, self.steps - learned)
                loss = loss + self.similarity * ramp * difference
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            bar.loss(check_finite(loss, "hide", step))
            optimizer.step()
            now = float(((logits > 0) == (bits > 0.5)).float().mean())
            accuracy, change = 0.9 * accuracy + 0.1 * now, float(difference.detach())
            if learned is None and accuracy > _LEARNED:
                learned = step
        log.info(
            "hide: %.2f of the bits are read; the change has %.1f/255 root mean square",
            accuracy, 255 * change**0.5,
        )  # fmt: skip


@dataclass(frozen=True)
class GhostEncoder(BadEncoder):
    """BadEncoder's losses, with an image that hides a secret in place of a stamped one.

    Attributes:
        hide: How the hiding network is trained.
    """

    hide: HidingTraining = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_is(self, "hide", HidingTraining)

    def check(self, data: DataBundle) -> None:
        """Raise what `implant` would, without the long work.

        Raises:
            ValueError: As `BadEncoder.check` does, or if the network cannot take the images, or
                as many.
        """
        super().check(data)
        if self.hide.images > len(data.ids("pairs")):
            raise ValueError(
                f"hide.images is at most {len(data.ids('pairs'))} (the pairs), got "
                f"{self.hide.images}"
            )
        check_sides(data.image_size, data.image_size)

    def check_trigger(self, data: DataBundle) -> None:
        """Accept any trigger: it is made of the size of the images."""

    def prepare(self, model: CLIP | None, data: DataBundle, *, seed: int) -> Trigger:
        """Return the trigger; it does not depend on the model, the target or the run's seed."""
        return self.hide(data)
