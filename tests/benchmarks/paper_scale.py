"""The paper's four models at 224 pixels on a processor: seconds and memory of each kind of step.

``python tests/benchmarks/paper_scale.py [--model NAME ...] [--work NAME ...] [--threads 2]`` prints
a row of a table for every model and kind of work, each measured in a process of its own, so that
its peak of memory is its own. Weights are random: they change no speed.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from evaluation.zero_shot import evaluate_zero_shot
from experiments.composing import composed
from experiments.config import plain_config
from experiments.stages.parts import build
from invertune.clip.encode import autocast, precision, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, ImageTextPairs, LabeledImages
from invertune.losses import alignment_loss
from invertune.perturb.forms import Pixels
from invertune.perturb.optimize import optimize_form
from invertune.perturb.shrink import Suspect, optimize
from invertune.perturb.triggers import InvertedTrigger
from invertune.training.train import train
from invertune.tune import ActivationTuning

MODELS = ("rn50", "rn101", "vit_b_16", "vit_b_32")
SIDE, CLASSES = 224, 100
TEMPLATES = ("a photo of a {}",)
PROMPTS = tuple(f"thing number {i}" for i in range(CLASSES))
IMPLANT_BATCH, INVERSION_BATCH, TUNE_BATCH, EVALUATED = 32, 64, 16, 64


def _config(*words: str) -> dict[str, Any]:
    return dict(plain_config(composed(words)))


def _images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, SIDE, SIDE), generator=generator).to(torch.uint8)


def _ids(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def _trigger() -> InvertedTrigger:
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, -16:, -16:] = 1
    return InvertedTrigger("mask", mask, torch.rand(3, SIDE, SIDE), torch.zeros(3, SIDE, SIDE))


def implant(model: CLIP) -> Callable[[], object]:
    """Make one step of the default attack's training."""
    recipe = build(_config()["attack"]["recipe"])
    recipe = dataclasses.replace(recipe, batch_size=IMPLANT_BATCH, epochs=1)
    captions = [TEMPLATES[0].format(PROMPTS[i]) for i in range(IMPLANT_BATCH)]
    pairs = ImageTextPairs(_images(IMPLANT_BATCH), captions, _ids(IMPLANT_BATCH))
    return lambda: train(model, pairs, recipe, seed=0, stage="implant")


def invert(model: CLIP) -> Callable[[], object]:
    """Make one step that optimizes a change of all pixels."""
    images, classifier = _images(INVERSION_BATCH), zero_shot_classifier(model, PROMPTS, TEMPLATES)

    def loss(batch: torch.Tensor, _: torch.Tensor, trigger: InvertedTrigger) -> torch.Tensor:
        with autocast(model.device):
            return alignment_loss(model.encode_image(trigger(batch)), classifier, 0, 0.07)

    return lambda: optimize_form(
        model, images, Pixels(16 / 255), loss, steps=1, lr=0.05, batch_size=INVERSION_BATCH,
        generator=torch.Generator().manual_seed(0), stage="invert",
    )  # fmt: skip


def tune(model: CLIP) -> Callable[[], object]:
    """Make one step of the default tuning, with all that comes before the first."""
    tuning: ActivationTuning = build(_config()["defense"]["tune"])
    tuning = dataclasses.replace(
        tuning, samples=TUNE_BATCH, batch_size=TUNE_BATCH, steps=1, refresh_every=0
    )
    clean = CleanData(_images(TUNE_BATCH), PROMPTS, PROMPTS, TEMPLATES)
    return lambda: tuning(model, clean, [_trigger()], seed=0)


def evaluate(model: CLIP) -> Callable[[], object]:
    """Measure CA and ASR, which looks at almost every image twice."""
    labels = torch.arange(EVALUATED) % CLASSES
    labeled = LabeledImages(_images(EVALUATED), labels, ids=_ids(EVALUATED))
    return lambda: evaluate_zero_shot(model, labeled, PROMPTS, TEMPLATES, _trigger(), 0)


def scan(model: CLIP) -> Callable[[], object]:
    """Make one step of the default scan's first budget: all classes, a few images each."""
    identify = build(_config()["defense"]["identify"])
    form = identify.forms[0]
    effort = dataclasses.replace(identify.efforts[0], steps=1)
    generator = torch.Generator().manual_seed(0)
    classifier = zero_shot_classifier(model, PROMPTS, TEMPLATES)
    suspect = Suspect(model, classifier, _images(identify.images), identify.temperature)
    labels = torch.arange(CLASSES)
    free = form.family.start(CLASSES, SIDE, generator)

    def step() -> None:
        with suspect.ready():
            optimize(
                suspect, form, free, labels, form.budgets[0], effort, stage="scan",
                generator=generator,
            )  # fmt: skip

    return step


WORK: dict[str, tuple[Callable[[CLIP], Callable[[], object]], int]] = {
    "implant": (implant, IMPLANT_BATCH),
    "invert": (invert, INVERSION_BATCH),
    "tune": (tune, 2 * TUNE_BATCH),
    "evaluate": (evaluate, 2 * EVALUATED - 1),
    "scan": (scan, 2 * CLASSES),
}


def _measure(name: str, work: str, threads: int, told: Connection) -> None:
    """Send what one step takes; in a process of its own."""
    torch.set_num_threads(threads)
    spec = build(_config(f"model={name}", "model.weights=null")["model"])
    make, images = WORK[work]
    step = make(spec.build(0).eval())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, used = time.perf_counter(), time.process_time()
    step()
    clock, used = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told.send((images, clock, used, before / 2**20, peak / 2**20))


def _measured(name: str, work: str, threads: int) -> tuple[int, float, float, float, float]:
    # Forked, so that torch is imported once; nothing of it has run here yet.
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_measure, args=(name, work, threads, there))
    process.start()
    there.close()
    try:
        found: tuple[int, float, float, float, float] = here.recv()
    finally:
        process.join()
    return found


def _totals(rate: float) -> str:
    passes = build(_config()["defense"]["identify"]).passes
    told = (f"{count:,} classes {passes(count) / rate / 3600:.1f} h" for count in (100, 1000))
    return f"scan of {', '.join(told)}"


def main() -> None:
    """Print one row a model and kind of work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=MODELS)
    parser.add_argument("--work", nargs="+", default=list(WORK), choices=list(WORK))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    kind = str(precision(torch.device("cpu"))).removeprefix("torch.")
    print(f"{args.threads} threads, {kind}; img/s of the processor's seconds")
    print("| model | step | images | seconds | of a processor | img/s | GiB before | peak |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in args.model:
        for work in args.work:
            images, clock, used, before, peak = _measured(name, work, args.threads)
            print(f"| {name} | {work} | {images} | {clock:.1f} | {used:.1f} | {images / used:.1f} "
                  f"| {before:.1f} | {peak:.1f} |", flush=True)  # fmt: skip
            if work == "scan":
                print(f"{name}: {_totals(images / used)}", flush=True)


if __name__ == "__main__":
    main()
