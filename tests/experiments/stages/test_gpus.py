from __future__ import annotations

import threading
from pathlib import Path

import pytest

from experiments.stages.gpus import lease_folder, leased, leased_together


def test_every_run_has_a_gpu_of_its_own(tmp_path: Path) -> None:
    with leased(["a", "b"], tmp_path) as first, leased(["a", "b"], tmp_path) as second:
        assert (first, second) == (0, 1)
        got: list[int] = []

        def wait() -> None:
            with leased(["a", "b"], tmp_path) as third:
                got.append(third)

        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(timeout=0.5)
        assert got == []
    waiting.join(timeout=20)
    assert got in ([0], [1])


def test_several_gpus_are_leased_all_or_none(tmp_path: Path) -> None:
    names, got = ["a", "b", "c"], list[list[int]]()

    def wait() -> None:
        with leased_together(names, 2, tmp_path) as both:
            got.append(both)

    with leased_together(names, 2, tmp_path) as first:
        assert first == [0, 1]
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(timeout=0.5)
        with leased(names, tmp_path) as third:  # the one that is left is not held back
            assert third == 2
        assert got == []
    waiting.join(timeout=20)
    assert got == [[0, 1]]
    with (
        pytest.raises(
            ValueError, match="4 processes on this machine need a GPU each, and it has 3"
        ),
        leased_together(names, 4, tmp_path),
    ):
        pass


def test_without_a_gpu_there_is_nothing_to_lease(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no GPU"), leased([], tmp_path):
        pass


def test_an_error_gives_the_gpu_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), leased(["a"], tmp_path):
        raise RuntimeError
    with leased(["a"], tmp_path) as again:
        assert again == 0


def test_leases_are_the_machines_not_the_runs() -> None:
    assert lease_folder() == lease_folder()
    assert lease_folder().is_absolute()
