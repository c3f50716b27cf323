from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.config import result_id
from experiments.stages.parts import Parts, build
from experiments.stages.stages import Stages, list_stages
from experiments.stages.weighed import with_weights
from invertune.clip.files import content_hash
from invertune.clip.spec import ModelSpec
from invertune.clip.weights import save_weights

Resolve = Callable[..., dict[str, Any]]


def _config(resolve: Resolve, path: Path, *more: str) -> dict[str, Any]:
    return resolve("defense=tiny", "~model.pretrain", f"+model.path='{path}'", *more)


@pytest.fixture
def weights(resolve: Resolve, tmp_path: Path) -> Path:
    """Return a file of weights of the tiny model."""
    config = resolve()["model"]
    built: ModelSpec = build({name: value for name, value in config.items() if name != "pretrain"})
    save_weights(built.build(5), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def _keys(config: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    filled = with_weights(config)
    hashes = {stage.role: stage.key.hash for stage in list_stages(config)}
    assert hashes == {stage.role: stage.key.hash for stage in list_stages(filled)}
    return result_id(filled), hashes


def test_what_a_file_holds_decides_stages_and_results_not_where_it_lies(
    resolve: Resolve, weights: Path
) -> None:
    first = _keys(_config(resolve, weights))
    assert _keys(_config(resolve, weights.parent)) == first  # the folder that holds it
    (weights.parent / "elsewhere").mkdir()
    moved = weights.rename(weights.parent / "elsewhere" / "renamed.safetensors")
    assert _keys(_config(resolve, moved)) == first
    moved.write_bytes(moved.read_bytes()[::-1])
    other = _keys(_config(resolve, moved))
    assert other[0] != first[0]
    assert all(other[1][role] != first[1][role] for role in first[1])


def test_a_path_stands_in_place_of_a_tag(resolve: Resolve, weights: Path) -> None:
    model = with_weights(_config(resolve, weights, "+model.weights=openai"))["model"]
    assert (model["weights"], model["sha256"]) == (None, content_hash(weights))
    taught = {**resolve(), "model": {**resolve()["model"], "teacher": {**model, "sha256": None}}}
    found = with_weights(taught)["model"]
    assert found["teacher"]["sha256"] == model["sha256"]
    assert "sha256" not in found
    assert with_weights(resolve()) == resolve()


def test_a_hash_that_is_there_stands_for_a_file_that_is_gone(
    resolve: Resolve, weights: Path
) -> None:
    config = with_weights(_config(resolve, weights))
    keys = _keys(config)
    weights.unlink()
    assert _keys(config) == keys
    with pytest.raises(ValueError, match=r"w\.safetensors does not exist"):
        with_weights(_config(resolve, weights))
    with pytest.raises(ValueError, match=r"w\.safetensors does not exist"):
        Parts(config).check()  # but a stage that is to be made needs it


def test_a_run_starts_from_the_file(resolve: Resolve, weights: Path, tmp_path: Path) -> None:
    config = _config(resolve, weights, f"runs_dir={tmp_path / 'runs'}")
    stages = Stages(config)
    clean = stages.parts.load(stages.obtain(stages.stages[0]))
    spec = stages.parts.model_spec()
    assert (spec.path, spec.sha256) == (str(weights), content_hash(weights))
    drawn = ModelSpec("x", architecture=spec.architecture).build(5).clip.state_dict()
    assert all(torch.equal(value, drawn[name]) for name, value in clean.clip.state_dict().items())
    assert "pretrain" not in stages.roles()
    weights.write_bytes(weights.read_bytes() + b" ")  # while the run goes on
    with pytest.raises(ValueError, match=r"has the SHA-256 .*, the model's is"):
        stages.parts.load(stages.obtain(stages.stages[0]))


@pytest.mark.parametrize("name", ["rn50", "rn101", "vit_b_16", "vit_b_32"])
def test_the_papers_models_take_a_path_on_the_command_line(name: str, resolve: Resolve) -> None:
    model = resolve(f"model={name}", "model.path=2024", "model.weights=null")["model"]
    assert (model["path"], model["sha256"]) in ((2024, None), ("2024", None))
    spec: ModelSpec = build(resolve(f"model={name}")["model"])
    spec.check()
    assert (spec.weights, spec.path) == ("openai", None)
    assert spec.tokenizer()(["a"]).shape == (1, 77)
    with pytest.raises(
        ValueError, match=r"weights of .* are one of openai, .*, got weights 'open'"
    ):
        build(resolve(f"model={name}", "model.weights=open")["model"]).check()
