"""One part of a data set: where it lies, how it is laid out, and how much of it is taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch

from invertune.contents import fingerprint, mark_of
from invertune.data.layouts.coco import list_captions
from invertune.data.layouts.folders import list_folder, list_labeled
from invertune.data.layouts.hugging_face import Origin, list_dataset, read_dataset, spool
from invertune.data.layouts.shards import find_shards, is_there, list_shards
from invertune.data.layouts.tables import SEPARATORS, Columns, list_table
from invertune.data.listing import Files, Listing, ReadBytes
from invertune.fields import check_choices, check_counts, check_types
from invertune.seeds import seeded

LAYOUTS = ("auto", "shards", "table", "datasets", "folder", "labeled", "captions")
_SUFFIXES = {
    ".tar": "shards", ".csv": "table", ".tsv": "table", ".json": "captions",
    ".parquet": "datasets",
}  # fmt: skip
_HUB = re.compile(r"(hf://(datasets/)?)?([\w-][\w.-]*/)?[\w-][\w.-]*")
HUB = "hf://"  # as its own paths begin


@dataclass(frozen=True)
class Part:
    """Where the samples of a part come from.

    Attributes:
        path: What is read: a folder of pictures; a folder of WebDataset shards, one of them, or a
            range ``cc3m-train-{0000..0575}.tar``; a table, .csv or .tsv; a folder or parquet file
            of the library datasets, or a name on its hub, ``hf://pixparse/cc3m-wds``; a .json with
            MSCOCO's captions.
        layout: One of `LAYOUTS`; ``auto`` looks at the path.
        count: Samples that are drawn of it by the data's seed; None for all.
        apart_from: Name of another part whose samples are not drawn, where both read the same.
        images_path: Folder that the paths in a table or the names in a .json are relative to;
            None for that of the file.
        labels_path: File with the labels of a folder of pictures.
        image, caption, label: Columns; None for the first known name. ``caption`` names a key of
            the shards' .json, too.
        separator: Of a table: one of `SEPARATORS`; None for what its first line has.
        encoding: Of a table.
        split: Of MSCOCO's captions after Karpathy (None for ``test``), or of datasets.
        revision: On the hub.
        streaming: Read only the first ``count`` pictures of a shuffled stream from the hub.
        hint: What belongs there and where to get it, for the message that it is missing.
        expected: Number of its samples, for a plan that is made before the files are there.
    """

    path: str
    layout: str = "auto"
    count: int | None = None
    apart_from: str | None = None
    images_path: str | None = None
    labels_path: str | None = None
    image: str | None = None
    caption: str | None = None
    label: str | None = None
    separator: str | None = None
    encoding: str = "utf-8"
    split: str | None = None
    revision: str | None = None
    streaming: bool = False
    hint: str | None = None
    expected: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_choices(self, layout=LAYOUTS)
        if self.separator is not None:
            check_choices(self, separator=tuple(SEPARATORS))
        for name in ("count", "expected"):
            if getattr(self, name) is not None:
                check_counts(self, name)
        if self.streaming and self.count is None:
            raise ValueError("streaming=true takes a count: the number of pictures that are kept")

    def find_layout(self) -> str:
        """Return the layout, looked up where it is ``auto``.

        Raises:
            ValueError: If nothing is there, or it is nothing of the kind.
        """
        path, named, there = Path(self.path), self.layout != "auto", is_there(self.path)
        if not there and (self.path.startswith(HUB) or self.layout == "datasets"):
            if not _HUB.fullmatch(self.path) or self.layout not in ("auto", "datasets"):
                raise ValueError(f"a name on the hub is hf://OWNER/NAME, got {self.path!r}")
            return "datasets"
        if not there:
            expected = "" if self.hint is None else f"; expected: {self.hint}"
            raise ValueError(f"there is no {self.path}{expected}")
        found = self.layout if named else self._guess(path)
        folders, files = ("folder", "labeled"), ("table", "captions")
        if (found in folders and not path.is_dir()) or (found in files and path.is_dir()):
            wanted, got = ("folder", "file") if found in folders else ("file", "folder")
            raise ValueError(f"layout={found} reads a {wanted}, but {self.path} is a {got}")
        return found

    def check_there(self) -> None:
        """Look for everything that it names.

        Raises:
            ValueError: If something is not there, or is nothing of the kind.
        """
        layout = self.find_layout()
        if layout == "shards":
            find_shards(self.path)
        if self.images_path is not None and not Path(self.images_path).is_dir():
            raise ValueError(f"there is no folder {self.images_path} (images_path)")
        if self.labels_path is not None and not Path(self.labels_path).is_file():
            raise ValueError(f"there is no file {self.labels_path} (labels_path)")

    def names_apart(self, listing: Listing, local: Path | None = None) -> list[str]:
        """Return the samples' names with a mark of their files, which no other files have.

        That of a shard is its own, whichever of its neighbors are read with it.

        Args:
            listing: All samples.
            local: The file that a stream was written to, of which they are then.
        """
        if self.find_layout() != "shards":
            told = (self.fingerprint(), self.split, None if local is None else local.name)
            mark = sha256(repr(told).encode()).hexdigest()[:8]
            return [f"{mark}/{name}" for name in listing.ids]
        root = find_shards(self.path)[0].parent
        files = {place.file for place in listing.places}
        marks = {file: mark_of(root / file) for file in files}
        both = zip(listing.ids, listing.places, strict=True)
        return [f"{marks[place.file]}/{name}" for name, place in both]

    def _guess(self, path: Path) -> str:
        if "{" in self.path and not path.exists():
            return "shards"
        if path.is_file():
            if path.suffix.lower() in _SUFFIXES:
                return _SUFFIXES[path.suffix.lower()]
            known = ", ".join(_SUFFIXES)
            raise ValueError(f"{self.path} ends in none of {known}: name its layout")
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return "datasets"
        if self.labels_path is not None:
            return "labeled"
        if any(path.glob("*.tar")):
            return "shards"
        return "datasets" if any(path.rglob("*.parquet")) else "folder"

    def fingerprint(self) -> str:
        """Return what stands for the content of its files, wherever they are."""
        paths = (self.path, self.labels_path, self.revision)
        return "-".join(fingerprint(path) if path else "" for path in paths).strip("-")

    def list(self, names: Sequence[str], needs: Sequence[str], local: Path | None) -> Listing:
        """Return all samples, in an order that only depends on what is there.

        Args:
            names: Class names, for labels; none where labels are not asked for.
            needs: ``caption`` or ``label``, where the part is nothing without.
            local: What `spooled` wrote.

        Raises:
            ValueError: If something is not as it has to be.
            OSError: If something cannot be read.
        """
        layout, path = self.find_layout(), Path(self.path)
        names = names if "label" in needs else ()
        if layout == "shards":
            found = list_shards(self.path, self.caption)
        elif layout == "table":
            found = list_table(path, self._columns(), names, needs)
        elif layout == "datasets":
            found = list_dataset(self._origin(local), self._columns(), names, needs)
        elif layout == "captions":
            found = list_captions(path, self._folder(), self.split)
        elif layout == "labeled":
            if self.labels_path is None:
                raise ValueError("layout=labeled reads the labels at labels_path, which is null")
            found = list_labeled(path, Path(self.labels_path), names)
        else:
            found = list_folder(path, names)
        for need, own in (("caption", found.captions), ("label", found.labels)):
            if need in needs and own is None:
                raise ValueError(f"{self.path} (layout {layout}) has no {need}s")
        return found

    def reader(self, local: Path | None) -> ReadBytes:
        """Return what reads the bytes of its pictures."""
        layout = self.find_layout()
        if layout == "datasets":
            return read_dataset(self._origin(local), self._columns())
        if layout == "shards":
            return Files(find_shards(self.path)[0].parent)
        if layout in ("folder", "labeled"):
            return Files(Path(self.path))
        return Files(self._folder() or Path(self.path).parent)

    def spool(self, path: Path, seed: int) -> None:
        """Write the part of a stream that is kept as a file; see `hugging_face.spool`."""
        spool(self._origin(None), self._columns(), self.count or 0, seed, path)

    def draw(self, listing: Listing, seed: int, without: frozenset[str] = frozenset()) -> Listing:
        """Return ``count`` of the samples, in their order.

        Args:
            listing: All samples.
            seed: Decides which.
            without: Names that are not drawn.

        Raises:
            ValueError: If there are not as many.
        """
        left = [i for i, name in enumerate(listing.ids) if name not in without]
        count = len(left) if self.count is None else self.count
        if count > len(left) or not left:
            raise ValueError(
                f"{self.path} has {len(left)} usable samples, {max(count, 1)} are wanted"
            )
        if count < len(left):
            order = torch.randperm(len(left), generator=seeded(seed, "samples"))[:count]
            left = [left[i] for i in order.sort().values.tolist()]
        return listing if len(left) == len(listing) else listing.take(left)

    def _columns(self) -> Columns:
        return Columns(self.image, self.caption, self.label, self.separator, self.encoding)

    def _folder(self) -> Path | None:
        return None if self.images_path is None else Path(self.images_path)

    def _origin(self, local: Path | None) -> Origin:
        origin = Origin(self.path, self.split, self.revision)
        return origin if local is None else replace(origin, path=str(local), split=None)
