"""``invertune verify``: a bundle's numbers, measured again."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.bundles.verify import verify
from experiments.stages.parts import DEVICES, choose_device
from experiments.stages.system import versions
from experiments.terminal import say

log = logging.getLogger(__name__)


def _measured_on(name: str) -> str:
    import torch

    from invertune.clip.encode import precision

    device = torch.device(choose_device(name))
    return f"on {device} in {str(precision(device)).removeprefix('torch.')}"


def _other_versions(card: Mapping[str, Any]) -> str:
    here = versions()
    return ", ".join(
        f"{name} {made} (here {here[name]})"
        for name, made in card["versions"].items()
        if name in here and here[name] != made
    )


def main(argv: Sequence[str]) -> int:
    """Measure, print what was claimed and what was found, and return 1 if they differ."""
    parser = argparse.ArgumentParser(
        "invertune verify",
        description="Check the files of a checkpoint bundle, build its model, trigger and data "
        "from its card alone, measure CA and ASR again, and compare them with what the card says. "
        "The exit code is 0 if every rate is the same to the last bit, and 1 if not.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    parser.add_argument("overrides", nargs="*", help="your data where the card's are files that "
                        "lie elsewhere, such as data=cc3m data.zero_shot.path=...")  # fmt: skip
    parser.add_argument("--device", choices=DEVICES, default="auto", help="default: %(default)s")
    arguments = parser.parse_intermixed_args(list(argv))
    own = None
    if arguments.overrides:
        from experiments.composing import composed_data  # Hydra

        own = composed_data(arguments.overrides)
    found = verify(arguments.bundle, arguments.device, own)
    say(found)
    if found.different:
        log.warning("measured here %s; elsewhere numbers round otherwise",
                    _measured_on(arguments.device))  # fmt: skip
        others = _other_versions(found.card)
        if others:
            log.warning("the card was made with %s", others)
    return 1 if found.different else 0
