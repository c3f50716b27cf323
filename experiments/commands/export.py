"""``invertune export``: a model of a run as one folder, or a data set as files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments.bundles.export import MODELS, write_bundle
from experiments.terminal import say


def main(argv: Sequence[str]) -> int:
    """Write what is asked for, and print where it is."""
    if "--to" in argv or any(word.startswith(("data=", "data.", "--to=")) for word in argv):
        return _export_data(argv)
    parser = argparse.ArgumentParser(
        "invertune export",
        description="Write a model of a run as a checkpoint bundle, one folder: the weights, the "
        "trigger's files, and card.json, which says what the model is, what is planted in it and "
        "what was measured. invertune verify measures it again. With data=... --to DIR a data set "
        "is written as files instead: invertune export data=icons --to DIR.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder to write")
    parser.add_argument("--model", choices=MODELS, default=MODELS[0], help="default: %(default)s")
    arguments = parser.parse_args(list(argv))
    say(write_bundle(arguments.run, arguments.bundle, arguments.model))
    return 0


def _export_data(argv: Sequence[str]) -> int:
    from experiments.exporting import LAYOUTS, export_data

    parser = argparse.ArgumentParser(
        "invertune export",
        description="Write the four parts of a data set as files, in each layout that data=files "
        "reads, and a config for each: invertune run --config-dir DIR/conf data=table",
    )
    parser.add_argument("overrides", nargs="*", help="data=icons, and other overrides")
    parser.add_argument("--to", type=Path, metavar="DIR", required=True, help="a new folder")
    parser.add_argument("--format", choices=("png", "jpeg"), default="png",
                        help="png (default) changes no pixel, jpeg is of quality 95")  # fmt: skip
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS),
                        help="default: all")  # fmt: skip
    parser.add_argument("--shard", type=int, default=10_000, help="samples a shard (%(default)s)")
    found = parser.parse_intermixed_args(list(argv))
    for path in export_data(found.overrides, found.to, found.layouts, found.format, found.shard):
        say(path)
    return 0
