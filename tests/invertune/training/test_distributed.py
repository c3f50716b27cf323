"""Two processes, by gloo, against one."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from experiments.config import CONF
from invertune.clip.models import CLIP
from invertune.clip.spec import ModelSpec
from invertune.data.bundle import DataBundle
from invertune.training.distributed import Ranks
from invertune.training.execution import Execution
from invertune.training.recipe import Recipe

RECIPE = Recipe(1, 9, 3e-3, (0.9, 0.98), 0.1, 0.1, muon_lr=3e-3)  # shares of 5 and 4
CREW = Path(__file__).with_name("crew.py")
Result = dict[str, Any]


@pytest.fixture(scope="module")
def crew() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crew", CREW)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["crew"] = module
    spec.loader.exec_module(module)
    return module


def _start(folder: Path, cases: Sequence[Any], size: int) -> list[subprocess.Popen[bytes]]:
    folder.mkdir()
    torch.save(list(cases), folder / "cases.pt")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CONF.parent)}
    return [
        subprocess.Popen([sys.executable, str(CREW), str(folder), str(rank), str(size)],
                         env=environment)
        for rank in range(size)
    ]  # fmt: skip


def _results(folder: Path, name: str, size: int = 2) -> list[Result]:
    return [torch.load(folder / f"{name}-{rank}.pt") for rank in range(size)]


@pytest.fixture(scope="module")
def cases(
    crew: ModuleType, tiny_spec: Callable[[str], ModelSpec], data: DataBundle
) -> dict[str, Any]:
    pairs, whole = data.pairs, torch.arange(48)

    def case(name: str, kind: str, recipe: Recipe = RECIPE, **fields: Any) -> Any:
        images, captions = pairs.pictures(whole), list(pairs.captions)
        return crew.Case(name, tiny_spec(kind), images, captions, recipe, **fields)

    frozen = replace(RECIPE, freeze_batch_norm=True)
    chunks = Execution(precision="fp32", chunk=2, checkpointing=True)
    taught = replace(RECIPE, teacher_weight=10.0, freeze_text=True)
    found = [
        case("resnet", "resnet"),
        case("vit", "vit"),
        case("frozen norms", "resnet", frozen),
        case("teacher", "vit", taught, taught=True),
        case("objective", "resnet", replace(frozen, freeze_text=True), goal="mean"),
        case("chunks", "vit", execution=chunks),
        case("chunks of frozen norms", "resnet", frozen, execution=chunks),
        case("chunks with a teacher", "vit", taught, taught=True, execution=chunks),
        case("chunks of an objective", "vit", frozen, goal="mean", execution=chunks),
        case("other pairs", "vit", other=1),
        case("whole objective", "vit", goal="whole"),
        case("objective with norms", "resnet", goal="mean"),
        case("few pairs a batch", "vit", replace(RECIPE, batch_size=1)),
        case("chunks of norms", "resnet", execution=chunks),
    ]
    return {case.name: case for case in found}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, cases: dict[str, Any]) -> Path:
    """Return the folder in which two processes have done all cases."""
    folder = tmp_path_factory.mktemp("crew") / "shared"
    ended = [process.wait(timeout=300) for process in _start(folder, [*cases.values()], 2)]
    assert ended == [0, 0]
    return folder


EXACT = ["resnet", "vit", "frozen norms", "teacher", "objective", "chunks",
         "chunks of frozen norms", "chunks with a teacher", "chunks of an objective"]  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_two_processes_have_the_loss_and_gradients_of_one(
    crew: ModuleType, cases: dict[str, Any], shared: Path, name: str
) -> None:
    case = cases[name]
    plain = crew.run(replace(case, execution=Execution(precision="fp32")))
    first, second = _results(shared, name)
    assert first["losses"] == second["losses"]
    assert first["losses"][0] == pytest.approx(plain["losses"][0], rel=1e-6)
    assert first["losses"] == pytest.approx(plain["losses"], rel=1e-3)
    wanted = plain["gradients"]
    assert wanted.keys() == first["gradients"].keys()
    largest = max(gradient.norm() for gradient in wanted.values())
    errors = {}
    for parameter, gradient in wanted.items():
        assert torch.equal(first["gradients"][parameter], second["gradients"][parameter])
        error = (first["gradients"][parameter] - gradient).norm()
        # Some are 0 but for rounding: the softmax does not see a key's bias.
        print(f"   {parameter} {float(error / gradient.norm()):.1e} size {float(gradient.norm() / largest):.1e}") if error > 1e-5*gradient.norm() else None
        errors[parameter] = float(error / max(gradient.norm(), 1e-2 * largest))
    print(name, "loss", abs(first["losses"][0]/plain["losses"][0]-1), "grad", max(errors.values()), "final", max(float((first["state"][k].float()-v.float()).abs().max()) for k,v in plain["state"].items()))
    assert max(errors.values()) < 1e-5, max(errors, key=lambda key: errors[key])
    assert all(torch.equal(first["state"][key], value) for key, value in second["state"].items())
