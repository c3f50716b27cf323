from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from invertune.training.distributed import Ranks
from invertune.training.norms import SharedBatchNorm, batch_norms, shared_norms


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(("kind", "sides"), [(nn.BatchNorm2d, (2, 5)), (nn.BatchNorm1d, ())])
def test_shared_statistics_are_torchs(
    kind: type[nn.BatchNorm1d | nn.BatchNorm2d], sides: tuple[int, ...], momentum: float | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    plain = kind(3, momentum=momentum)
    nn.init.uniform_(plain.weight, generator=generator)
    shared = copy.deepcopy(plain)
    shared.__class__ = SharedBatchNorm
    shared.ranks = Ranks()
    for _ in range(2):
        images = 5 + torch.randn(4, 3, *sides, generator=generator)
        inputs = [images.clone().requires_grad_() for _ in range(2)]
        outputs = [norm(own) for norm, own in zip((plain, shared), inputs, strict=True)]
        assert torch.allclose(*outputs, atol=1e-6)
        for output in outputs:
            (output**3).sum().backward()
        assert torch.allclose(inputs[0].grad, inputs[1].grad, atol=1e-4)
    for name, value in plain.state_dict().items():
        assert torch.allclose(shared.state_dict()[name], value, atol=1e-6), name
    assert torch.allclose(plain.weight.grad, shared.weight.grad, rtol=1e-4)
    for norm in (plain, shared):
        norm.eval()
    assert torch.allclose(plain(images), shared(images), atol=1e-5)


def test_layers_are_what_they_were_after_a_training() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.BatchNorm1d(2))
    names = list(model.state_dict())
    with shared_norms(model, Ranks()):
        assert type(model[1]) is nn.BatchNorm2d
    with shared_norms(model, Ranks(1, 2)):
        assert type(model[1]) is SharedBatchNorm
        assert batch_norms(model) == [model[1], model[3]]
        assert type(model[3]) is SharedBatchNorm
        assert list(model.state_dict()) == names
    assert [type(model[i]) for i in (1, 3)] == [nn.BatchNorm2d, nn.BatchNorm1d]
    assert not hasattr(model[1], "ranks")
