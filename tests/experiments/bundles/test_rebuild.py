from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.bundles import rebuild
from experiments.bundles.bundle import WEIGHTS
from experiments.bundles.rebuild import build, build_model, check_config, describe_model
from invertune.clip.models import CLIP
from invertune.clip.weights import save_weights


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "builtins.eval", "torch.hub.load", "experiments.bundles.export.write_bundle",
        "invertune.clip.models.torch.hub.load", "invertune.clip.weights.Path",
        "invertune.clip.weights.load_weights", "invertune.clip.spec.ModelSpec.build",
        "invertune..models.ModelSpec", "invertune", "", 3, None,
    ],
)  # fmt: skip
def test_only_own_classes_are_built(target: Any) -> None:
    check_config({"_target_": "invertune.clip.ModelSpec"}, "architecture")
    with pytest.raises(ValueError, match=r"data\.parts\.1\._target_ is a class of"):
        check_config({"parts": [{}, {"_target_": target}]}, "data")


def test_no_other_weights_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("it looked for weights")

    built: list[Any] = []

    def assemble(name: str, architecture: Any, _: Any) -> None:
        built.append((name, architecture["quick_gelu"]))
        raise ValueError("far enough")

    for reader in ("read_own", "read_tag"):
        monkeypatch.setattr(f"invertune.clip.spec.{reader}", fetch)
    monkeypatch.setattr("invertune.clip.spec.assemble", assemble)
    monkeypatch.setattr(rebuild, "_check_size", lambda *_: None)
    config = {"_target_": "invertune.clip.ModelSpec", "name": "rn50",
              "open_clip_name": "RN50-quickgelu", "weights": "openai"}  # fmt: skip
    for more in ({}, {"path": "/etc/passwd", "sha256": "ab"}):
        with pytest.raises(ValueError, match="far enough"):
            build_model(config | more, None, tmp_path / WEIGHTS, 0)
    assert built == [("rn50", True)] * 2


def test_a_model_with_parts_from_elsewhere_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("it asked the network")

    monkeypatch.setattr("open_clip.create_model", fetch)
    monkeypatch.setattr("open_clip.get_tokenizer", fetch)
    for known in ("roberta-ViT-B-32", "convnext_base", "nllb-clip-base", "ViT-B-16-SigLIP"):
        config = {"_target_": "invertune.clip.ModelSpec", "name": "x", "open_clip_name": known}
        with pytest.raises(ValueError, match=rf"open_clip_name {known}\..* is not for models of"):
            build_model(config, None, tmp_path / WEIGHTS, 0)


VISION = {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


@pytest.mark.parametrize(
    ("vision", "text", "said"),
    [
        ({"layers": 10**7}, {}, r"layers \[10000000, 1\] are more than"),
        ({}, {"layers": 10**7}, r"layers \[2, 10000000\] are more than"),
        ({"layers": [10**6, -(10**6), 1, 1]}, {}, r"layers \[1000000, -1000000"),
        ({"layers": 10**7}, {"layers": -(10**7)}, r"layers \[10000000, -10000000\]"),
        ({"layers": True}, {}, r"layers \[True, 1\] are more than"),
        ({"layers": "many"}, {}, r"layers \['many', 1\] are more than"),
        ({"width": 10**5, "head_width": 10}, {}, r"numbers are more than weights\.safetensors"),
        ({}, {"context_length": 10**6}, r"numbers are more than weights\.safetensors"),
        ({"image_size": 10**6, "pos_embed_type": "sin_cos_2d"}, {}, "image_size is at most 4096"),
    ],
)
def test_a_model_that_its_weights_cannot_hold_is_refused_before_it_is_built(
    vision: dict[str, Any],
    text: dict[str, Any],
    said: str,
    tiny: Callable[[str], CLIP],
    tmp_path: Path,
) -> None:
    save_weights(tiny("vit"), tmp_path / WEIGHTS)
    architecture = {"embed_dim": 8, "vision_cfg": VISION | vision, "text_cfg": TEXT | text}
    config = {"_target_": "invertune.clip.ModelSpec", "name": "x", "architecture": architecture}
    with pytest.raises(ValueError, match=said):
        build_model(config, None, tmp_path / WEIGHTS, 0)


def test_what_is_for_the_stages_alone_is_no_field_of_the_model() -> None:
    spec = {"_target_": "invertune.clip.ModelSpec", "shipped": True}
    config = {**spec, "name": "x", "teacher": {**spec, "name": "y"}}
    built = build(config, "architecture")
    assert (built.name, built.teacher.name) == ("x", "y")


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_model_is_built_again_from_its_card(
    tiny: Callable[[str], CLIP], tmp_path: Path, kind: str
) -> None:
    model = tiny(kind)
    save_weights(model, tmp_path / WEIGHTS)
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
    patches = {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    architecture = {"embed_dim": 16, "quick_gelu": True, "text_cfg": text,
                    "vision_cfg": vision if kind == "resnet" else patches}  # fmt: skip
    config = {"_target_": "invertune.clip.ModelSpec", "name": "x", "architecture": architecture}
    built = build_model(config, None, tmp_path / WEIGHTS, seed=9)
    assert describe_model(built) == describe_model(model)
    pairs = zip(built.clip.state_dict().values(), model.clip.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_part_is_built_of_its_own_package_alone(tmp_path: Path) -> None:
    spec = {"_target_": "invertune.clip.ModelSpec", "name": "x", "architecture": {"a": 1}}
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    bomb = {"_target_": "attacks.trojannet.SideNetwork", "classes": 10**6, "dimensions": 3000}
    with pytest.raises(
        ValueError, match=r"architecture\.preprocessing\._target_ is a class of inv"
    ):
        build_model({**spec, "preprocessing": bomb}, None, tmp_path / WEIGHTS, 0)
    for part in ("pretrain", "teacher"):  # not built at all
        with pytest.raises(ValueError, match="is not a safetensors checkpoint"):
            build_model({**spec, part: bomb}, None, tmp_path / WEIGHTS, 0)
    with pytest.raises(ValueError, match=r"graft\.width is at most 4096, got 30000"):
        build_model(spec, {"kind": "trojannet", "width": 30000}, tmp_path / WEIGHTS, 0)
    with pytest.raises(ValueError, match=r"data\._target_ is a class of invertune\.data, got"):
        build({"_target_": "invertune.clip.ModelSpec"}, "data", "invertune.data.")
