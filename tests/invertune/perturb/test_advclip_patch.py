from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from invertune.clip.encode import encode_images
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, to_float
from invertune.finite import NonFiniteLossError
from invertune.perturb.advclip_patch import Further, PatchTraining
from invertune.perturb.triggers import InvertedTrigger
from invertune.seeds import seeded

TRAINING = PatchTraining(
    share=0.25, corner=0.25, channels=8, alpha=0.0, beta=5.0, gamma=5.0, delta=0.0,
    temperature=0.1, lr=5e-3, betas=(0.5, 0.999), batch_size=8, steps=20, clip=0.01,
)  # fmt: skip


def _draw(
    model: CLIP, clean: CleanData, training: PatchTraining, further: Further | None = None
) -> tuple[InvertedTrigger, list[float], list[list[int]]]:
    features, drawn = encode_images(model, clean.images[:]), list[list[int]]()

    def seen(index: Tensor) -> tuple[Tensor, Tensor]:
        drawn.append(index.tolist())
        return to_float(clean.images[index]), features[index]

    source = seeded(0, "test")
    found = training.draw(model, features, seen, source, stage="patch", further=further)
    return *found, drawn


def test_it_minimizes_what_is_added_to_its_loss(planted: CLIP, colored: CleanData) -> None:
    def red(images: Tensor, features: Tensor) -> Tensor:
        assert features.shape == (8, 4)
        return -100 * images[:, 0, 4:12, 4:12].mean()

    drawn = [_draw(planted, colored, TRAINING, further)[0] for further in (None, red)]
    plain, redder = (patch.pattern[0, 4:12, 4:12].mean() for patch in drawn)
    assert redder > plain + 0.05


def test_what_is_added_counts_in_the_losses(planted: CLIP, colored: CleanData) -> None:
    one_step = replace(TRAINING, steps=1)
    _, plain, _ = _draw(planted, colored, one_step)
    _, more, _ = _draw(planted, colored, one_step, lambda images, features: torch.tensor(7.0))
    assert more == pytest.approx([plain[0] + 7])


def test_every_step_has_a_batch_of_its_own(planted: CLIP, colored: CleanData) -> None:
    _, losses, drawn = _draw(planted, colored, replace(TRAINING, steps=4))
    assert len(losses) == len(drawn) == 4
    assert all(len(set(batch)) == 8 for batch in drawn)
    assert len({tuple(batch) for batch in drawn}) == 4
    assert {i for batch in drawn for i in batch} <= set(range(len(colored.images)))


def test_a_loss_that_is_no_number_names_its_stage(planted: CLIP, colored: CleanData) -> None:
    with pytest.raises(NonFiniteLossError, match="patch: the loss is nan at step 0"):
        _draw(planted, colored, TRAINING, lambda images, features: features.mean() * float("nan"))
