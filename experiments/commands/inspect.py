"""What a CLIP checkpoint from elsewhere is: ``invertune inspect CHECKPOINT``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.files import sha256
from experiments.terminal import printable, say

if TYPE_CHECKING:
    from invertune.clip.checkpoints import Checkpoint

_WIDTH = 14


def describe(checkpoint: Checkpoint) -> str:
    """Return the checkpoint in words, a line for each property."""
    from invertune.clip.checkpoints import undecided

    config = checkpoint.architecture
    sizes = {key: config[key] for key in ("vision_cfg", "text_cfg")}
    known = f"{checkpoint.open_clip_name}, as open_clip has it" if checkpoint.open_clip_name else ""
    side = config["vision_cfg"]["image_size"]
    taken = checkpoint.activation
    activation = f"{taken.name}: {taken.because}" if taken.decided else undecided(checkpoint)
    pixels = checkpoint.preprocessing
    rows = [
        ("checkpoint", checkpoint.kind),
        ("architecture", known or json.dumps(sizes)),
        ("image size", f"{side} x {side} pixels"),
        ("embedding", f"{config['embed_dim']} wide"),
        ("activation", activation),
        ("pixels", f"mean {_list(pixels.mean)}, standard deviation {_list(pixels.std)}"),
        ("resizing", f"{pixels.resize_mode}, {pixels.interpolation}"),
        ("parameters", f"{checkpoint.parameter_count:,}"),
        *(("SHA-256", f"{sha256(path)}  {path.name}") for path in checkpoint.files),
        *(("note", note) for note in checkpoint.notes),
    ]
    return "\n".join(f"{name:{_WIDTH}}{printable(value)}" for name, value in rows)


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def main(argv: Sequence[str]) -> int:
    """Print what a checkpoint is."""
    parser = argparse.ArgumentParser(
        "invertune inspect",
        description="Say what a CLIP checkpoint is, without running anything that it brings along. "
        "Its content decides, not its suffix: OpenAI's TorchScript archives, training checkpoints "
        "of open_clip and of CleanCLIP and its descendants, state dicts, safetensors, and folders "
        "of Hugging Face.",
    )
    parser.add_argument("checkpoint", type=Path, help="a file, or a Hugging Face CLIP folder")
    parser.add_argument(
        "--activation", choices=("gelu", "quickgelu"),
        help="what the activation is, where you know better than the files",
    )  # fmt: skip
    arguments = parser.parse_args(list(argv))
    from invertune.clip.checkpoints import read_checkpoint

    quick_gelu = None if arguments.activation is None else arguments.activation == "quickgelu"
    say(describe(read_checkpoint(arguments.checkpoint, quick_gelu)))
    return 0
