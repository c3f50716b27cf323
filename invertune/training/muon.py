"""Muon where bfloat16 is slow."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from invertune.clip.encode import fast_bfloat16


class Muon(torch.optim.Muon):
    """torch's Muon (Jordan et al., 2024), with float32 matrices on processors without bfloat16.

    torch orthogonalizes the updates in bfloat16. A processor without such instructions emulates
    them, and is fifty times slower than with float32: most of a training step. There, the same
    iteration runs in float32, on matrices of one shape at a time. Elsewhere torch's own step runs.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the weights."""
        devices = {weight.device.type for group in self.param_groups for weight in group["params"]}
        if closure is not None or devices != {"cpu"} or fast_bfloat16():
            return super().step(closure)  # type: ignore[no-untyped-call]
        for group in self.param_groups:
            self._step_in_float32(group)
        return None

    def _step_in_float32(self, group: dict[str, Any]) -> None:
        momentum, lr = group["momentum"], float(group["lr"])
        # A ViT's blocks have equal shapes: one batched product is faster than many small ones.
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(weight.grad)
            # Momentum as torch has it; only the orthogonalization is in another precision.
            buffer = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
            update = weight.grad.lerp(buffer, momentum) if group["nesterov"] else buffer
            by_shape[weight.shape].append((weight, update))
        for shape, members in by_shape.items():
            updates = orthogonalize(
                torch.stack([update for _, update in members]),
                group["ns_coefficients"],
                group["ns_steps"],
                group["eps"],
            )
            size = lr * _size(group["adjust_lr_fn"], *shape)
            for (weight, _), update in zip(members, updates, strict=True):
                weight.mul_(1 - lr * group["weight_decay"]).sub_(update, alpha=size)


def orthogonalize(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Return matrices, (N, A, B), with all singular values brought near 1.

    The quintic Newton-Schulz iteration X <- a X + (b G + c G^2) X with G = X X^T.

    Args:
        matrices: (N, A, B) float32.
        coefficients: a, b and c.
        steps: Iterations.
        eps: Least norm that a matrix is divided by.
    """
    # The Gram matrix of the shorter side is the cheaper one; singular values are the same.
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(eps)
    a, b, c = coefficients
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


def _size(rule: str | None, rows: int, columns: int) -> float:
    """Return torch's factor on the learning rate of a matrix."""
    return float(torch.optim._muon._adjust_lr(1.0, rule, torch.Size((rows, columns))))
