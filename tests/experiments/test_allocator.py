from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from experiments import allocator


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what would be started, with its environment."""
    found: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *words: found.append(words))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "experiments.cli", "run"])
    monkeypatch.delenv("INVERTUNE_ALLOCATOR", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    return found


def test_the_same_command_is_started_once_more(started: list[Any]) -> None:
    allocator.tune_allocator()
    ((program, words, environment),) = started
    assert (program, words) == (sys.executable, [sys.executable, "-m", "experiments.cli", "run"])
    assert environment["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert int(environment["MALLOC_TRIM_THRESHOLD_"]) > 2**32
    assert environment["INVERTUNE_ALLOCATOR"] == "1"  # and then no more


@pytest.mark.parametrize("value", ["0", "1"])
def test_nobody_starts_it_twice_or_against_their_will(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("INVERTUNE_ALLOCATOR", value)
    allocator.tune_allocator()
    assert started == []


def test_other_systems_are_left_alone(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    allocator.tune_allocator()
    assert started == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("glibc.malloc.check=3", "glibc.malloc.check=3:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_a_users_own_settings_stay(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, given: str, told: str
) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", given)
    monkeypatch.setenv("MALLOC_TOP_PAD_", "5")
    allocator.tune_allocator()
    ((_, _, environment),) = started
    assert environment["GLIBC_TUNABLES"] == told
    assert environment["MALLOC_TOP_PAD_"] == "5"
