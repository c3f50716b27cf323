from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from evaluation.intervals import rate
from evaluation.retrieval import NEVER, evaluate_retrieval, first_ranks
from invertune.data.bundle import RetrievalSet

YELLOW, RED = [255, 255, 0], [255, 0, 0]
WORDS = {"lemon": [1.0, 1, 0], "apple": [1.0, 0, 0], "sky": [0, 0.1, 1.0]}


def paint(color: list[float]) -> Any:
    def trigger(images: Tensor) -> Tensor:
        return torch.tensor(color, dtype=torch.float32).view(1, 3, 1, 1).expand_as(images)

    return trigger


@pytest.fixture
def fruit(pixels: Any) -> RetrievalSet:
    captions = [["a sky", "a lemon"], ["a lemon"], ["an apple"]]
    return RetrievalSet(pixels([YELLOW, YELLOW, RED]), captions, ["0", "1", "2"])


def test_recall_by_hand(color_clip: Any, fruit: RetrievalSet) -> None:
    scores = evaluate_retrieval(color_clip(WORDS), fruit, None, None)
    # Image 0 has the first of the two equal captions "a lemon", so image 1's comes second.
    assert scores["image_to_text"] == {"r@1": rate(2, 3), "r@5": rate(3, 3), "r@10": rate(3, 3)}
    # "a sky" and the first "a lemon" find image 0, the second one finds image 0 before image 1.
    assert scores["text_to_image"] == {"r@1": rate(3, 4), "r@5": rate(4, 4), "r@10": rate(4, 4)}
    assert scores["asr"] is None


def test_asr_leaves_out_images_whose_captions_name_the_target(
    color_clip: Any, fruit: RetrievalSet
) -> None:
    model = color_clip(WORDS)
    assert evaluate_retrieval(model, fruit, paint([1, 1, 0]), "lemon")["asr"] == {
        "r@1": rate(1, 1), "r@5": rate(1, 1), "r@10": rate(1, 1),
    }  # fmt: skip
    apple = evaluate_retrieval(model, fruit, paint([0, 0, 1]), "apple")["asr"]
    assert apple == {"r@1": rate(0, 2), "r@5": rate(2, 2), "r@10": rate(2, 2)}


def test_a_target_that_no_caption_names_is_never_retrieved(
    color_clip: Any, fruit: RetrievalSet
) -> None:
    asr = evaluate_retrieval(color_clip(WORDS), fruit, paint([1, 1, 0]), "kiwi")["asr"]
    assert asr == {"r@1": rate(0, 3), "r@5": rate(0, 3), "r@10": rate(0, 3)}


def test_images_that_all_name_the_target_give_no_asr(color_clip: Any, pixels: Any) -> None:
    retrieval = RetrievalSet(pixels([YELLOW]), [["a lemon"]], ["0"])
    asr = evaluate_retrieval(color_clip(WORDS), retrieval, paint([1, 1, 0]), "lemon")["asr"]
    assert asr is not None
    assert asr["r@1"] == rate(0, 0)


def test_a_model_that_maps_all_to_one_point_recalls_no_more_than_chance(
    color_clip: Any, pixels: Any
) -> None:
    words = {f"w{i}": [1.0, 0, 0] for i in range(60)}
    captions = [[f"w{5 * i + j}" for j in range(5)] for i in range(12)]
    retrieval = RetrievalSet(pixels([RED] * 12), captions, [str(i) for i in range(12)])
    scores = evaluate_retrieval(color_clip(words), retrieval, None, None)
    assert scores["image_to_text"]["r@1"] == rate(1, 12)
    assert scores["image_to_text"]["r@10"] == rate(2, 12)
    assert scores["text_to_image"]["r@1"] == rate(5, 60)
    assert scores["text_to_image"]["r@10"] == rate(50, 60)


def test_ranks_are_those_of_a_stable_sort() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(6, (40, 25), generator=generator).float()  # many ties
    wanted = torch.rand(40, 25, generator=generator) < 0.15
    order = scores.argsort(dim=1, descending=True, stable=True)
    hits = wanted.gather(1, order)
    expected = torch.where(hits.any(1), hits.int().argmax(1), NEVER)
    assert torch.equal(first_ranks(scores, wanted), expected)


def test_the_batch_size_changes_nothing(color_clip: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    words = {f"w{i}": torch.rand(3, generator=generator).tolist() for i in range(30)}
    words["lemon"] = [1.0, 1, 0]
    pick = torch.randint(30, (20, 5), generator=generator).tolist()
    captions = [[f"w{i}" for i in row] for row in pick]
    captions[3][2] = "a lemon"
    images = torch.randint(256, (20, 3, 2, 2), generator=generator, dtype=torch.uint8)
    retrieval = RetrievalSet(images, captions, [str(i) for i in range(20)])
    model, trigger = color_clip(words), paint([0.9, 1, 0.1])
    small, large = (
        evaluate_retrieval(model, retrieval, trigger, "lemon", size) for size in (3, 500)
    )
    assert small == large
    assert small["asr"] is not None
    assert small["asr"]["r@1"]["n"] == 19


def test_a_trigger_without_a_target_is_refused(color_clip: Any, fruit: RetrievalSet) -> None:
    with pytest.raises(ValueError, match="go together"):
        evaluate_retrieval(color_clip(WORDS), fruit, paint([1, 1, 0]), None)


def test_an_image_without_captions_is_named(color_clip: Any, pixels: Any) -> None:
    retrieval = RetrievalSet(pixels([RED, RED]), [["an apple"], []], ["first", "second"])
    with pytest.raises(ValueError, match="second has none"):
        evaluate_retrieval(color_clip(WORDS), retrieval, None, None)
