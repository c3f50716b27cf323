"""What one image and one text cost a model: floating-point operations, and memory of a training."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from invertune.clip.encode import autocast
from invertune.clip.spec import ModelSpec
from invertune.work import Work

_IMAGES = 2  # BatchNorm in training mode takes no single one
_TIMED = 8


@dataclass(frozen=True)
class Cost:
    """Of one image, or text.

    Attributes:
        forward, back, trained: FLOP of an image that is encoded; encoded and followed back to its
            pixels, the weights frozen; encoded and followed back to the weights.
        texts, texts_trained: FLOP of a text, likewise.
        saved: Bytes that a training keeps of an image for the way back, in float32.
        parameters: Of both towers.
    """

    forward: float
    back: float
    trained: float
    texts: float
    texts_trained: float
    saved: float
    parameters: int

    def flop(self, work: Work) -> float:
        """Return the floating-point operations of some work."""
        return (
            self.forward * work.forward + self.back * work.back + self.trained * work.trained
            + self.texts * work.texts + self.texts_trained * work.texts_trained
        )  # fmt: skip


def build_on(spec: ModelSpec, device: str) -> nn.Module:
    """Return the open_clip model of a spec with weights that nobody set.

    Raises:
        ValueError: If open_clip has no such model.
    """
    config: Any = dict(spec.architecture)
    if spec.open_clip_name is not None:
        config = open_clip.get_model_config(spec.open_clip_name)
        if config is None:
            raise ValueError(f"open_clip has no model {spec.open_clip_name!r}")
    logging.disable(logging.WARNING)  # that the weights are random
    try:
        with torch.device(device):
            model: nn.Module = open_clip.CLIP(**config)
            return model
    finally:
        logging.disable(logging.NOTSET)


def cost(spec: ModelSpec, image_size: int) -> Cost:
    """Count on tensors without content: no memory is taken and nothing is computed."""
    clip: Any = build_on(spec, "meta")
    length = clip.context_length
    images = torch.empty(_IMAGES, 3, image_size, image_size, device="meta")
    tokens = torch.zeros(_IMAGES, length, dtype=torch.long, device="meta")
    counted = {
        "forward": _count(lambda: clip.eval().encode_image(images), grad=False),
        "trained": _count(lambda: clip.train().encode_image(images)),
        "texts": _count(lambda: clip.eval().encode_text(tokens), grad=False),
        "texts_trained": _count(lambda: clip.train().encode_text(tokens)),
    }
    with _saving() as saved:
        clip.train().encode_image(images)
    clip.requires_grad_(False).eval()
    pixels = images.clone().requires_grad_()
    counted["back"] = _count(lambda: clip.encode_image(pixels))
    own = {storage for p in (*clip.parameters(), *clip.buffers()) for storage in [_place(p)]}
    kept = sum(size for place, size in saved.items() if place not in own)
    parameters = sum(p.numel() for p in clip.parameters())
    return Cost(
        **{name: flop / _IMAGES for name, flop in counted.items()},
        saved=kept / _IMAGES,
        parameters=parameters,
    )


def measured(spec: ModelSpec, image_size: int) -> Cost:
    """Return seconds in place of FLOP, measured here on a few images with random weights."""
    clip: Any = build_on(spec, "cpu").to(memory_format=torch.channels_last)
    images = torch.rand(_TIMED, 3, image_size, image_size)
    tokens = torch.randint(1, 400, (_TIMED, clip.context_length))
    seconds = {
        "forward": _seconds(lambda: clip.eval().encode_image(images), grad=False),
        "trained": _seconds(lambda: clip.train().encode_image(images)),
        "texts": _seconds(lambda: clip.eval().encode_text(tokens), grad=False),
        "texts_trained": _seconds(lambda: clip.train().encode_text(tokens)),
    }
    clip.requires_grad_(False).eval()
    pixels = images.clone().requires_grad_()
    seconds["back"] = _seconds(lambda: clip.encode_image(pixels))
    return Cost(**{name: one / _TIMED for name, one in seconds.items()}, saved=0, parameters=0)


def _count(run: Callable[[], Tensor], grad: bool = True) -> float:
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(grad):
        found = run()
        if grad:
            found.sum().backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def _seconds(run: Callable[[], Tensor], grad: bool = True) -> float:
    """Return the time of the second of two runs."""
    start = 0.0
    for _ in range(2):
        start = time.perf_counter()
        with torch.set_grad_enabled(grad), autocast(torch.device("cpu")):
            found = run()
            if grad:
                found.sum().backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - start


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextlib.contextmanager
def _saving() -> Iterator[dict[int, int]]:
    """Yield the sizes of what is kept for the way back, by the place of its memory."""
    held: list[Tensor] = []  # so that no place is given twice
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        held.append(tensor)
        sizes[_place(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield sizes
