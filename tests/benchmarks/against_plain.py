"""A real model at 224 pixels: inversion against a plain loop, evaluation against forward passes.

``python tests/benchmarks/against_plain.py [--model rn50] [--work inversion evaluation] [--rounds 5]
[--batch 64] [--threads 1]`` prints medians over rounds that alternate in one process, in seconds of
the clock and of the processor, which other programs disturb less, and the ratios. ``plain`` is a
loop as one would first write it: open_clip's own model, float32, contiguous, gradients of all
weights. ``float32`` is ours without bfloat16, where the processor is fast at that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F

from evaluation.zero_shot import evaluate_zero_shot
from experiments.composing import composed
from experiments.config import plain_config
from experiments.stages.parts import build
from invertune.clip import models
from invertune.clip.encode import autocast, precision, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import LabeledImages
from invertune.losses import alignment_loss
from invertune.perturb.forms import Pixels
from invertune.perturb.optimize import optimize_form
from invertune.perturb.triggers import InvertedTrigger

PROMPTS, TEMPLATES = tuple(f"thing number {i}" for i in range(10)), ("a photo of a {}",)
EPSILON, STEPS = 16 / 255, 1
WORK = ("inversion", "evaluation")


def invert(model: CLIP, images: torch.Tensor, classifier: torch.Tensor, fast: bool) -> None:
    """Optimize a change of all pixels as every run does."""

    def loss(batch: torch.Tensor, _: torch.Tensor, trigger: InvertedTrigger) -> torch.Tensor:
        with autocast(model.device) if fast else nullcontext():
            return alignment_loss(model.encode_image(trigger(batch)), classifier, 0, 0.07)

    optimize_form(
        model, images, Pixels(EPSILON), loss, steps=STEPS, lr=0.05, batch_size=len(images),
        generator=torch.Generator().manual_seed(0), stage="invert",
    )  # fmt: skip


def invert_plainly(model: CLIP, images: torch.Tensor, classifier: torch.Tensor) -> None:
    """Optimize the same as one would first write it; the weights get gradients that none uses."""
    clip: Any = model.clip
    change = torch.zeros(3, *images.shape[-2:], requires_grad=True)
    adam = torch.optim.Adam([change], lr=0.05)
    for _ in range(STEPS):
        pixels = (images.float() / 255 + EPSILON * change.tanh()).clamp(0, 1)
        features = F.normalize(clip.encode_image((pixels - model.mean) / model.std), dim=-1)
        loss = alignment_loss(features, classifier, 0, 0.07)
        clip.zero_grad()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()


def evaluate(model: CLIP, images: torch.Tensor) -> None:
    """Measure CA: prompts, features of all images, predictions."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    labeled = LabeledImages(images, labels, ids=[str(i) for i in range(len(images))])
    evaluate_zero_shot(model, labeled, PROMPTS, TEMPLATES, None, None, batch_size=64)


@torch.no_grad()
def forward(model: CLIP, images: torch.Tensor) -> None:
    """Encode the same batches in the same precision, and nothing else."""
    with autocast(model.device):
        for part in images.split(64):
            model.encode_image(part.float() / 255)


def _medians(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    for one in work.values():
        one()  # the first call pays for kernels and memory
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, one in work.items():
            start, used = time.perf_counter(), time.process_time()
            one()
            times[name].append((time.perf_counter() - start, time.process_time() - used))
    return {
        name: tuple(statistics.median(column) for column in zip(*pairs, strict=True))
        for name, pairs in times.items()
    }  # type: ignore[return-value]


def _inversion(ours: CLIP, plain: CLIP, images: torch.Tensor, rounds: int) -> None:
    classifier = zero_shot_classifier(ours, PROMPTS, TEMPLATES)
    work = {
        "plain": lambda: invert_plainly(plain, images, classifier),
        "float32": lambda: invert(ours, images, classifier, False),
        "ours": lambda: invert(ours, images, classifier, True),
    }
    found = _medians(work, rounds)
    for name, (clock, used) in found.items():
        ratios = [a / b for a, b in zip(found["plain"], (clock, used), strict=True)]
        print(
            f"inversion {name:8} {STEPS * len(images) / clock:6.1f} img/s; {clock:.1f} s, of a "
            f"processor {used:.1f} s; against plain {ratios[0]:.2f}x, {ratios[1]:.2f}x",
            flush=True,
        )


def _evaluation(ours: CLIP, images: torch.Tensor, rounds: int) -> None:
    work = {"forward": lambda: forward(ours, images), "evaluation": lambda: evaluate(ours, images)}
    found = _medians(work, rounds)
    for name, (clock, used) in found.items():
        rate = len(images) / clock
        print(f"{name:10} {rate:6.1f} img/s; {clock:.2f} s, of a processor {used:.2f} s")
    ratios = [b / a for a, b in zip(found["forward"], found["evaluation"], strict=True)]
    print(f"evaluation / forward: {ratios[0]:.2f} of the clock, {ratios[1]:.2f} of the processor")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="rn50")
    parser.add_argument("--work", nargs="+", default=WORK, choices=WORK)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = plain_config(composed([f"model={args.model}", "model.weights=null"]))["model"]
    ours = build(config).build(0).eval()
    shape = (args.batch, 3, ours.image_size, ours.image_size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, shape, generator=generator).to(torch.uint8)
    kind = str(precision(ours.device)).removeprefix("torch.")
    print(f"{args.model}, {ours.image_size} px, batch {args.batch}, {args.threads} threads, {kind}")
    if "inversion" in args.work:
        with mock.patch.object(models, "quicken"):
            plain = build(config).build(0).eval().to(memory_format=torch.contiguous_format)
        _inversion(ours, plain, images, args.rounds)
    if "evaluation" in args.work:
        _evaluation(ours, torch.cat([images, images]), args.rounds)


if __name__ == "__main__":
    main()
