"""Labels in each of their forms."""

from __future__ import annotations

import pytest

from invertune.data.labels import to_labels

NAMES = ("cat", "dog", "7")


def test_indices_names_and_synsets() -> None:
    assert to_labels(["0", "2", "0"], NAMES, "x") == [0, 2, 0]
    assert to_labels(["dog", "7", "cat"], NAMES, "x") == [1, 2, 0]
    thousand = [f"class {i}" for i in range(1000)]
    assert to_labels(["n15075141", "n01440764"], thousand, "x") == [999, 0]
    assert to_labels([], NAMES, "x") == []


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["0", "3"], "x: a label is an index from 0 to 2, .*, got 3"),
        (["cat", "dog", "bird"], "got 'bird'"),
        (["n01440764"], "where the classes are ImageNet's 1000"),
        (["cat", "dog", "1"], "all of one kind; got '1'"),
    ],
)
def test_what_means_no_class(texts: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        to_labels(texts, NAMES, "x")


def test_a_synset_that_imagenet_has_not() -> None:
    with pytest.raises(ValueError, match="n99999999"):
        to_labels(["n99999999"], [f"class {i}" for i in range(1000)], "x")
