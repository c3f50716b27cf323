"""What the default's verdict says where the clean images are of another world than the model's.

    python tests/benchmarks/worlds.py attack=badnet model=rn50_mini --json worlds.jsonl
    python tests/benchmarks/worlds.py attack=none seed=1

makes the run's backdoored model (or clean control) once, hands the defense other images in place
of its own (crops of photographs, noise, a color each, one color for all), and prints a line for
each. Words are overrides.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

IMAGES = 512  # as many as the default defense draws its own from


def main() -> None:
    """Print the verdict on each world."""
    from experiments.composing import composed
    from experiments.config import plain_config
    from experiments.stages.stages import Stages

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--json", type=Path, help="file that the lines are added to, JSON each")
    given, words = parser.parse_known_args()
    words = [*words, "defense=invertune_verdict", f"runs_dir={given.runs_dir}", "tracking=disabled"]
    stages = Stages(plain_config(composed(words)))
    made = {stage.role: stage for stage in stages.stages}
    implant = stages.obtain(made["implant"])
    inputs = {
        name: stages.obtain(stage)
        for name, stage in made["purify"].inputs.items()
        if stage.role != "purify/search"  # a search on its own images is not needed
    }
    model, own = stages.parts.load(implant), stages.parts.clean(inputs)
    seed, defense = int(stages.parts.config["seed"]), stages.parts.defense
    for name, draw in WORLDS.items():
        images = draw(IMAGES, int(stages.parts.config["data"]["image_size"]))
        clean = dataclasses.replace(own, images=images)
        named, verdict = defense.verify(
            model, clean, defense.identify(model, clean, seed=seed), seed=seed
        )
        row = {
            "model": stages.parts.config["model"]["name"],
            "attack": stages.parts.config["attack"]["name"],
            "seed": seed,
            "target": _target(implant, own.class_names),
            "world": name,
            "named": own.class_names[named.target_label],
            **dataclasses.asdict(verdict),
        }
        print(json.dumps(row), flush=True)
        if given.json is not None:
            with given.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def _target(implant: Any, names: list[str]) -> str | None:
    from experiments.stages.parts import backdoor_of

    trigger, target = backdoor_of(implant)
    return None if trigger is None else names[target]


def _photographs(count: int, side: int) -> Tensor:
    """Return crops of the two photographs that scikit-learn brings along."""
    from sklearn.datasets import load_sample_images

    generator = torch.Generator().manual_seed(0)
    sources = [torch.tensor(image).permute(2, 0, 1) for image in load_sample_images().images]
    crops = []
    for i in range(count):
        image = sources[i % len(sources)]
        size = int(torch.randint(side, min(image.shape[1:]), (), generator=generator))
        top, left = (
            int(torch.randint(whole - size + 1, (), generator=generator))
            for whole in image.shape[1:]
        )
        crop = image[None, :, top : top + size, left : left + size].float()
        small = torch.nn.functional.interpolate(crop, (side, side), mode="bilinear", antialias=True)
        crops.append(small[0].round().to(torch.uint8))
    return torch.stack(crops)


def _noise(count: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, side, side), generator=generator).to(torch.uint8)


def _colors(count: int, side: int) -> Tensor:
    return _noise(count, 1).expand(-1, -1, side, side).contiguous()


def _one_color(count: int, side: int) -> Tensor:
    return torch.full((count, 3, side, side), 128, dtype=torch.uint8)


WORLDS: dict[str, Callable[[int, int], Tensor]] = {
    "photographs": _photographs,
    "noise": _noise,
    "a color each": _colors,
    "one color": _one_color,
}


if __name__ == "__main__":
    main()
