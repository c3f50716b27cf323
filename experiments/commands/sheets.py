"""``invertune sheets``: contact sheets of the data set's parts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from experiments.composing import composed
from experiments.figures.sheets import contact_sheet
from experiments.files import replacing
from experiments.terminal import say
from invertune.data.bundle import DataBundle, LabeledImages


def draw_sheets(data: DataBundle, folder: Path, count: int, columns: int = 6) -> list[Path]:
    """Write ``pairs.png``, ``clean.png``, ``zero_shot.png`` and ``retrieval.png``.

    Args:
        data: Whose parts are shown.
        folder: Made if it does not exist.
        count: Pictures on a sheet, from all over the part, and all there are if fewer.
        columns: Pictures in a row.

    Raises:
        ValueError: If ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f"count is a number of pictures, at least 1, got {count}")
    told = ["\n".join(own) for own in data.retrieval.captions]
    clean = _labels(data, data.labeled_clean)
    if data.labeled_clean.labels.lt(0).all():  # none that is known
        clean = list(data.clean_captions or clean)
    parts: dict[str, tuple[Callable[[Tensor], Tensor], Sequence[str]]] = {
        "pairs": (data.pairs.pictures, data.pairs.captions),
        "clean": (data.labeled_clean.images.__getitem__, clean),
        "zero_shot": (data.zero_shot.images.__getitem__, _labels(data, data.zero_shot)),
        "retrieval": (data.retrieval.images.__getitem__, told),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (pictures, labels) in parts.items():
        shown = torch.arange(min(count, len(labels))) * len(labels) // min(count, len(labels))
        pixels = pictures(shown).permute(0, 2, 3, 1).numpy()
        sheet = contact_sheet(pixels, [labels[i] for i in shown.tolist()], columns)
        paths.append(_save(sheet, folder / f"{name}.png"))
    return paths


def _labels(data: DataBundle, images: LabeledImages) -> list[str]:
    return [data.class_names[label] if label >= 0 else "" for label in images.labels.tolist()]


def load_data(name: str, overrides: Sequence[str], count: int) -> DataBundle:
    """Return the data set of ``conf/data/<name>.yaml`` with parts hardly larger than ``count``.

    Only a config that says the sizes of its parts is limited, and a size that is given among the
    overrides stays. A smaller part is drawn alike, but is not the beginning of the larger one.
    """
    config = composed([f"data={name}", "defense=none", *overrides])
    data: Any = OmegaConf.to_container(config.data, resolve=True)
    enough = max(count, len(data.get("classes") or []), 1)  # so that any class can come first
    given = {override.split("=")[0].lstrip("+") for override in overrides}
    for part, size in (data.get("sizes") or {}).items():
        if f"data.sizes.{part}" not in given:
            data["sizes"][part] = min(size, enough)
    loaded: DataBundle = instantiate(data, _convert_="all").load()
    return loaded


def _save(sheet: Image.Image, path: Path) -> Path:
    with replacing(path) as partial:
        sheet.save(partial, format="PNG")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the sheets and print their paths."""
    parser = argparse.ArgumentParser(
        prog="invertune sheets",
        description="Draw one contact sheet per part of a data set: pictures with their labels.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the sheets")
    parser.add_argument("--data", default="icons", help="name in conf/data (default: icons)")
    parser.add_argument("--count", type=int, default=24, help="pictures on a sheet (default: 24)")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as data.seed=1")
    arguments = parser.parse_intermixed_args(argv)
    data = load_data(arguments.data, arguments.overrides, arguments.count)
    for path in draw_sheets(data, arguments.out, arguments.count):
        say(path)
    return 0
