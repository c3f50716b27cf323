from __future__ import annotations

import pytest
import torch
from torch import Tensor

from invertune.training.order import batches, epoch_order


def test_an_epoch_takes_every_pair_at_most_once() -> None:
    order = epoch_order(10, 3, seed=0, epoch=0)
    assert order.shape == (3, 3)
    assert len(order.unique()) == 9
    assert not torch.equal(order, epoch_order(10, 3, seed=0, epoch=1))


def test_a_training_that_goes_on_in_the_middle_takes_the_same_batches() -> None:
    def whole(epoch: int, order: Tensor) -> Tensor:
        return order + 100 * epoch

    straight = list(batches(10, 3, 0, range(8), whole))
    assert torch.equal(torch.stack(straight[:3]), epoch_order(10, 3, 0, 0))
    assert torch.equal(torch.stack(straight[3:6]), epoch_order(10, 3, 0, 1) + 100)
    later = list(batches(10, 3, 0, range(4, 8), whole))
    assert all(torch.equal(one, other) for one, other in zip(straight[4:], later, strict=True))


def test_a_guide_is_asked_once_a_pass_when_its_first_batch_is() -> None:
    asked: list[int] = []

    def guided(epoch: int, order: Tensor) -> Tensor:
        asked.append(epoch)
        return order.flip(0)

    found = batches(10, 3, 0, range(6), guided)
    assert asked == []
    taken = [next(found) for _ in range(3)]
    assert asked == [0]
    assert torch.equal(torch.stack(taken), epoch_order(10, 3, 0, 0).flip(0))
    next(found)
    assert asked == [0, 1]


def test_a_guide_may_not_change_the_number_of_steps() -> None:
    with pytest.raises(ValueError, match=r"a guide returns \(3, 3\) positions, got \(2, 3\)"):
        next(batches(10, 3, 0, range(6), lambda _, order: order[1:]))
