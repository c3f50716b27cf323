"""FLOP and memory of a model, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from invertune.clip.cost import build_on, cost, measured
from invertune.clip.spec import ModelSpec
from invertune.work import Work

SIDE, PATCH, WIDTH, LAYERS, EMBED = 32, 8, 16, 2, 16
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}


@pytest.fixture
def vit() -> ModelSpec:
    vision = {"image_size": SIDE, "layers": LAYERS, "width": WIDTH, "head_width": 8,
              "patch_size": PATCH}  # fmt: skip
    own = {"embed_dim": EMBED, "quick_gelu": True, "vision_cfg": vision, "text_cfg": TEXT}
    return ModelSpec("tiny", architecture=own)


def test_a_forward_pass_is_what_its_matrices_say(vit: ModelSpec) -> None:
    tokens = (SIDE // PATCH) ** 2 + 1
    patches = 2 * 3 * PATCH**2 * WIDTH * (tokens - 1)
    # Queries, keys and values, the output, and two layers of four times the width.
    block = 2 * tokens * WIDTH * (3 * WIDTH + WIDTH + 8 * WIDTH) + 2 * 2 * tokens**2 * WIDTH
    found = cost(vit, SIDE)
    assert found.forward == patches + LAYERS * block + 2 * WIDTH * EMBED
    assert 1.9 * found.forward < found.back < 2.2 * found.forward
    assert 2.7 * found.forward < found.trained <= 3 * found.forward
    assert found.parameters == sum(p.numel() for p in build_on(vit, "cpu").parameters())
    # At least what goes into every block, in float32.
    assert found.saved > 4 * tokens * WIDTH * LAYERS * 8


def test_open_clips_own_models_are_counted_without_memory() -> None:
    found = cost(ModelSpec("rn50", "RN50-quickgelu"), 224)
    assert 12e9 < found.forward < 12.5e9  # 6.1 billion multiplications and additions
    assert found.parameters == 102_007_137
    with pytest.raises(ValueError, match="open_clip has no model 'RN51'"):
        cost(ModelSpec("x", "RN51"), 224)


def test_work_costs_its_sum(vit: ModelSpec) -> None:
    found = cost(vit, SIDE)
    work = Work(forward=2, back=3, trained=5, texts=7, texts_trained=11)
    assert found.flop(work) == (
        2 * found.forward + 3 * found.back + 5 * found.trained + 7 * found.texts
        + 11 * found.texts_trained
    )  # fmt: skip


def test_seconds_are_measured(vit: ModelSpec) -> None:
    found = measured(vit, SIDE)
    assert min(found.forward, found.back, found.trained, found.texts, found.texts_trained) > 0
