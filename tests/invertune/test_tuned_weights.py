from __future__ import annotations

import pytest
import torch
from torch import nn

from invertune.tuned_weights import Best, Mean, Rows, cosine


def _model(value: float) -> nn.Linear:
    model = nn.Linear(2, 3, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def test_only_the_chosen_rows_move() -> None:
    model = _model(1.0)
    rows = Rows(model.weight, torch.tensor([0.0, 1.0, 0.0]))
    model(torch.ones(1, 2)).sum().backward()
    rows.mask_gradient()
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [[0, 0], [1, 1], [0, 0]]
    with torch.no_grad():
        model.weight.fill_(5.0)  # as an optimizer with weight decay would
    rows.restore()
    assert model.weight.tolist() == [[1, 1], [5, 5], [1, 1]]


def test_the_mean_is_of_what_was_added() -> None:
    model = _model(1.0)
    mean = Mean(model)
    mean.restore()
    assert model.weight.unique().tolist() == [1.0]  # of nothing: as it is
    mean.add()
    nn.init.constant_(model.weight, 4.0)
    mean.add()
    later = Mean(model)
    later.resume(mean.state())
    nn.init.constant_(model.weight, 7.0)
    later.add()
    later.restore()
    assert model.weight.unique().tolist() == pytest.approx([4.0])


def test_the_best_weights_have_the_least_loss() -> None:
    model = _model(0.0)
    best = Best(model)
    for loss in (3.0, 1.0, 2.0):
        nn.init.constant_(model.weight, loss)
        best.offer(loss)
    later = Best(model)
    later.resume(best.state())
    later.offer(1.5)
    later.restore()
    assert model.weight.unique().tolist() == [1.0]


@pytest.mark.parametrize(("bounce", "ends"), [(False, [1.0, 0.5, 0.0]), (True, [1.0, 0.05, 1.0])])
def test_a_rate_falls_or_bounces(bounce: bool, ends: list[float]) -> None:
    optimizer = torch.optim.SGD(_model(1.0).parameters(), lr=1.0)
    scheduler = cosine(optimizer, 8, bounce=bounce)
    rates = [scheduler.get_last_lr()[0]]
    for _ in range(8):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    assert [rates[0], rates[4], rates[8]] == pytest.approx(ends)
