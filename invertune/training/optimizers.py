"""AdamW for most weights, Muon for the hidden matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from invertune.clip.models import CLIP
from invertune.training.muon import Muon
from invertune.training.recipe import Recipe

# Muon's orthogonalization costs min(m, n)^2 * max(m, n): beyond this side AdamW pays more. Three
# Newton-Schulz steps in place of the usual five learn as well and take two thirds of the time. The
# text tower needs Muon too: without, rn50_mini of seed 2 stayed at chance.
_MUON_SIDE = 256


_MUON_STEPS = 3


class _Matrices(nn.Module):
    """2-D views of weights that Muon updates; convolutions are seen as (out, in * kernel)."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        super().__init__()
        self.weights = weights
        self.views = [nn.Parameter(_as_matrix(weight.data)) for weight in weights]

    def take_gradients(self) -> None:
        for weight, view in zip(self.weights, self.views, strict=True):
            view.grad = None if weight.grad is None else _as_matrix(weight.grad)


def _as_matrix(weight: Tensor) -> Tensor:
    if weight.dim() == 2:
        return weight
    return weight.permute(0, 2, 3, 1).flatten(1)  # a view of channels-last memory


class Optimizers:
    """AdamW, with Muon beside it where the recipe says so, under one warm-up and cosine."""

    def __init__(self, model: CLIP, recipe: Recipe, total_steps: int) -> None:
        self.recipe, self.total_steps = recipe, total_steps
        hidden, decayed, plain = [], [], []
        for name, weight in model.named_parameters():
            if not weight.requires_grad:
                continue
            small = weight.dim() in (2, 4) and min(weight.shape[0], weight[0].numel()) <= _MUON_SIDE
            inner = not any(part in name for part in ("embedding", "text_projection"))
            if recipe.muon_lr is not None and small and inner:
                hidden.append(weight)
            elif weight.dim() >= 2:
                decayed.append(weight)
            else:
                plain.append(weight)
        self.matrices = _Matrices(hidden)
        self.adamw = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=recipe.lr,
            betas=recipe.betas,
            fused=True,
        )
        self.muon = (
            Muon(
                self.matrices.views,
                lr=recipe.muon_lr or 0.0,
                weight_decay=recipe.weight_decay,
                adjust_lr_fn="match_rms_adamw",
                ns_steps=_MUON_STEPS,
            )
            if hidden
            else None
        )

    def factor(self, step: int) -> float:
        """Return the factor on the recipe's learning rates at a step that counts from 0."""
        recipe = self.recipe
        warm = max(1, round(recipe.warmup * self.total_steps))
        if step < warm:
            return recipe.warmup_from + (1 - recipe.warmup_from) * ((step + 1) / warm)
        cosine = math.cos(math.pi * (step - warm) / max(1, self.total_steps - warm))
        return recipe.cosine_to + (1 - recipe.cosine_to) * (0.5 * (1 + cosine))

    def step(self, factor: float) -> None:
        """Update the weights at so much of the peak learning rate, and drop their gradients."""
        for group in self.adamw.param_groups:
            group["lr"] = self.recipe.lr * factor
        self.adamw.step()
        if self.muon is not None:
            for group in self.muon.param_groups:
                group["lr"] = (self.recipe.muon_lr or 0.0) * factor
            self.matrices.take_gradients()
            self.muon.step()  # type: ignore[no-untyped-call]
            for weight in self.matrices.weights:
                weight.grad = None
        self.adamw.zero_grad(set_to_none=True)
