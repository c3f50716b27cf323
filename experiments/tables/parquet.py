"""``results.parquet``: everything of every result, for one's own pandas."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.files import replacing
from experiments.results.runs import Run
from experiments.sweeps.sweep import Sweep

if TYPE_CHECKING:
    import pandas as pd

FILE = "results.parquet"
# Their order is the class index, which columns would lose.
_WHOLE = ("config.data.classes",)
_TYPES: dict[type, str] = {bool: "boolean", int: "Int64", float: "float64", str: "string"}
_LARGEST = 2**63


def write_parquet(runs_dir: Path, runs: Sequence[Run], sweeps: Sequence[Sweep]) -> Path:
    """Write ``results.parquet`` into a folder of runs and return its path.

    A row per run: its folder's name ``run``, the ``sweeps`` it belongs to, and a column for every
    value of a result, named by its way, such as ``scores.purified.zero_shot.asr.value``. Lists, and
    columns of several types, are JSON text.
    """
    path = runs_dir / FILE
    with replacing(path) as partial:
        to_frame(runs, sweeps).to_parquet(partial, index=False)
    return path


def to_frame(runs: Sequence[Run], sweeps: Sequence[Sweep]) -> pd.DataFrame:
    """Return the rows of ``results.parquet``."""
    import pandas as pd

    member: dict[str, list[str]] = defaultdict(list)
    for sweep in sweeps:
        for job in sweep.jobs:
            member[job.id].append(sweep.name)
    rows = [
        {
            "run": run.folder.name,
            "sweeps": ",".join(dict.fromkeys(member[run.id])),
            **dict(_leaves("", run.result)),
        }
        for run in runs
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({name: _column([row.get(name) for row in rows]) for name in names})


def _leaves(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and value and name not in _WHOLE:
        for key, own in value.items():
            yield from _leaves(f"{name}.{key}" if name else str(key), own)
    elif isinstance(value, Mapping | list):
        yield name, json.dumps(value, ensure_ascii=False)
    else:
        yield name, value


def _column(values: list[Any]) -> pd.Series[Any]:
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        kinds = {float}
    kind = kinds.pop() if len(kinds) == 1 else str
    if kind is int and any(value is not None and abs(value) >= _LARGEST for value in values):
        kind = str
    if kind is str:
        values = [
            value if value is None or isinstance(value, str) else json.dumps(value)
            for value in values
        ]
    return pd.Series(values, dtype=_TYPES[kind])
