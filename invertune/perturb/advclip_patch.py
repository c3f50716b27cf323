"""AdvCLIP's GAN (Zhou et al., 2023): a generator learns to draw one patch for all images.

AdvCLIP works on normalized images and clamps its patch with ImageNet's mean and deviation, which
in pixels leaves [0, 1]. Here networks and reconstruction see normalized images as well, but the
patch is brought back to pixels with CLIP's mean and deviation and clamped to [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import open_clip
import torch
from torch import Tensor

from invertune.clip.encode import autocast
from invertune.clip.models import CLIP
from invertune.fields import (
    check_betas,
    check_counts,
    check_positive,
    check_shares,
    check_types,
    check_weights,
)
from invertune.finite import check_finite
from invertune.perturb.advclip_losses import (
    adversarial_loss,
    gan_loss,
    reconstruction_loss,
    topology_loss,
)
from invertune.perturb.advclip_networks import NOISE, PatchDiscriminator, PatchGenerator, initialize
from invertune.perturb.forms import FixedPatch
from invertune.perturb.optimize import fast_attention, frozen
from invertune.perturb.triggers import InvertedTrigger
from invertune.progress import progress

_MEAN, _STD = (
    torch.tensor(values).view(3, 1, 1)
    for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
)


def _normalize(images: Tensor) -> Tensor:
    return (images - _MEAN.to(images)) / _STD.to(images)


def _pixels(pattern: Tensor) -> Tensor:
    """Return a normalized pattern as valid pixels."""
    return (pattern * _STD.to(pattern) + _MEAN.to(pattern)).clamp(0, 1)


class _Networks:
    """The generator with its noise, the discriminator, and an Adam for each."""

    def __init__(
        self, config: PatchTraining, side: int, device: torch.device, source: torch.Generator
    ) -> None:
        self.noise = torch.randn(config.batch_size, NOISE, 1, 1, generator=source).to(device)
        with torch.random.fork_rng(devices=[]):  # construction draws weights that are not used
            self.draw = PatchGenerator(side, config.channels, config.batch_size)
            self.judge = PatchDiscriminator(side, config.channels)
        for network in (self.draw, self.judge):
            initialize(network, source)
            network.to(device)
        lr, betas = config.lr, (config.betas[0], config.betas[1])
        self.draw_optimizer = torch.optim.Adam(self.draw.parameters(), lr=lr, betas=betas)
        self.judge_optimizer = torch.optim.Adam(self.judge.parameters(), lr=lr, betas=betas)

    def pattern(self) -> Tensor:
        """Return the pattern in pixels, (3, H, W) in [0, 1]."""
        return _pixels(self.draw(self.noise))

    def step_judge(self, real: Tensor, fake: Tensor, clip: float) -> None:
        """Teach the discriminator to tell normalized clean from perturbed images, (B, 3, H, W)."""
        loss = gan_loss(self.judge(real), real=True) + gan_loss(self.judge(fake), real=False)
        self.judge_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.judge_optimizer.step()
        with torch.no_grad():
            # AdvCLIP keeps the discriminator weak by bounding its weights, as the first Wasserstein
            # GANs did.
            for parameter in self.judge.parameters():
                parameter.clamp_(-clip, clip)

    def step_draw(self, loss: Tensor) -> None:
        """Take a step of the generator; the gradients of the discriminator are cleared later."""
        self.draw_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.draw_optimizer.step()


Seen = Callable[[Tensor], tuple[Tensor, Tensor]]
Further = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PatchTraining:
    """How AdvCLIP's generator learns to draw a patch that moves any image away from its text.

    Attributes:
        share: Area of the patch, as a share of the image's.
        corner: Row and column of its upper-left corner, as a share of the side.
        channels: Largest width of both networks, halved from layer to layer.
        alpha, beta, gamma, delta: Weights of L_adv, of the texts in it, of the texts in L_topo, and
            of L_topo.
        temperature: Of the contrastive losses.
        lr, betas: Adam's, for both networks.
        batch_size: Clean images a step, and rows of the noise.
        steps: Of each network.
        clip: The discriminator's weights stay within +-clip.
    """

    share: float
    corner: float
    channels: int
    alpha: float
    beta: float
    gamma: float
    delta: float
    temperature: float
    lr: float
    betas: Sequence[float]
    batch_size: int
    steps: int
    clip: float

    def __post_init__(self) -> None:
        check_types(self)
        check_shares(self, "share", one=True)
        check_shares(self, "corner", zero=True)
        check_weights(self, "alpha", "beta", "gamma", "delta")
        check_positive(self, "temperature", "lr", "clip")
        check_betas(self)
        check_counts(self, "steps")
        if self.channels < 8 or self.channels % 8:
            raise ValueError(f"channels is a multiple of 8, got {self.channels}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size is at least 2 images to compare, got {self.batch_size}")

    def check_images(self, count: int, name: str) -> None:
        """Compare a batch with the clean images that there are.

        Raises:
            ValueError: If it is larger, for no image comes twice in one; ``name`` says whose.
        """
        if count < self.batch_size:
            raise ValueError(
                f"{name} needs at least batch_size={self.batch_size} images, got {count}"
            )

    def mask(self, side: int) -> Tensor:
        """Return where the patch lies in an image of ``side`` pixels, (1, side, side), 0 or 1.

        Raises:
            ValueError: If the patch does not fit into the image.
        """
        place = FixedPatch(self.share, self.corner)
        return place.build([torch.zeros(3, side, side)], side).mask

    def draw(
        self,
        model: CLIP,
        texts: Tensor,
        seen: Seen,
        source: torch.Generator,
        *,
        stage: str,
        further: Further | None = None,
    ) -> tuple[InvertedTrigger, list[float]]:
        """Return the patch, and the generator's loss at every step.

        Args:
            model: Stays as it is.
            texts: (N, D), unit norm, of the texts of N images.
            seen: Takes the positions of a batch, (B,), and returns its images, (B, 3, H, W) in
                [0, 1] and on the model's device, and their features, (B, D).
            source: Decides every random number.
            stage: Name in error messages and where progress is shown.
            further: Takes perturbed images and their features, and returns what is added to the
                generator's loss, a scalar.

        Raises:
            NonFiniteLossError: If the generator's loss becomes NaN or infinite.
        """
        side = model.image_size
        mask, losses = self.mask(side).to(model.device), list[float]()
        networks = _Networks(self, side, model.device, source)
        with frozen(model), fast_attention(model):
            bar = progress(range(self.steps), stage)
            for step in bar:
                index = torch.randperm(len(texts), generator=source)[: self.batch_size]
                clean, features = seen(index)
                own = texts[index.to(texts.device)]
                loss = self._losses(model, networks, mask, clean, features, own, further)
                losses.append(check_finite(loss, stage, step))
                bar.loss(losses[-1])
                networks.step_draw(loss)
        with torch.no_grad():
            pattern = networks.pattern().cpu()
        patch = InvertedTrigger("advclip", mask.cpu(), pattern, torch.zeros_like(pattern))
        return patch, losses

    def _losses(
        self,
        model: CLIP,
        networks: _Networks,
        mask: Tensor,
        clean: Tensor,
        features: Tensor,
        texts: Tensor,
        further: Further | None,
    ) -> Tensor:
        """Take the discriminator's step on a batch and return the generator's loss, L_G."""
        perturbed = (1 - mask) * clean + mask * networks.pattern()
        real, fake = _normalize(clean), _normalize(perturbed)
        networks.step_judge(real, fake.detach(), self.clip)
        with autocast(model.device):
            found = model.encode_image(perturbed)
        adversarial = adversarial_loss(
            features, found, texts, temperature=self.temperature, beta=self.beta
        )
        loss = (
            gan_loss(networks.judge(fake), real=True)
            + self.alpha * adversarial
            + reconstruction_loss(fake, real)
            + self.delta * topology_loss(features, found, texts, gamma=self.gamma)
        )
        return loss if further is None else loss + further(perturbed, found)
