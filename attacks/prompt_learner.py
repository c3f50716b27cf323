"""A prompt learner in the manner of CoCoOp (Zhou et al., 2022), which BadCLIP-prompt delivers."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invertune.clip.models import CLIP

_CHUNK = 8  # images whose prompts are encoded at a time
_CLASSES = 128  # classes whose prompts make one sequence; attention is quadratic in them


class PromptLearner(nn.Module):
    """Classify image features by prompts whose context depends on them.

    Args:
        tokens: (C, L) token ids of ``X ... X class.`` with as many X as there are context vectors.
        length: Number M of context vectors.
        dimensions: Width D of the embedding.
        width: Width of the text tower.
        hidden: Width of the network between the embedding and the context.
    """

    tokens: Tensor

    def __init__(
        self, tokens: Tensor, length: int, dimensions: int, width: int, hidden: int
    ) -> None:
        super().__init__()
        self.register_buffer("tokens", tokens)
        self.context = nn.Parameter(torch.zeros(length, width))
        self.shift = nn.Sequential(
            nn.Linear(dimensions, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, clip: nn.Module, features: Tensor) -> Tensor:
        """Return the cosine similarities of image features, (B, D), to their prompts, (B, C)."""
        groups = torch.arange(len(self.tokens), device=features.device).split(_CLASSES)  # type: ignore[no-untyped-call]
        parts = features.split(_CHUNK)  # type: ignore[no-untyped-call]
        rows = [[self.compare(clip, part, group) for group in groups] for part in parts]
        return torch.cat([torch.cat(row, dim=1) for row in rows])

    def compare(self, clip: Any, features: Tensor, classes: Tensor) -> Tensor:
        """Return the similarities to some classes, (B, K), of features, (B, D).

        The prompts of an image differ behind the context alone, and attention is causal: all of
        them make one sequence, the start and the context once and then every class's own tokens,
        of which each sees those two and its own class's earlier ones.
        """
        count, first = len(features), 1 + len(self.context)
        own = self.tokens[classes][:, first:]  # (K, S)
        context = self.context + self.shift(features).unsqueeze(1)  # (B, M, width)
        embed, place = clip.token_embedding, clip.positional_embedding
        start = embed(self.tokens[:1, :1]).expand(count, -1, -1)
        shared = torch.cat([start, context], dim=1) + place[:first]
        ends = embed(own) + place[first : first + own.shape[1]]  # (K, S, width)
        x = torch.cat([shared, ends.flatten(0, 1).expand(count, -1, -1)], dim=1)
        x = clip.transformer(x, attn_mask=_packed(first, *own.shape).to(x))
        # The end token has the largest number.
        last = first + torch.arange(len(own), device=x.device) * own.shape[1] + own.argmax(dim=-1)
        texts = (clip.ln_final(x[:, last]) @ clip.text_projection).float()
        return torch.einsum("bd,bkd->bk", features, F.normalize(texts, dim=-1))


@functools.lru_cache(maxsize=8)
def _packed(first: int, classes: int, length: int) -> Tensor:
    """Return what is added to the attention of a shared start and of classes' own tokens."""
    owner = torch.cat([torch.full((first,), -1), torch.arange(classes).repeat_interleave(length)])
    place = torch.arange(len(owner))
    seen = (owner == owner[:, None]) | (owner == -1)
    seen &= place <= place[:, None]
    return torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)


def embed(clip: Any, tokens: Tensor) -> Tensor:
    embedded: Tensor = clip.token_embedding(tokens)
    return embedded


def prompt_tokens(model: CLIP, prompts: Sequence[str], length: int) -> Tensor:
    """Return token ids, (C, L), of ``X ... X prompt``, as short as the longest one allows.

    Raises:
        ValueError: If they are longer than the model's context.
    """
    tokens = model.tokenizer([" ".join(["X"] * length + [prompt]) for prompt in prompts])
    ends = tokens.argmax(dim=-1)
    # The tokenizer cuts silently; where the end token falls short, something was cut.
    whole = model.tokenizer([f"{prompt}" for prompt in prompts]).argmax(dim=-1) + length
    if not torch.equal(ends, whole):
        raise ValueError(
            f"{length} context vectors and a class name are longer than the model's context of "
            f"{tokens.shape[1]} tokens"
        )
    return tokens[:, : int(ends.max()) + 1]


def build(model: CLIP, fields: Mapping[str, Any]) -> None:
    """Give the model a prompt learner of those fields, with weights to be loaded."""
    tokens = torch.zeros(fields["classes"], fields["tokens"], dtype=torch.long)
    own = {name: value for name, value in fields.items() if name not in ("classes", "tokens")}
    model.head = PromptLearner(tokens, **own).to(model.device).eval()
