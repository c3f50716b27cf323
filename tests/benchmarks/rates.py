"""Learning rates of a repair, by a backdoored model and clean images that are in no table.

    python tests/benchmarks/rates.py cleanclip ghostencoder --lr 3e-4 1e-3
    python tests/benchmarks/rates.py cleanclip ghostencoder budget=paper --lr 1e-3

makes the run's backdoored model (seed 60, of no table) once, repairs it at each rate, and prints CA
and ASR of clean images that no repair of this seed used, of a world of their own; no test image is
looked at. Further words, before --lr, are
overrides.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

SEED = 60
WORLD = 777  # draws the pictures that are judged on
JUDGED = 1000


def main() -> None:
    """Print a line for the backdoored model, and one for each rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("defense")
    parser.add_argument("attack")
    parser.add_argument("--lr", type=float, nargs="+", required=True)
    parser.add_argument("--runs-dir", default="runs")
    given, more = parser.parse_known_args()
    words = [f"attack={given.attack}", f"defense={given.defense}", f"seed={SEED}",
             f"runs_dir={given.runs_dir}", "tracking=disabled", *more]  # fmt: skip
    stages = _stages(words)
    made = {stage.role: stage for stage in stages.stages}
    implant = stages.obtain(made["implant"])
    model = stages.parts.load(implant)
    judge = _Judge(stages, implant)
    print(f"{'before':>10}: {judge(model)}", flush=True)
    inputs = {name: stages.obtain(stage) for name, stage in made["purify"].inputs.items()}
    clean = stages.parts.clean(inputs)
    for lr in given.lr:
        defense = _at(stages.parts.defense, lr)
        start = time.process_time()
        purified = defense.purify(model, clean, seed=SEED)
        took = time.process_time() - start
        print(f"{f'lr={lr:g}':>10}: {judge(purified.model)}, {purified.steps} steps, {took:.0f} s",
              flush=True)  # fmt: skip


def _at(part: Any, lr: float) -> Any:
    """Return a defense whose recipe, or that of its negation, has the rate."""
    name = next((own for own in ("recipe", "negate", "tune") if hasattr(part, own)), None)
    own = {"lr": lr} if name is None else {name: _at(getattr(part, name), lr)}
    return dataclasses.replace(part, **own)


def _stages(words: list[str]) -> Any:
    from experiments.composing import composed
    from experiments.config import plain_config
    from experiments.stages.stages import Stages

    return Stages(plain_config(composed(words)))


class _Judge:
    """CA and ASR of a model on pictures that nothing else uses."""

    def __init__(self, stages: Any, implant: Any) -> None:
        from experiments.stages.parts import backdoor_of, build

        sizes = {"pairs": 1, "clean": JUDGED, "zero_shot": 1, "retrieval": 1}
        apart = {"seed": WORLD, "sizes": sizes, "more_clean": 0}
        self.data = stages.parts.data
        self.part = build({**stages.parts.config["data"], **apart}).load().labeled_clean
        self.trigger, self.target = backdoor_of(implant)

    def __call__(self, model: Any) -> str:
        from evaluation.zero_shot import evaluate_zero_shot

        data = self.data
        found = evaluate_zero_shot(
            model, self.part, data.prompts, data.templates, self.trigger, self.target
        )
        rates = found.rates(self.target)
        shown = {name: rates[name]["value"] for name in ("ca", "asr", "own_class")}
        return ", ".join(f"{name} {100 * value:.1f} %" for name, value in shown.items())


if __name__ == "__main__":
    main()
