"""CleanerCLIP: CleanCLIP, with sub-captions that an image has to tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.baselines.cleanclip import CleanCLIP, cleanclip_loss
from invertune.baselines.sub_captions import sub_captions
from invertune.clip.models import CLIP
from invertune.fields import check_shares, check_weights
from invertune.seeds import seeded
from invertune.training.objective import Batch, Objective
from invertune.work import Work


def sub_caption_loss(
    image_features: Tensor, positive: Tensor, negative: Tensor, logit_scale: Tensor
) -> Tensor:
    """Return L_TA, a scalar: how badly images tell their sub-captions from the counterfactual ones.

    The mean of -log(exp(s p) / (exp(s p) + exp(s n))), with p and n an image's cosine similarities
    to its positive and to its negative, and s the logit scale's factor.

    Args:
        image_features: (S, D), unit norm.
        positive, negative: (S, D), unit norm; row i is of image i.
        logit_scale: Logarithm of the factor on the cosine similarities.
    """
    nearer = ((negative - positive) * image_features).sum(dim=-1)
    return F.softplus(logit_scale.exp() * nearer).mean()


@dataclass(frozen=True, kw_only=True)
class CleanerCLIP(CleanCLIP):
    """CleanCLIP whose captions are taken apart, which breaks a trigger's tie to the target's words.

    Xun et al. (2024, first as TA-Cleaner). There is no code, and the text leaves open how much the
    further term counts, how many samples have it and what else is compared. Here it is a second
    term beside CleanCLIP's loss, of some images of every batch, against their own two sub-captions
    alone. Sub-captions are made once, of words (`sub_captions`), where the paper parses sentences.

    Attributes:
        sub_caption_weight: Factor on `sub_caption_loss`.
        sub_caption_share: Share of a batch that has sub-captions, drawn at every step; of one image
            at least.
    """

    sub_caption_weight: float
    sub_caption_share: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weights(self, "sub_caption_weight")
        check_shares(self, "sub_caption_share", one=True)

    def texts(self, captions: Sequence[str], seed: int) -> list[str]:
        """Return the views of the captions, then all positives, then all negatives."""
        found = sub_captions(captions, seeded(seed, "sub-captions"))
        return [*super().texts(captions, seed), *found.positive, *found.negative]

    def objective(self, seed: int) -> Objective:
        """Return the loss of a batch whose further texts are those of `texts`."""

        def loss(model: CLIP, batch: Batch) -> Tensor:
            views, scale = self.views(model, batch, seed), model.logit_scale
            cleaned = cleanclip_loss(views, scale, self.clip_weight, self.in_modal_weight)
            chosen = self.chosen(len(batch.index), batch.step, seed)
            _, positives, negatives = batch.texts.chunk(3)
            rows = batch.index[chosen]
            encoded = model.encode_tokens(torch.cat([positives[rows], negatives[rows]]))
            told = sub_caption_loss(views.image[chosen], *encoded.chunk(2), scale)
            return cleaned + self.sub_caption_weight * told

        return loss

    def chosen(self, count: int, step: int, seed: int) -> Tensor:
        """Return which of so many images of a step have sub-captions, (S,) positions."""
        most = max(1, round(self.sub_caption_share * count))
        return torch.randperm(count, generator=seeded(seed, "sub-caption images", step))[:most]

    def work(self, classes: int) -> dict[str, Work]:
        """Return what goes through the model; the number of classes is no matter."""
        steps, size = self.recipe.steps(self.clean_samples), self.recipe.batch_size
        told = 2 * steps * max(1, round(self.sub_caption_share * size))
        return {"purify": super().work(classes)["purify"] + Work(texts_trained=told)}
