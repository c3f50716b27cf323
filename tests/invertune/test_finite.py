from __future__ import annotations

import pytest
import torch

from invertune.finite import NonFiniteLossError, check_finite


def test_a_loss_becomes_a_number() -> None:
    loss = torch.tensor(0.5, requires_grad=True)
    assert check_finite(loss, "tune", 3) == 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_none_names_stage_and_step(value: float) -> None:
    with pytest.raises(NonFiniteLossError) as caught:
        check_finite(torch.tensor(value), "tune", 3)
    assert str(caught.value) == f"tune: the loss is {value} at step 3; lower the learning rate"
