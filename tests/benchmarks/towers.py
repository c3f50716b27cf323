"""The image towers as open_clip computes them, and as `invertune.clip.fast` does.

``python tests/benchmarks/towers.py [--model NAME ...] [--repeat 6] [--batch 64]`` prints, for every
model, milliseconds of one batch on one thread and the ratio, both measured in turn in this process:
gradients of the images, with weights frozen (inversion); encoding; gradients of the weights
(training).
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from contextlib import ExitStack
from unittest import mock

import torch

from experiments.composing import composed
from experiments.config import plain_config
from experiments.stages.parts import build
from invertune.clip import models
from invertune.clip.fast import folded
from invertune.clip.models import CLIP
from invertune.perturb.optimize import fast_attention, frozen


def _inversion(model: CLIP, images: torch.Tensor) -> None:
    with ExitStack() as stack:
        for context in (frozen, folded, fast_attention):
            stack.enter_context(context(model))
        model.encode_image(images.clone().requires_grad_()).square().sum().backward()


@torch.no_grad()
def _encoding(model: CLIP, images: torch.Tensor) -> None:
    with folded(model):
        model.encode_image(images)


def _training(model: CLIP, images: torch.Tensor) -> None:
    with fast_attention(model):
        model.encode_image(images).square().sum().backward()


WORK: tuple[Callable[[CLIP, torch.Tensor], None], ...] = (_inversion, _encoding, _training)
MINIS = ("rn50_mini", "rn101_mini", "vit_b_16_mini", "vit_b_32_mini")


def main() -> None:
    """Print one line a model and kind of work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=MINIS)
    parser.add_argument("--repeat", type=int, default=6)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.model:
        spec = build(plain_config(composed([f"model={name}"]))["model"])
        quick = spec.build(0).eval()
        with mock.patch.object(models, "quicken"):
            plain = spec.build(0).eval()
        plain.load_state_dict(copy.deepcopy(quick.state_dict()))
        images = torch.rand(args.batch, 3, quick.image_size, quick.image_size)
        for work in WORK:
            best = [float("inf")] * 2
            for _ in range(args.repeat):
                for place, model in enumerate((plain, quick)):
                    start = time.perf_counter()
                    work(model, images)
                    best[place] = min(best[place], time.perf_counter() - start)
            a, b = (1000 * value for value in best)
            kind = work.__name__.strip("_")
            print(f"{name:14} {kind:10} {a:7.0f} -> {b:6.0f} ms, ratio {a / b:.2f}", flush=True)


if __name__ == "__main__":
    main()
