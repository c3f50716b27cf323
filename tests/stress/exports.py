"""A backdoored model measured on the world in memory and on its exports.

    invertune run attack=badnet defense=none
    invertune export data=icons --to png --layouts shards
    invertune export data=icons --to jpeg --format jpeg --layouts shards
    python tests/stress/exports.py png jpeg

The run's backdoored model is taken from ``runs``; what is decoded of the exports stays there too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf

from evaluation.evaluate import evaluate
from experiments.composing import composed
from experiments.config import plain_config
from experiments.stages.parts import backdoor_of
from experiments.stages.stages import Stages
from invertune.data.bundle import DataBundle


def exported(folder: Path, runs_dir: str) -> DataBundle:
    """Return the data set that an export's first config reads."""
    layout = min((folder / "conf" / "data").glob("*.yaml")).stem
    words = [f"hydra.searchpath=[file://{folder.resolve()}/conf]", f"data={layout}"]
    config = composed([*words, f"runs_dir={runs_dir}"])
    data: DataBundle = instantiate(
        OmegaConf.to_container(config.data, resolve=True), _convert_="all"
    ).load()
    return data


def main() -> None:
    """Print a line for the world in memory and one for each export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exports", type=Path, nargs="+")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--attack", default="badnet")
    given = parser.parse_args()
    words = [f"attack={given.attack}", "defense=none", f"runs_dir={given.runs_dir}"]
    stages = Stages(plain_config(composed(words)))
    implant = stages.obtain(next(stage for stage in stages.stages if stage.role == "implant"))
    model, (trigger, target) = stages.parts.load(implant), backdoor_of(implant)
    worlds = {"memory": stages.parts.data}
    worlds |= {str(folder): exported(folder, given.runs_dir) for folder in given.exports}
    for name, data in worlds.items():
        scores = evaluate(model, data, trigger, target).scores
        zero_shot, retrieval = scores["zero_shot"], scores["retrieval"]
        told = {
            "CA": zero_shot["ca"], "ASR": zero_shot["asr"],
            "R@1 image to text": retrieval["image_to_text"]["r@1"],
            "text to image": retrieval["text_to_image"]["r@1"],
            "retrieval ASR@1": (retrieval["asr"] or {}).get("r@1"),
        }  # fmt: skip
        print(name, *(f"{what} {rate['value']:.4f}" for what, rate in told.items() if rate))


if __name__ == "__main__":
    main()
