from __future__ import annotations

import pytest
import torch
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.finite import NonFiniteLossError
from invertune.perturb.forms import FreeMask, Pixels
from invertune.perturb.optimize import frozen, optimize_form
from invertune.perturb.triggers import InvertedTrigger


def _optimize(
    model: CLIP, clean: CleanData, steps: int = 30, seed: int = 0
) -> tuple[InvertedTrigger, list[float]]:
    def loss(batch: Tensor, index: Tensor, trigger: InvertedTrigger) -> Tensor:
        return -model.encode_image(trigger(batch))[:, 3].mean()

    return optimize_form(
        model, clean.images[:], Pixels(0.1), loss, steps=steps, lr=0.1, batch_size=4,
        generator=torch.Generator().manual_seed(seed), stage="toy",
    )  # fmt: skip


def test_the_loss_falls(planted: CLIP, colored: CleanData) -> None:
    trigger, losses = _optimize(planted, colored)
    assert len(losses) == 30
    assert losses[-1] < losses[0] - 0.3
    assert trigger.offset.abs().max() <= 0.1
    assert not trigger.offset.requires_grad


def test_the_model_stays_as_it_is(planted: CLIP, colored: CleanData) -> None:
    state = {name: value.clone() for name, value in planted.state_dict().items()}
    flags = [parameter.requires_grad for parameter in planted.parameters()]
    assert flags == [True, False]
    _optimize(planted, colored, steps=3)
    assert [parameter.requires_grad for parameter in planted.parameters()] == flags
    assert all(parameter.grad is None for parameter in planted.parameters())
    assert all(torch.equal(state[name], value) for name, value in planted.state_dict().items())


def test_weights_thaw_after_an_error(planted: CLIP) -> None:
    with frozen(planted):
        assert not any(parameter.requires_grad for parameter in planted.parameters())
    with pytest.raises(RuntimeError, match="stop"), frozen(planted):
        raise RuntimeError("stop")
    assert [parameter.requires_grad for parameter in planted.parameters()] == [True, False]


def test_the_generator_alone_decides(planted: CLIP, colored: CleanData) -> None:
    first = _optimize(planted, colored, steps=3)
    torch.rand(10)
    again, other = _optimize(planted, colored, steps=3), _optimize(planted, colored, 3, seed=1)
    assert torch.equal(first[0].offset, again[0].offset)
    assert not torch.equal(first[0].offset, other[0].offset)


def test_a_form_stays_in_its_ranges(planted: CLIP, colored: CleanData) -> None:
    def loss(batch: Tensor, index: Tensor, trigger: InvertedTrigger) -> Tensor:
        return -trigger.mask.sum() - trigger.pattern.sum()

    trigger, _ = optimize_form(
        planted, colored.images[:], FreeMask(1), loss, steps=5, lr=5.0, batch_size=4,
        generator=torch.Generator(), stage="toy",
    )  # fmt: skip
    assert trigger.mask.eq(1).all()
    assert trigger.pattern.max() <= 1


def test_a_loss_that_is_no_number_names_stage_and_step(planted: CLIP, colored: CleanData) -> None:
    def loss(batch: Tensor, index: Tensor, trigger: InvertedTrigger) -> Tensor:
        return trigger.offset.sum() * float("nan")

    with pytest.raises(NonFiniteLossError, match="toy: the loss is nan at step 0"):
        optimize_form(
            planted, colored.images[:], Pixels(0.1), loss, steps=2, lr=0.1, batch_size=4,
            generator=torch.Generator(), stage="toy",
        )  # fmt: skip
