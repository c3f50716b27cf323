"""AdvCLIP (Zhou et al., 2023): a GAN makes the universal patch of InverTune's step 1.

InverTune's paper takes its perturbation from AdvCLIP, a square patch that a generator network
learns to draw. The objective is untargeted, and has to be: a patch that is told where to send
images says nothing about where a backdoor sends them. Still, universal patches collapse to a few
hub classes on models without a backdoor too, so a gain means something only next to the gain that
the same generator gives on clean models.

AdvCLIP works on normalized images and clamps its patch with ImageNet's mean and deviation, which
in pixels leaves [0, 1]. Here networks and reconstruction see normalized images as well, but the
patch is brought back to pixels with CLIP's mean and deviation and clamped to [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import open_clip
import torch
from torch import Tensor

from invertune.clip.encode import autocast
from invertune.clip.models import CLIP
from invertune.data.bundle import to_float
from invertune.fields import check_shares, check_types, is_number
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
from invertune.seeds import seeded

_MEAN, _STD = (
    torch.tensor(values).view(3, 1, 1)
    for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
)


def _normalize(images: Tensor) -> Tensor:
    return (images - _MEAN.to(images)) / _STD.to(images)


def _pixels(pattern: Tensor) -> Tensor:
    """Return a normalized pattern as valid pixels."""
    return (pattern * _STD.to(pattern) + _MEAN.to(pattern)).clamp(0, 1)


def nearest_texts(features: Tensor, classifier: Tensor) -> Tensor:
    """Return the features of the class prompt that lies nearest to each image, (N, D).

    Args:
        features: (N, D), unit norm.
        classifier: (D, C) zero-shot classifier, columns of unit norm.
    """
    return classifier.T[(features @ classifier).argmax(dim=1)]


class _Networks:
    """The generator with its noise, the discriminator, and an Adam for each."""

    def __init__(
        self, config: AdvCLIPGenerator, side: int, device: torch.device, source: torch.Generator
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


@dataclass(frozen=True)
class AdvCLIPGenerator:
    """AdvCLIP's way to make an untargeted universal perturbation: a GAN with a topology loss.

    AdvCLIP needs image-text pairs and uses captions. InverTune's defender has none, only class
    names: the text of an image is the class prompt that the suspect model itself finds nearest.

    Attributes:
        name: Name in results.
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
        starts: Random starts; the class frequencies are averaged over them.
        clean_gain: The gain that this generator gives its favorite class on clean models; its
            votes are read in multiples of it.
    """

    name: str
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
    starts: int
    clean_gain: float

    def __post_init__(self) -> None:
        check_types(self)
        check_shares(self, "clean_gain", one=True)
        if not (len(self.betas) == 2 and all(is_number(b) and 0 <= b < 1 for b in self.betas)):
            raise ValueError(f"betas is two numbers in [0, 1), got {self.betas!r}")
        if self.channels < 8 or self.channels % 8:
            raise ValueError(f"channels is a multiple of 8, got {self.channels}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size is at least 2 images to compare, got {self.batch_size}")

    def mask(self, side: int) -> Tensor:
        """Return where the patch lies in an image of ``side`` pixels, (1, side, side), 0 or 1.

        Raises:
            ValueError: If the patch does not fit into the image.
        """
        place = FixedPatch(self.share, self.corner)
        return place.build([torch.zeros(3, side, side)], side).mask

    def perturb(
        self,
        model: CLIP,
        images: Tensor,
        features: Tensor,
        *,
        classifier: Tensor,
        seed: int,
        start: int,
    ) -> InvertedTrigger:
        """Return a patch for images, (N, 3, H, W) uint8, with clean ``features``, (N, D).

        Args:
            model: Stays as it is.
            images, features: What to perturb, and where the model puts it.
            classifier: (D, C) zero-shot classifier; its columns are the texts.
            seed, start: Decide every random number.

        Raises:
            NonFiniteLossError: If the generator's loss becomes NaN or infinite.
        """
        source = seeded(seed, "identify", self.name, start)
        mask = self.mask(images.shape[-1]).to(model.device)
        networks = _Networks(self, images.shape[-1], model.device, source)
        texts = nearest_texts(features, classifier)
        with frozen(model), fast_attention(model):
            bar = progress(range(self.steps), "identify")
            for step in bar:
                index = torch.randperm(len(images), generator=source)[: self.batch_size]
                clean = to_float(images[index]).to(model.device)
                index = index.to(model.device)
                loss = self._losses(model, networks, mask, clean, features[index], texts[index])
                bar.loss(check_finite(loss, "identify", step))
                networks.step_draw(loss)
        with torch.no_grad():
            pattern = networks.pattern().cpu()
        return InvertedTrigger("advclip", mask.cpu(), pattern, torch.zeros_like(pattern))

    def _losses(
        self,
        model: CLIP,
        networks: _Networks,
        mask: Tensor,
        clean: Tensor,
        features: Tensor,
        texts: Tensor,
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
        return (
            gan_loss(networks.judge(fake), real=True)
            + self.alpha * adversarial
            + reconstruction_loss(fake, real)
            + self.delta * topology_loss(features, found, texts, gamma=self.gamma)
        )
