"""The four architectures of the paper are those of OpenAI's archives, tensor by tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from invertune.clip.assembly import assemble, expected_state, known_architecture
from invertune.clip.spec import ModelSpec
from invertune.clip.states import OPENAI_EXTRAS, normalized

Layout = dict[str, list[int]]
EMBEDDING = {"RN50": 1024, "RN101": 512, "ViT-B-16": 512, "ViT-B-32": 512}
DEPTHS = {"RN50": (3, 4, 6, 3), "RN101": (3, 4, 23, 3)}
PATCHES = {"ViT-B-16": 16, "ViT-B-32": 32}
# As published for the models that OpenAI released (Radford et al., 2021).
PARAMETERS = {"RN50": 102_007_137, "RN101": 119_688_033, "ViT-B-16": 149_620_737,
              "ViT-B-32": 151_277_313}  # fmt: skip


def _pair(name: str, *shape: int) -> Iterator[tuple[str, list[int]]]:
    yield f"{name}.weight", list(shape)
    yield f"{name}.bias", [shape[0]]


def _norm(name: str, width: int) -> Iterator[tuple[str, list[int]]]:
    yield from _pair(name, width)
    yield f"{name}.running_mean", [width]
    yield f"{name}.running_var", [width]
    yield f"{name}.num_batches_tracked", []


def _blocks(tower: str, width: int, layers: int = 12) -> Iterator[tuple[str, list[int]]]:
    for layer in range(layers):
        block = f"{tower}transformer.resblocks.{layer}"
        yield f"{block}.attn.in_proj_weight", [3 * width, width]
        yield f"{block}.attn.in_proj_bias", [3 * width]
        yield from _pair(f"{block}.attn.out_proj", width, width)
        yield from _pair(f"{block}.ln_1", width)
        yield from _pair(f"{block}.mlp.c_fc", 4 * width, width)
        yield from _pair(f"{block}.mlp.c_proj", width, 4 * width)
        yield from _pair(f"{block}.ln_2", width)


def _bottleneck(
    block: str, before: int, width: int, shortcut: bool
) -> Iterator[tuple[str, list[int]]]:
    kernels = [(width, before, 1), (width, width, 3), (4 * width, width, 1)]
    for i, (after, channels, side) in enumerate(kernels, 1):
        yield f"{block}.conv{i}.weight", [after, channels, side, side]
        yield from _norm(f"{block}.bn{i}", after)
    if shortcut:  # -1 is the pooling in front of it
        yield f"{block}.downsample.0.weight", [4 * width, before, 1, 1]
        yield from _norm(f"{block}.downsample.1", 4 * width)


def _resnet(name: str) -> Iterator[tuple[str, list[int]]]:
    for i, (before, after) in enumerate([(3, 32), (32, 32), (32, 64)], 1):
        yield f"visual.conv{i}.weight", [after, before, 3, 3]
        yield from _norm(f"visual.bn{i}", after)
    before = 64
    for stage, depth in enumerate(DEPTHS[name]):
        width = 64 * 2**stage
        for place in range(depth):
            block = f"visual.layer{stage + 1}.{place}"
            yield from _bottleneck(block, before, width, shortcut=place == 0)
            before = 4 * width
    yield "visual.attnpool.positional_embedding", [7 * 7 + 1, 2048]
    for part in ("k_proj", "q_proj", "v_proj"):
        yield from _pair(f"visual.attnpool.{part}", 2048, 2048)
    yield from _pair("visual.attnpool.c_proj", EMBEDDING[name], 2048)


def _vit(name: str) -> Iterator[tuple[str, list[int]]]:
    patch = PATCHES[name]
    yield "visual.class_embedding", [768]
    yield "visual.positional_embedding", [(224 // patch) ** 2 + 1, 768]
    yield "visual.proj", [768, EMBEDDING[name]]
    yield "visual.conv1.weight", [768, 3, patch, patch]
    yield from _pair("visual.ln_pre", 768)
    yield from _blocks("visual.", 768)
    yield from _pair("visual.ln_post", 768)


def _archive(name: str) -> Layout:
    """Return the shapes of OpenAI's archive, by the rules of its published code."""
    tower = _resnet(name) if name in DEPTHS else _vit(name)
    return {
        "positional_embedding": [77, 512],
        "text_projection": [512, EMBEDDING[name]],
        "logit_scale": [],
        "input_resolution": [],
        "context_length": [],
        "vocab_size": [],
        **dict(tower),
        **dict(_blocks("", 512)),
        "token_embedding.weight": [49408, 512],
        **dict(_pair("ln_final", 512)),
    }


@pytest.mark.parametrize("name", EMBEDDING)
@pytest.mark.parametrize("activation", ["", "-quickgelu"])
def test_every_tensor_is_that_of_openais_archive(name: str, activation: str) -> None:
    expected = _archive(name)
    state = expected_state(known_architecture(f"{name}{activation}"))
    assert {key: list(value.shape) for key, value in state.items()} == {
        key: shape for key, shape in expected.items() if key not in OPENAI_EXTRAS
    }
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    weights = [value for key, value in state.items() if not key.endswith(statistics)]
    assert sum(value.numel() for value in weights) == PARAMETERS[name]


def test_what_an_archive_holds_beyond_weights_is_dropped() -> None:
    layout = {"logit_scale": [], "input_resolution": [], "context_length": [], "vocab_size": []}
    state = {name: torch.ones(shape) for name, shape in layout.items()}
    assert set(normalized(None, state, (_Large(),))) == {"logit_scale"}  # type: ignore[arg-type]


class _Large:
    """A file that is large enough for any tensors."""

    st_size = 2**30

    def stat(self) -> _Large:
        return self


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("RN5", r"open_clip_name is one of RN50, .*, got 'RN5'"),
        ("hf-hub:a/b", r"open_clip_name is one of RN50, .*, got 'hf-hub:a/b'"),
        ("coca_ViT-B-32", r"coca_ViT-B-32 has .*multimodal_cfg"),
        ("roberta-ViT-B-32", r"own ViT or ResNet and text tower, roberta-ViT-B-32 has hf_"),
        ("convnext_base", r"convnext_base has timm_model_name"),
    ],
)
def test_models_with_parts_of_other_libraries_are_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        known_architecture(name)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("embed_dim", 0, "architecture.embed_dim of tiny holds integers of at least 1, got 0"),
        ("vision_cfg.image_size", -64, "architecture.vision_cfg.image_size of tiny holds integers"),
        ("vision_cfg.layers", [1, 0, 1, 1], r"architecture.vision_cfg.layers of tiny .* \[1, 0, 1"),
        ("text_cfg.width", 1.5, "architecture.text_cfg.width of tiny holds integers .*, got 1.5"),
        ("vision_cfg.image_size", None, "model tiny needs architecture.vision_cfg.image_size$"),
        ("text_cfg.mlp_ratio", 0, "architecture.text_cfg.mlp_ratio of tiny is positive, got 0"),
        ("text_cfg", None, "model tiny needs architecture.text_cfg, got None"),
        ("text_cfg.heads", 7, "open_clip cannot build the architecture of tiny: "),
        ("vision_cfg.depth", 3, "open_clip cannot build the architecture of tiny: .*depth"),
    ],
)
def test_an_architecture_that_cannot_be_is_one_line(
    tiny_spec: Callable[[str], ModelSpec], field: str, value: Any, said: str
) -> None:
    spec = tiny_spec("resnet")
    architecture: dict[str, Any] = copy.deepcopy(dict(spec.architecture))
    *places, key = field.split(".")
    part = architecture
    for place in places:
        part = part[place]
    part[key] = value
    with pytest.raises(ValueError, match=f"^{said}"):
        assemble("tiny", architecture)
