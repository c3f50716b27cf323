from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.config import CONF
from experiments.stages.code import Code, installed, read_lock, write_lock
from experiments.stages.source import MAKERS, PACKAGES
from experiments.stages.stages import list_stages

Resolve = Callable[..., dict[str, Any]]
ROLES = {"pretrain", "implant", "purify/search", "purify", "evaluate/clean", "evaluate/backdoored",
         "evaluate/purified", "inspect"}  # fmt: skip
AFTER_IMPLANT = ROLES - {"pretrain"}
AFTER_SEARCH = {"purify/search", "purify", "evaluate/purified", "inspect"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a copy of the code, which the test may edit."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(CONF.parent / package, tmp_path / package, ignore=ignored)
    (tmp_path / "experiments" / "stages").mkdir(parents=True)
    for name in MAKERS:
        file = f"experiments/stages/{name}.py"
        shutil.copyfile(CONF.parent / file, tmp_path / file)
    return tmp_path


def _keys(config: dict[str, Any], code: Code) -> dict[str, str]:
    return {stage.role: stage.key.hash for stage in list_stages(config, code)}


def _edit(root: Path, module: str, more: str = "\n_EDITED = 1\n") -> None:
    path = root / f"{module.replace('.', '/')}.py"
    path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")


def test_the_lock_is_current() -> None:
    changed = installed().changed()
    assert not changed, (
        f"{', '.join(changed)} changed since code.json was written. If numbers of runs are the "
        "same: python -m experiments.stages.code --keep. If not: --bump MODULE..., which makes "
        "the stages that use them again"
    )


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        ("invertune.training.train", ROLES),
        ("invertune.data.icons", ROLES),
        ("attacks.triggers.patch", AFTER_IMPLANT),
        ("attacks.triggers.warp", set()),  # of another attack
        ("attacks.badclip", set()),
        ("invertune.identify", AFTER_SEARCH),
        ("invertune.tune", AFTER_SEARCH),
        ("invertune.perturb.advclip", set()),
        ("evaluation.retrieval", {role for role in ROLES if role.startswith("evaluate")}),
        ("evaluation.inversion", {"inspect"}),
        ("evaluation.statistics", set()),
        ("experiments.stages.purify", {"purify", "evaluate/purified", "inspect"}),
        ("experiments.stages.evaluate", {role for role in ROLES if role.startswith("evaluate")}),
    ],
)
def test_an_edit_remakes_the_stages_that_use_it_and_no_others(
    resolve: Resolve, root: Path, module: str, changed: set[str]
) -> None:
    config, lock = resolve("defense=tiny"), read_lock()
    before = _keys(config, Code(root, lock))
    assert before == _keys(config, installed())
    _edit(root, module)
    after = _keys(config, Code(root, lock))
    assert {role for role in ROLES if after[role] != before[role]} == changed


def test_a_docstring_remakes_nothing(resolve: Resolve, root: Path) -> None:
    config, lock = resolve("defense=tiny"), read_lock()
    before = _keys(config, Code(root, lock))
    for module in ("invertune.training.train", "attacks.attack", "experiments.stages.implant"):
        path = root / f"{module.replace('.', '/')}.py"
        text = path.read_text(encoding="utf-8")
        path.write_text(f'"""Another."""\n# why\n{text.partition(chr(10))[2]}', encoding="utf-8")
    assert _keys(config, Code(root, lock)) == before


def test_kept_edits_remake_nothing_and_bumped_ones_do(resolve: Resolve, root: Path) -> None:
    config, lock = resolve("defense=tiny"), read_lock()
    before = _keys(config, Code(root, lock))
    raised = Code(root, lock).versions(["invertune.InverTune"]) | {"invertune.tune": 2}
    _edit(root, "invertune.tune")
    code = Code(root, lock)
    assert code.changed() == ["invertune.tune"]
    kept = Code(root, code.current())
    assert kept.changed() == []
    assert _keys(config, kept) == before
    bumped = Code(root, code.current(["invertune.tune"], kept=False))
    assert bumped.changed() == []
    assert bumped.versions(["invertune.InverTune"]) == raised
    assert _keys(config, bumped) not in (before, _keys(config, code))
    _edit(root, "invertune.tune", "_AGAIN = 1\n")
    again = Code(root, Code(root, bumped.lock).current())
    assert again.versions(["invertune.InverTune"]) == raised  # kept, not forgotten


def test_a_new_attack_counts_by_every_edit(resolve: Resolve, root: Path) -> None:
    config, lock = resolve(), read_lock()
    config["attack"] = {**config["attack"], "_target_": "attacks.mine.Mine"}
    path, seen = root / "attacks" / "mine.py", set()
    for text in ("class Mine: ...\n", "class Mine:\n    x = 1\n", "class Mine:\n    x = 2\n"):
        path.write_text(text)
        seen.add(_keys(config, Code(root, lock))["implant"])
    assert len(seen) == 3
    assert Code(root, lock).changed() == ["attacks.mine"]


def test_an_own_attack_elsewhere_counts_too(
    resolve: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve()
    config["attack"] = {**config["attack"], "_target_": "my_attack.Mine"}
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = set()
    for text in ("class Mine: ...\n", "class Mine:\n    x = 1\n"):
        (tmp_path / "my_attack.py").write_text(text)
        code = Code(CONF.parent, read_lock())
        seen.add(_keys(config, code)["implant"])
        assert "my_attack" in code.versions(["my_attack.Mine"])
    assert len(seen) == 2


def test_there_is_nothing_to_bump_that_is_not(root: Path) -> None:
    with pytest.raises(ValueError, match=r"no number depends on a module 'invertune\.nope'"):
        Code(root, read_lock()).current(["invertune.nope"], kept=False)


def test_a_lock_is_read_back(tmp_path: Path) -> None:
    lock = read_lock()
    write_lock(lock, tmp_path / "code.json")
    assert read_lock(tmp_path / "code.json") == lock
    assert len((tmp_path / "code.json").read_text().splitlines()) == len(lock) + 2
    assert read_lock(tmp_path / "none.json") == {}


def test_reading_the_code_takes_no_time(resolve: Resolve) -> None:
    config, lock = resolve("defense=tiny", "attack=badclip"), read_lock()
    times = []
    for _ in range(5):
        code, start = Code(CONF.parent, lock), time.process_time()
        list_stages(config, code)
        times.append(time.process_time() - start)
    assert min(times) < 0.1  # 0.03 on an idle core
