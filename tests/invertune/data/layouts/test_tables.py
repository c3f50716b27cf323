"""Tables of pairs, as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from invertune.data.layouts.tables import Columns, list_table
from invertune.data.listing import Files, Place


def write(folder: Path, text: str, name: str = "pairs.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text(text, encoding=encoding, newline="")
    return path


def test_captions_in_quotes_hold_commas_and_line_breaks(tmp_path: Path) -> None:
    path = write(tmp_path, 'filepath,title\na.jpg,"a cat, asleep\non a ""mat"""\nb/c.png,a dog\n')
    found = list_table(path, Columns())
    assert list(found.ids) == ["a.jpg", "b/c.png"]
    assert found.captions == [['a cat, asleep\non a "mat"'], ["a dog"]]
    assert found.places[1] == Place("b/c.png")


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("image\tcaption\na.jpg\tone, two\n", Columns()),
        ("image;caption\na.jpg;one, two\n", Columns(separator="semicolon")),
        ('n,pic,said\n1,a.jpg,"one, two"\n', Columns(image="pic", caption="said")),
        ('\ufeffimage,caption\r\na.jpg,"one, two"\r\n', Columns()),
    ],
)
def test_separators_columns_and_marks(tmp_path: Path, text: str, columns: Columns) -> None:
    found = list_table(write(tmp_path, text), columns)
    assert (list(found.ids), found.captions) == (["a.jpg"], [["one, two"]])


def test_rows_of_one_picture_are_one_sample(tmp_path: Path) -> None:
    path = write(tmp_path, "image,caption\na.jpg,one\nb.jpg,two\na.jpg,three\n")
    found = list_table(path, Columns())
    assert (list(found.ids), found.captions) == (["a.jpg", "b.jpg"], [["one", "three"], ["two"]])


def test_captions_that_say_nothing_are_none(tmp_path: Path) -> None:
    path = write(tmp_path, "image,caption\na.jpg,\nb.jpg,NaN\nc.jpg,  \nd.jpg,a nan\n,lost\n")
    found = list_table(path, Columns())
    assert found.captions == [[], [], [], ["a nan"]]
    assert found.refused == {"line 6": "no path of a picture"}


def test_labels_are_names_indices_or_one_kind_only(tmp_path: Path) -> None:
    names, needs = ("cat", "dog"), ("label",)
    by_name = write(tmp_path, "image,label\na.jpg,dog\nb.jpg,cat\n")
    by_index = write(tmp_path, "image,label\na.jpg,1\nb.jpg,0\n", "two.csv")
    for path in (by_name, by_index):
        assert list_table(path, Columns(), names, needs).labels == [1, 0]
    mixed = write(tmp_path, "image,label\na.jpg,1\nb.jpg,0\nc.jpg,cat\n", "three.csv")
    with pytest.raises(ValueError, match=r"all of one kind; got 'cat'"):
        list_table(mixed, Columns(), names, needs)
    twice = write(tmp_path, "image,label\na.jpg,dog\na.jpg,cat\n", "four.csv")
    with pytest.raises(ValueError, match=r"line 3: a.jpg had the label 'dog'"):
        list_table(twice, Columns(), names, needs)


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        ("url,alt\na.jpg,x\n", Columns(), "has the columns url, alt, but no image or filepath"),
        ("image,alt\na.jpg,x\n", Columns(), "no caption or title or text"),
        ("image,caption\na.jpg,x\n", Columns(caption="title"), "but no title: name the caption"),
        ("image,caption\na.jpg,x\nb.jpg,y,z\n", Columns(), "line 3: a row has 2 fields"),
        ("image,caption\na.jpg\n", Columns(), "line 2: a row has 2 fields .*, got 1"),
        ('image,caption\na.jpg,"x\n', Columns(), "unexpected end of data"),
        ("", Columns(), "is empty; its first line names the columns"),
        ("image,caption\na.jpg,x\n", Columns(encoding="klingon"), "encoding is one that Python"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, columns: Columns, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        list_table(write(tmp_path, text), columns, needs=("caption",))
    assert "\n" not in str(caught.value)


def test_another_encoding_is_said_and_read(tmp_path: Path) -> None:
    path = write(tmp_path, "image,caption\na.jpg,café\n", encoding="latin-1")
    with pytest.raises(ValueError, match=r"is not in utf-8: set another encoding, such as latin-1"):
        list_table(path, Columns())
    assert list_table(path, Columns(encoding="latin-1")).captions == [["café"]]


def test_files_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    read = Files(tmp_path)
    assert read(Place("a")) == b"0123456789"
    assert read(Place("a", 2, 3)) == b"234"
    assert read(Place("a", 5, 5)) == b"56789"  # the same descriptor
    with pytest.raises(ValueError, match="ends early"):
        read(Place("a", 8, 5))
    with pytest.raises(OSError, match="No such file"):
        read(Place("b"))
