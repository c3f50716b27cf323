"""DECREE: how small a mask makes all images alike to an encoder (Feng et al., CVPR 2023)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from invertune.clip.fast import folded
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, to_float
from invertune.detector import Detection, chosen_images
from invertune.evidence import Evidence, Finding
from invertune.fields import (
    check_betas,
    check_counts,
    check_is,
    check_positive,
    check_positive_lists,
    check_shares,
    check_types,
)
from invertune.finite import check_finite
from invertune.perturb.optimize import fast_attention, frozen
from invertune.perturb.triggers import InvertedTrigger
from invertune.progress import progress
from invertune.seeds import seeded
from invertune.work import Work

_CHANNELS, _SIDE = 3, 224  # of the images that the paper's weight is for


def mean_cosine(features: Tensor) -> Tensor:
    """Return the mean cosine of different rows, a scalar: the loss has it with a minus.

    Args:
        features: (B, D), unit norm, B at least 2.
    """
    count = len(features)
    # The sum of all cosines, each row's with itself among them, is the square of the rows' sum.
    return (features.sum(dim=0).square().sum() - count) / (count * (count - 1))


def squashed(free: Tensor) -> Tensor:
    """Return free numbers as shares in (0, 1): tanh(w) / (2 - 1e-7) + 1/2, as the code has it."""
    return (torch.tanh(free) / (2 - 1e-7) + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class Balance:
    """How the weight of the mask's size follows success.

    The released code also puts the weight back to ``start`` after ten successes in a row below
    ``floor``; as six of them raise it, which ends that, this never happens and is left out.

    Attributes:
        start: The first weight, of the sum over the mask's pixels and three channels in an image of
            224 pixels; in others the mask's share of the image weighs as much.
        factor: It is multiplied by this when it rises, and divided when it falls.
        patience: It rises after more than so many successes in a row, and falls after more than so
            many failures.
        floor: It does not fall once it is below this.
    """

    start: float
    factor: float
    patience: int
    floor: float

    def __post_init__(self) -> None:
        check_positive(self, "start", "factor", "floor")
        check_counts(self, "patience")
        if self.factor <= 1:
            raise ValueError(f"factor is more than 1, got {self.factor}")

    def weights(self) -> _Weight:
        """Return the weight at the first step."""
        return _Weight(self, self.start)


@dataclass
class _Weight:
    balance: Balance
    value: float
    run: int = 0  # of successes, or below 0 of failures

    def follow(self, success: bool) -> None:
        """Go to the next step."""
        balance = self.balance
        self.run = max(self.run, 0) + 1 if success else min(self.run, 0) - 1
        if self.run > balance.patience:
            self.value, self.run = self.value * balance.factor, 0
        elif -self.run > balance.patience and self.value >= balance.floor:
            self.value, self.run = self.value / balance.factor, 0


@dataclass
class _Found:
    """The smallest mask so far that made all images of a batch alike."""

    share: float = 1.0  # of the mask over the whole image, which always does
    mask: Tensor | None = None
    pattern: Tensor | None = None
    since: int = 0  # steps
    curves: dict[str, list[float]] = field(
        default_factory=lambda: {"cosine": [], "mask": [], "weight": []}
    )

    def see(self, mask: Tensor, pattern: Tensor, success: bool) -> None:
        share = float(mask.mean())
        self.since += 1
        if success and share < self.share:
            self.share, self.since = share, 0
            self.mask, self.pattern = mask.clone(), pattern.clone()

    def note(self, **numbers: float) -> None:
        for name, value in numbers.items():
            self.curves[name].append(value)

    @property
    def triggers(self) -> list[InvertedTrigger]:
        """The trigger; none where no mask but the whole one would do."""
        if self.mask is None or self.pattern is None:
            return []
        parts = self.mask[None], self.pattern, torch.zeros_like(self.pattern)
        return [InvertedTrigger("mask", *parts).detached()]


@dataclass(frozen=True)
class DECREE:
    """Invert a trigger from the image tower alone: m and t such that (1 - m) x + m t are all alike.

    The loss is - mean cosine + weight * sum of |m|, and the smallest mask with a mean cosine above
    ``success`` counts. A backdoored encoder has a small one. Its size is PL1, the sum of |m| as a
    share of the largest there is. The released code sums over a mask of three channels and divides
    by 224 * 224 * 3, which is the mean of m, and so it is here. Who divides that sum by 224 * 224,
    as a reply of the author's reads, gets three times as much; ``pl1_of_pixels`` has it. Images are
    normalized as the model does it, where the code takes ImageNet's mean and deviation even for
    CLIP. Masks are in [0, 1] and so is t, which the code has in 0 to 255.

    The paper's threshold is for encoders of its size. Here it is set by clean models, and the
    verdict by the paper's stands beside it.

    Attributes:
        name: Name in results.
        images: Clean images, drawn by the seed from all there are.
        batch_size: Images a step.
        epochs: Passes over the images at most.
        patience: Once there is a mask, the search ends with the first epoch that has more than so
            many steps behind it without a smaller one.
        lrs: Learning rates of Adam, the first one until the first of ``drops``, and so on.
        drops: Shares of the epochs at which the next learning rate begins.
        betas: Adam's.
        success: Mean cosine from which all images count as alike.
        balance: Of the two terms of the loss.
        threshold: PL1 below which a model is flagged.
        paper_threshold: The paper's.
    """

    name: str
    images: int
    batch_size: int
    epochs: int
    patience: int
    lrs: Sequence[float]
    drops: Sequence[float]
    betas: tuple[float, float]
    success: float
    balance: Balance
    threshold: float
    paper_threshold: float
    needs: str = "images"
    knows: str = "nothing"

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "images", "epochs", "patience")
        check_counts(self, "batch_size", least=2)
        check_shares(self, "success", "threshold", "paper_threshold")
        check_is(self, "balance", Balance)
        check_positive_lists(self, "lrs")
        check_positive_lists(self, "drops", empty=True)
        check_betas(self)
        drops = list(self.drops)
        if drops != sorted(set(drops)) or any(drop >= 1 for drop in drops):
            raise ValueError(f"drops are shares below 1 that ascend, got {drops!r:.80}")
        if len(self.lrs) != len(drops) + 1:
            raise ValueError(f"lrs is one more than drops, got {len(self.lrs)} and {len(drops)}")
        if self.images < self.batch_size:
            raise ValueError(f"images is at least batch_size, got {self.images}, {self.batch_size}")

    @property
    def clean_samples(self) -> int:
        """The images."""
        return self.images

    def work(self, _pairs: int) -> dict[str, Work]:
        """Return what goes through the model at most."""
        steps = self.epochs * (self.images // self.batch_size)
        return {"detect": Work(back=steps * self.batch_size)}

    def detect(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Detection:
        """Return 1 - PL1 as the score; the whole search is made anew after an interruption."""
        start = time.perf_counter()
        chosen = chosen_images(self.name, len(clean.images), self.images, seed)
        found = self._invert(model, clean.images[chosen], seed)
        findings: dict[str, Finding] = {
            "pl1": found.share,
            "pl1_of_pixels": _CHANNELS * found.share,
            "threshold": self.threshold,
            "paper_threshold": self.paper_threshold,
            "flagged_by_paper_threshold": found.share < self.paper_threshold,
            "steps": len(found.curves["cosine"]),
        }
        seconds = {"inversion": time.perf_counter() - start}
        evidence = Evidence(
            triggers=found.triggers, curves=found.curves, seconds=seconds, findings=findings
        )
        return Detection(1 - found.share, 1 - self.threshold, evidence)

    def _invert(self, model: CLIP, images: Tensor, seed: int) -> _Found:
        side, found = images.shape[-1], _Found()
        generator = seeded(seed, self.name, "start")
        # Of double precision as in the code: tanh is flat in single precision where masks end.
        free = [
            torch.rand(*shape, generator=generator, dtype=torch.float64)
            .to(model.device)
            .requires_grad_()
            for shape in ((side, side), (3, side, side))
        ]
        weight, scale = self.balance.weights(), _CHANNELS * _SIDE**2
        first, second = self.betas
        optimizer = torch.optim.Adam(free, lr=self.lrs[0], betas=(first, second))
        with frozen(model), folded(model), fast_attention(model):
            for step, (epoch, index, last) in enumerate(self._batches(len(images), seed)):
                for group in optimizer.param_groups:
                    group["lr"] = self._lr(epoch)
                mask, pattern = (squashed(tensor).float() for tensor in free)
                batch = to_float(images[index]).to(model.device)
                cosine = mean_cosine(model.encode_image((1 - mask) * batch + mask * pattern))
                loss = -cosine + weight.value * scale * mask.mean()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                check_finite(loss, self.name, step)
                reached = cosine.item()
                found.see(mask.detach(), pattern.detach(), reached > self.success)
                found.note(cosine=reached, mask=mask.mean().item(), weight=weight.value)
                weight.follow(reached > self.success)
                if last and found.mask is not None and found.since > self.patience:
                    break
        return found

    def _batches(self, count: int, seed: int) -> Iterator[tuple[int, Tensor, bool]]:
        """Yield the epoch, the indices of a batch, and whether it is the last of its epoch."""
        for epoch in progress(range(self.epochs), self.name):
            order = torch.randperm(count, generator=seeded(seed, self.name, "order", epoch))
            parts = order[: count // self.batch_size * self.batch_size].view(-1, self.batch_size)
            for i, index in enumerate(parts):
                yield epoch, index, i == len(parts) - 1

    def _lr(self, epoch: int) -> float:
        return self.lrs[sum(epoch >= drop * self.epochs for drop in self.drops)]
