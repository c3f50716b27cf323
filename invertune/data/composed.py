"""A data set composed of files: pairs, clean images, labeled images and captioned images."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from invertune.data import drawn as files
from invertune.data.bundle import (
    PARTS,
    DataBundle,
    ImageTextPairs,
    LabeledImages,
    RetrievalSet,
)
from invertune.data.classes import Classes
from invertune.data.listing import Listing
from invertune.data.part import Part
from invertune.data.pictures import Fitting
from invertune.data.prepared import Prepared, Preparing, shared
from invertune.fields import check_choices, check_counts, check_is, check_shares, check_types

log = logging.getLogger(__name__)

OVERLAPS = ("refuse", "drop")
# A sample that stands in two parts is dropped from the later one.
_ORDER = ("zero_shot", "retrieval", "clean", "pairs")
_NEEDS = {"pairs": ("caption",), "clean": (), "zero_shot": ("label",), "retrieval": ("caption",)}
_VERSION = 2  # of what is kept in the cache


@dataclass(frozen=True)
class ComposedData:
    """The data bundle of parts that lie in files, each with a path of its own.

    Attributes:
        name: Name in results.
        image_size: Side of the pictures, in pixels.
        classes: Names and templates.
        pairs: Images with a caption each, to train and to poison; of several the first one counts.
        clean: The defender's images; captions where they have some.
        zero_shot: Labeled test images.
        retrieval: Test images with several captions each.
        seed: Decides which samples are drawn.
        cache: Folder for what is known of each part, and for its pixels.
        keep: Whether pixels are kept, so that no epoch decodes anything again.
        workers: Threads that decode; None for as many as there are cores.
        broken_limit: Share of a part that may be unusable: pictures that are none, no captions.
        overlap: What becomes of a picture that stands in two parts: ``refuse``, or ``drop`` it from
            the later of zero_shot, retrieval, clean, pairs.
        resize_mode, interpolation: How a picture gets its size (`Fitting`).
        targets: Class names that an attack's target is drawn from where it has none.
    """

    name: str
    image_size: int
    classes: Classes
    pairs: Part
    clean: Part
    zero_shot: Part
    retrieval: Part
    cache: str
    seed: int = 0
    keep: bool = True
    workers: int | None = None
    broken_limit: float = 0.05
    overlap: str = "refuse"
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"
    targets: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_types(self)
        check_counts(self, "image_size")
        check_is(self, "classes", Classes)
        for role in PARTS:
            check_is(self, role, Part)
        for role in PARTS:
            self._check_apart_from(role)
        check_shares(self, "broken_limit", zero=True, one=True)
        check_choices(self, overlap=OVERLAPS)
        if self.workers is not None:
            check_counts(self, "workers")
        _ = self.fitting

    def _check_there(self) -> None:
        """Look for the files of all parts, so that a message names all that are missing.

        Raises:
            ValueError: If there is no such file, or it is no layout.
        """
        wrong = []
        for role in PARTS:
            try:
                getattr(self, role).check_there()
            except ValueError as error:
                wrong.append(f"data.{role}: {error}")
        if wrong:
            raise ValueError("; ".join(wrong))

    def _check_apart_from(self, role: str) -> None:
        """Look where the parts lead that a part is drawn apart from: never back to itself."""
        others, named = [one for one in PARTS if one != role], getattr(self, role).apart_from
        for _ in PARTS:
            if named is None:
                return
            if named not in others:
                raise ValueError(
                    f"{role}.apart_from is one of {', '.join(others)}, and none that is drawn "
                    f"apart from {role}; got {named!r}"
                )
            named = getattr(self, named).apart_from

    @property
    def fitting(self) -> Fitting:
        """How a picture gets its size."""
        return Fitting(self.image_size, self.resize_mode, self.interpolation)

    def load(self) -> DataBundle:
        """Return the bundle; each part is read when it is first used.

        Raises:
            ValueError: If the class list is none.
            OSError: If it cannot be read.
        """
        return self.parts().bundle()

    def outline(self) -> DataBundle:
        """Return the bundle whether its files are there or not, to read its classes only.

        Raises:
            ValueError: If the class list is none.
            OSError: If it cannot be read.
        """
        return Parts(self, *self.classes.load()).bundle()

    def count(self, role: str) -> int:
        """Return how many samples of a part are drawn; no picture is opened.

        Raises:
            ValueError: If something is not as it has to be.
            OSError: If something cannot be read.
        """
        return len(self.parts().drawn(role))

    def parts(self) -> Parts:
        """Return the parts, none of them read yet.

        Raises:
            ValueError: If files are missing, or the class list is none.
            OSError: If it cannot be read.
        """
        self._check_there()
        return Parts(self, *self.classes.load())


class Parts:
    """The parts of a `ComposedData`, each listed, drawn and looked at when it is first used.

    Attributes:
        data: Says where they lie.
        class_names, prompts, templates: Of its classes.
        again: Whether pictures that could not be read are tried again.
    """

    def __init__(
        self,
        data: ComposedData,
        class_names: tuple[str, ...],
        prompts: tuple[str, ...],
        templates: tuple[str, ...],
    ) -> None:
        self.data, self.class_names = data, class_names
        self.prompts, self.templates = prompts, templates
        self.again = False
        self._listed: dict[str, Listing] = {}
        self._prepared: dict[str, Prepared] = {}

    def bundle(self) -> DataBundle:
        """Return the parts as every data set comes."""
        return DataBundle(
            name=self.data.name,
            class_names=self.class_names,
            prompts=self.prompts,
            templates=self.templates,
            image_size=self.data.image_size,
            make_pairs=self.pairs,
            make_clean=lambda: self.labeled("clean"),
            make_zero_shot=lambda: self.labeled("zero_shot"),
            make_retrieval=self.retrieval,
            make_clean_captions=self.clean_captions,
            make_ids=lambda role: self.prepared(role).listing.ids,
            plurals=tuple(self.data.classes.plurals),
            compare=self.check_apart,
        )

    def pairs(self) -> ImageTextPairs:
        """Return the pairs."""
        found = self.prepared("pairs")
        told = found.listing.captions or ()
        return ImageTextPairs(found.images, [own[0] for own in told], found.listing.ids)

    def labeled(self, role: str) -> LabeledImages:
        """Return a part as labeled images; labels are -1 where there are none."""
        found = self.prepared(role)
        labels = found.listing.labels
        told = torch.full((len(found.listing),), -1) if labels is None else torch.tensor(labels)
        return LabeledImages(found.images, told, found.listing.ids)

    def retrieval(self) -> RetrievalSet:
        """Return the captioned images."""
        found = self.prepared("retrieval")
        return RetrievalSet(found.images, found.listing.captions or (), found.listing.ids)

    def clean_captions(self) -> list[str] | None:
        """Return a caption of each clean image; None if there are none."""
        told = self.prepared("clean").listing.captions
        return None if told is None or not all(told) else [own[0] for own in told]

    def prepared(self, role: str) -> Prepared:
        """Return the usable samples of a part; those of earlier parts dropped where that is said.

        Raises:
            ValueError: If something is not as it has to be.
            OSError: If something cannot be read or written.
        """
        if role not in self._prepared:
            found = self._look(role)
            earlier = _ORDER[: _ORDER.index(role)] if self.data.overlap == "drop" else ()
            for other in earlier:
                twice = {j for _, j in shared(self.prepared(other), found)}
                if twice:
                    log.warning("%d of %s are in %s too, and dropped", len(twice), role, other)
                    kept = [i for i in range(len(found.listing)) if i not in twice]
                    found = found.take(np.array(kept, dtype=np.int64))
            if len(found.listing) == 0:
                raise ValueError(f"{role}: no usable sample is left")
            self._prepared[role] = found
        return self._prepared[role]

    def check_apart(self) -> None:
        """Compare all parts by names and pixels.

        Raises:
            ValueError: If two parts share a sample.
        """
        for place, role in enumerate(_ORDER):
            for other in _ORDER[:place]:
                first, second = self.prepared(other), self.prepared(role)
                found = list(shared(first, second))
                if found:
                    i, j = found[0]
                    raise ValueError(
                        f"parts must be disjoint, but {len(found)} pictures of {role} are in "
                        f"{other} too, first {second.listing.ids[j]} ({first.listing.ids[i]}): "
                        "take other files, or set data.overlap=drop"
                    )

    def folder(self, role: str) -> Path:
        """Return where what is known of a part stays."""
        told = [*self._key(role), asdict(self.data.fitting)]
        return Path(self.data.cache) / f"{role}-{_digest(told)}"

    def _look(self, role: str) -> Prepared:
        part, data = getattr(self.data, role), self.data
        how = Preparing(self.folder(role), data.fitting, data.keep, data.broken_limit, data.workers,
                        self.again)  # fmt: skip
        return how(f"data.{role}", self.drawn(role), part.reader(self._spooled(role)))

    def drawn(self, role: str) -> Listing:
        """Return the samples of a part that are drawn, by names that no other files have."""
        if role not in self._listed:
            path = Path(self.data.cache) / f"{role}-{_digest(self._key(role))}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                if not path.is_file():
                    with _blamed(role):
                        files.save(self._draw(role), path)
                self._listed[role] = files.load(path)
        return self._listed[role]

    def _draw(self, role: str) -> Listing:
        """List a part and draw of it; what has no caption is refused where one is needed."""
        part: Part = getattr(self.data, role)
        local = self._spooled(role)
        found = part.list(self.class_names, _NEEDS[role], local)
        found = replace(found, ids=part.names_apart(found, local))
        if "caption" in _NEEDS[role]:
            found = _captioned(found)
        if found.labels is not None and "label" in _NEEDS[role]:
            _warn_of_empty(self.class_names, found.labels, role)
        found = replace(found, total=found.offered)
        without = frozenset(self.drawn(part.apart_from).ids if part.apart_from else ())
        return part.draw(found, self.data.seed, without)

    def _spooled(self, role: str) -> Path | None:
        """Return the file that a stream was written to; written now if it is not there."""
        part: Part = getattr(self.data, role)
        if not part.streaming:
            return None
        path = Path(self.data.cache) / f"stream-{_digest(self._key(role))}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.is_file():
                part.spool(path, self.data.seed)
        return path

    def _key(self, role: str) -> list[object]:
        """Return all that decides a part but where its files are."""
        part: Part = getattr(self.data, role)
        paths = ("path", "images_path", "labels_path", "hint", "expected")
        options = {k: v for k, v in asdict(part).items() if k not in paths}
        names = self.class_names if "label" in _NEEDS[role] else ()
        apart = [] if part.apart_from is None else self._key(part.apart_from)
        return [_VERSION, role, part.fingerprint(), options, self.data.seed, names, apart]


@contextlib.contextmanager
def _blamed(role: str) -> Iterator[None]:
    """Say of an error which part it is about."""
    try:
        yield
    except ValueError as error:
        if f"{error}".startswith("data."):
            raise
        raise ValueError(f"data.{role}: {error}") from error


def _warn_of_empty(names: Sequence[str], labels: Sequence[int], role: str) -> None:
    """Say which classes no sample has: a class list of other classes may fit all the same."""
    there = set(labels)
    empty = [name for label, name in enumerate(names) if label not in there]
    if empty:
        log.warning(
            "%d of %d classes have no sample in %s, first %s: is the class list that of its "
            "labels?", len(empty), len(names), role, ", ".join(empty[:3]),
        )  # fmt: skip


def _captioned(listing: Listing) -> Listing:
    told = listing.captions or ()
    empty = {i for i, own in enumerate(told) if not own}
    if not empty:
        return listing
    refused = {listing.ids[i]: "no caption" for i in empty}
    kept = listing.take([i for i in range(len(listing)) if i not in empty])
    return replace(kept, refused=listing.refused | refused)


def _digest(told: object) -> str:
    return sha256(repr(told).encode()).hexdigest()[:16]
