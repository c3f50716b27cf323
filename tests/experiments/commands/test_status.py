from __future__ import annotations

from collections.abc import Callable
from typing import Any

Inside = Callable[..., tuple[int, str, str]]
Leave = Callable[..., dict[str, Any]]
AXES = {"attack": ["badnet", "sig"], "seed": ["0", "1"]}


def test_what_is_done_and_left_of_a_sweep_is_said(
    inside: Inside, leave: Leave, plan: Callable[..., None]
) -> None:
    ids = [leave(f"run-{seed:08x}", seed)["id"] for seed in range(2)]
    plan("T1", AXES, [*ids, "0000000a", "0000000b"])
    code, shown, complaint = inside("status", "runs")
    assert (code, complaint) == (0, "")
    assert "T1" in shown
    assert "2 done" in shown
    assert "2 left" in shown


def test_runs_of_no_sweep_are_counted(inside: Inside, leave: Leave) -> None:
    leave("one")
    code, shown, _ = inside("status", "runs")
    assert (code, shown.splitlines()[0]) == (0, "1 complete run of no sweep")


def test_no_folder_is_one_line(inside: Inside) -> None:
    code, shown, complaint = inside("status", "nowhere")
    assert (code, shown, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("error: nowhere is not a folder")
