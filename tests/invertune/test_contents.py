"""Content has a name that its place does not change."""

from __future__ import annotations

from pathlib import Path

from invertune.contents import fingerprint, remembered


def fill(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_another_place_is_the_same_and_another_content_is_not(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", a="x", b__c="yy")
    two = fill(tmp_path / "two", a="x", b__c="yy", **{".hidden": "z"})
    assert fingerprint(str(one)) == fingerprint(str(two))
    assert fingerprint(str(one / "a")) == fingerprint(str(two / "a"))
    fill(two, b__c="yyy")
    assert fingerprint(str(one)) != fingerprint(str(two))
    fill(two, a="y")  # as long as before: of a file the bytes count
    assert fingerprint(str(one / "a")) != fingerprint(str(two / "a"))


def test_nothing_is_read_twice_where_it_is_remembered(tmp_path: Path) -> None:
    path = str(fill(tmp_path, a="x") / "a")
    before = fingerprint(path)
    with remembered():
        assert fingerprint(path) == before
        fill(tmp_path, a="y")
        with remembered():  # as in a run of a sweep
            assert fingerprint(path) == before
        assert fingerprint(path) == before
    assert fingerprint(path) != before


def test_a_range_is_its_files_and_its_text(tmp_path: Path) -> None:
    fill(tmp_path, **{f"p-{i}.tar": "x" * i for i in range(3)})
    whole, part = (fingerprint(str(tmp_path / f"p-{{{n}}}.tar")) for n in ("0..2", "0..1"))
    assert whole != part
    fill(tmp_path, **{"p-2.tar": "longer"})
    assert fingerprint(str(tmp_path / "p-{0..2}.tar")) != whole


def test_what_is_not_there_stands_for_itself() -> None:
    assert fingerprint("hf://owner/name") == fingerprint("hf://owner/name")
    assert fingerprint("hf://owner/name") != fingerprint("hf://owner/other")
