from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.composing import as_texts, composed

Inside = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("runs_dir=2024", "runs_dir='2024'"),
        ("runs_dir=1_1", "runs_dir='1_1'"),
        ("++model.name=1e3", "++model.name='1e3'"),
        ("attack.target_label=7", "attack.target_label='7'"),
        ("attack.target_label=7,true,lemon", "attack.target_label='7','true',lemon"),
        ("tracking.group=true", "tracking.group='true'"),
        ("runs_dir='2024'", "runs_dir='2024'"),
        ("runs_dir='1,2'", "runs_dir='1,2'"),
        ("runs_dir=a/b", "runs_dir=a/b"),
        ("runs_dir=null", "runs_dir=null"),
        ("name=[1,2,3]", "name=[1,2,3]"),
        ("seed=0,1", "seed=0,1"),
        ("data.sizes.pairs=7", "data.sizes.pairs=7"),
        ("-m", "-m"),
    ],
)
def test_numbers_are_texts_where_names_are_meant(word: str, text: str) -> None:
    assert as_texts([word]) == [text]


def test_names_reach_the_config_as_texts() -> None:
    config = composed(["runs_dir=1_1", "model.name=2024", "seed=3"])
    assert (config.runs_dir, config.model.name, config.seed) == ("1_1", "2024", 3)


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], list[str]]:
    """Write ``data/mine.yaml`` into a folder of one's own; return the words that choose it."""

    def written(text: str) -> list[str]:
        (tmp_path / "conf" / "data").mkdir(parents=True)
        (tmp_path / "conf" / "data" / "mine.yaml").write_text(text)
        return [f"hydra.searchpath=[file://{tmp_path}/conf]", "data=mine"]

    return written


TWICE = "defaults: [icons]\nclasses:\n  lemon: lemon\n  key: key\n  lemon: skull\n"


def test_a_file_that_has_changed_is_read_anew(
    own: Callable[[str], list[str]], tmp_path: Path
) -> None:
    words = own("name: first\n")
    config = composed(words)
    config.data.name = "changed here"
    assert composed(words).data.name == "first"
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("name: another\n")
    assert composed(words).data.name == "another"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWICE, "line 5: 'lemon' stands there twice, in line 3 too"),
        ("defaults: [icons]\n\tclasses: {}\n", "line 2: found character '\\t'"),
        ("defaults: [icons]\nname: ${nope\n", "line 2: '${nope' is no interpolation"),
        ("- icons\n", "line 1: a config maps keys to values, got ['icons']"),
        ("icons\n", "line 1: a config maps keys to values, got 'icons'"),
    ],
)
def test_a_mistake_in_ones_own_file_is_one_line(
    inside: Inside, own: Callable[[str], list[str]], tiny_words: list[str], tmp_path: Path,
    text: str, said: str,
) -> None:  # fmt: skip
    code, shown, complaint = inside(*tiny_words, *own(text))
    assert (code, shown) == (1, "")
    (line,) = complaint.splitlines()
    assert line.startswith(f"error: {tmp_path}/conf/data/mine.yaml, {said}")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", [["sheets", "out", "--data", "mine"], ["benchmark"]])
def test_every_command_that_composes_says_it(
    inside: Inside, own: Callable[[str], list[str]], command: list[str]
) -> None:
    searched, choice = own(TWICE)
    words = [searched] if "--data" in command else [searched, choice]
    code, _, complaint = inside(*command, *words)
    assert code == 1
    assert complaint.count("\n") == 1
    assert "mine.yaml, line 5: 'lemon' stands there twice" in complaint


def test_files_in_a_folder_that_is_named_on_the_command_line(
    inside: Inside, own: Callable[[str], list[str]], tmp_path: Path
) -> None:
    own(TWICE)
    code, _, complaint = inside("run", "--config-dir", str(tmp_path / "conf"), "data=mine")
    assert code == 1
    assert complaint.startswith(f"error: {tmp_path}/conf/data/mine.yaml, line 5: 'lemon' stands")
    assert complaint.count("\n") == 1
