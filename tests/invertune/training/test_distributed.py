"""Two processes, by gloo, against one."""

from __future__ import annotations

import importlib.util
import os
import shutil
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
from invertune.clip.spec import ModelSpec
from invertune.data.bundle import DataBundle
from invertune.training.distributed import Ranks
from invertune.training.execution import Execution
from invertune.training.recipe import Recipe

# Shares of 13 and 12 pairs: with fewer, a normalized batch turns rounding into more.
RECIPE = Recipe(2, 25, 3e-3, (0.9, 0.98), 0.1, 0.1, muon_lr=3e-3)
# Four steps; a file after the second, and the end in the fourth.
LONG, KILLED = replace(RECIPE, epochs=1, batch_size=12), 3
PATIENCE = 1500  # seconds, where other work has the processors
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
    chunks = Execution(precision="fp32", chunk=5, checkpointing=True)
    taught = replace(RECIPE, teacher_weight=10.0, freeze_text=True)
    found = [
        case("resnet", "resnet"),
        case("resnet in float64", "resnet", double=True),
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
        case("long", "resnet", LONG),
    ]
    return {case.name: case for case in found}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, cases: dict[str, Any]) -> Path:
    """Return the folder in which two processes have done all cases."""
    folder = tmp_path_factory.mktemp("crew") / "shared"
    ended = [process.wait(timeout=PATIENCE) for process in _start(folder, [*cases.values()], 2)]
    assert ended == [0, 0]
    return folder


EXACT = ["resnet", "resnet in float64", "vit", "frozen norms", "teacher", "objective", "chunks",
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
        errors[parameter] = float(error / max(gradient.norm(), 1e-2 * largest))
    # One process that takes a normalized batch in another order is as far from itself.
    rounding = 5e-5 if name == "resnet" else 1e-5
    assert max(errors.values()) < rounding, max(errors, key=lambda key: errors[key])
    for key, value in plain["state"].items():
        assert torch.equal(first["state"][key], second["state"][key])
        if "running" in key:  # the statistics are the whole batch's
            assert torch.allclose(first["state"][key], value, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other pairs", "test: all processes need the same pairs; process 1 of 2 has others"),
        ("whole objective", "test: its objective sees a whole batch; choices: processes=1 and"),
        ("objective with norms", "several processes, or speed.chunk, need recipe.freeze_batch_nor"),
        ("few pairs a batch", "batch_size is at least the number of processes, 2, got 1"),
        ("chunks of norms", "chunk=5 needs a model without BatchNorm, or recipe.freeze_batch_norm"),
    ],
)
def test_what_would_be_another_training_ends_in_every_process(
    shared: Path, name: str, said: str
) -> None:
    first, second = _results(shared, name)
    assert first == second
    assert said in first["error"]


@pytest.fixture(scope="module")
def resumed(
    crew: ModuleType, tmp_path_factory: pytest.TempPathFactory, cases: dict[str, Any]
) -> dict[tuple[int, int], Result]:
    """Return what trainings lead to that are killed with some processes and go on with others."""
    folder = tmp_path_factory.mktemp("killed")
    crews = {}
    for size in (1, 2):
        killed = replace(cases["long"], checkpoint=folder / f"{size}.pt", killed=(size - 1, KILLED))
        crews[size] = _start(folder / f"of {size}", [killed], size)
    for size, processes in crews.items():
        codes = [process.wait(timeout=PATIENCE) for process in processes]
        assert codes[-1] == -signal.SIGKILL
        assert all(codes)  # the other one does not wait for it
        for then in (1, 2):
            shutil.copy(folder / f"{size}.pt", folder / f"{size}-{then}.pt")
    goes_on = {
        (size, then): replace(
            cases["long"], name=str(size), checkpoint=folder / f"{size}-{then}.pt"
        )
        for size in (1, 2)
        for then in (1, 2)
    }
    by_two = _start(folder / "by 2", [goes_on[1, 2], goes_on[2, 2]], 2)
    found = {(size, 1): crew.run(goes_on[size, 1]) for size in (1, 2)}
    assert [process.wait(timeout=PATIENCE) for process in by_two] == [0, 0]
    found |= {(size, 2): _results(folder / "by 2", str(size))[0] for size in (1, 2)}
    assert not list(folder.glob("*-*.pt"))
    return found


def test_a_training_goes_on_with_as_many_processes_as_if_nothing_had_been(
    crew: ModuleType, cases: dict[str, Any], shared: Path, resumed: dict[tuple[int, int], Result]
) -> None:
    straight = {1: crew.run(cases["long"]), 2: _results(shared, "long")[0]}
    for size, wanted in straight.items():
        found = resumed[size, size]
        assert found["losses"] == wanted["losses"]
        assert all(torch.equal(found["state"][key], own) for key, own in wanted["state"].items())


def _flat(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in state.values() if value.is_floating_point()])


def test_a_training_goes_on_with_another_number_of_processes(
    crew: ModuleType, cases: dict[str, Any], resumed: dict[tuple[int, int], Result]
) -> None:
    wanted = crew.run(cases["long"])
    start = _flat(cases["long"].spec.build(0).clip.state_dict())
    for found in (resumed[1, 2], resumed[2, 1]):
        assert found["losses"] == pytest.approx(wanted["losses"], rel=1e-3)
        # Not weight by weight: Adam makes steps of full size of gradients that are only rounding.
        apart = (_flat(found["state"]) - _flat(wanted["state"])).norm()
        assert apart < 0.05 * (_flat(wanted["state"]) - start).norm()


def test_shares_are_the_batch() -> None:
    batch = torch.arange(11)
    ranks = [Ranks(rank, 4) for rank in range(4)]
    shares = [own.share(batch) for own in ranks]
    assert torch.equal(torch.cat(shares), batch)
    assert [len(share) for share in shares] == [3, 3, 3, 2]
    assert [int(share[0]) for share in shares] == [own.start(11) for own in ranks]


def test_one_process_sends_nothing() -> None:
    own, weight = torch.ones(2), torch.nn.Parameter(torch.ones(2))
    alone = Ranks()
    assert alone.summed(own) is own
    assert alone.gathered(own, 2) is own
    assert alone.from_first(own) is own
    alone.sum_gradients([weight])
    alone.copy_from_first({"own": own})
    alone.check_same({"pairs": "x"}, "test")
    assert weight.grad is None
