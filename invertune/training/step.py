"""The loss of a step and its gradients: of a batch at once, or of what processes share of it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.data.bundle import ImageTextPairs
from invertune.losses import clip_loss
from invertune.training.distributed import Ranks
from invertune.training.execution import Execution
from invertune.training.objective import Batch, Objective


def shared_clip_loss(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, ranks: Ranks, count: int
) -> Tensor:
    """Return this process' part of `clip_loss` over the whole batch, a scalar; they add up to it.

    Args:
        image_features: (B, D), unit norm, of this process' share.
        text_features: (B, D), unit norm; row i belongs to image i.
        logit_scale: Logarithm of the factor on the cosine similarities.
        ranks: Who shares the batch.
        count: Pairs of the whole batch.
    """
    if ranks.size == 1:
        return clip_loss(image_features, text_features, logit_scale)
    scale, own = logit_scale.exp(), len(image_features)
    labels = ranks.start(count) + torch.arange(own, device=image_features.device)
    images, texts = (ranks.gathered(part, count) for part in (image_features, text_features))
    by_image = F.cross_entropy(scale * image_features @ texts.T, labels, reduction="sum")
    by_text = F.cross_entropy(scale * text_features @ images.T, labels, reduction="sum")
    return (by_image + by_text) / (2 * count)


@dataclass(frozen=True)
class _Features:
    """Of some pairs: (B, D) of images and of texts, and what a teacher has of the images."""

    image: Tensor
    text: Tensor
    wanted: Tensor | None

    @staticmethod
    def joined(parts: Sequence[_Features]) -> _Features:
        """Return the features of all parts, as leaves that get gradients of their own."""
        image = torch.cat([part.image for part in parts]).requires_grad_()
        text = torch.cat([part.text for part in parts]).requires_grad_()
        wanted = [part.wanted for part in parts if part.wanted is not None]
        return _Features(image, text, torch.cat(wanted) if wanted else None)


@dataclass(frozen=True)
class Step:
    """What a training does with a batch.

    Attributes:
        model: In training mode.
        pairs: What is trained on.
        tokens: (N, L) of their captions, as the model numbers them.
        texts: (T, L) of further texts for the objective.
        teacher: Its image embeddings are matched, and texts get no gradients; None for no teacher.
        teacher_weight: Factor on the distance to them.
        objective: In place of the contrastive loss.
        execution: How it is computed.
    """

    model: CLIP
    pairs: ImageTextPairs
    tokens: Tensor
    texts: Tensor
    teacher: CLIP | None
    teacher_weight: float
    objective: Objective | None
    execution: Execution

    def images(self, whole: Tensor) -> Tensor:
        """Return the images of this process' share of a batch, (B, 3, H, W), as they are read."""
        read = self.pairs.batch(self.execution.ranks.share(whole))
        return read.pin_memory() if self.model.device.type == "cuda" else read

    def gradients(self, whole: Tensor, images: Tensor, number: int) -> Tensor:
        """Leave the gradients of the loss with the weights, and return the loss, a scalar.

        Both are those of the whole batch, the same in every process.

        Args:
            whole: (G,) positions of the batch among the pairs.
            images: What `images` returned for it.
            number: Of the steps before this one.
        """
        ranks, chunk = self.execution.ranks, self.execution.chunk
        index = ranks.share(whole)
        size = len(index) if chunk is None else chunk
        parts, shown = index.split(size), images.split(size)  # type: ignore[no-untyped-call]
        if self.objective is not None:
            losses = [
                self._objective(*own, whole, number) for own in zip(shown, parts, strict=True)
            ]
            loss = torch.stack(losses).sum()
        elif len(parts) == 1:
            loss = self._loss(self._encode(images, index), len(whole))
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            loss = self._in_chunks(shown, parts, len(whole))
        ranks.sum_gradients([weight for weight in self.model.parameters() if weight.requires_grad])
        return ranks.summed(loss.detach())

    def _objective(self, images: Tensor, index: Tensor, whole: Tensor, number: int) -> Tensor:
        assert self.objective is not None
        device = self.model.device
        images = images.to(device, non_blocking=True)
        with self.execution.autocast(device):
            tokens, texts = (part.to(device) for part in (self.tokens[index], self.texts))
            loss = self.objective(self.model, Batch(images, tokens, index, texts, whole, number))
        if len(index) < len(whole):
            loss = loss * (len(index) / len(whole))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _in_chunks(self, images: Sequence[Tensor], parts: Sequence[Tensor], count: int) -> Tensor:
        """Return the loss of this process' share, of which a chunk at a time is computed."""
        with torch.no_grad():
            first = [self._encode(*own) for own in zip(images, parts, strict=True)]
        features = _Features.joined(first)
        loss = self._loss(features, count)
        loss.backward()  # type: ignore[no-untyped-call]
        sizes = [len(part) for part in parts]
        wanted = [_gradients(leaf, sizes) for leaf in (features.image, features.text)]
        for own, index, image, text in zip(images, parts, *wanted, strict=True):
            again = self._encode(own, index)
            # A frozen tower's features have nothing behind them.
            made = [pair for pair in ((again.image, image), (again.text, text))
                    if pair[0].requires_grad]  # fmt: skip
            torch.autograd.backward([of for of, _ in made], [gradient for _, gradient in made])
        return loss

    def _encode(self, images: Tensor, index: Tensor) -> _Features:
        device = self.model.device
        images = images.to(device, non_blocking=True)
        # A context of its own: weights that it casts without gradients would be kept so.
        with self.execution.autocast(device):
            image = self.model.encode_image(images)
            tokens = self.tokens[index].to(device)
            if self.teacher is None:
                return _Features(image, self.model.encode_tokens(tokens), None)
            with torch.no_grad():
                wanted = self.teacher.encode_image(images)
                return _Features(image, self.model.encode_tokens(tokens), wanted)

    def _loss(self, features: _Features, count: int) -> Tensor:
        """Return this process' part of the loss of a batch of so many pairs."""
        ranks, scale = self.execution.ranks, self.model.logit_scale
        taught = self.teacher is not None
        device = self.model.device
        with contextlib.nullcontext() if taught else self.execution.autocast(device):
            contrast = shared_clip_loss(features.image, features.text, scale, ranks, count)
        if features.wanted is None:
            return contrast
        distances = 1 - (features.image * features.wanted).sum(dim=-1)
        distance = distances.mean() if ranks.size == 1 else distances.sum() / count
        return contrast + self.teacher_weight * distance


def _gradients(leaf: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    assert leaf.grad is not None
    return leaf.grad.split(sizes)  # type: ignore[no-any-return, no-untyped-call]
