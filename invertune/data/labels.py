"""Labels as data sets write them: indices, class names, or ImageNet's synsets."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

IMAGENET = 1000
_SYNSET = re.compile(r"n\d{8}")


def to_labels(texts: Sequence[str], names: Sequence[str], where: str) -> list[int]:
    """Return the class indices that labels mean, all of them in the same way.

    Args:
        texts: N labels: indices that count from 0, class names, or synsets such as ``n01440764``.
        names: C class names.
        where: They stand, in messages.

    Raises:
        ValueError: If one means no class; says which, and what there is.
    """
    place = {name: index for index, name in enumerate(names)}
    kinds: tuple[tuple[Callable[[str], object], Callable[[str], int]], ...] = (
        (str.isdecimal, lambda text: _index(text, names, where)),
        (place.__contains__, place.__getitem__),
        (_SYNSET.fullmatch, lambda text: _synset(text, names, where)),
    )
    distinct = list(dict.fromkeys(texts))
    for fits, find in kinds:
        if all(fits(text) for text in distinct):
            found = {text: find(text) for text in distinct}
            return [found[text] for text in texts]
    # Of a mixture, the one that is not what most of it is.
    most = max((fits for fits, _ in kinds), key=lambda fits: sum(map(bool, map(fits, distinct))))
    wrong = next(text for text in distinct if not most(text))
    raise ValueError(
        f"{where}: a label is an index below {len(names)}, a class name ({', '.join(names[:2])}, "
        f"...) or a synset of ImageNet, all of one kind; got {wrong!r:.80}"
    )


def _index(text: str, names: Sequence[str], where: str) -> int:
    if int(text) < len(names):
        return int(text)
    raise ValueError(
        f"{where}: a label is an index from 0 to {len(names) - 1}, in the order of the class "
        f"list, got {text} (the ground truth of ImageNet's development kit counts from 1, in an "
        "order of its own: give synsets)"
    )


def _synset(text: str, names: Sequence[str], where: str) -> int:
    order = _synsets()
    if len(names) == IMAGENET and text in order:
        return order[text]
    raise ValueError(
        f"{where}: synsets are labels where the classes are ImageNet's {IMAGENET}, got {text} and "
        f"{len(names)} classes"
    )


@functools.cache
def _synsets() -> dict[str, int]:
    """Return the place of each synset: sorted, as the class names of CLIP's authors are."""
    from timm.data import ImageNetInfo  # type: ignore[attr-defined]  # seconds

    names = ImageNetInfo("imagenet-1k").label_names()  # type: ignore[no-untyped-call]
    return {synset: place for place, synset in enumerate(names)}
