"""SafeCLIP: images and captions are held together only in pairs that are found safe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invertune.baselines.cleanclip import view_loss
from invertune.baselines.pairs import repaired
from invertune.baselines.pool import Pool
from invertune.baselines.safe_pairs import Division, batches_apart, pair_similarities
from invertune.baselines.suspects import TrainingTime, Views
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, ImageTextPairs
from invertune.defense import Purified, Training
from invertune.fields import check_counts, check_shares
from invertune.losses import clip_loss
from invertune.training.objective import Batch, Pass


def unimodal_loss(
    images: Tensor,
    image_neighbors: Tensor,
    texts: Tensor,
    text_neighbors: Tensor,
    logit_scale: Tensor,
) -> Tensor:
    """Return L_unimodal, a scalar (Yang et al., 2024): each modality by itself.

    The mean of two cross-entropies: views have to find the neighbors of their other view.

    Args:
        images, texts: (B, D) of one view, unit norm.
        image_neighbors, text_neighbors: (B, D), unit norm; row i is nearest to the other view of
            sample i in a memory bank.
        logit_scale: Logarithm of the factor on the cosine similarities.
    """
    by_image = view_loss(images, image_neighbors, logit_scale)
    return (by_image + view_loss(texts, text_neighbors, logit_scale)) / 2


class SafeTraining:
    """The loss of a step, and which pairs it takes: an `Objective` that is a `Guide`.

    Attributes:
        pairs: What is trained on, with the first view of the captions.
        defense: Says how.
        views: Augments the images.
        division: What was found safe.
    """

    def __init__(self, pairs: ImageTextPairs, defense: SafeCLIP, views: Views) -> None:
        self.pairs, self.defense, self.views = pairs, defense, views
        self.steps = len(pairs) // defense.recipe.batch_size
        self.division = Division()
        self.banks = {name: Pool(defense.bank) for name in ("images", "texts")}

    def __call__(self, model: CLIP, batch: Batch) -> Tensor:
        """Return the contrastive loss of safe pairs, and the unimodal one of others."""
        if not self.across(batch):
            return self.unimodal(model, batch)
        images = model.encode_image(self.views(batch.images, batch.step))
        return clip_loss(images, model.encode_tokens(batch.tokens), model.logit_scale)

    def across(self, batch: Batch) -> bool:
        """Return whether images and captions of a batch are compared with each other."""
        epoch = batch.step // self.steps
        if epoch < self.defense.first_split:
            return epoch >= self.defense.in_modal_epochs
        return bool(self.division.safe[batch.index[0]])  # all of a batch are of one kind

    def unimodal(self, model: CLIP, batch: Batch) -> Tensor:
        """Return `unimodal_loss` of a batch, and remember its other views."""
        images = model.encode_image(self.views(batch.images, batch.step))
        texts = model.encode_tokens(batch.tokens)
        with torch.no_grad():  # neighbors are looked up; nothing of them is trained
            other_images = model.encode_image(self.views(batch.images, batch.step, "other"))
            other_texts = model.encode_tokens(batch.texts[batch.index])
        near_images, near_texts = (
            self.banks[name].look_up(other, other)
            for name, other in (("images", other_images), ("texts", other_texts))
        )
        return unimodal_loss(images, near_images, texts, near_texts, model.logit_scale)

    def order(self, model: CLIP, planned: Pass) -> Tensor:
        """Return the batches of an epoch: risky pairs first, then safe ones."""
        if planned.number < self.defense.first_split:
            return planned.order
        if planned.number > self.division.epoch:  # else this epoch is gone on with
            rule, drawn = self.defense, self.views.generator("similarities", planned.number)

            def view(images: Tensor) -> Tensor:
                return self.views.augment(images, drawn) if rule.compare_views else images

            similar = pair_similarities(model, self.pairs.images, planned.tokens, view)
            self.division = self.division.after(
                similar, planned.number, rule.posterior, rule.growth, rule.most
            )
        return batches_apart(planned.order, self.division.safe)

    def rate(self, step: int, usual: float) -> float:
        """Return a small, constant factor on the learning rate where pairs first come together."""
        epoch = step // self.steps
        slow = self.defense.in_modal_epochs <= epoch < self.defense.first_split
        return self.defense.slow_rate if slow else usual

    def state(self) -> dict[str, Any]:
        """Return the banks, and what was found safe."""
        banks = {name: bank.state() for name, bank in self.banks.items()}
        return {"banks": banks, "division": self.division.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with what another one had."""
        for name, bank in self.banks.items():
            bank.restore(state["banks"][name])
        self.division = Division.of(state["division"])


@dataclass(frozen=True, kw_only=True)
class SafeCLIP(TrainingTime):
    """Train on the suspect pairs, across modalities only on those that are similar enough.

    Yang, Gao and Mirzasoleiman (ICML 2024). First each modality is trained by itself, on all pairs;
    then images and captions together, so slowly that few poisoned pairs are learned. Before every
    later epoch a mixture of two Gaussians is fitted to the similarities of the pairs. Those of the
    component of higher mean are safe; they are trained on by CLIP's loss, the others each modality
    by itself, and with every epoch a larger share counts as safe.

    The model that training starts from is trained; a finished one is not repaired, and ``model`` is
    not looked at. The code compares images of one view with captions of the other; views are drawn
    apart from each other, so that the first of both, as here, are pairs of the same kind. One
    warm-up and cosine goes over all epochs; the slow ones have a rate of their own meanwhile. Both
    kinds of batches are filled up, or cut, to whole ones by half a batch at most. The epochs of
    each modality by itself are for a model that is not trained yet: one that is loses by them what
    images and captions have in common.

    Attributes:
        in_modal_epochs: Of each modality by itself.
        slow_epochs: Of both together, at ``slow_rate`` of the peak learning rate.
        slow_rate: A share.
        bank: Features in the memory bank of each modality.
        compare_views: Whether the similarities are those of augmented images, as in the code, or of
            the images as they are; captions are those of the first view in either case.
        posterior: Least probability of the better component for a pair to be safe, the first time.
        growth: By how much of all pairs the safe ones become more each epoch.
        most: Largest share of safe pairs after the first time.
    """

    in_modal_epochs: int
    slow_epochs: int
    slow_rate: float
    bank: int
    compare_views: bool
    posterior: float
    growth: float
    most: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "in_modal_epochs", "slow_epochs", least=0)
        check_counts(self, "bank")
        check_shares(self, "slow_rate", "posterior", "most", one=True)
        check_shares(self, "growth", zero=True, one=True)
        if self.recipe.epochs <= self.first_split:
            raise ValueError(
                f"recipe.epochs is above in_modal_epochs + slow_epochs, {self.first_split}: safe "
                f"pairs are told from others after them, got {self.recipe.epochs}"
            )

    @property
    def first_split(self) -> int:
        """Number of the first epoch, from 0, in which safe pairs are told from others."""
        return self.in_modal_epochs + self.slow_epochs

    def trainings(self) -> list[Training]:
        """Return how it trains."""
        return [Training(self.recipe, SafeTraining)]

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        """Return what the training makes of a copy of ``clean.origin``; ``model`` is no matter.

        The evidence holds, epoch by epoch, which share of the pairs was safe, and the places of
        those that were not in the last one.

        Raises:
            ValueError: If there are no suspect pairs or no original model, or fewer than a batch.
            NonFiniteLossError: If the loss becomes NaN or infinite.
        """
        del model
        origin, suspects = self.start(clean)
        first, other = (self.reworded(suspects, seed, view) for view in (0, 1))
        training = SafeTraining(first, self, Views(self.augment_images, seed))
        made = repaired(
            origin, first, self.recipe, seed=seed, checkpoint=checkpoint, objective=training,
            texts=other.captions,
        )  # fmt: skip
        evidence = dataclasses.replace(made.evidence, findings=training.division.findings())
        return dataclasses.replace(made, evidence=evidence)
