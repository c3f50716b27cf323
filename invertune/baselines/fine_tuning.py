"""FT: fine-tune both towers on clean pairs, as CLIP was trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from invertune.baselines.pairs import STAGE, chosen_pairs, repaired
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.defense import Purified, Training
from invertune.fields import check_counts, check_is, check_types
from invertune.training.recipe import Recipe
from invertune.work import Work


@dataclass(frozen=True)
class FineTuning:
    """Let a backdoor be forgotten under CLIP's own loss, on clean pairs as they are.

    The baseline that CleanCLIP (Bansal et al., 2023) and BadCLIP (Liang et al., 2024) compare with.
    Their code begins in the middle of its learning-rate schedule, with the moments of the poisoned
    training; here every repair begins anew.

    Attributes:
        name: Name in results.
        clean_samples: Number of clean pairs.
        recipe: How to train; the logit scale is trained too.
        needs: Clean images with captions.
        knows: What it is given beyond the model and the images.
    """

    name: str
    clean_samples: int
    recipe: Recipe
    needs: str = "pairs"
    knows: str = "captions"

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "clean_samples")
        check_is(self, "recipe", Recipe)
        self.recipe.check_pairs(self.clean_samples, STAGE)

    def trainings(self) -> list[Training]:
        """Return how it trains."""
        return [Training(self.recipe)]

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        """Return a repaired copy; ``model`` itself stays as it is.

        Raises:
            ValueError: If there are fewer clean pairs than ``clean_samples``, or than a batch.
            NonFiniteLossError: If the loss becomes NaN or infinite.
        """
        pairs = chosen_pairs(clean, self.clean_samples, seed)
        return repaired(model, pairs, self.recipe, seed=seed, checkpoint=checkpoint)

    def work(self, classes: int) -> dict[str, Work]:
        """Return what goes through the model; the number of classes is no matter."""
        steps = self.recipe.steps(self.clean_samples)
        return {"purify": Work.of_pairs(steps, self.recipe.batch_size)}
