from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from invertune.clip.models import CLIP
from invertune.clip.spec import ModelSpec

Tiny = Callable[[str], CLIP]
MODELS = Path(__file__).parents[3] / "conf" / "model"
MINIS = sorted(path.stem for path in MODELS.glob("*_mini.yaml"))
both = pytest.mark.parametrize("kind", ["resnet", "vit"])


@both
def test_the_seed_alone_decides_the_weights(
    tiny_spec: Callable[[str], ModelSpec], kind: str
) -> None:
    state = torch.random.get_rng_state()
    first = tiny_spec(kind).build(3).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(10)
    again, other = tiny_spec(kind).build(3).state_dict(), tiny_spec(kind).build(4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_spec_needs_something_to_build() -> None:
    with pytest.raises(ValueError, match="model mine needs open_clip_name or architecture"):
        ModelSpec("mine").build()


def test_the_tokenizer_is_there_before_the_model(tiny_spec: Callable[[str], ModelSpec]) -> None:
    assert tiny_spec("vit").tokenizer()(["a lemon"]).shape == (1, 16)
    assert ModelSpec("known", open_clip_name="RN50").tokenizer()(["a lemon"]).shape == (1, 77)
    with pytest.raises(ValueError, match=r"open_clip_name is one of .*RN50.*, got 'RN5'"):
        ModelSpec("unknown", open_clip_name="RN5").tokenizer()
    with pytest.raises(ValueError, match=r"model mine needs open_clip_name, or architecture with"):
        ModelSpec("mine", architecture={"text_cfg": {}}).tokenizer()
