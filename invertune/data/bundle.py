"""What every data set comes as: four disjoint parts, drawn or loaded when first used."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]; the shape stays."""
    return images.float().div_(255)


@dataclass(frozen=True)
class ImageTextPairs:
    """Images with one caption each, to train and to poison.

    Attributes:
        images: (N, 3, H, W) uint8, or a function from indices, (B,), to such images, for parts
            that are drawn or read only where they are used.
        captions: N captions.
        ids: N names, unique over all parts of a bundle.
    """

    images: Tensor | Callable[[Tensor], Tensor]
    captions: Sequence[str]
    ids: Sequence[str]

    def __post_init__(self) -> None:
        counts = [len(self.captions), len(self.ids)]
        if isinstance(self.images, Tensor):
            counts.append(len(self.images))
        if len(set(counts)) > 1:
            raise ValueError(f"every pair has an image, a caption and an id, got counts {counts}")

    def __len__(self) -> int:
        return len(self.captions)

    def pictures(self, index: Tensor) -> Tensor:
        """Return the chosen images, (B, 3, H, W) uint8."""
        return self.images[index] if isinstance(self.images, Tensor) else self.images(index)

    def batch(self, index: Tensor) -> Tensor:
        """Return the chosen images, (B, 3, H, W) float32 in [0, 1]."""
        return to_float(self.pictures(index))

    def take(self, index: Tensor) -> ImageTextPairs:
        """Return the chosen pairs, with their images in memory."""
        chosen = index.tolist()
        return ImageTextPairs(
            self.pictures(index), [self.captions[i] for i in chosen], [self.ids[i] for i in chosen]
        )


@dataclass(frozen=True)
class LabeledImages:
    """Images with a class index each.

    Attributes:
        images: (N, 3, H, W) uint8.
        labels: (N,) class indices.
        ids: N names, unique over all parts of a bundle.
    """

    images: Tensor
    labels: Tensor
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class RetrievalSet:
    """Images with several captions each.

    Attributes:
        images: (N, 3, H, W) uint8.
        captions: N lists of captions.
        ids: N names, unique over all parts of a bundle.
    """

    images: Tensor
    captions: Sequence[Sequence[str]]
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class CleanData:
    """All that a defender has besides the model: clean images and a list of class names.

    The images carry no labels, and nothing here knows of an attack.

    Attributes:
        images: (N, 3, H, W) uint8.
        prompts: Class names as they stand in a sentence, such as ``an apple``.
        class_names: Class names.
        templates: Zero-shot prompt templates with ``{}``.
    """

    images: Tensor
    prompts: Sequence[str]
    class_names: Sequence[str]
    templates: Sequence[str]


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
        """What the defender has."""
        return CleanData(self.labeled_clean.images, self.prompts, self.class_names, self.templates)

    @functools.cached_property
    def zero_shot(self) -> LabeledImages:
        """Labeled test images."""
        return self.make_zero_shot()

    @functools.cached_property
    def retrieval(self) -> RetrievalSet:
        """Test images with five captions each."""
        return self.make_retrieval()

    def check_disjoint(self) -> None:
        """Compare the ids of all four parts.

        Raises:
            ValueError: If two parts share a sample.
        """
        seen: dict[str, str] = {}
        for part in ("pairs", "labeled_clean", "zero_shot", "retrieval"):
            for name in getattr(self, part).ids:
                if name in seen:
                    raise ValueError(
                        f"parts must be disjoint, but sample {name} is in {seen[name]} and {part}"
                    )
                seen[name] = part

    def label_of(self, name: str) -> int:
        """Return the index of a class name.

        Raises:
            ValueError: If the name is not in the class list.
        """
        if name not in self.class_names:
            raise ValueError(
                f"target label {name!r} is not in the class list of {self.name}: "
                + ", ".join(self.class_names)
            )
        return self.class_names.index(name)
