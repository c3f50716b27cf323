"""Trains by several processes as a test has it: ``python crew.py FOLDER RANK SIZE``.

The folder holds ``cases.pt``, a list of cases; each leaves ``<name>-<rank>.pt``.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.clip.spec import ModelSpec
from invertune.data.bundle import ImageTextPairs
from invertune.losses import clip_loss
from invertune.training.distributed import Ranks
from invertune.training.execution import Execution
from invertune.training.objective import Batch
from invertune.training.optimizers import Optimizers
from invertune.training.recipe import Recipe
from invertune.training.train import train


class MeanGoal:
    """A mean over the images, and a term that the batch as a whole decides."""

    divides: ClassVar[bool] = True

    def __call__(self, model: CLIP, batch: Batch) -> Tensor:
        features = model.encode_image(batch.images)
        return features[:, 0].mean() + float(batch.whole.sum()) * model.logit_scale


def whole_goal(model: CLIP, batch: Batch) -> Tensor:
    """Return CLIP's own loss, which no part of a batch gives."""
    texts = model.encode_tokens(batch.tokens)
    return clip_loss(model.encode_image(batch.images), texts, model.logit_scale)


GOALS = {"mean": MeanGoal(), "whole": whole_goal}


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        name: Of its files.
        spec, images, captions: The model, and what it is trained on.
        recipe: How to.
        execution: How it is computed; the processes are those that there are.
        goal: One of `GOALS`; None for the contrastive loss.
        taught: Whether there is a teacher: the same model of another seed.
        checkpoint: File that it goes on from.
        killed: Process and pass over a batch in which it ends by SIGKILL.
        other: Process that has another caption.
        double: Whether weights and activations are float64, where rounding hides nothing.
    """

    name: str
    spec: ModelSpec
    images: Tensor
    captions: list[str]
    recipe: Recipe
    execution: Execution = field(default_factory=lambda: Execution(precision="fp32"))
    goal: str | None = None
    taught: bool = False
    checkpoint: Path | None = None
    killed: tuple[int, int] | None = None
    other: int | None = None
    double: bool = False


def pairs_of(case: Case, rank: int) -> ImageTextPairs:
    """Return the pairs, which may be read, and be fatal, one batch at a time."""
    reads = iter(range(10**6))

    def read(index: Tensor) -> Tensor:
        if case.killed is not None and case.killed == (rank, next(reads)):
            os.kill(os.getpid(), signal.SIGKILL)
        return case.images[index]

    captions = list(case.captions)
    if case.other == rank:
        captions[3] = "something else"
    return ImageTextPairs(read, captions, [str(i) for i in range(len(captions))])


def run(case: Case, rank: int = 0, size: int = 1) -> dict[str, Any]:
    """Return losses, the gradients of the first step, and the weights; or what went wrong.

    Muon orthogonalizes in float32 on any processor: in bfloat16, which it prefers where that is
    fast, what differs by rounding between numbers of processes grows with each step.
    """
    gradients: dict[str, Tensor] = {}
    model, step = case.spec.build(0), Optimizers.step
    if case.double:
        model = model.double()

    def observed(self: Optimizers, factor: float) -> None:
        if not gradients:
            named = model.named_parameters()
            found = {name: w.grad.clone() for name, w in named if w.grad is not None}
            gradients.update(found)
        step(self, factor)

    Optimizers.step = observed  # type: ignore[method-assign]
    try:
        with (
            replace(case.execution, ranks=Ranks(rank, size)).used(),
            patch("invertune.training.muon.fast_bfloat16", lambda: False),
        ):
            losses = train(
                model, pairs_of(case, rank), case.recipe, seed=0, stage="test",
                teacher=case.spec.build(5) if case.taught else None,
                objective=None if case.goal is None else GOALS[case.goal],
                checkpoint=case.checkpoint, checkpoint_every=2,
            )  # fmt: skip
    except ValueError as error:
        return {"error": str(error)}
    finally:
        Optimizers.step = step  # type: ignore[method-assign]
    state = {name: value.clone() for name, value in model.clip.state_dict().items()}
    return {"losses": losses, "gradients": gradients, "state": state}


def main(folder: Path, rank: int, size: int) -> None:
    """Do all cases, one after the other."""
    torch.set_num_threads(1)
    where = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=size)
    for case in torch.load(folder / "cases.pt", weights_only=False):
        torch.save(run(case, rank, size), folder / f"{case.name}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.modules["crew"] = sys.modules["__main__"]  # what the cases' file calls it
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
