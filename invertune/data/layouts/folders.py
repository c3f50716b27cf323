"""Folders of pictures: one a class, or all in one with their labels in a file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from invertune.contents import files_below
from invertune.data.labels import to_labels
from invertune.data.layouts.shards import PICTURES
from invertune.data.listing import Listing, Place
from invertune.regular import read_text

log = logging.getLogger(__name__)

_LARGEST = 2**30  # bytes of a file of labels


def list_folder(path: Path, names: Sequence[str] = ()) -> Listing:
    """Return all pictures below a folder, sorted by their paths.

    Args:
        path: Of the folder.
        names: C class names: the folders in it are named like the classes, their synsets or their
            indices; none where labels are not asked for.

    Raises:
        ValueError: If there is no picture, or a folder is of no class.
    """
    found = sorted(_pictures(path))
    if not found:
        raise ValueError(f"{path} holds no picture ({', '.join(PICTURES)})")
    labels = None
    if names:
        loose = next((name for name in found if "/" not in name), None)
        if loose is not None:
            raise ValueError(
                f"{path}: labeled pictures lie in a folder for each class, or a file says their "
                f"labels (labels_path); {loose} lies in none"
            )
        labels = to_labels([name.split("/")[0] for name in found], names, f"folders in {path}")
    return Listing(found, [Place(name) for name in found], labels=labels)


def list_labeled(path: Path, labels: Path, names: Sequence[str]) -> Listing:
    """Return the pictures of a folder whose labels stand in a file.

    Args:
        path: Of the folder.
        labels: A line for each picture: its name and its label with a blank, a comma or a tab
            between; or the label alone, in the order of the pictures' names.
        names: C class names.

    Raises:
        ValueError: If a line is something else, or there are other pictures than labels.
    """
    lines = [line.strip() for line in read_text(labels, _LARGEST).splitlines() if line.strip()]
    split = [line.replace(",", "\t").split(None, 1) for line in lines]
    if not any(len(fields) > 1 and _is_picture(fields[0]) for fields in split):
        there = sorted(_pictures(path))
        if len(there) != len(lines):
            raise ValueError(
                f"{labels} has {len(lines)} labels for {len(there)} pictures in {path}: give one "
                "a picture, or lines with a name and a label"
            )
        split = [list(both) for both in zip(there, lines, strict=True)]
    for number, fields in enumerate(split, 1):
        if len(fields) != 2 or not _is_picture(fields[0]):
            raise ValueError(
                f"{labels}, line {number}: a name and a label, got {lines[number - 1]!r}"
            )
    ids = [name for name, _ in split]
    told = {os.path.normpath(name).replace(os.sep, "/") for name in ids}
    untold = sorted({*_pictures(path)} - told)
    if untold:
        log.warning("%s has no line for %d pictures in %s, first %s: they are left out",
                    labels, len(untold), path, untold[0])  # fmt: skip
    if len({*ids}) != len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise ValueError(f"{labels}: a picture has one line, got {twice} twice")
    found = to_labels([label.strip() for _, label in split], names, f"{labels}")
    return Listing(ids, [Place(name) for name in ids], labels=found)


def _is_picture(name: str) -> bool:
    return name.rpartition(".")[2].lower() in PICTURES


def _pictures(path: Path) -> Iterator[str]:
    """Yield the paths of all pictures below a folder, relative to it, with slashes.

    Raises:
        ValueError: If a name is no text in UTF-8.
    """
    for name, _ in files_below(path):
        if _is_picture(name):
            if not _is_text(name):
                raise ValueError(f"{path}: a name is text in UTF-8, got {os.fsencode(name)!r}")
            yield name


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
