"""``invertune data check``: what the parts of a data set hold, and what in them cannot be used."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.utils import instantiate

from experiments.commands.sheets import draw_sheets
from experiments.composing import composed_data, searched_in
from experiments.errors import FAILURE, report
from experiments.terminal import printable, say
from invertune.contents import remembered
from invertune.data.bundle import PARTS, DataBundle
from invertune.data.composed import ComposedData, Parts
from invertune.data.prepared import UNUSABLE, Prepared, repeated

_NAMED = 5  # samples that are named of each part
_ALWAYS = ("listed", "usable")


def counted(found: Prepared) -> dict[str, int]:
    """Return how many samples of a part there are of each kind."""
    told = found.listing.captions or ()
    return {
        "listed": found.counts["listed"],
        "usable": len(found.listing),
        "unusable": len(found.unusable),
        "captions": sum(map(len, told)),
        "repeated": repeated(found.contents),
        **{kind: n for kind, n in found.counts.items() if kind not in ("listed", "broken")},
    }


def as_lines(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a table of counts, a line for each part; columns without any number are left out.

    Args:
        counts: Part -> kind -> number.
    """
    kinds = dict.fromkeys(kind for own in counts.values() for kind in own)
    shown = [k for k in kinds if k in _ALWAYS or any(own.get(k) for own in counts.values())]
    rows = [["", *shown], *([role, *(str(own.get(kind, "")) for kind in shown)]
                            for role, own in counts.items())]  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(shown) + 1)]
    return [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]  # fmt: skip


def _look(parts: Parts) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Return the counts of all parts, and a line for what cannot be used."""
    counts, lines = {}, []
    for role in PARTS:
        found = parts.prepared(role)
        counts[role] = counted(found)
        for name, why in list(found.unusable.items())[:_NAMED]:
            lines.append(f"{role}: {printable(name, 100)}: {printable(why, 120)}")
        left = len(found.unusable) - _NAMED
        if left > 0:
            lines.append(f"{role}: and {left} more, in {parts.folder(role) / UNUSABLE}")
    return counts, lines


def _drawn(data: DataBundle) -> dict[str, dict[str, int]]:
    """Return the counts of a world that is drawn, in which nothing is broken."""
    return {role: {"listed": len(data.ids(role)), "usable": len(data.ids(role))} for role in PARTS}


@remembered()
def check(overrides: Sequence[str], sheets: Path | None, count: int) -> int:
    """Read all parts, say what there is, and draw a contact sheet of each; 1 if parts overlap."""
    described = instantiate(composed_data(overrides), _convert_="all")
    lines: list[str] = []
    if isinstance(described, ComposedData):
        parts = described.parts()
        parts.again = True
        data = parts.bundle()
        counts, lines = _look(parts)
    else:
        data = described.load()
        counts = _drawn(data)
    classes = f"{len(data.class_names)} classes in {len(data.templates)} templates"
    say(f"{data.name}: {classes}, pictures of {data.image_size} pixels")
    for line in (*as_lines(counts), *lines):
        say(line)
    code = 0
    try:
        data.check_disjoint()
        say("no sample stands in two parts")
    except ValueError as error:
        report(error)
        code = FAILURE
    if sheets is not None:
        for path in draw_sheets(data, sheets, count):
            say(path)
    return code


def main(argv: Sequence[str]) -> int:
    """Check a data set; return 1 if its parts overlap."""
    parser = argparse.ArgumentParser(
        "invertune data",
        description="check: read every part of a data set, count what cannot be used and what is "
        "special, draw a contact sheet of each part, and say whether parts overlap. What is found "
        "out stays in data.cache, where a run finds it.",
    )
    parser.add_argument("action", choices=["check"])
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as data=cc3m")
    parser.add_argument("--config-dir", metavar="DIR", help="where a data/NAME.yaml of yours is")
    parser.add_argument("--sheets", type=Path, metavar="DIR", help="folder of the contact sheets")
    parser.add_argument("--count", type=int, default=24, help="pictures on a sheet (default: 24)")
    arguments = parser.parse_intermixed_args(list(argv))
    words = [*searched_in(arguments.config_dir), *arguments.overrides]
    return check(words, arguments.sheets, arguments.count)
