"""README and docs: links lead somewhere, and every command is one that composes."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate

from experiments import cli
from experiments.config import CONF

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _commands(page: Path) -> list[list[str]]:
    """Return the words after ``invertune`` of every command of a page, in blocks and in lines."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`(invertune [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    lines = [line for block in blocks for line in block.splitlines()] + spans
    parts = [part for line in lines for part in line.replace("\n", " ").split("&&")]
    split = [re.sub(r"\s#.*", "", part).split() for part in parts if "$(" not in part]
    return [words[1:] for words in split if words[:1] == ["invertune"] and len(words) > 1]


def _halves(override: str) -> tuple[str, str]:
    key, _, values = override.partition("=")
    return key, values


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(
        r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")
    ):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), f"{target}#{anchor}"


def test_every_page_is_linked_from_the_readme() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(PAGES) > 1
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in text] == []


def test_the_readme_is_short() -> None:
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 250


def _runs() -> list[list[str]]:
    """Return the different overrides of all pages' runs; those of the reader's own are left out."""
    found = [words for page in PAGES for command, *words in _commands(page) if command == "run"]
    plain = [[word for word in words if not word.startswith("-")] for words in found]
    own = {"attack=mine", "experiment=mine", "data=emoji", "job", "DIR/conf"}
    return [list(words) for words in dict.fromkeys(map(tuple, plain)) if not own & set(words)]


def _blocks(language: str) -> list[str]:
    text = PAGES[0].read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_the_defense_to_copy_is_a_defense(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = _blocks("python")
    module = ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)  # dataclasses look their module up
    exec(block, vars(module))
    fields = {field.name for field in dataclasses.fields(module.Mine)}
    assert {"name", "clean_samples", "needs", "knows"} < fields
    assert callable(module.Mine.purify)


def test_what_the_configs_to_copy_name_is_there() -> None:
    configs = [yaml.safe_load(block) for block in _blocks("yaml")]
    assert [config["name"] for config in configs] == ["mine", "mine"]
    for config in configs:
        recipe = instantiate(config["recipe"])
        assert recipe.batch_size == 128
        own = config["_target_"] if ".mine." not in config["_target_"] else None
        assert own is None or callable(get_class(own))


def test_every_command_exists() -> None:
    named = {words[0] for page in PAGES for words in _commands(page)}
    assert named - set(cli.COMMANDS) == set()
    assert {"run", "table", "status", "report"} <= named


def test_every_choice_of_a_run_exists() -> None:
    for key, values in [_halves(word) for words in _runs() for word in words]:
        # Launchers are of plug-ins too.
        if (CONF / key).is_dir() and not key.startswith("hydra/"):
            missing = [v for v in values.split(",") if not (CONF / key / f"{v}.yaml").exists()]
            assert missing == [], key


def test_every_run_composes() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for words in _runs():
            first = [f"{key}={values.split(',')[0]}" for key, values in map(_halves, words)]
            assert compose("config", first).seed is not None, words
