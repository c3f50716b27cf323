"""RoCLIP's and SafeCLIP's views: a batch at once against one image after the other.

``python tests/benchmarks/views.py [--batch 128] [--side 64] [--rounds 7] [--threads 1]`` prints
medians over rounds that alternate in one process, in milliseconds an image, of the clock and of the
processor, which other programs disturb less. One after the other they are torchvision's, as the
papers' codes have them.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torchvision import transforms

from experiments.composing import composed
from experiments.config import plain_config
from experiments.stages.parts import build
from invertune.baselines.augment import ImageAugmentation, each_apart
from invertune.baselines.crop_and_color import CropAndColor


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser()
    for name, value in {"batch": 128, "side": 64, "rounds": 7, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    views = build(plain_config(composed(["defense=roclip"]))["defense"]["augment_images"])
    assert isinstance(views, CropAndColor)
    images = torch.rand(args.batch, 3, args.side, args.side)
    low, high = (share * args.side for share in views.blur)
    apart = transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.RandomResizedCrop(args.side, tuple(views.crop), antialias=True),
            transforms.RandomApply([transforms.ColorJitter(*views.jitter)], views.jittered),
            transforms.RandomGrayscale(views.gray),
            transforms.GaussianBlur(2 * max(1, round(5 * high)) + 1, (low, high)),
        ]
    )
    ways: dict[str, ImageAugmentation] = {
        "at once": views,
        "apart": lambda images, generator: each_apart(apart, images, generator),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(args.rounds + 1):  # the first one warms up
        for name, way in ways.items():
            clock, work = time.perf_counter(), time.process_time()
            way(images, torch.Generator().manual_seed(number))
            if number:
                seconds = time.perf_counter() - clock, time.process_time() - work
                taken[name].append(seconds)
    for name, found in taken.items():
        clock, work = (
            1000 * statistics.median(one) / args.batch for one in zip(*found, strict=True)
        )
        print(f"{name}: {clock:.2f} ms an image, {work:.2f} ms of the processor")


if __name__ == "__main__":
    main()
