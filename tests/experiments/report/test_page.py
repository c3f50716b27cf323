from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.report.page import write_report

ROOT = Path(__file__).parents[3]

Write = Callable[..., dict[str, Any]]


def test_the_page_has_numbers_pictures_and_no_link_to_anything_else(
    tmp_path: Path,
    read_page: Callable[..., Any],
    write_run: Write,
    data_config: Write,
) -> None:
    write_run(tmp_path, 1, data_config())
    write_run(tmp_path, 2, data_config())
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    html = path.read_text(encoding="utf-8")
    page = read_page(html)
    assert "97.0 %" in page.text  # ASR of the inverted trigger
    assert re.search(r"93\.0\s+90\.", page.text)  # ASR 372/400 and the low end of its interval
    assert "✓ lemon" in page.text
    assert "layer4: 37 of 512" in page.text
    assert "PatchTrigger(size=4" in page.text
    images = page.all("img")
    assert len(images) == 5 + 2 * 5  # five rows of samples for the attack, and for each run
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] for image in images)
    drawings = page.all("svg")
    assert len(drawings) == 2 * 4
    assert all(drawing["aria-label"] for drawing in drawings)
    links = [link["href"] or "" for link in page.all("a") + page.all("link")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= {
        tag["id"] for _, tag in page.tags if "id" in tag
    }
    assert not re.search(r"https?://", html)
    opened = [details for details in page.all("details") if details.get("class") == "run"]
    assert ["open" in details for details in opened] == [True, False]


def test_a_run_says_where_it_comes_from(
    tmp_path: Path,
    write_run: Write,
    data_config: Write,
    write_sweep: Callable[..., None],
    read_page: Callable[..., Any],
) -> None:
    versions = {"invertune": "0.1.0", "torch": "2", "open_clip_torch": "3", "python": "3.11",
                "commit": "0123abc"}  # fmt: skip
    first = write_run(tmp_path, 1, data_config(), versions=versions)
    write_sweep(tmp_path, "T1", {"seed": ["1", "2"]}, [first], [["seed=1"]])
    (tmp_path / first["stages"]["implant"]).rename(tmp_path / "elsewhere")
    page = read_page()
    written = json.loads(next(tmp_path.glob("rn50_mini-*-seed1-*/result.json")).read_text())
    assert written["sha256"] in page.text
    for part in ("0123abc", "0000000000000001", "open_clip_torch 3", "t1-00000000"):
        assert part in page.text
    assert page.text.count("not on this machine") == 1
    assert first["stages"]["implant"] in page.text
    assert "image_size: 16" in page.text  # of the config


def test_every_body_row_has_a_cell_for_every_heading_that_sorts(
    tmp_path: Path,
    write_run: Write,
    data_config: Write,
    read_page: Callable[..., Any],
) -> None:
    write_run(tmp_path, 1, data_config())
    html = read_page().html
    table = html.split('<table id="runs" class="sortable">')[1].split("</table>")[0]
    head, body = table.split("<tbody>")
    assert head.count("<button") == body.count("<td") == 15
    assert 'document.querySelectorAll("table.sortable")' in html


def test_whatever_is_missing_is_left_out(
    tmp_path: Path,
    write_run: Write,
    data_config: Write,
    score: Write,
    read_page: Callable[..., Any],
) -> None:
    no_score = {"clean": None, "backdoored": score(0.9, None), "purified": None}
    attack = {"name": "none", "target_label": None, "poison_rate": 0, "poisoned": 0, "pairs": 8}
    write_run(
        tmp_path, 1, data_config(), stages={}, attack=attack, identification=None,
        inversion=None, scores=no_score,
    )  # fmt: skip
    page = read_page()
    assert page.all("img") == []
    assert len(page.all("svg")) == 1  # the bars of what was measured
    assert "90.0" in page.text


def test_results_alone_make_a_page_without_the_packages_that_made_them(
    tmp_path: Path,
    read_page: Callable[..., Any],
    write_run: Write,
    data_config: Write,
) -> None:
    write_run(tmp_path, 1, data_config())
    shutil.rmtree(tmp_path / "stages")
    code = (
        "import sys; from experiments.commands.report import main; main(sys.argv[1:]); "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'open_clip', 'hydra')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=ROOT)
    page = read_page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.all("img") == []
    assert page.text.count("not on this machine") == 3


def test_a_result_cannot_make_the_report_call_what_it_names(
    tmp_path: Path,
    write_run: Write,
    data_config: Write,
    read_page: Callable[..., Any],
) -> None:
    marker = tmp_path / "called"
    evil = {"_target_": "pathlib.Path.touch", "self": str(marker)}
    result = write_run(tmp_path, 1, {**data_config(), "style": evil})
    trigger = tmp_path / result["stages"]["implant"] / "trigger.json"
    trigger.write_text(json.dumps(evil))
    assert "touch(" in read_page().text
    assert not marker.exists()


def test_names_from_a_result_are_escaped(
    tmp_path: Path,
    write_run: Write,
    data_config: Write,
    read_page: Callable[..., Any],
) -> None:
    defense = {"name": "<script>alert(1)</script>", "clean_samples": 1, "knows": "nothing"}
    write_run(tmp_path, 1, data_config(), defense=defense)
    html = read_page().html
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_class_names_and_layers_are_escaped_in_drawings(
    tmp_path: Path,
    write_run: Write,
    data_config: Write,
    read_page: Callable[..., Any],
) -> None:
    evil = "</svg><script>alert(1)</script>"
    result = write_run(tmp_path, 1, data_config({**data_config()["classes"], evil: "x"}))
    path = tmp_path / result["stages"]["purify"] / "evidence.json"
    found = json.loads(path.read_text())
    found["divergence"] = {evil: 1.0, **found["divergence"]}
    path.write_text(json.dumps(found))
    html = read_page().html
    read_page(html)
    assert "<script>alert" not in html


def test_a_damaged_stage_costs_only_what_it_shows(
    tmp_path: Path,
    write_run: Write,
    data_config: Write,
    read_page: Callable[..., Any],
) -> None:
    write_run(tmp_path, 1, data_config())
    next(tmp_path.glob("stages/purify-*/evidence.json")).write_text("[1")
    next(tmp_path.glob("stages/implant-*/trigger.json")).write_text("{")
    next(tmp_path.glob("stages/implant-*/losses.json")).write_text("{")
    next(tmp_path.glob("stages/inspect-*/pictures/true-0.png")).write_bytes(b"damaged")
    page = read_page()
    assert page.all("img") == []
    assert len(page.all("svg")) == 1


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_folder_without_runs_is_an_error_in_one_line(
    tmp_path: Path,
    name: str,
) -> None:
    with pytest.raises(ValueError, match=r"^\S+ (is not a folder of runs|has no runs.*)$"):
        write_report(tmp_path / name)


def test_a_hundred_runs_stay_below_ten_megabytes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_run: Write,
    data_config: Write,
) -> None:
    """At the default picture size; what one of many runs adds is measured on three of them."""
    monkeypatch.setattr("experiments.report.page._MANY_RUNS", 2)
    classes = {f"class number {i}": f"icon-{i}" for i in range(100)}
    for number in range(3):
        write_run(tmp_path, number, data_config(classes, side=64))
    assert 100 * write_report(tmp_path).stat().st_size / 3 < 10e6


def test_pictures_end_where_the_page_would_grow_too_large(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_run: Write,
    data_config: Write,
    read_page: Callable[..., Any],
) -> None:
    for number in range(3):
        write_run(tmp_path, number, data_config())
    monkeypatch.setattr("experiments.report.page._PICTURES", 1)
    page = read_page()
    assert len(page.all("img")) == 5 + 5  # the gallery and the first run


def test_the_page_says_which_runs_are_in_the_table_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_run: Write,
    data_config: Write,
    read_page: Callable[..., Any],
) -> None:
    for number in range(3):
        write_run(tmp_path, number, data_config())
    monkeypatch.setattr("experiments.report.page._DETAILS", 2)
    page = read_page()
    assert len([tag for tag in page.all("details") if tag.get("class") == "run"]) == 2
    assert "the first 2 of 3 runs" in page.text
    assert [link["href"] for link in page.all("a") if "#run-" in (link["href"] or "")] == [
        "#run-1", "#run-1", "#run-2",
    ]  # fmt: skip
