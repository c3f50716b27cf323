from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.bundles.bundle import CARD, TENSORS, TRIGGER, WEIGHTS

Inside = Callable[..., tuple[int, str, str]]
Refused = Callable[[tuple[int, str, str]], str]
Change = Callable[..., None]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _newer(bundle: Path) -> None:
    card = json.loads((bundle / CARD).read_text(encoding="utf-8"))
    (bundle / CARD).write_text(json.dumps({**card, "version": 2}), encoding="utf-8")


def _edited(bundle: Path) -> None:
    card = json.loads((bundle / CARD).read_text(encoding="utf-8"))
    card["measured"]["asr"]["value"] = 0.5
    (bundle / CARD).write_text(json.dumps(card), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda b: _flip(b / WEIGHTS), [f"bundle/{WEIGHTS} has the SHA-256", "card.json says"]),
        (lambda b: (b / WEIGHTS).write_bytes(b"x"), [f"bundle/{WEIGHTS} has 1 bytes"]),
        (lambda b: _flip(b / TRIGGER), [f"bundle/{TRIGGER} has the SHA-256"]),
        (lambda b: (b / TRIGGER).unlink(), [f"bundle/{TRIGGER} is missing", "card.json lists it"]),
        (lambda b: (b / TENSORS).touch(), [f"bundle/{TENSORS} does not belong here"]),
        (_newer, ["bundle/card.json: its schema version is 2, this program reads 1"]),
        (_edited, ["bundle/card.json: it was edited"]),
        (lambda b: (b / CARD).write_text("{"), ["bundle/card.json: it is no JSON"]),
        (lambda b: (b / CARD).write_text("[" * 10**6), ["bundle/card.json: it is no JSON"]),
        (lambda b: (b / CARD).write_text("[]"), ["bundle/card.json: its schema version is None"]),
        (lambda b: (b / CARD).unlink(), ["bundle is no checkpoint bundle", "no card.json"]),
        (shutil.rmtree, ["bundle is no checkpoint bundle: there is no such folder"]),
    ],
)  # fmt: skip
def test_a_damaged_bundle_is_one_line(
    refused: Refused, bundle: Path, inside: Inside, damage: Callable[[Path], Any], said: list[str]
) -> None:
    damage(bundle)
    line = refused(inside("verify", "bundle"))
    assert all(part in line for part in said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"files": {}}, ["files: ", WEIGHTS]),
        ({"files__../x": {"sha256": "0" * 64, "bytes": 0}}, ["files: ", "'../x'"]),
        ({"measured__ca": None}, ["measured/ca: "]),
        ({"target__index": 2}, ["target 'lemon' has the index 2, in the data it is 1"]),
        ({"target__name": "zebra"}, ["'zebra'", "apple, lemon"]),
        ({"target": None}, ["trigger and target_label go together"]),
        ({"activation": "GELU"}, ["activation is GELU, but of the model QuickGELU"]),
        ({"parameters": 3}, ["parameters is 3, but of the model"]),
        (
            {"architecture__architecture__vision_cfg__width": 16},
            [f"{WEIGHTS} does not fit tiny: tensors [visual.", "the model has ["],
        ),
        ({"architecture__architecture__depth": 3}, ["card.json: its architecture", "'depth'"]),
        (
            {"architecture__architecture__text_cfg__hf_model_name": "a/b"},
            ["architecture.architecture.text_cfg.hf_model_name", "'a/b'"],
        ),
        ({"architecture__open_clip_name": "hf-hub:a/b"}, ["open_clip.list_models()", "hf-hub:a/b"]),
        (
            {"architecture": {"_target_": "invertune.clip.models.CLIP", "name": "x"}},
            ["card.json", "CLIP"],
        ),
        ({"graft": {"kind": "mine"}}, ["graft is one of trojannet, badclip_prompt, got 'mine'"]),
        ({"data__sizes": {"zero_shot": 60}}, ["data.sizes.pairs"]),
        ({"data__sizes__zero_shot": "many"}, ["card.json: its data cannot be used"]),
        ({"data__color": "red"}, ["card.json: its data", "IconWorld", "color"]),
        ({"data__templates": ["${oc.env:HOME}"]}, ["data.templates.0 is a plain value"]),
        ({"data": {"_target_": "invertune.clip.ModelSpec", "name": "x"}}, ["its data cannot"]),
        ({"data": {"_target_": "os.getcwd"}}, ["data._target_ is a class of invertune.data"]),
    ],
)  # fmt: skip
def test_a_card_that_cannot_be_is_one_line(
    change: Change,
    refused: Refused,
    bundle: Path,
    inside: Inside,
    changes: dict[str, Any],
    said: list[str],
) -> None:
    change(**changes)
    line = refused(inside("verify", "bundle"))
    assert all(part in line for part in said), line


def test_inspect_sends_a_bundle_to_verify(refused: Refused, bundle: Path, inside: Inside) -> None:
    line = refused(inside("inspect", "bundle"))
    assert line.endswith("invertune verify bundle measures it")


def test_a_card_says_neither_what_is_read_nor_where_is_written(
    refused: Refused, bundle: Path, inside: Inside, change: Change, tmp_path: Path
) -> None:
    part = {"_target_": "invertune.data.Part", "path": str(tmp_path / "secret")}
    (tmp_path / "secret").mkdir()
    own = {
        "_target_": "invertune.data.ComposedData", "name": "theirs", "image_size": 32,
        "classes": {"_target_": "invertune.data.Classes", "names": ["apple", "lemon"]},
        "pairs": part, "clean": part, "zero_shot": part, "retrieval": part,
        "cache": str(tmp_path / "written"),
    }  # fmt: skip
    change(data=own)
    line = refused(inside("verify", "bundle"))
    assert "its data cannot be used: they are files of whoever made it" in line
    assert "data.zero_shot.path=..." in line
    assert not (tmp_path / "written").exists()


def test_a_bundle_is_measured_on_files_of_ones_own(
    bundle: Path, inside: Inside, change: Change, tiny_words: list[str], world: list[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    """Its data exported, and named in the command: the same pictures give the same rates."""
    conf = tiny_words[tiny_words.index("--config-dir") + 1]
    drawn = [word for word in world if "data." in word]
    searched = f"hydra.searchpath=[{conf}]"
    code, _, complaint = inside("export", searched, "data=tiny", *drawn, "--to", "files",
                                "--layouts", "table")  # fmt: skip
    assert code == 0, complaint
    theirs = {"_target_": "invertune.data.Part", "path": "elsewhere"}
    change(data={
        "_target_": "invertune.data.ComposedData", "name": "theirs", "image_size": 32,
        "classes": {"_target_": "invertune.data.Classes", "names": ["apple", "lemon"]},
        "pairs": theirs, "clean": theirs, "zero_shot": theirs, "retrieval": theirs, "cache": "x",
    })  # fmt: skip
    own = [f"hydra.searchpath=[{tmp_path}/files/conf]", "data=table"]
    code, shown, complaint = inside("verify", "bundle", *own)
    assert (code, shown.splitlines()[-1]) == (0, "every rate is the same"), complaint
