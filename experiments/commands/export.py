"""``invertune export``: a model of a run as one folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments.bundles.export import MODELS, write_bundle
from experiments.terminal import say


def main(argv: Sequence[str]) -> int:
    """Write the bundle and print its folder."""
    parser = argparse.ArgumentParser(
        "invertune export",
        description="Write a model of a run as a checkpoint bundle, one folder: the weights, the "
        "trigger's files, and card.json, which says what the model is, what is planted in it and "
        "what was measured. invertune verify measures it again.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder to write")
    parser.add_argument("--model", choices=MODELS, default=MODELS[0], help="default: %(default)s")
    arguments = parser.parse_args(list(argv))
    say(write_bundle(arguments.run, arguments.bundle, arguments.model))
    return 0
