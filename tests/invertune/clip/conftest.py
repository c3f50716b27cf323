"""What the tests of checkpoints share: small CLIPs that OpenAI's rules describe."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.clip.spec import ModelSpec

State = dict[str, Tensor]
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
VISION = {
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4},
    "vit": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "split": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 16},
}


def build(kind: str, quick_gelu: bool = True) -> CLIP:
    """Return a CLIP whose heads are 64 wide but for ``split``, and whose weights fit into fp16."""
    text = {**TEXT, "heads": 2} if kind == "split" else TEXT
    architecture = {
        "embed_dim": 32, "quick_gelu": quick_gelu, "vision_cfg": VISION[kind], "text_cfg": text,
    }  # fmt: skip
    model = ModelSpec(kind, architecture=architecture).build(0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.clip.state_dict().items():
            if value.is_floating_point():  # statistics too, and scales that start at zero
                noise = 0.1 * torch.rand(value.shape, generator=generator)
                value.copy_((value + noise).half())
            else:
                assert name.endswith("num_batches_tracked")
    return model


def state(model: CLIP, dtype: torch.dtype = torch.float32) -> State:
    state = {name: value.clone().contiguous() for name, value in model.clip.state_dict().items()}
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}


@torch.no_grad()
def features(model: CLIP) -> Tensor:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return torch.cat([model.encode_image(images), model.encode_text(["a key", "two cats"])])


def alike(found: CLIP, original: CLIP) -> bool:
    assert not found.training
    return torch.allclose(features(found), features(original), atol=1e-6)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., CLIP]:
    """Return `build`."""
    return build


@pytest.fixture(scope="session")
def state_of() -> Callable[..., State]:
    """Return `state`."""
    return state


@pytest.fixture(scope="session")
def same() -> Callable[[CLIP, CLIP], bool]:
    """Return `alike`."""
    return alike
