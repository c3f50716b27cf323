from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments.commands.figure import main, write_figures
from experiments.results.result import write_result

Made = Callable[..., dict[str, Any]]
Plan = Callable[..., Path]
STEPS = "defense.tune.steps"


@pytest.fixture
def runs(result: Made, plan: Plan, tmp_path: Path) -> Callable[..., Path]:
    """Write a sweep over steps and attacks, and the results of all runs but some."""

    def written(
        experiment: str = "F4", attacks: Sequence[str] = ("badnet",), left: int = 0
    ) -> Path:
        words = [
            [f"attack={attack}", f"{STEPS}={steps}"] for attack in attacks for steps in (5, 10)
        ]
        jobs = []
        for i, overrides in enumerate(words):
            jobs.append({"overrides": overrides, "run": f"run{i}", "id": f"{i:016x}"})
            if i < len(words) - left:
                write_result(tmp_path / f"run{i}", {**result(), "id": f"{i:016x}"})
        plan("mine", experiment, jobs)
        return tmp_path

    return written


def test_the_command_writes_a_picture_per_study_and_one_of_all(
    runs: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs(attacks=["badnet", "sig"])
    assert main([str(tmp_path)]) == 0
    written = [Path(line) for line in capsys.readouterr().out.split()]
    names = ["mine-00000000-attack_badnet", "mine-00000000-attack_sig", "mine-00000000-compared"]
    assert written == [tmp_path / "figures" / f"{name}.png" for name in names]
    assert all(Image.open(path).width == 2070 for path in written)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {p.name for p in written}


def test_what_is_left_to_run_is_a_warning(
    runs: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = write_figures(runs(left=1), "F4", tmp_path / "pictures")
    assert path.is_file()
    assert "mine-00000000: 1 runs are left to do" in caplog.text


def test_an_experiment_without_a_study_is_an_error_in_one_line(
    runs: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"^\S+ has no finished run of .*'F4'; .* there: T1$"):
        write_figures(runs("T1"), "F4", tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()
