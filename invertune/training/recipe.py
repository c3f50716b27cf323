"""How to train."""

from __future__ import annotations

from dataclasses import dataclass

from invertune.fields import check_betas, check_counts, check_positive, check_shares, check_weights
from invertune.training.execution import current


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Passes over the pairs.
        batch_size: Pairs a step, of all processes together; an incomplete last batch is dropped.
        lr: Learning rate of AdamW where the warm-up ends and a cosine begins.
        betas: AdamW's.
        weight_decay: On matrices; biases, norms and the logit scale have none.
        warmup: Share of the steps that lead to these learning rates in a line; a cosine follows.
        muon_lr: Learning rate, at the same point, of Muon for the hidden matrices and convolutions,
            whose updates are scaled to AdamW's size; None trains them by AdamW.
        teacher_weight: Factor on the distance, 1 - cosine, to a teacher's image embeddings.
        freeze_text: Leave the text tower as it is; with a teacher, it is the teacher's.
        freeze_batch_norm: Leave the statistics and factors of BatchNorm as they are.
        train_batch_norm_factors: With ``freeze_batch_norm``, leave the statistics alone, as for a
            model in evaluation mode.
        warmup_from, cosine_to: Factors on the learning rates that the line starts from and the
            cosine ends at; a line from above 1 descends.
    """

    epochs: float
    batch_size: int
    lr: float
    betas: tuple[float, float]
    weight_decay: float
    warmup: float
    muon_lr: float | None = None
    teacher_weight: float = 0.0
    freeze_text: bool = False
    freeze_batch_norm: bool = False
    train_batch_norm_factors: bool = False
    warmup_from: float = 0.0
    cosine_to: float = 0.0

    def __post_init__(self) -> None:
        check_counts(self, "batch_size")
        check_positive(self, "epochs", "lr", *(("muon_lr",) if self.muon_lr is not None else ()))
        check_weights(self, "weight_decay", "teacher_weight", "warmup_from", "cosine_to")
        check_shares(self, "warmup", zero=True, one=True)
        check_betas(self)
        if self.train_batch_norm_factors and not self.freeze_batch_norm:
            raise ValueError("train_batch_norm_factors is of freeze_batch_norm=true, got false")

    def steps(self, pairs: int) -> int:
        """Return the number of steps on so many pairs."""
        # Shares of a pass are allowed, but a training without any step is never what was meant.
        return max(1, round(self.epochs * (pairs // self.batch_size)))

    def check_pairs(self, pairs: int, stage: str) -> None:
        """Compare the number of pairs with a batch, and a batch with the processes that share it.

        Raises:
            ValueError: If there are fewer.
        """
        current().check_batch(self.batch_size, stage)
        if pairs < self.batch_size:
            raise ValueError(
                f"{stage} needs at least batch_size={self.batch_size} pairs, got {pairs}"
            )
