"""How fast training, encoding and inversion are, against plain float32 and the machine's limit.

``invertune benchmark [overrides]`` measures everything in one process, in rounds that alternate, so
that the ratios hold on a noisy machine:

- ours: the training loop, the encoder and the inversion as every run uses them;
- plain: the same open_clip model in a float32 loop as one would first write it (contiguous
  memory, AdamW over all weights, cross-entropy both ways);
- the rate of a plain matrix multiplication, which no model exceeds.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from experiments.composing import composed
from experiments.stages.parts import build
from invertune.clip.encode import autocast, encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.clip.spec import ModelSpec
from invertune.data.bundle import ImageTextPairs, to_float
from invertune.losses import alignment_loss
from invertune.perturb.forms import Pixels
from invertune.perturb.optimize import optimize_form
from invertune.perturb.triggers import InvertedTrigger
from invertune.training.recipe import Recipe
from invertune.training.train import train

_STEPS = 24
_ROUNDS = 5
_SIDE = 2048


def _plain_training(model: CLIP, pairs: ImageTextPairs, recipe: Recipe, steps: int) -> None:
    """Train as one would first write it: float32, contiguous, every weight in AdamW."""
    clip: Any = model.clip
    clip.train()
    optimizer = torch.optim.AdamW(
        clip.parameters(), lr=1e-5, betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    tokens = model.tokenize(pairs.captions)
    for step in range(steps):
        index = torch.arange(step * recipe.batch_size, (step + 1) * recipe.batch_size)
        images = (pairs.batch(index) - model.mean) / model.std
        image_features = clip.encode_image(images, normalize=True)
        text_features = clip.encode_text(tokens[index], normalize=True)
        logits = clip.logit_scale.exp() * image_features @ text_features.T
        labels = torch.arange(len(logits))
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def _plain_encoding(model: CLIP, images: Tensor, batch_size: int = 256) -> None:
    clip: Any = model.clip
    clip.eval()
    for chunk in images.split(batch_size):  # type: ignore[no-untyped-call]
        clip.encode_image((to_float(chunk) - model.mean) / model.std, normalize=True)


def _inversion(model: CLIP, images: Tensor, classifier: Tensor, steps: int, fast: bool) -> None:
    def loss(batch: Tensor, _: Tensor, trigger: InvertedTrigger) -> Tensor:
        with torch.autocast("cpu", enabled=False) if not fast else autocast(model.device):
            features = model.encode_image(trigger(batch))
        return alignment_loss(features, classifier, 0, 0.07)

    optimize_form(
        model,
        images,
        Pixels(16 / 255),
        loss,
        steps=steps,
        lr=0.05,
        batch_size=64,
        generator=torch.Generator().manual_seed(0),
        stage="benchmark",
    )


def _matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Return the FLOP/s of one multiplication of square matrices."""
    a, b = (torch.randn(_SIDE, _SIDE, device=device).to(dtype) for _ in range(2))
    a @ b
    start = time.perf_counter()
    product = a @ b
    product[0, 0].item()
    return 2 * _SIDE**3 / (time.perf_counter() - start)


def _forward_flops(model: CLIP, image_size: int) -> int:
    """Return the FLOPs of one image through the image tower."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.encode_image(torch.rand(1, 3, image_size, image_size))
    return int(counter.get_total_flops())


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(spec: ModelSpec, data: Any, rounds: int = _ROUNDS) -> list[tuple[str, float, float]]:
    """Return (what, ours, plain) in images per second, medians over alternating rounds."""
    recipe = cast(Recipe, spec.pretrain)
    count = recipe.batch_size * _STEPS
    pairs = data.pairs.take(torch.arange(count)).kept()
    images = pairs.pictures(torch.arange(count))
    ours, plain = spec.build(), spec.build().to(memory_format=torch.contiguous_format)
    classifier = zero_shot_classifier(ours, data.prompts, data.templates)
    one_pass = Recipe(**{**vars(recipe), "epochs": 1, "teacher_weight": 0.0, "freeze_text": False})
    work: dict[str, tuple[int, Callable[[], object], Callable[[], object]]] = {
        "training": (
            count,
            lambda: train(ours, pairs, one_pass, seed=0, stage="benchmark"),
            lambda: _plain_training(plain, pairs, recipe, _STEPS),
        ),
        "encoding": (
            count,
            lambda: encode_images(ours, images),
            lambda: _plain_encoding(plain, images),
        ),
        "inversion": (
            64 * _STEPS,
            lambda: _inversion(ours, images, classifier, _STEPS, True),
            lambda: _inversion(plain, images, classifier, _STEPS, False),
        ),
    }
    rows = []
    for name, (amount, mine, theirs) in work.items():
        mine(), theirs()  # the first calls pay for kernels and memory
        times = [(_seconds(mine), _seconds(theirs)) for _ in range(rounds)]
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        rows.append((name, *(amount / median for median in medians)))
    return cast(list[tuple[str, float, float]], rows)


def main(argv: Sequence[str]) -> int:
    """Measure and print a table; ``argv`` are Hydra overrides such as ``model=vit_b_16_mini``.

    Raises:
        ValueError: If the model has no recipe to train by.
    """
    if {"-h", "--help"} & set(argv):
        print("usage: invertune benchmark [OVERRIDE ...], such as model=vit_b_16_mini")
        return 0
    config = composed(argv)
    spec = build(config.model)
    if spec.pretrain is None:
        raise ValueError(
            f"the benchmark trains a model from its recipe; {spec.name} has none, "
            "choose one of the minis, such as model=rn50_mini"
        )
    data = instantiate(config.data, _convert_="all").load()
    rows = measure(spec, data)
    model = spec.build()
    flops = _forward_flops(model, data.image_size)
    rates = {
        dtype: max(_matrix_rate(dtype, model.device) for _ in range(5))
        for dtype in (torch.float32, torch.bfloat16)
    }
    print(
        f"{spec.name}, {data.image_size} px, {torch.get_num_threads()} threads; "
        f"image tower {flops / 1e6:.0f} MFLOP an image forward"
    )
    print(
        f"matrix multiplication: {rates[torch.float32] / 1e9:.0f} GFLOP/s float32, "
        f"{rates[torch.bfloat16] / 1e9:.0f} GFLOP/s bfloat16"
    )
    print(f"{'':10s} {'ours':>10s} {'plain':>10s} {'ratio':>7s}   share of the float32 matrix rate")
    passes = {"training": 3, "encoding": 1, "inversion": 2}
    for name, mine, theirs in rows:
        share = mine * flops * passes[name] / rates[torch.float32]
        speed = f"{mine:6.0f} img/s {theirs:4.0f} img/s"
        print(f"{name:10s} {speed} {mine / theirs:6.2f}x   {share:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
