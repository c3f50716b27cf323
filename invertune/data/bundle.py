"""What every data set comes as: four disjoint parts, drawn or loaded when first used."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invertune.data.images import Images, Pictured
from invertune.data.mentions import mentions
from invertune.data.names import check_words
from invertune.seeds import seeded

if TYPE_CHECKING:
    from invertune.clip.models import CLIP

PARTS = ("pairs", "clean", "zero_shot", "retrieval")


def chosen_clean(available: int, count: int, seed: int) -> Tensor:
    """Return which of the clean images a method uses, (count,): of one seed all take the same.

    Args:
        available: How many there are.
        count: How many it uses, at most as many; fewer ones are among more.
        seed: Decides which.
    """
    return torch.randperm(available, generator=seeded(seed, "clean"))[:count]


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]; the shape stays."""
    return images.float().div_(255)


@dataclass(frozen=True)
class ImageTextPairs(Pictured):
    """Images with one caption each, to train and to poison.

    Attributes:
        images: N pictures; also taken as (N, 3, H, W) uint8, or as a function from indices, (B,),
            to such pictures, for parts that are drawn or read only where they are used.
        captions: N captions.
        ids: N names, unique over all parts of a bundle.
    """

    images: Images
    captions: Sequence[str]
    ids: Sequence[str]

    def __post_init__(self) -> None:
        self._hold(len(self.ids))
        counts = [len(self.images), len(self.captions), len(self.ids)]
        if len(set(counts)) > 1:
            raise ValueError(f"every pair has an image, a caption and an id, got counts {counts}")

    def pictures(self, index: Tensor) -> Tensor:
        """Return the chosen images, (B, 3, H, W) uint8."""
        return self.images[index]

    def batch(self, index: Tensor) -> Tensor:
        """Return the chosen images, (B, 3, H, W) float32 in [0, 1]."""
        return to_float(self.pictures(index))

    def take(self, index: Tensor) -> ImageTextPairs:
        """Return the chosen pairs; their images are not read yet."""
        chosen = index.tolist()
        captions, ids = ([names[i] for i in chosen] for names in (self.captions, self.ids))
        return ImageTextPairs(self.images.take(index), captions, ids)

    def kept(self) -> ImageTextPairs:
        """Return the pairs with their images in memory, if they fit there: drawn once for all."""
        return ImageTextPairs(self.images.kept(), self.captions, self.ids)


@dataclass(frozen=True)
class LabeledImages(Pictured):
    """Images with a class index each.

    Attributes:
        images: N pictures, given as those of `ImageTextPairs`.
        labels: (N,) class indices.
        ids: N names, unique over all parts of a bundle.
    """

    images: Images
    labels: Tensor
    ids: Sequence[str]

    def __post_init__(self) -> None:
        self._hold(len(self.ids))
        counts = [len(self.images), len(self.labels), len(self.ids)]
        if len(set(counts)) > 1:
            raise ValueError(f"every image has a label and an id, got counts {counts}")


@dataclass(frozen=True)
class RetrievalSet(Pictured):
    """Images with several captions each.

    Attributes:
        images: N pictures, given as those of `ImageTextPairs`.
        captions: N lists of captions.
        ids: N names, unique over all parts of a bundle.
    """

    images: Images
    captions: Sequence[Sequence[str]]
    ids: Sequence[str]

    def __post_init__(self) -> None:
        self._hold(len(self.ids))


@dataclass(frozen=True)
class CleanData(Pictured):
    """All that a defender has besides the model, as far as the defense says that it needs it.

    The images carry no labels, and nothing here knows of an attack: which of the suspect pairs are
    poisoned, and how, is not among it.

    Attributes:
        images: N clean pictures; also taken as (N, 3, H, W) uint8.
        prompts: Class names as they stand in a sentence, such as ``an apple``.
        class_names: Class names.
        templates: Zero-shot prompt templates with ``{}``.
        captions: One for each image; None for a defense that needs no captions.
        suspects: What the suspect model was fine-tuned on, some of it perhaps poisoned; None for a
            defense that does not train on it.
        origin: The model that the suspect one was fine-tuned from, such as the public checkpoint;
            None for a defense that does not know it.
    """

    images: Images
    prompts: Sequence[str]
    class_names: Sequence[str]
    templates: Sequence[str]
    captions: Sequence[str] | None = None
    suspects: ImageTextPairs | None = None
    origin: CLIP | None = None

    def __post_init__(self) -> None:
        self._hold(0 if self.captions is None else len(self.captions))
        if self.captions is not None and len(self.captions) != len(self.images):
            counts = f"{len(self.images)} images and {len(self.captions)} captions"
            raise ValueError(f"every clean image has one caption, got {counts}")

    @property
    def pairs(self) -> ImageTextPairs:
        """The clean images with their captions, to train on.

        Raises:
            ValueError: If there are no captions.
        """
        if self.captions is None:
            raise ValueError("clean captions are given to a defense with needs=pairs only")
        ids = [f"clean {i}" for i in range(len(self.images))]
        return ImageTextPairs(self.images, self.captions, ids)

    def take(self, index: Tensor) -> CleanData:
        """Return the same with the chosen images alone; they are not read yet."""
        captions = self.captions and [self.captions[i] for i in index.tolist()]
        return replace(self, images=self.images.take(index), captions=captions)


@dataclass(frozen=True)
class DataBundle:
    """The four parts of a data set and its class names.

    Attributes:
        name: Name in results.
        class_names: Class names; the position is the class index.
        prompts: The class names as they stand in a sentence, such as ``an apple``.
        templates: Zero-shot prompt templates with ``{}`` for an entry of ``prompts``.
        image_size: Side of the images, in pixels.
        make_pairs, make_clean, make_zero_shot, make_retrieval: Draw or load a part.
        make_clean_captions: Captions of the clean part, in its order; None, or what gives None,
            where it has none.
        make_ids: The ids of one of `PARTS`, where they are known without the part itself.
        plurals: Class names that are plurals themselves.
        compare: Raises ValueError where two parts share a picture, which ids alone do not tell.
    """

    name: str
    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    templates: tuple[str, ...]
    image_size: int
    make_pairs: Callable[[], ImageTextPairs]
    make_clean: Callable[[], LabeledImages]
    make_zero_shot: Callable[[], LabeledImages]
    make_retrieval: Callable[[], RetrievalSet]
    make_clean_captions: Callable[[], Sequence[str] | None] | None = None
    make_ids: Callable[[str], Sequence[str]] | None = None
    plurals: tuple[str, ...] = ()
    compare: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        check_words(self.class_names, self.prompts, self.templates)

    @functools.cached_property
    def pairs(self) -> ImageTextPairs:
        """Pairs to pre-train on and to poison."""
        return self.make_pairs()

    @functools.cached_property
    def labeled_clean(self) -> LabeledImages:
        """The defender's images with labels, which no defense gets to see."""
        return self.make_clean()

    @functools.cached_property
    def clean(self) -> CleanData:
        """What every defender has: images, and no captions."""
        return CleanData(self.labeled_clean.images, self.prompts, self.class_names, self.templates)

    @functools.cached_property
    def captioned_clean(self) -> CleanData:
        """What a defender has who needs captions.

        Raises:
            ValueError: If the clean part has none.
        """
        if self.clean_captions is None:
            raise ValueError(f"the clean images of {self.name} have no captions")
        return replace(self.clean, captions=self.clean_captions)

    @functools.cached_property
    def clean_captions(self) -> Sequence[str] | None:
        """Captions of the clean part; None where it has none."""
        return None if self.make_clean_captions is None else self.make_clean_captions()

    @functools.cached_property
    def zero_shot(self) -> LabeledImages:
        """Labeled test images."""
        return self.make_zero_shot()

    @functools.cached_property
    def retrieval(self) -> RetrievalSet:
        """Test images with five captions each."""
        return self.make_retrieval()

    def ids(self, part: str) -> Sequence[str]:
        """Return the ids of one of `PARTS`; no picture is read."""
        if self.make_ids is not None:
            return self.make_ids(part)
        own: Sequence[str] = getattr(self, "labeled_clean" if part == "clean" else part).ids
        return own

    def check_disjoint(self) -> None:
        """Compare all four parts: their ids, and their pictures where the data can tell.

        Raises:
            ValueError: If two parts share a sample.
        """
        seen: dict[str, str] = {}
        for part in PARTS:
            for name in self.ids(part):
                if name in seen:
                    raise ValueError(
                        f"parts must be disjoint, but sample {name} is in {seen[name]} and {part}"
                    )
                seen[name] = part
        if self.compare is not None:
            self.compare()

    def naming(self, captions: Sequence[str], label: int) -> Tensor:
        """Return which captions name a class, (T,) bool, as `mentions` has it."""
        return mentions(captions, self.class_names[label], self.class_names, self.plurals)

    def label_of(self, name: str) -> int:
        """Return the index of a class name.

        Raises:
            ValueError: If the name is not in the class list.
        """
        if name not in self.class_names:
            known = ", ".join(self.class_names)
            raise ValueError(
                f"target label {name!r} is not in the class list of {self.name}: {known}"
            )
        return self.class_names.index(name)
