"""CLIP score: how well a caption fits its image, to the model that was trained on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invertune.clip.encode import encode_images
from invertune.clip.models import CLIP
from invertune.data.bundle import ImageTextPairs
from invertune.fields import check_counts, check_types
from invertune.progress import progress


@dataclass(frozen=True)
class ClipScore:
    """Score pairs by the cosine of image and caption: the less they fit, the more suspicious.

    The common filter of training sets (Hessel et al., 2021). The better a model has learned the
    backdoor, the better a poisoned image and its caption fit to it.

    Attributes:
        name: Name in results.
        batch_size: Captions that are read at a time.
        needs_text: It uses the text tower.
    """

    name: str
    batch_size: int
    needs: str = "poisoned_pairs"
    clean_samples: int = 0
    knows: str = "captions"
    needs_text: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "batch_size")

    @torch.no_grad()
    def scores(self, model: CLIP, pairs: ImageTextPairs, *, seed: int) -> Tensor:
        """Return the negative cosine of every pair, (N,); no random number is drawn."""
        images = encode_images(model, pairs.images, stage=f"{self.name}: encode")
        parts = range(0, len(pairs), self.batch_size)
        texts = [self._texts(model, pairs.captions, i) for i in progress(parts, self.name)]
        return -(images * torch.cat(texts)).sum(dim=1)

    def _texts(self, model: CLIP, captions: Sequence[str], start: int) -> Tensor:
        return model.encode_text(captions[start : start + self.batch_size]).cpu()
