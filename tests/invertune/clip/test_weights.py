from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from invertune.clip.models import CLIP
from invertune.clip.spec import ModelSpec
from invertune.clip.weights import fit_errors, load_weights, save_weights, weights

Tiny = Callable[[str], CLIP]
State = dict[str, Tensor]
Make = Callable[..., CLIP]
StateOf = Callable[..., State]
Same = Callable[[CLIP, CLIP], bool]
both = pytest.mark.parametrize("kind", ["resnet", "vit"])


class Scaled(nn.Module):
    """A head that scales features."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(3.0))

    def forward(self, clip: nn.Module, features: Tensor) -> Tensor:
        return self.factor * features


def _images(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@both
def test_a_checkpoint_gives_the_model_back(
    tiny: Tiny, tiny_spec: Callable[[str], ModelSpec], kind: str, tmp_path: Path
) -> None:
    model = tiny(kind)
    save_weights(model, tmp_path / "w.safetensors")
    loaded = load_weights(tiny_spec(kind).build(9), tmp_path / "w.safetensors").eval()
    before, after = model.state_dict(), loaded.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with torch.no_grad():
        images = _images(2, 32)
        assert torch.equal(model.encode_image(images), loaded.encode_image(images))


def test_what_is_no_checkpoint_is_said_to_be_none(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"w\.safetensors is not a safetensors checkpoint"):
        load_weights(tiny("vit"), path)
    with pytest.raises(ValueError, match=r"nowhere is not a safetensors checkpoint"):
        load_weights(tiny("vit"), tmp_path / "nowhere")


def test_a_checkpoint_of_another_model_does_not_fit(
    tiny: Tiny, tiny_spec: Callable[[str], ModelSpec], tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(tiny("resnet"), path)
    with pytest.raises(ValueError, match=r"does not fit tiny vit: tensors \[.*visual"):
        load_weights(tiny("vit"), path)
    architecture = {**tiny_spec("resnet").architecture, "embed_dim": 8}
    narrow = ModelSpec("narrow", architecture=architecture).build(0)
    before = {name: value.clone() for name, value in narrow.state_dict().items()}
    with pytest.raises(ValueError, match=r"does not fit narrow: tensors \["):
        load_weights(narrow, path)
    after = narrow.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_heads_weights_are_named(tiny: Tiny, tmp_path: Path) -> None:
    model = tiny("vit")
    plain = weights(model)
    assert plain.keys() == model.clip.state_dict().keys()
    model.head = Scaled()
    assert weights(model).keys() - plain.keys() == {"head.factor"}
    assert weights(model)["head.factor"] == 3
    assert model.parameter_count == tiny("vit").parameter_count + 1
    save_weights(model, tmp_path / "w.safetensors")
    other = tiny("vit")
    with pytest.raises(ValueError, match=r"tensors \[head\.factor is not in the model\]"):
        load_weights(other, tmp_path / "w.safetensors")
    other.head = Scaled()
    other.head.factor.data.fill_(7)
    load_weights(other, tmp_path / "w.safetensors")
    assert other.head.factor == 3
    save_weights(tiny("vit"), tmp_path / "headless")
    with pytest.raises(ValueError, match=r"tensors \[head\.factor is missing\]"):
        load_weights(other, tmp_path / "headless")


def test_the_first_five_differences_are_listed() -> None:
    expected = {"a": torch.zeros(2, 3), **{f"m{i}": torch.zeros(1) for i in range(6)}}
    assert fit_errors(expected, expected) == []
    found = fit_errors({"a": torch.zeros(3), "b": torch.zeros(1)}, expected)
    assert found[0] == "a is [3], the model has [2, 3]"
    assert found[1:] == [f"m{i} is missing" for i in range(4)]
    assert fit_errors({**expected, "b": torch.zeros(1)}, expected) == ["b is not in the model"]


def test_weights_of_another_size_name_their_tensors_too(
    tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    path, model = tmp_path / "w.safetensors", make_model("vit")
    safetensors.torch.save_file({**state_of(model), "visual.proj": torch.zeros(64, 8)}, path)
    with pytest.raises(
        ValueError, match=r"does not fit vit: .*visual\.proj is \[64, 8\], the model"
    ):
        load_weights(model, path)
