from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from invertune.training.muon import Muon, orthogonalize

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # torch's
SHAPES = [(6, 10), (10, 6), (6, 10), (8, 8)]
Choose = Callable[[bool], None]


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Say whether the processor is fast at bfloat16: torch's own step, or that in float32."""
    return lambda fast: monkeypatch.setattr("invertune.training.muon.fast_bfloat16", lambda: fast)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _stepped(kind: type[torch.optim.Muon], steps: int = 3, **fields: object) -> list[Tensor]:
    """Return weights after some steps with gradients that are always the same."""
    weights = [nn.Parameter(_random(*shape, seed=i)) for i, shape in enumerate(SHAPES)]
    optimizer = kind(weights, lr=0.1, **fields)  # type: ignore[arg-type]
    for step in range(steps):
        for i, weight in enumerate(weights):
            weight.grad = _random(*weight.shape, seed=100 * step + i)
        optimizer.step()  # type: ignore[no-untyped-call]
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("rule", ["match_rms_adamw", "original", None])
@pytest.mark.parametrize("ns_steps", [3, 5])
def test_steps_in_float32_are_torchs(
    bfloat16: Choose, nesterov: bool, rule: str | None, ns_steps: int
) -> None:
    fields = {"nesterov": nesterov, "adjust_lr_fn": rule, "ns_steps": ns_steps,
              "weight_decay": 0.2, "momentum": 0.8}  # fmt: skip
    bfloat16(False)
    found, wanted = _stepped(Muon, **fields), _stepped(torch.optim.Muon, **fields)
    for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
        moved = (other - _random(*SHAPES[i], seed=i)).norm()
        assert moved > 0.1
        assert (one - other).norm() < 0.03 * moved  # bfloat16 has 8 bits
        assert not torch.equal(one, other)  # the other path


def test_torchs_own_step_runs_where_bfloat16_is_fast(bfloat16: Choose) -> None:
    bfloat16(True)
    for one, other in zip(_stepped(Muon), _stepped(torch.optim.Muon), strict=True):
        assert torch.equal(one, other)


def test_a_step_with_a_closure_is_torchs(bfloat16: Choose) -> None:
    bfloat16(False)
    weight = nn.Parameter(_random(3, 4))

    def closure() -> Tensor:
        weight.grad = torch.ones(3, 4)
        return torch.tensor(7.0)

    assert Muon([weight]).step(closure) == 7
    assert not torch.equal(weight, _random(3, 4))


@pytest.mark.parametrize("fast", [False, True])
def test_the_state_is_torchs(bfloat16: Choose, fast: bool) -> None:
    bfloat16(fast)
    weight = nn.Parameter(_random(3, 4))
    optimizer = Muon([weight], lr=0.1, momentum=0.9)
    for gradient in (torch.full((3, 4), 2.0), torch.full((3, 4), -1.0)):
        weight.grad = gradient
        optimizer.step()
    state = optimizer.state_dict()["state"]
    assert {name: list(entry) for name, entry in state.items()} == {0: ["momentum_buffer"]}
    # 0.1 * 2, and 0.9 of that plus 0.1 * -1.
    assert torch.allclose(state[0]["momentum_buffer"], torch.full((3, 4), 0.08))


def test_one_path_goes_on_where_the_other_stopped(bfloat16: Choose) -> None:
    def moved(first: bool, then: bool) -> Tensor:
        weight = nn.Parameter(_random(6, 10))
        optimizers = [Muon([weight], lr=0.1), Muon([weight], lr=0.1)]
        for seed, (optimizer, fast) in enumerate(zip(optimizers, (first, then), strict=True)):
            if seed:
                optimizer.load_state_dict(optimizers[0].state_dict())
            bfloat16(fast)
            weight.grad = _random(6, 10, seed=1 + seed)
            optimizer.step()
        return weight.detach()

    wanted, whole = moved(False, False), _random(6, 10)
    for found in (moved(True, False), moved(False, True)):
        assert (found - wanted).norm() < 0.03 * (wanted - whole).norm()


def test_a_step_by_hand(bfloat16: Choose) -> None:
    bfloat16(False)
    # The iteration with a = 1, b = c = 0 only divides by the norm, here 5.
    weight = nn.Parameter(torch.tensor([[10.0, 0.0], [0.0, 10.0]]))
    still = nn.Parameter(torch.ones(2, 2))
    optimizer = Muon([weight, still], lr=0.1, weight_decay=0.5, momentum=0.8, nesterov=False,
                     ns_coefficients=(1.0, 0.0, 0.0), ns_steps=1)  # fmt: skip
    weight.grad = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    optimizer.step()
    # 10 * (1 - 0.1 * 0.5) less 0.1 of 3/5 and 4/5: decay first.
    assert torch.allclose(weight, torch.tensor([[9.44, 0.0], [0.0, 9.42]]))
    assert torch.equal(still, torch.ones(2, 2))  # no gradient, no step


@pytest.mark.parametrize(("nesterov", "update"), [(False, (0.4, 0.3)), (True, (0.32, 0.54))])
def test_nesterov_by_hand(bfloat16: Choose, nesterov: bool, update: tuple[float, float]) -> None:
    bfloat16(False)
    weight = nn.Parameter(torch.zeros(2, 2))
    optimizer = Muon([weight], lr=1.0, weight_decay=0.0, momentum=0.8, nesterov=nesterov,
                     ns_coefficients=(1.0, 0.0, 0.0), ns_steps=1)  # fmt: skip
    # After these two the buffer is 0.2 * 0.8 * 2.5 = 0.4 and 0.2 * 1.5 = 0.3; Nesterov's update is
    # 0.2 of the gradient and 0.8 of the buffer: 0.32 and 0.3 + 0.24 = 0.54.
    expected = torch.diag(torch.tensor(update))
    weight.grad = torch.diag(torch.tensor([2.5, 0.0]))
    optimizer.step()
    before = weight.detach().clone()
    weight.grad = torch.diag(torch.tensor([0.0, 1.5]))
    optimizer.step()
    assert torch.allclose(before - weight, expected / expected.norm(), atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 20), (20, 4), (8, 8), (1, 5)])
def test_singular_values_are_brought_near_one(shape: tuple[int, int]) -> None:
    matrices = torch.stack([_random(*shape, seed=i) for i in range(3)]) * 1e-3
    found = orthogonalize(matrices, COEFFICIENTS, steps=5, eps=1e-7)
    assert found.shape == matrices.shape
    for before, after in zip(matrices, found, strict=True):
        values = torch.linalg.svdvals(after)
        assert values.min() > 0.6
        assert values.max() < 1.25
        # Singular vectors stay: both have the same polar factor.
        u, _, v = torch.linalg.svd(before, full_matrices=False)
        assert torch.allclose(u.T @ after @ v.T, torch.diag(torch.diag(u.T @ after @ v.T)),
                              atol=1e-3)  # fmt: skip


def test_matrices_of_one_stack_do_not_mix() -> None:
    matrices = torch.stack([_random(4, 6, seed=i) * 10**i for i in range(3)])
    together = orthogonalize(matrices, COEFFICIENTS, steps=3, eps=1e-7)
    for matrix, found in zip(matrices, together, strict=True):
        alone = orthogonalize(matrix[None], COEFFICIENTS, steps=3, eps=1e-7)[0]
        assert torch.allclose(alone, found, atol=1e-5)


def test_a_matrix_of_zeros_stays() -> None:
    assert orthogonalize(torch.zeros(1, 3, 4), COEFFICIENTS, steps=3, eps=1e-7).eq(0).all()
