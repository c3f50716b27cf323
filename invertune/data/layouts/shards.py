"""WebDataset shards: tar files in which the files of a sample stand together under one name."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext

from invertune.data.listing import Listing, Place
from invertune.progress import progress
from invertune.regular import require_regular

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
_TEXTS, _FACTS, _LABELS = ("txt", "caption", "text"), "json", ("cls", "label")
_LONGEST = 2**20  # bytes of a caption's file
_BLOCK = 512  # bytes; a tar file ends with two that are zero


@dataclass
class _Sample:
    """The files of one sample, as far as they are known."""

    name: str
    place: Place | None = None
    caption: str | None = None
    label: int | None = None


def find_shards(path: str) -> list[Path]:
    """Return the tar files that a path means: one, those of a folder, or ``{0000..0331}``.

    Raises:
        ValueError: If there is none, or one of a range is missing.
    """
    folder = Path(path)
    if folder.is_dir():
        found = sorted(folder.glob("*.tar"))
        if not found:
            raise ValueError(f"{path} holds no .tar file")
        return found
    found = [Path(name) for name in expand_range(path)] or [folder]
    missing = [str(shard) for shard in found if not shard.is_file()]
    if missing:
        raise ValueError(f"{len(missing)} of {len(found)} shards are missing, first {missing[0]}")
    return found


def expand_range(path: str) -> list[str]:
    """Return what a path with a range in braces means; none of another path."""
    return list(expand_urls(path)) if "{" in path else []


def is_there(path: str) -> bool:
    """Return whether anything is at a path, or at one that a range means."""
    return any(Path(one).exists() for one in (path, *expand_range(path)))


def list_shards(path: str, caption: str | None = None) -> Listing:
    """Return the samples of shards, in their order.

    Args:
        path: As `find_shards` takes it.
        caption: Key of the caption in a sample's .json; None for its .txt, or ``caption`` there.

    Raises:
        ValueError: If there are no shards, or no samples in them.
    """
    shards = find_shards(path)
    root = shards[0].parent
    samples, refused = [], {}
    for shard in progress(shards, "list shards"):
        require_regular(shard)
        name = shard.relative_to(root).as_posix() if shard.is_relative_to(root) else str(shard)
        end = _Ending()
        for sample in _samples(shard, name, caption, end):
            if sample.place is None:
                refused[sample.name] = "no picture beside its other files"
            else:
                samples.append(sample)
        if end.why:
            refused[name] = f"the shard ends early ({end.why})"
    if not samples:
        early = f"; {next(iter(refused))}: {next(iter(refused.values()))}" if refused else ""
        raise ValueError(f"{path} holds no picture in {len(shards)} shards{early}")
    captions = [[own.caption] if own.caption else [] for own in samples]
    labels = [own.label for own in samples if own.label is not None]
    return Listing(
        [own.name for own in samples],
        [own.place for own in samples if own.place],
        captions if any(captions) else None,
        labels if len(labels) == len(samples) else None,
        refused,
    )


@dataclass
class _Ending:
    """How a shard ended; empty where it ended as it should."""

    why: str = ""


def _samples(shard: Path, name: str, caption: str | None, end: _Ending) -> Iterator[_Sample]:
    """Yield the samples of a shard; neighbors with one name are one sample."""
    current: _Sample | None = None
    size = shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                key, suffix = base_plus_ext(member.name)
                if not member.isreg() or key is None:
                    continue
                if member.offset_data + member.size > size:
                    end.why = f"within {member.name}"
                    break
                own = f"{name}/{key}"
                if current is None or current.name != own:
                    if current is not None:
                        yield current
                    current = _Sample(own)
                _add(current, suffix.lower(), member, archive, name, caption)
            if not end.why and archive.offset + _BLOCK > size:
                end.why = "without the mark of its end"
    except (tarfile.TarError, EOFError) as error:
        end.why = f"{error}"
    if current is not None:
        yield current


def _add(
    sample: _Sample, suffix: str, member: tarfile.TarInfo, archive: tarfile.TarFile, shard: str,
    caption: str | None,
) -> None:  # fmt: skip
    """Add what one file says to a sample."""
    if suffix in PICTURES:
        sample.place = Place(shard, member.offset_data, member.size)
    elif member.size > _LONGEST:
        return
    elif suffix in _TEXTS and caption is None:
        sample.caption = _text(archive, member)
    elif suffix in _LABELS:
        text = _text(archive, member)
        sample.label = int(text) if text.isdecimal() else None
    elif suffix == _FACTS and (caption is not None or sample.caption is None):
        try:
            facts = json.loads(_text(archive, member))
        except (ValueError, RecursionError):
            return
        found = facts.get(caption or "caption") if isinstance(facts, dict) else None
        if isinstance(found, str):
            sample.caption = found.strip()


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    handle = archive.extractfile(member)
    return "" if handle is None else handle.read().decode("utf-8", "replace").strip()
