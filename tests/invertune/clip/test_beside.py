from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from invertune.clip.architectures import Heads
from invertune.clip.beside import Beside, read_beside
from invertune.clip.checkpoints import load_clip, read_checkpoint
from invertune.clip.models import CLIP
from invertune.clip.preprocessing import Preprocessing
from invertune.clip.spec import ModelSpec
from invertune.clip.weights import save_weights

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
Make = Callable[..., CLIP]
Same = Callable[[CLIP, CLIP], bool]


def _write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_nothing_is_said_where_there_is_nothing(tmp_path: Path) -> None:
    assert read_beside(tmp_path / "w.pt", hugging_face=True) == Beside()


def test_hugging_faces_files(tmp_path: Path) -> None:
    tower = {"hidden_act": "gelu", "num_attention_heads": 4}
    config = _write(tmp_path / "config.json", {"vision_config": tower, "text_config": tower})
    pixels = _write(
        tmp_path / "preprocessor_config.json",
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "crop_size": {"height": 96, "width": 96},
         "size": {"shortest_edge": 96}, "resample": 2},
    )  # fmt: skip
    found = read_beside(tmp_path / "model.safetensors", hugging_face=True)
    assert found == Beside(
        (config, pixels), quick_gelu=False, heads=Heads(text=4, image=4), image_size=96,
        preprocessing=Preprocessing((0.5,) * 3, (0.5,) * 3, "shortest", "bilinear"),
    )  # fmt: skip
    # Of tensors with other names its config.json says nothing, but the pixels are the same.
    other = read_beside(tmp_path / "w.pt", hugging_face=False)
    assert (other.quick_gelu, other.heads, other.files) == (None, None, (pixels,))
    assert other.preprocessing == found.preprocessing
    _write(pixels, {"size": {"height": 64, "width": 64}, "do_normalize": False})
    plain = read_beside(tmp_path, hugging_face=True)
    assert plain.preprocessing == Preprocessing((0.0,) * 3, (1.0,) * 3, "squash")
    assert plain.image_size == 64


def test_open_clips_file(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "open_clip_config.json",
        {
            "model_cfg": {
                "quick_gelu": True,
                "vision_cfg": {"image_size": 32, "head_width": 16, "pool_type": "avg"},
                "text_cfg": {"heads": 2},
            },
            "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"},
        },
    )
    found = read_beside(tmp_path / "w.bin", hugging_face=False)
    assert found == Beside(
        (path,), quick_gelu=True, heads=Heads(text=2, width=16), vision={"pool_type": "avg"},
        image_size=32, preprocessing=Preprocessing((0.5,) * 3, (0.5,) * 3, "squash"),
    )  # fmt: skip


def test_a_card_speaks_of_the_files_that_it_lists(
    tmp_path: Path, make_model: Make, same: Same
) -> None:
    original = make_model("split", quick_gelu=True)
    path = tmp_path / "weights.safetensors"
    state = {name: value.contiguous() for name, value in original.clip.state_dict().items()}
    safetensors.torch.save_file(state, path)
    card = {
        "architecture": {"architecture": {
            "quick_gelu": True, "vision_cfg": {"head_width": 16}, "text_cfg": {"heads": 2},
        }},
        "activation": "QuickGELU",
        "preprocessing": {"mean": [0.5] * 3, "std": [0.5] * 3},
        "files": {"weights.safetensors": {}},
    }  # fmt: skip
    _write(tmp_path / "card.json", card)
    found = read_checkpoint(path)
    assert (found.activation_known, found.preprocessing) == (True, HALF)
    original.preprocessing = HALF
    original.mean.fill_(0.5)
    original.std.fill_(0.5)
    assert same(load_clip(path), original)
    _write(tmp_path / "card.json", {**card, "files": {}})
    assert not read_checkpoint(path).activation_known


@pytest.mark.parametrize("kind", ["resnet", "vit", "split"])
@pytest.mark.parametrize("quick_gelu", [True, False])
def test_our_own_weights_say_what_they_are(
    kind: str, quick_gelu: bool, tmp_path: Path, make_model: Make, same: Same
) -> None:
    original, path = make_model(kind, quick_gelu), tmp_path / "weights.safetensors"
    save_weights(original, path)
    found = read_checkpoint(path)
    assert (found.activation_known, found.notes) == (True, ())
    assert same(load_clip(path), original)


def test_a_pooling_that_no_shape_tells_is_kept(tmp_path: Path) -> None:
    architecture = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16,
                       "pool_type": "avg", "head_width": 32},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2,
                     "layers": 1},
    }  # fmt: skip
    original = ModelSpec("m", architecture=architecture, preprocessing=HALF).build(0).eval()
    save_weights(original, tmp_path / "w.safetensors")
    images: Tensor = torch.rand(3, 3, 32, 32)
    loaded = load_clip(tmp_path / "w.safetensors")
    assert loaded.preprocessing == HALF
    with torch.no_grad():
        assert torch.allclose(loaded.encode_image(images), original.encode_image(images), atol=1e-6)


def test_mean_and_deviation_beside_a_state_dict_are_used(tmp_path: Path, make_model: Make) -> None:
    original, path = make_model("vit"), tmp_path / "w.pt"
    torch.save(original.clip.state_dict(), path)
    _write(tmp_path / "open_clip_config.json",
           {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 32}})  # fmt: skip
    loaded = load_clip(path)
    assert loaded.preprocessing == HALF
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        wanted = original.visual((images - 0.5) / 0.5)
    assert torch.nn.functional.cosine_similarity(loaded.encode_image(images), wanted).min() > 0.9999


def test_another_image_size_beside_the_weights_is_noted(tmp_path: Path, make_model: Make) -> None:
    path = tmp_path / "w.pt"
    torch.save(make_model("vit").clip.state_dict(), path)
    _write(tmp_path / "preprocessor_config.json", {"crop_size": 224})
    assert (
        "its files say 224 pixels, its tensors 32, which are taken" in read_checkpoint(path).notes
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", [], "holds no object"),
        ("config.json", {"model_type": "bert"}, "model_type is 'bert'; choices: 'clip'"),
        ("config.json", {"vision_config": {"num_attention_heads": 10**9}}, "num_attention_heads"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "std is three positive numbers"),
        ("preprocessor_config.json", {"image_mean": {"a": 1}}, "mean is three numbers"),
        ("open_clip_config.json", {"model_cfg": {"quick_gelu": "yes"}}, "quick_gelu is true or"),
        ("open_clip_config.json", {"model_cfg": {"text_cfg": {"heads": 0}}}, "heads and head"),
        ("open_clip_config.json",
         {"model_cfg": {"vision_cfg": {"pool_type": "map"}}}, "pool_type is one of tok, avg"),
        ("open_clip_config.json",
         {"model_cfg": {"text_cfg": {"pool_type": "last"}}}, "text_cfg.pool_type is argmax"),
        ("card.json", {"files": {"w.pt": {}}, "activation": "ReLU"}, "activation is one of GELU"),
    ],
)  # fmt: skip
def test_what_no_model_has_is_one_line_that_names_the_file(
    name: str, content: Any, said: str, tmp_path: Path
) -> None:
    path = _write(tmp_path / name, content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_beside(tmp_path / "w.pt", hugging_face=True)
    assert str(caught.value).startswith(f"{path}")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_about_these_weights_does_not_stop_them(
    tmp_path: Path, make_model: Make
) -> None:
    path = tmp_path / "w.pt"
    torch.save(make_model("vit").clip.state_dict(), path)
    _write(tmp_path / "config.json", {"model_type": "bert"})
    _write(tmp_path / "card.json", ["a list"])
    _write(tmp_path / "preprocessor_config.json", {"resample": 1})
    found = read_checkpoint(path)
    assert "resample 1 is not known, bicubic is taken" in found.notes
    assert found.preprocessing == Preprocessing()
