"""``invertune table``: one row per run, and the mean over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.result import load_results
from experiments.summary import lookup, percent

# Column -> model and measure of a share.
_SHARES = {
    "ca_clean": ("clean", "zero_shot/ca"),
    "ca_before": ("backdoored", "zero_shot/ca"),
    "ca_after": ("purified", "zero_shot/ca"),
    "asr_before": ("backdoored", "zero_shot/asr"),
    "asr_after": ("purified", "zero_shot/asr"),
    "target_rate_before": ("backdoored", "zero_shot/target_rate"),
    "own_class_before": ("backdoored", "zero_shot/own_class"),
    "own_class_after": ("purified", "zero_shot/own_class"),
    "r1_before": ("backdoored", "retrieval/image_to_text/r@1"),
    "r1_after": ("purified", "retrieval/image_to_text/r@1"),
    "retrieval_asr_before": ("backdoored", "retrieval/asr/r@1"),
    "retrieval_asr_after": ("purified", "retrieval/asr/r@1"),
}
_WITH_INTERVAL = ("asr_before", "asr_after")
_GROUP = ["data", "model", "attack", "target", "poison_rate", "defense"]
_NAMES = ["model", "attack", "defense", "seed"]
_TITLES = {
    "model": "model",
    "attack": "attack",
    "defense": "defense",
    "seed": "seed",
    "ca_clean": "CA clean",
    "ca_before": "CA before",
    "ca_after": "CA after",
    "asr_before": "ASR before [95 %]",
    "asr_after": "ASR after [95 %]",
    "target_rate_before": "target rate before",
    "own_class_before": "own class before",
    "own_class_after": "own class after",
    "found": "target found",
    "r1_before": "R@1 before",
    "r1_after": "R@1 after",
    "retrieval_asr_before": "retrieval ASR before",
    "retrieval_asr_after": "retrieval ASR after",
    "seconds": "seconds",
}


def table(runs_dir: Path, form: str, only: Sequence[str] = ()) -> str:
    """Return the table of all runs below a folder.

    Args:
        runs_dir: Folder of runs.
        form: ``md`` or ``latex``, in percent, or ``csv``, in shares.
        only: Conditions such as ``defense=invertune,none``; a run has to meet all of them.

    Raises:
        ValueError: If there is no such folder, no valid result in it, no run that meets the
            conditions, or no such form or condition.
    """
    if form not in _FORMS:
        raise ValueError(f"format is one of {', '.join(_FORMS)}, got {form!r}")
    results = load_results(runs_dir)
    if not results:
        raise ValueError(f"no valid result.json of a run below {runs_dir}")
    runs = pd.DataFrame([row(result) for result in results])
    return _FORMS[form](with_means(_select(runs, only)))


def _select(runs: pd.DataFrame, only: Sequence[str]) -> pd.DataFrame:
    for condition in only:
        name, _, values = condition.partition("=")
        if name not in (*_GROUP, "seed") or not values:
            raise ValueError(
                f"{condition!r} is no condition; write NAME=VALUE[,VALUE] with NAME one of "
                f"{', '.join([*_GROUP, 'seed'])}"
            )
        kept = runs[runs[name].astype(str).isin(values.split(","))]
        if kept.empty:
            choices = ", ".join(sorted(set(runs[name].astype(str))))
            raise ValueError(f"no run has {condition}; choices: {choices}")
        runs = kept
    return runs


def row(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of one run; shares are in [0, 1]."""
    cells: dict[str, Any] = {
        "data": result["data"]["name"],
        "model": result["model"]["name"],
        "attack": result["attack"]["name"],
        "target": result["attack"]["target_label"] or "",
        "poison_rate": float(result["attack"]["poison_rate"] or 0),
        "defense": result["defense"]["name"],
        "seed": result["seed"],
    }
    for column, (model, measure) in _SHARES.items():
        rate = lookup(result["scores"][model], measure)
        cells[column] = float("nan") if rate is None else float(rate["value"])
        if column in _WITH_INTERVAL:
            cells[f"{column}_low"] = float("nan") if rate is None else float(rate["low"])
            cells[f"{column}_high"] = float("nan") if rate is None else float(rate["high"])
    steps = (value for name, value in result["seconds"].items() if "/" not in name)
    return {**cells, "found": _found(result), "seconds": float(sum(steps))}


def _found(result: Mapping[str, Any]) -> str:
    found = result["identification"]
    if found is None:
        return "-"
    verdict = {True: " (ok)", False: " (wrong)", None: ""}[found["correct"]]
    return f"{found['target_label']}{verdict}"


def with_means(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs in order, with a row of means below each group of several seeds."""
    parts = []
    for _, group in runs.groupby(_GROUP, sort=True):
        parts.append(group.sort_values("seed").astype({"seed": object}))
        if len(group) > 1:
            parts.append(pd.DataFrame([_mean(group)]))
    return pd.concat(parts, ignore_index=True)


def _mean(group: pd.DataFrame) -> dict[str, Any]:
    first = group.iloc[0]
    verdicts = group["found"]
    searched = int((verdicts != "-").sum())
    right = int(verdicts.str.endswith("(ok)").sum())
    return {
        **{column: first[column] for column in _GROUP},
        "seed": f"mean of {len(group)}",
        **{column: group[column].mean() for column in _SHARES},
        "found": f"{right} of {searched} ok" if searched else "-",
        "seconds": group["seconds"].mean(),
    }


def _readable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the cells as text, shares in percent."""
    text = pd.DataFrame({name: rows[name].astype(str) for name in [*_NAMES, "found"]})
    for column in _SHARES:
        text[column] = [_percent(value) for value in rows[column]]
    for column in _WITH_INTERVAL:
        bounds = zip(text[column], rows[f"{column}_low"], rows[f"{column}_high"], strict=True)
        text[column] = [
            value if pd.isna(low) else f"{value} [{_percent(low)}, {_percent(high)}]"
            for value, low, high in bounds
        ]
    text["seconds"] = [f"{value:.0f}" for value in rows["seconds"]]
    return text[list(_TITLES)].rename(columns=_TITLES)


def _percent(value: float) -> str:
    return percent(None if pd.isna(value) else value)


def _markdown(rows: pd.DataFrame) -> str:
    text = _readable(rows)
    lines = [list(text.columns), *text.to_numpy().tolist()]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(text.columns))]
    named = [title in (*_NAMES[:3], _TITLES["found"]) for title in text.columns]
    rule = ["-" * w if left else "-" * (w - 1) + ":" for w, left in zip(widths, named, strict=True)]
    aligned = [
        [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, named, strict=True)
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [aligned[0], rule, *aligned[1:]])


_LATEX = {"\\": r"\textbackslash{}", **{c: f"\\{c}" for c in "&%$#_{}"}}


def _latex(rows: pd.DataFrame) -> str:
    text = _readable(rows)
    lines = [list(text.columns), *text.to_numpy().tolist()]
    written = [
        " & ".join("".join(_LATEX.get(sign, sign) for sign in cell) for cell in line) + r" \\"
        for line in lines
    ]
    columns = "lll" + "r" * (len(text.columns) - 3)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            written[0],
            r"\midrule",
            *written[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _csv(rows: pd.DataFrame) -> str:
    return rows.to_csv(index=False, lineterminator="\n").rstrip("\n")


_FORMS: dict[str, Callable[[pd.DataFrame], str]] = {
    "md": _markdown,
    "csv": _csv,
    "latex": _latex,
}
