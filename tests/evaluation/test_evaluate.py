from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from evaluation.evaluate import evaluate
from evaluation.retrieval import evaluate_retrieval
from evaluation.zero_shot import evaluate_zero_shot
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.data.images import Images


def _white(images: Tensor) -> Tensor:
    return torch.ones_like(images)


@pytest.mark.parametrize("target", [None, 1])
def test_both_tasks_are_measured_on_their_own_part(
    tiny: Callable[[str], CLIP], data: DataBundle, target: int | None
) -> None:
    model, trigger = tiny("vit"), None if target is None else _white
    found = evaluate(model, data, trigger, target, batch_size=7)
    predicted = evaluate_zero_shot(
        model, data.zero_shot, data.prompts, data.templates, trigger, target
    )
    name = None if target is None else data.class_names[target]
    assert torch.equal(found.predictions.clean, predicted.clean)
    assert torch.equal(found.predictions.triggered, predicted.triggered)
    assert found.scores["zero_shot"] == predicted.rates(target)
    assert found.scores["retrieval"] == evaluate_retrieval(model, data.retrieval, trigger, name)
    assert (found.scores["zero_shot"]["asr"] is None) == (target is None)
    assert (found.scores["retrieval"]["asr"] is None) == (target is None)


def test_a_trigger_and_a_target_go_together(tiny: Callable[[str], CLIP], data: DataBundle) -> None:
    with pytest.raises(ValueError, match="go together"):
        evaluate(tiny("vit"), data, _white, None)


def test_no_more_than_a_batch_of_pictures_is_read_at_a_time(
    tiny: Callable[[str], CLIP], data: DataBundle
) -> None:
    read: list[int] = []

    def lazy(images: Images) -> Images:
        pictures = images[:]

        def source(index: Tensor) -> Tensor:
            read.append(len(index))
            return pictures[index]

        return Images(source, len(images))

    test, texts = data.zero_shot, data.retrieval
    slow = replace(
        data,
        make_zero_shot=lambda: replace(test, images=lazy(test.images)),
        make_retrieval=lambda: replace(texts, images=lazy(texts.images)),
    )
    found = evaluate(tiny("vit"), slow, _white, 1, batch_size=5)
    assert max(read) == 5
    wanted = evaluate(tiny("vit"), data, _white, 1, batch_size=5)
    assert found.scores == wanted.scores
    assert torch.equal(found.predictions.triggered, wanted.predictions.triggered)
