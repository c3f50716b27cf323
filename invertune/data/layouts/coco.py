"""MSCOCO: images with five captions each, as Karpathy split them or as COCO's own files say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invertune.data.layouts.tables import is_caption
from invertune.data.listing import Listing, Place
from invertune.regular import parse_json, read_text

SPLIT = "test"
_LARGEST = 2**31  # bytes: dataset_coco.json has 144 MB, captions_train2014.json 67 MB


def list_captions(path: Path, folder: Path | None, split: str | None = None) -> Listing:
    """Return the captioned images of an annotation file.

    Args:
        path: ``dataset_coco.json`` of Karpathy and Li (2015), or one of COCO's
            ``captions_val2017.json``; its form says which.
        folder: Where the images are: with Karpathy's file the one that holds ``val2014``, or
            ``val2014`` itself; None for the file's own folder.
        split: Of Karpathy's file; None for its ``test``, 5,000 images of 2014.

    Raises:
        ValueError: If the file is something else, or has no such split.
    """
    try:
        content = parse_json(read_text(path, _LARGEST))
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    images = content.get("images")
    if not isinstance(images, list) or not all(isinstance(one, dict) for one in images):
        raise ValueError(f"{path} holds no list of images, as annotations of captions do")
    root = path.parent if folder is None else folder
    if "annotations" in content:
        if split is not None:
            raise ValueError(f"{path} has no splits, which Karpathy's file has; got split={split}")
        told = _annotated(path, images, content["annotations"])
    else:
        told = _split(path, images, split or SPLIT, root)
    captions = [[text.strip() for text in own if is_caption(text)] for own in told.values()]
    return Listing(list(told), [Place(name) for name in told], captions)


def _annotated(
    path: Path, images: Sequence[Mapping[str, Any]], annotations: Any
) -> dict[str, list[Any]]:
    """Return the captions by file names, of COCO's own form; in the order of the images."""
    names: dict[Any, str] = {}
    captions: dict[str, list[Any]] = {}
    for image in images:
        if "id" not in image or not isinstance(image.get("file_name"), str):
            raise ValueError(f"{path}: an image has an id and a file_name, got {image!r:.80}")
        names[image["id"]] = image["file_name"]
        captions[image["file_name"]] = []
    for one in annotations if isinstance(annotations, list) else [annotations]:
        if not isinstance(one, dict) or one.get("image_id") not in names or "caption" not in one:
            raise ValueError(
                f"{path}: an annotation has the image_id of an image and a caption, got {one!r:.80}"
            )
        captions[names[one["image_id"]]].append(one["caption"])
    return captions


def _split(
    path: Path, images: Sequence[Mapping[str, Any]], split: str, root: Path
) -> dict[str, list[Any]]:
    """Return the captions by file names, of Karpathy's form."""
    splits = sorted({str(image.get("split")) for image in images})
    if split not in splits:
        raise ValueError(f"{path}: split is one of {', '.join(splits)}, got {split!r}")
    captions = {}
    for image in images:
        if str(image.get("split")) != split:
            continue
        name, told = image.get("filename"), image.get("sentences")
        if not isinstance(name, str) or not isinstance(told, list):
            raise ValueError(f"{path}: an image has a filename and sentences, got {image!r:.80}")
        inner = image.get("filepath")
        if isinstance(inner, str) and inner and root.name != inner:
            name = f"{inner}/{name}"
        captions[name] = [one.get("raw") for one in told if isinstance(one, dict)]
    return captions
