"""One run in a few lines: before and after, and which target was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODELS = ("clean", "backdoored", "purified")
# Title -> where the rate stands in a score; also the key in W&B.
MEASURES = {
    "CA": "zero_shot/ca",
    "ASR": "zero_shot/asr",
    "target rate": "zero_shot/target_rate",
    "own class": "zero_shot/own_class",
    "R@1 image to text": "retrieval/image_to_text/r@1",
    "R@1 text to image": "retrieval/text_to_image/r@1",
    "retrieval ASR@1": "retrieval/asr/r@1",
}


def lookup(tree: Any, path: str) -> Any:
    """Return what stands at ``a/b/c``, or None where the way ends early."""
    for key in path.split("/"):
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def share(result: Mapping[str, Any], model: str, measure: str) -> float | None:
    """Return one measured share, in [0, 1]."""
    value = lookup(result["scores"][model], f"{measure}/value")
    return None if value is None else float(value)


def total_seconds(result: Mapping[str, Any]) -> float:
    """Return the time of all stages, without their steps, which are parts of them."""
    return float(sum(value for name, value in result["seconds"].items() if "/" not in name))


def percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}"


def before_and_after(result: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of the table, the title and one cell per model, in percent."""
    return [
        [title, *(percent(share(result, model, measure)) for model in MODELS)]
        for title, measure in MEASURES.items()
    ]


def target_line(result: Mapping[str, Any]) -> str:
    """Return which target the defense found, and whether it is the true one."""
    found, true = result["identification"], result["attack"]["target_label"]
    if found is None:
        return f"target: {true or 'none'}; the defense does not look for it"
    verdict = {True: "correct", False: f"wrong, it is {true}", None: "there is no backdoor"}
    return (
        f"target found: {found['target_label']} ({verdict[found['correct']]}), "
        f"gain {100 * found['gain']:+.1f} points; "
        f"next {found['runner_up']} {100 * found['runner_up_gain']:+.1f}"
    )


def describe(result: Mapping[str, Any]) -> str:
    """Return the summary of a run as aligned lines."""
    model, attack, defense = (result[key]["name"] for key in ("model", "attack", "defense"))
    rows = [["percent", *MODELS], *before_and_after(result)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"{model}, attack {attack}, defense {defense}, seed {result['seed']}"]
    for title, *cells in rows:
        aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([title.ljust(widths[0]), *aligned]))
    return "\n".join([*lines, target_line(result)])
