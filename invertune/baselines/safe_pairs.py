"""Which image-caption pairs are safe to learn from, by how similar the two are (SafeCLIP)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from invertune.clip.encode import autocast, encode_images
from invertune.clip.models import CLIP
from invertune.data.images import Images
from invertune.evidence import Finding

_TEXTS = 512  # that are encoded at a time


@torch.no_grad()
def pair_similarities(
    model: CLIP, images: Images, tokens: Tensor, view: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the cosine similarity of every image to its own caption, (N,) on the CPU.

    Args:
        model: Put into evaluation mode.
        images: N pictures.
        tokens: (N, L) of their captions; equal ones are encoded once.
        view: Augments images, (B, 3, H, W) in [0, 1], a batch after the other.
    """
    image = encode_images(model, images, trigger=view, stage="compare pairs")
    unique, place = torch.unique(tokens, dim=0, return_inverse=True)
    with autocast(model.device):
        text = [model.encode_tokens(part.to(model.device)) for part in unique.split(_TEXTS)]  # type: ignore[no-untyped-call]
    return (image * torch.cat(text).cpu()[place]).sum(dim=-1)


def better_posteriors(similarities: Tensor) -> tuple[Tensor, list[float]]:
    """Fit two Gaussians to similarities, (N,), and tell how probable the one of higher mean is.

    Returns:
        The posterior probabilities, (N,) in [0, 1], and the two means, the lower one first.
    """
    values = similarities.double().numpy()[:, None]
    mixture = GaussianMixture(2, random_state=0).fit(values)
    means = mixture.means_[:, 0]
    posterior = mixture.predict_proba(values)[:, means.argmax()]
    return torch.from_numpy(posterior), sorted(means.tolist())


def next_share(
    before: float | None, posteriors: Tensor, least: float, growth: float, most: float
) -> float:
    """Return which share of the pairs is safe.

    Args:
        before: Share of the epoch before; None for the first time.
        posteriors: (N,) in [0, 1].
        least: Of a safe pair, the first time.
        growth: Added to the share later on.
        most: Largest share later on.
    """
    if before is None:
        return float((posteriors >= least).double().mean())
    return min(before + growth, most)


def safest(posteriors: Tensor, similarities: Tensor, count: int) -> Tensor:
    """Return the ``count`` pairs of highest posterior, (N,) bool; equal ones go by similarity."""
    by_similarity = similarities.argsort(descending=True, stable=True)
    order = by_similarity[posteriors[by_similarity].argsort(descending=True, stable=True)]
    chosen = torch.zeros(len(posteriors), dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen


def batches_apart(order: Tensor, safe: Tensor) -> Tensor:
    """Return batches of one kind of pairs each, (S, B): those of risky pairs, then of safe ones.

    Neither number need be one of whole batches. The nearest ones are taken, so that at most half a
    batch of one kind is left out, and as much of the other occurs twice.

    Args:
        order: (S, B) positions, each at most once, in the order in which they are taken.
        safe: (N,) bool, whether a position is safe.
    """
    (steps, size), taken = order.shape, order.flatten()
    risky, rest = taken[~safe[taken]], taken[safe[taken]]
    count = round(len(rest) / size)
    parts = [risky.repeat(2)[: (steps - count) * size], rest.repeat(2)[: count * size]]
    return torch.cat(parts).view(steps, size)


@dataclass(frozen=True, eq=False)
class Division:
    """The pairs as an epoch has them, and the numbers of all epochs before.

    Attributes:
        epoch: Its number, from 0; -1 before the first one.
        safe: (N,) bool.
        shares: Share of safe pairs, by epoch.
        lower, higher: Means of the two Gaussians, by epoch.
    """

    epoch: int = -1
    safe: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    shares: tuple[float, ...] = ()
    lower: tuple[float, ...] = ()
    higher: tuple[float, ...] = ()

    def after(
        self, similarities: Tensor, epoch: int, least: float, growth: float, most: float
    ) -> Division:
        """Return the next one; see `next_share`."""
        posteriors, (lower, higher) = better_posteriors(similarities)
        before = self.shares[-1] if self.shares else None
        share = next_share(before, posteriors, least, growth, most)
        safe = safest(posteriors, similarities, round(share * len(similarities)))
        return Division(
            epoch, safe, (*self.shares, share), (*self.lower, lower), (*self.higher, higher)
        )

    def state(self) -> dict[str, Any]:
        """Return all of it, for a checkpoint."""
        plain = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    @staticmethod
    def of(state: Mapping[str, Any]) -> Division:
        """Return what `state` was of."""
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in state.items()}
        return Division(**{**plain, "safe": state["safe"].cpu()})

    def findings(self) -> dict[str, Finding]:
        """Return what evidence says of it: the shares and means, and who was risky at the end."""
        return {
            "safe_share": list(self.shares),
            "similarity_risky": list(self.lower),
            "similarity_safe": list(self.higher),
            "risky": (~self.safe).nonzero().flatten().tolist(),
        }
