"""One run in a few lines: before and after, and which target was found."""

from __future__ import annotations

from experiments.results.content import Result
from experiments.results.measures import MEASURES, MODELS, percent, share
from experiments.terminal import printable


def before_and_after(result: Result) -> list[list[str]]:
    """Return the rows of the table, the title and one cell per model, in percent."""
    return [
        [title, *(percent(share(result, model, measure)) for model in MODELS)]
        for title, measure in MEASURES.items()
    ]


def target_line(result: Result) -> str:
    """Return which target the defense found, and whether it is the true one."""
    found, true = result["identification"], result["attack"]["target_label"]
    if found is None:
        return f"target: {true or 'none'}; the defense does not look for it"
    verdict = {True: "correct", False: f"wrong, it is {true}", None: "there is no backdoor"}
    alike = "".join(f", to the model the same as {name}" for name in found.get("alike", []))
    gain, second = found["gain"], found["runner_up_gain"]
    # A defense with a verdict says by how much a class leads, in margins of clean images.
    ahead = f"lead {gain:.2f}" if result.get("verdict") else f"gain {100 * gain:+.1f} points"
    after = f"{second:.2f}" if result.get("verdict") else f"{100 * second:+.1f}"
    return (
        f"target found: {found['target_label']}{alike} ({verdict[found['correct']]}), "
        f"{ahead}; next {found['runner_up']} {after}"
    )


def verdict_line(result: Result) -> str | None:
    """Return what the defense takes the model for; None if it does not ask."""
    verdict = result.get("verdict")
    if verdict is None:
        return None
    stays = verdict["kind"] == "clean" and _unchanged(result)
    doubt = f"; {verdict['doubt']}" if verdict.get("doubt") else ""
    left = "; the model is left as it is" if stays else ""
    return (
        f"verdict: {verdict['kind']} (p = {verdict['p']:.2g}; backdoored up to "
        f"{verdict['alarm']:g}, clean from {verdict['clear']:g} on){doubt}{left}"
    )


def detection_cell(result: Result) -> str | None:
    """Return what the detector says in a few words; None without one."""
    found = result.get("detection")
    if found is None:
        return None
    if found["of"] == "model":
        return f"{'flagged' if found['flagged'] else 'not flagged'} ({found['score']:.3f})"
    area = found["auroc"]
    return "no poisoned pair" if area is None else f"AUROC {percent(area['value'])}"


def detection_line(result: Result) -> str | None:
    """Return what the detector says, with what it goes by; None without one."""
    found = result.get("detection")
    if found is None:
        return None
    name = f"detector {found['name']}"
    if found["of"] == "model":
        word = "flagged as backdoored" if found["flagged"] else "not flagged"
        compared = f"score {found['score']:.4f}, threshold {found['threshold']:.4f}"
        return f"{name}: the model is {word} ({compared})"
    pairs = f"{found['poisoned']} of {found['pairs']} pairs are poisoned"
    area = found["auroc"]
    if area is None:
        return f"{name}: {pairs}, so there is nothing to tell apart"
    interval = f"[{percent(area['low'])}, {percent(area['high'])}]"
    return (
        f"{name}: AUROC {percent(area['value'])} {interval}, average precision "
        f"{percent(found['average_precision'])}, {percent(found['fpr_at_95_tpr'])} false alarms "
        f"where 95 % are found; {pairs}"
    )


def _unchanged(result: Result) -> bool:
    return result["scores"]["purified"] == result["scores"]["backdoored"]


def describe(result: Result) -> str:
    """Return the summary of a run as aligned lines."""
    model, attack, defense = (
        part["name"] for part in (result["model"], result["attack"], result["defense"])
    )
    rows = [["percent", *MODELS], *before_and_after(result)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"{model}, attack {attack}, defense {defense}, seed {result['seed']}"]
    for title, *cells in rows:
        aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([title.ljust(widths[0]), *aligned]))
    said = (target_line(result), verdict_line(result), detection_line(result))
    told = [line for line in said if line is not None]
    return "\n".join(map(printable, [*lines, *told]))
