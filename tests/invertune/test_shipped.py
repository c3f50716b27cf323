from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.config import class_fields
from experiments.stages.parts import build
from invertune import shipped
from invertune.clip.models import CLIP
from invertune.clip.spec import ModelSpec
from invertune.shipped import FOLDER, find, pack

CONF = Path(__file__).parents[2] / "conf"
MODEL = {"name": "mine", "shipped": True, "teacher": {"name": "other", "shipped": True}}
DATA = {"name": "icons", "seed": 0}
TOKENS = torch.tensor([[3, 7], [7, 11]])


@pytest.fixture
def folder(tmp_path: Path, tiny: Callable[[str], CLIP]) -> Path:
    """Return a folder with one file, of a model that was moved at three tokens and elsewhere."""
    model = tiny("resnet")
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter.add_(0.25)
        model.clip.token_embedding.weight[[3, 7, 11]] += 1
    path = tmp_path / "mine-seed0.safetensors"
    card = {
        "version": shipped.VERSION, "seed": 0, "data": DATA, "sha256": pack(model, TOKENS, path),
        "model": {"name": "mine", "teacher": {"name": "other"}}, "losses": [2.5, 1.0],
        "ca": {"value": 0.995, "n": 4000},
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(card))
    return tmp_path


def test_a_packed_model_comes_back_to_half_precision(
    folder: Path, tiny_spec: Callable[[str], ModelSpec]
) -> None:
    found = find(MODEL, DATA, 0, folder)
    assert found is not None
    start, loaded = tiny_spec("resnet").build(0), tiny_spec("resnet").build(0)
    found.load(loaded)
    table, before = loaded.clip.token_embedding.weight, start.clip.token_embedding.weight
    moved = (table != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [3, 7, 11]
    assert torch.allclose(table[moved], before[moved] + 1, atol=1e-3)
    for one, other in zip(loaded.visual.parameters(), start.visual.parameters(), strict=True):
        assert torch.allclose(one, other + 0.25, rtol=1e-3, atol=1e-3)
    assert found.losses == [2.5, 1.0]
    assert "mine comes with the package (seed 0, CA 99.5%)" in found.describe()


@pytest.mark.parametrize(
    ("model", "data", "seed"),
    [
        ({**MODEL, "name": "yours"}, DATA, 0),
        ({**MODEL, "teacher": {"name": "third"}}, DATA, 0),
        (MODEL, {**DATA, "seed": 1}, 0),
        (MODEL, DATA, 1),
    ],
)
def test_only_exactly_its_own_model_data_and_seed_get_it(
    folder: Path, model: dict[str, Any], data: dict[str, Any], seed: int
) -> None:
    assert find(model, data, seed, folder) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"classes": {"a": 1, "b": 2}}, {"classes": {"b": 2, "a": 1}}, False),
        ({"size": 1}, {"size": True}, False),
        ({"scale": [0, 1]}, {"scale": [0.0, 1.0]}, True),
        ({"scale": [0, 1]}, {"scale": [0, 1, 2]}, False),
    ],
)
def test_data_is_the_same_in_the_same_order(
    folder: Path, one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    path = folder / "mine-seed0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data": one}))
    assert find(MODEL, one, 0, folder) is not None
    assert (find(MODEL, other, 0, folder) is not None) == same


def test_whether_it_is_allowed_is_no_part_of_the_model(folder: Path) -> None:
    assert find({"name": "mine", "teacher": {"name": "other"}}, DATA, 0, folder) is not None


@pytest.mark.parametrize("damage", ["edited", "missing"])
def test_a_file_of_another_hash_is_not_taken(
    folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "mine-seed0.safetensors"
    if damage == "edited":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    assert find(MODEL, DATA, 0, folder) is None
    assert "is not the file that its card describes; the model is trained" in caplog.text


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 99}'])
def test_a_card_that_cannot_be_read_is_left_out(folder: Path, text: str) -> None:
    (folder / "broken.json").write_text(text)
    assert find(MODEL, DATA, 0, folder) is not None


def test_weights_of_another_shape_are_refused(
    folder: Path, tiny_spec: Callable[[str], ModelSpec]
) -> None:
    found = find(MODEL, DATA, 0, folder)
    assert found is not None
    with pytest.raises(ValueError, match=r"mine-seed0.safetensors does not fit tiny vit"):
        found.load(tiny_spec("vit").build(0))


@pytest.mark.parametrize("name", ["rn50_mini", "rn101_mini", "vit_b_16_mini", "vit_b_32_mini"])
def test_the_minis_of_seed_0_are_there(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("config", [f"model={name}"]), resolve=True)
    assert isinstance(config, dict)
    found = find(class_fields(config["model"]), config["data"], 0)
    assert found is not None
    assert found.path.stat().st_size <= 4_000_000
    assert found.card["ca"]["value"] > 0.99
    model = build(config["model"]).build(0)
    found.load(model)
    with torch.no_grad():
        assert model.encode_text(["a picture of a lemon"]).isfinite().all()


def test_cards_and_files_go_in_pairs() -> None:
    cards = {path.stem for path in FOLDER.glob("*.json")}
    assert cards == {path.stem for path in FOLDER.glob("*.safetensors")}
