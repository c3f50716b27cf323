"""The loop that optimizes one universal change of the image against a frozen model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from invertune.clip.fast import folded
from invertune.clip.models import CLIP
from invertune.data.bundle import to_float
from invertune.finite import check_finite
from invertune.perturb.forms import Form
from invertune.perturb.triggers import InvertedTrigger
from invertune.progress import progress

Loss = Callable[[Tensor, Tensor, InvertedTrigger], Tensor]


@contextlib.contextmanager
def frozen(model: CLIP) -> Iterator[None]:
    """Put ``model`` into evaluation mode without weight gradients inside the block."""
    # Without weight gradients the backward pass is half as long, and the graph needs less memory.
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def fast_attention(model: CLIP) -> contextlib.AbstractContextManager[None]:
    """Choose the attention kernel whose backward pass is the faster one on the model's device."""
    if model.device.type == "cpu":
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()


def optimize_form(
    model: CLIP,
    images: Tensor,
    form: Form,
    loss: Loss,
    *,
    steps: int,
    lr: float,
    batch_size: int,
    generator: torch.Generator,
    stage: str,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> tuple[InvertedTrigger, list[float]]:
    """Minimize ``loss`` over a form's free tensors by Adam; return the trigger and the losses.

    Args:
        model: Stays as it is.
        images: (N, 3, H, W) uint8, drawn from with replacement.
        form: What is optimized.
        loss: Takes a batch, (B, 3, H, W) in [0, 1], its indices, (B,), and the trigger.
        steps, lr, batch_size: Adam's steps, learning rate, and images a step.
        generator: Source of every random number.
        stage: Name in error messages and where progress is shown.
        augment: Changes each batch before the trigger is applied.

    Raises:
        NonFiniteLossError: If the loss becomes NaN or infinite.
    """
    side = images.shape[-1]
    # Drawn on the CPU and moved, so that a GPU starts from the very same numbers.
    free = [t.to(model.device).requires_grad_() for t in form.start(side, generator)]
    optimizer = torch.optim.Adam(free, lr=lr)
    losses = []
    with frozen(model), folded(model), fast_attention(model):
        bar = progress(range(steps), stage)
        for step in bar:
            index = torch.randint(len(images), (batch_size,), generator=generator)
            batch = to_float(images[index])
            if augment is not None:
                batch = augment(batch, generator)
            value = loss(batch.to(model.device), index.to(model.device), form.build(free, side))
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            losses.append(check_finite(value, stage, step))
            bar.loss(losses[-1])
            optimizer.step()
            # After the step: Adam knows nothing of ranges.
            form.project(free)
    with torch.no_grad():
        trigger = form.build([tensor.detach() for tensor in free], side)
    # Copies of their own: a form may hand out its free tensors themselves, or expanded ones.
    return trigger.detached(), losses
