from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from experiments.yamls import read_yaml

# Lists, each of nine times the one before: half a kilobyte that stands for millions of texts.
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 8)
)
MISTAKES = [
    ("classes:\n  lemon: a\n  key: b\n  lemon: c\n", 4, "'lemon' stands there twice, in line 2"),
    ("classes:\n  lemon: a\n  'lemon': c\n", 3, "'lemon' stands there twice, in line 2"),
    ("classes:\n  7: a\n  7: c\n", 3, "'7' stands there twice, in line 2"),
    ("name: x\n\tclasses: {}\n", 2, "cannot start any token"),
    ("name: [a, b\n", 2, "expected ',' or ']'"),
    ("classes:\n  lemon: a\n   key: b\n", 3, "mapping values are not allowed"),
    ("name: *nope\n", 1, "undefined alias"),
    ("name: x\n---\nname: y\n", 2, "another document"),
    ("\nname: !!python/object/apply:os.getcwd []\n", 2, "plain values, lists and mappings"),
    ("a: !!set {b, c}\n", 1, "plain values, lists and mappings"),
    ("a: 1\n[b, c]: d\n", 2, "a key is a text, got a list or a mapping"),
    ("a: 1\nnull: d\n", 2, "a key is a text, got 'null'"),
    ("a: 1\ndefaults: icons\n", 2, "defaults is a list of choices, got 'icons'"),
    ("a: 1\nb: \x07\n", 2, "special characters are not allowed"),
    ("a: 1\nb: &x [*x]\n", 2, "an alias stands inside what it stands for"),
    ("a: &x {b: {c: *x}}\n", 1, "an alias stands inside what it stands for"),
    ("a: &x {<<: *x}\n", 1, "an alias stands inside what it stands for"),
    (BOMB, 6, "its aliases stand for more than 100,000 values"),
]


@pytest.mark.parametrize("loader", [None, yaml.SafeLoader], ids=["fast", "plain"])
@pytest.mark.parametrize(("text", "line", "said"), MISTAKES)
def test_a_mistake_is_said_with_file_and_line(
    tmp_path: Path, text: str, line: int, said: str, loader: type | None
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="mine") as raised:
        read_yaml(path, loader)
    shown = str(raised.value)
    assert shown.startswith(f"{path}, line ")
    assert "\n" not in shown
    if loader is not None:  # the other parser has words and lines of its own
        assert shown.startswith(f"{path}, line {line}: ")
        assert said in shown


def test_other_encodings_are_said(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"a: 1\nname: caf\xe9\n")
    with pytest.raises(ValueError, match=r"mine\.yaml, line 2: it is no text in UTF-8"):
        read_yaml(tmp_path / "mine.yaml")


def test_deep_nesting_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: " + "[" * 3000 + "]" * 3000)
    with pytest.raises(ValueError, match=r"mine\.yaml: it is nested too deep"):
        read_yaml(tmp_path / "mine.yaml", yaml.SafeLoader)


def test_a_name_is_a_text_whatever_it_looks_like(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: 1_1\nruns_dir: 007\nseed: 7\nx: {target_label: yes, group: null}\n")
    assert read_yaml(path) == {
        "name": "1_1", "runs_dir": "007", "seed": 7, "x": {"target_label": "yes", "group": None},
    }  # fmt: skip


def test_anchors_and_merges_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: [*a, *a]\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 2}, "c": [{"x": 1}, {"x": 1}]}
    path.write_text("")
    assert read_yaml(path) is None
