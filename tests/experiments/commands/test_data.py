"""``invertune data check`` on files, good and bad; ``invertune export data=...`` and back again."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from experiments.commands.data import as_lines
from experiments.composing import composed

Inside = Callable[..., tuple[int, str, str]]
SMALL = ["data.sizes.pairs=40", "data.sizes.clean=9", "data.sizes.zero_shot=14",
         "data.sizes.retrieval=6"]  # fmt: skip


@pytest.fixture(scope="module")
def _exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from experiments.exporting import export_data

    folder = tmp_path_factory.mktemp("world") / "files"
    export_data(["data=icons", *SMALL], folder, ["table"], "png", 100)
    return folder


@pytest.fixture
def files(_exported: Path, tmp_path: Path) -> Path:
    """Return exported files that a test may damage."""
    return Path(shutil.copytree(_exported, tmp_path / "files"))


@pytest.fixture
def own(files: Path) -> list[str]:
    """Return the overrides that name the files one by one."""
    return [
        "data=files", "data.image_size=64", f"data.classes.path={files}/classes.tsv",
        f"data.pairs.path={files}/pairs_table/pairs.csv", f"data.clean.path={files}/clean",
        f"data.zero_shot.path={files}/zero_shot_flat",
        f"data.zero_shot.labels_path={files}/zero_shot_labels.txt",
        f"data.retrieval.path={files}/dataset_split.json",
        f"data.retrieval.images_path={files}/retrieval", "data.workers=1",
    ]  # fmt: skip


def test_what_there_is(inside: Inside, own: list[str], tmp_path: Path) -> None:
    code, shown, complaint = inside("data", "check", *own, "--sheets", str(tmp_path / "sheets"))
    assert code == 0, complaint
    assert shown.splitlines()[:6] == [
        "files: 100 classes in 80 templates, pictures of 64 pixels",
        "           listed  usable  captions",
        "pairs          40      40        40",
        "clean           9       9         0",
        "zero_shot      14      14         0",
        "retrieval       6       6        30",
    ]
    assert "no sample stands in two parts" in shown
    for part in ("pairs", "clean", "zero_shot", "retrieval"):
        assert Image.open(tmp_path / "sheets" / f"{part}.png").width > 300
    assert (tmp_path / "runs" / "data").is_dir()


def test_what_is_wrong_is_counted_and_named(inside: Inside, own: list[str], files: Path) -> None:
    clean = sorted((files / "clean").iterdir())
    clean[0].write_bytes(clean[0].read_bytes()[:200])
    Image.open(clean[1]).convert("L").save(clean[1])
    shutil.copy(clean[2], files / "clean" / "twin.png")
    code, shown, _ = inside("data", "check", *own, "data.broken_limit=0.2")
    assert code == 0
    head, row = (shown.splitlines()[i].split() for i in (1, 3))
    told = dict(zip(head, row[1:], strict=True))
    assert told == {"listed": "10", "usable": "9", "unusable": "1", "captions": "0",
                    "repeated": "1", "grey": "1"}  # fmt: skip
    assert f"{clean[0].name}: " in shown
    code, _, complaint = inside("data", "check", *own, "data.broken_limit=0.05")
    assert code == 1
    assert "error: data.clean: 1 of 10 samples (10.0%) cannot be used" in complaint


def test_overlap_is_an_error(inside: Inside, own: list[str], files: Path) -> None:
    picture = next((files / "zero_shot_flat").iterdir())
    shutil.copy(picture, files / "clean" / "copy.png")
    code, _, complaint = inside("data", "check", *own)
    assert code == 1
    assert "parts must be disjoint, but 1 pictures of clean are in zero_shot too" in complaint
    code, shown, _ = inside("data", "check", *own, "data.overlap=drop")
    assert code == 0
    assert "no sample stands in two parts" in shown


def test_a_drawn_world_is_checked_too(inside: Inside) -> None:
    code, shown, _ = inside("data", "check", *SMALL)
    assert code == 0
    assert "pairs          40      40" in shown


def test_missing_paths_are_said(inside: Inside, tmp_path: Path) -> None:
    code, _, complaint = inside("data", "check", "data=files")
    assert code == 1
    assert "has no default: set data.pairs.path=..." in complaint
    code, _, complaint = inside("data", "check", "data=cc3m")
    assert code == 1
    assert complaint.count("expected: ") == 4
    assert "\n" not in complaint.strip()
    assert list(tmp_path.iterdir()) == []


def test_an_exported_world_gives_the_same_numbers(
    inside: Inside, tiny_words: list[str], tmp_path: Path
) -> None:
    """The whole way, over files: pictures in PNG change no pixel, and so no number."""
    words = [word for word in tiny_words if word != "data=tiny"]
    searched = "hydra.searchpath=[" + tiny_words[tiny_words.index("--config-dir") + 1] + "]"
    world = ["~data.classes", "+data.classes={apple:apple-whole,lemon:lemon,key:key,cat:cat}",
             "data.sizes.zero_shot=60"]  # fmt: skip
    code, shown, complaint = inside("export", searched, "data=tiny", *world, "--to", "world")
    assert code == 0, complaint
    assert [Path(line).name for line in shown.splitlines()] == [
        "shards.yaml", "table.yaml", "datasets.yaml",
    ]  # fmt: skip
    train = ["model.pretrain.epochs=8", "model.pretrain.lr=1e-2", "attack.target_label=lemon"]
    scores, losses, weights = [], [], []
    for data in ("tiny", "shards", "table", "datasets"):
        where = world if data == "tiny" else [f"hydra.searchpath=[{tmp_path}/world/conf]"]
        code, shown, complaint = inside(*words, *where, f"data={data}", f"runs_dir={data}", *train)
        assert code == 0, complaint
        scores.append(json.loads((tmp_path / shown.splitlines()[-1]).read_text())["scores"])
        trained = next((tmp_path / data / "stages").glob("pretrain-*"))
        losses.append(json.loads((trained / "losses.json").read_text()))
        weights.append((trained / "weights.safetensors").read_bytes())
    assert losses[0][-1] < losses[0][0]
    assert all(other == losses[0] for other in losses[1:])
    assert all(other == weights[0] for other in weights[1:])
    assert all(other == scores[0] for other in scores[1:])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.path=wrong.pt"], "wrong.pt"),
        (["model.weights=null", "data.image_size=96"], "set data.image_size=224"),
        (["model.weights=null", "speed.chunk=4"], "chunk=4 needs a model without BatchNorm"),
    ],
)
def test_what_cannot_be_is_said_before_a_picture_is_decoded(
    inside: Inside, own: list[str], tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "wrong.pt").write_bytes(b"no weights")
    run = ["run", *own, "data.image_size=224", "model=rn50", "attack.pairs=30", "defense=none",
           "attack.recipe.batch_size=10", "tracking=disabled", *words]  # fmt: skip
    code, _, complaint = inside(*run)
    assert code == 1
    assert said in complaint
    assert not list(tmp_path.rglob("kinds.u16"))


def test_an_export_has_what_the_world_has(files: Path) -> None:
    """A target is drawn of the same classes, and the clean images have their captions."""
    config = yaml.safe_load((files / "conf" / "data" / "table.yaml").read_text())
    assert config["targets"] == composed([]).targets
    with Path(config["clean"]["path"]).open() as handle:
        first = next(csv.DictReader(handle))
    assert (files / "clean" / first["filepath"]).is_file()
    assert any(name in first["title"] for name in composed([]).data.classes)


def test_a_folder_that_is_there_is_left_alone(inside: Inside, tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "mine").touch()
    code, _, complaint = inside("export", "data=icons", "--to", "world")
    assert code == 1
    assert "error: world is there already: name a new folder" in complaint


def test_columns_without_numbers_are_left_out() -> None:
    rows = as_lines({"pairs": {"listed": 10, "usable": 9, "grey": 0},
                     "clean": {"listed": 2, "usable": 2, "cmyk": 1}})  # fmt: skip
    assert rows == [
        "       listed  usable  cmyk",
        "pairs      10       9      ",
        "clean       2       2     1",
    ]
