"""The numbers that a paper gives, beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.results.runs import Run
from experiments.tables.grid import Column, Value
from experiments.tables.measure import Measure, Runs

# What a number is of; a name stands for its variants too, as badclip does for badclip_mixed.
OF = ("data", "model", "attack", "defense", "target")


@dataclass(frozen=True)
class Reported:
    """Numbers that a paper gives for one case.

    Attributes:
        of: Some of `OF` -> its name in the case.
        numbers: Quantity, such as ``asr_after_percent``, -> the number as the paper prints it.
    """

    of: Mapping[str, str]
    numbers: Mapping[str, Value]

    def fits(self, run: Run) -> bool:
        """Return whether a run is of the case."""
        names = {
            "data": run.name("data"),
            "model": run.name("model"),
            "attack": run.name("attack"),
            "defense": run.name("defense"),
            "target": run.target or "",
        }
        return all(f"{names[part]}_".startswith(f"{name}_") for part, name in self.of.items())


def reported(quantity: str, title: str, paper: Sequence[Reported]) -> Measure:
    """Return the column of one quantity, left out where no row is of a reported case.

    Args:
        quantity: Its name in the cases.
        title: Of the column.
        paper: The cases; the first that fits and has the quantity counts.
    """

    def read(runs: Runs) -> Value:
        fitting = (one.numbers[quantity] for one in paper
                   if quantity in one.numbers and one.fits(runs[0]))  # fmt: skip
        return next(fitting, None)

    return Measure(Column(f"paper_{quantity}", title, form="given", optional=True), read)
