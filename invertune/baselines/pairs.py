"""What repairs on clean pairs share: which pairs they take, and one training on them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, ImageTextPairs, chosen_clean
from invertune.data.images import Images
from invertune.defense import Purified
from invertune.evidence import Evidence
from invertune.steps import Clock
from invertune.training.objective import Objective
from invertune.training.recipe import Recipe
from invertune.training.train import train

STAGE = "purify"


def chosen_pairs(clean: CleanData, count: int, seed: int) -> ImageTextPairs:
    """Return so many of the clean pairs: of one seed the images that InverTune takes, too.

    Args:
        clean: With captions.
        count: How many; fewer ones are among more.
        seed: Decides which.

    Raises:
        ValueError: If there are fewer, or no captions.
    """
    if len(clean.images) < count:
        raise ValueError(f"clean_samples={count}, but there are {len(clean.images)} clean pairs")
    return clean.pairs.take(chosen_clean(len(clean.images), count, seed))


def without_captions(images: Images) -> ImageTextPairs:
    """Return images as pairs, for a training that reads no captions."""
    count = len(images)
    return ImageTextPairs(images, [""] * count, [f"clean {i}" for i in range(count)])


def repaired(
    model: CLIP,
    pairs: ImageTextPairs,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Path | None,
    objective: Objective | None = None,
    texts: Sequence[str] = (),
) -> Purified:
    """Return what a training on clean pairs makes of a copy of ``model``, with its losses.

    Args:
        model: The suspect model; stays as it is.
        pairs: What to train on.
        recipe: How to.
        seed: Decides the order of the pairs.
        checkpoint: A file that an interrupted repair goes on from.
        objective: In place of the contrastive loss.
        texts: Further texts for the objective.

    Raises:
        ValueError: If there are fewer pairs than one batch.
        NonFiniteLossError: If the loss becomes NaN or infinite.
    """
    tuned, clock = copy.deepcopy(model), Clock()
    with clock(STAGE):
        losses = train(
            tuned, pairs, recipe, seed=seed, stage=STAGE, objective=objective, texts=texts,
            checkpoint=checkpoint,
        )  # fmt: skip
    evidence = Evidence(curves={f"{STAGE} loss": losses}, seconds=clock.seconds)
    return Purified(tuned, evidence, len(losses))
