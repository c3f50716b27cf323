"""What an experiment shows, as its YAML in ``conf/experiment`` says under ``experiment``.

A preset of ``conf/experiment`` is an experiment: its axes are what Hydra sweeps, and the rest is
read here. Presets of one id are one experiment, and each field stands in one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.statistics import Estimate
from experiments.config import PRESETS, experiment_id, preset_fields
from experiments.tables.columns import GROUPS, SINGLE
from experiments.tables.grid import Value
from experiments.tables.measure import Measure, Runs
from experiments.tables.paper import OF, Reported, reported

# Column -> its title, empty for its own.
Chosen = Mapping[str, str]
DEFAULT: Chosen = dict.fromkeys(
    ("ca_clean", "ca_before", "ca_after", "asr_before", "asr_after", "own_class_clean",
     "own_class_after", "target_found", "verdict"), "",
)  # fmt: skip
# Of step 1 or of step 3, one per setting of the axes, or ROC curves of all methods.
ROC = "roc"
DIAGRAMS = ("none", "frequencies", "divergence", ROC)
# What a row is of: one setting of the axes, or one method over all models.
ROWS = (SETTINGS, METHODS) = ("settings", "methods")
_PAPER = "paper_"


@dataclass(frozen=True)
class Layout:
    """The table of one experiment, and its part of the page.

    Attributes:
        id: Such as ``T1``.
        title: In words.
        order: Place on the page; those of one's own come last.
        note: Stands above the table on the page.
        columns: After those that name a row.
        rows: One of `ROWS`; those of methods have columns of their own.
        paired: Whether InverTune is tested against every other defense.
        diagrams: One of `DIAGRAMS`.
        paper: The paper's numbers, for columns that begin with ``paper_``.
    """

    id: str
    title: str = ""
    order: int = 1_000
    note: str = ""
    columns: Chosen = field(default_factory=lambda: DEFAULT)
    rows: str = SETTINGS
    paired: bool = True
    diagrams: str = DIAGRAMS[0]
    paper: Sequence[Reported] = ()

    def measures(self, runs: Runs) -> list[Measure]:
        """Return the columns for these runs: some depend on what the runs have."""
        found: list[Measure] = []
        for name, title in self.columns.items():
            if name in GROUPS:
                found += GROUPS[name](runs)
            elif name in SINGLE:
                found.append(_titled(SINGLE[name], title))
            else:
                quantity = name.removeprefix(_PAPER)
                words = title or f"paper: {quantity.replace('_', ' ')}"
                found.append(reported(quantity, words, self.paper))
        return found


def _titled(measure: Measure, title: str) -> Measure:
    return replace(measure, column=replace(measure.column, title=title)) if title else measure


def layout_of(experiment: str, folder: Path = PRESETS) -> Layout:
    """Return the layout of an experiment; one without a preset gets the columns of a repair.

    Args:
        experiment: Its id.
        folder: Of the presets.

    Raises:
        ValueError: If a preset of it has a field or a value that there is not.
    """
    fields: dict[str, Any] = {}
    places: dict[str, Path] = {}
    for path, given in preset_fields(folder).items():
        if experiment_id(given) != experiment or not isinstance(given, Mapping):
            continue
        for name, value in given.items():
            if name == "id":
                continue
            if name not in _READERS:
                raise _wrong(path, f" has no field {name!r}", ["id", *_READERS])
            if name in fields:
                raise ValueError(
                    f"{path}: experiment.{name} stands in {places[name].name} as well; of the "
                    f"presets of {experiment} one has it"
                )
            fields[name], places[name] = _READERS[name](path, value), path
    layout = Layout(experiment, **fields)
    _check_paper(layout, places)
    return layout


def _check_paper(layout: Layout, places: Mapping[str, Path]) -> None:
    quantities = {name for one in layout.paper for name in one.numbers}
    for name in layout.columns:
        if name.startswith(_PAPER) and name.removeprefix(_PAPER) not in quantities:
            choices = [f"{_PAPER}{quantity}" for quantity in sorted(quantities)]
            raise _wrong(places["columns"], f".columns has {name!r}, which no case of "
                         "experiment.paper gives", choices or ["none"])  # fmt: skip


def _wrong(path: Path, what: str, choices: Sequence[str]) -> ValueError:
    return ValueError(f"{path}: experiment{what}; choices: {', '.join(choices)}")


def _a(kind: type, words: str, name: str) -> Callable[[Path, object], object]:
    def read(path: Path, value: object) -> object:
        if type(value) is not kind:
            raise ValueError(f"{path}: experiment.{name} is {words}, got {value!r}")
        return value

    return read


def _one_of(choices: Sequence[str], name: str) -> Callable[[Path, object], object]:
    def read(path: Path, value: object) -> object:
        if value not in choices:
            raise _wrong(path, f".{name} is {value!r}", choices)
        return value

    return read


def _columns(path: Path, value: object) -> Chosen:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{path}: experiment.columns is a list of names, got {value!r}")
    chosen: dict[str, str] = {}
    for item in value:
        pairs = item.items() if isinstance(item, Mapping) else [(item, "")]
        for name, title in pairs:
            known = name in SINGLE or name in GROUPS or str(name).startswith(_PAPER)
            if not known:
                choices = [*SINGLE, *GROUPS, f"{_PAPER}QUANTITY"]
                raise _wrong(path, f".columns has {name!r}", choices)
            if name in chosen or (title and name in GROUPS) or not isinstance(title, str):
                raise ValueError(
                    f"{path}: experiment.columns has {item!r}; a column stands there once, as its "
                    "name or as NAME: TITLE, and a group of columns has no title"
                )
            chosen[name] = title
    return chosen


def _paper(path: Path, value: object) -> list[Reported]:
    if not isinstance(value, list) or not all(isinstance(case, Mapping) for case in value):
        raise ValueError(f"{path}: experiment.paper is a list of cases, got {value!r}")
    cases = []
    for case in value:
        of = {str(name): str(own) for name, own in case.items() if name in OF}
        numbers = {str(name): _number(own) for name, own in case.items() if name not in OF}
        if not of or not numbers:
            raise ValueError(
                f"{path}: experiment.paper has {dict(case)!r}; a case says what it is of (some of "
                f"{', '.join(OF)}) and gives a number"
            )
        cases.append(Reported(of, numbers))
    return cases


def _number(value: object) -> Value:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Estimate(float(value)) if number else str(value)  # type: ignore[arg-type]


_READERS: Mapping[str, Callable[[Path, object], object]] = {
    "title": _a(str, "a text", "title"),
    "order": _a(int, "a whole number", "order"),
    "note": _a(str, "a text", "note"),
    "columns": _columns,
    "paired": _a(bool, "true or false", "paired"),
    "rows": _one_of(ROWS, "rows"),
    "diagrams": _one_of(DIAGRAMS, "diagrams"),
    "paper": _paper,
}
