from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import cli
from experiments.results.result import write_result

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys, experiments.cli; assert experiments.cli.main(['--help']) == 0; "
        "print([m for m in ('torch', 'hydra', 'pandas', 'numpy') if m in sys.modules])"
    )
    words, root = [sys.executable, "-c", code], Path(cli.__file__).parent.parent
    shown = subprocess.run(words, capture_output=True, text=True, check=True, cwd=root)
    assert shown.stdout.startswith("usage: invertune COMMAND")
    assert shown.stdout.endswith("[]\n")


def test_status_and_table_start_without_torch(
    result: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write_result(tmp_path / "run", result())
    code = (
        "import sys; from experiments.cli import main; "
        "assert main(['status', sys.argv[1]]) == 0; assert main(['table', sys.argv[1]]) == 0; "
        "print([m for m in ('torch', 'hydra', 'matplotlib') if m in sys.modules])"
    )
    words, root = [sys.executable, "-c", code, str(tmp_path)], Path(cli.__file__).parent.parent
    shown = subprocess.run(words, capture_output=True, text=True, check=True, cwd=root)
    assert shown.stdout.startswith("1 complete run of no sweep\n")
    assert shown.stdout.endswith("[]\n")


def test_the_shell_completes_commands_and_overrides(invertune: Command) -> None:
    def completed(line: str) -> list[str]:
        told = invertune("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
        return told.stdout.split()

    assert completed("invertune st") == ["status"]
    assert completed("invertune ") == list(cli.COMMANDS)
    assert completed("invertune run attack=bade") == [
        "attack=badencoder", "attack=badencoder_white",
    ]  # fmt: skip
    assert completed("invertune run attack=trojan") == ["attack=trojannet"]
    assert "complete " in invertune("-sc", "install=bash").stdout


def test_every_command_is_in_the_help() -> None:
    assert all(f"\n  {command} " in cli.HELP for command in cli.COMMANDS)


def test_an_unknown_command_lists_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["frobnicate"]) == cli.USAGE
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert all(command in shown for command in ("'frobnicate'", *cli.COMMANDS))


def test_a_table_of_nothing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["table", str(tmp_path)]) == cli.FAILURE
    assert capsys.readouterr().err == f"error: no valid result.json of a run below {tmp_path}\n"


def test_a_table_is_printed(
    result: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(tmp_path / "run", result())
    assert cli.main(["table", str(tmp_path), "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("data,model,attack")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_whoever_has_read_enough_is_told_nothing(
    result: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write_result(tmp_path / "run", result())
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-m", "experiments.cli", "table", str(tmp_path)],
        cwd=cli.__file__.removesuffix("experiments/cli.py"), stdout=writes, stderr=subprocess.PIPE,
        check=False,
    )  # fmt: skip
    os.close(writes)
    assert (done.returncode, done.stderr) == (cli.CLOSED, b"")


def test_the_allocator_is_set_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("os.execve", lambda *words: calls.append(words))
    monkeypatch.delenv("INVERTUNE_ALLOCATOR", raising=False)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    cli.tune_allocator()
    ((program, words, environment),) = calls
    assert program == words[0] == sys.executable
    assert environment["GLIBC_TUNABLES"] == "glibc.malloc.check=0:glibc.malloc.hugetlb=1"
    assert environment["MALLOC_TOP_PAD_"] == "1"
    assert environment["MALLOC_MMAP_THRESHOLD_"] == "4000000000"
    monkeypatch.setenv("INVERTUNE_ALLOCATOR", environment["INVERTUNE_ALLOCATOR"])
    cli.tune_allocator()
    assert len(calls) == 1


def test_warnings_say_that_they_are_and_lines_of_long_work_stand_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def long_work(_: list[str]) -> None:
        logging.getLogger("experiments.tables").warning("one is left out")
        logging.getLogger("invertune.progress").info("evaluate: 50% done")
        logging.getLogger("invertune.tune").info("of no interest here")

    monkeypatch.setattr("experiments.commands.table.main", long_work)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own would be kept
    assert cli.main(["table", str(tmp_path)]) == 0
    assert capsys.readouterr().err == "warning: one is left out\nevaluate: 50% done\n"


def test_a_warning_of_what_a_file_says_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    cli._set_up_logging()
    logging.getLogger("a").warning("%s is left out: %s", Path("a\nb"), ValueError("c\x1b[2J"))
    assert capsys.readouterr().err == r"warning: a\nb is left out: c\x1b[2J" + "\n"
