from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.features import check_finite_rows
from invertune.clip.models import CLIP

Tiny = Callable[[str], CLIP]


def _without_text(model: CLIP) -> CLIP:
    with torch.no_grad():
        model.clip.text_projection.fill_(torch.nan)
    return model


def _without_images(model: CLIP) -> CLIP:
    with torch.no_grad():
        next(model.visual.parameters()).fill_(torch.nan)
    return model


def test_what_is_finite_stays_as_it_is() -> None:
    rows = torch.eye(3)
    assert check_finite_rows(rows, "m", "text features", "texts") is rows


def test_the_error_counts_the_rows_and_names_the_first() -> None:
    rows = torch.eye(3)
    rows[1, 0], rows[2, 2] = torch.nan, torch.inf
    said = "m gives text features that are not finite, for 2 of 3 texts, such as 'b'"
    with pytest.raises(ValueError, match=said):
        check_finite_rows(rows, "m", "text features", "texts", ["a", "b", "c"])


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_text_tower_that_gives_no_number_is_an_error_wherever_it_is_asked(
    tiny: Tiny, kind: str
) -> None:
    model = _without_text(tiny(kind))
    said = f"tiny {kind} gives text features that are not finite, for . of . "
    with pytest.raises(ValueError, match=f"{said}texts, such as 'a lemon'"):
        model.encode_text(["a lemon"])
    with pytest.raises(ValueError, match=f"{said}texts"):
        model.encode_tokens(model.tokenize(["a lemon", "a cat"]))
    with pytest.raises(ValueError, match=f"{said}texts, such as 'a lemon'"):
        zero_shot_classifier(model, ["lemon", "cat"], ["a {}"])
    assert model.encode_image(torch.rand(1, 3, 32, 32)).isfinite().all()  # the other tower works


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_an_image_tower_that_gives_no_number_is_an_error_wherever_it_is_asked(
    tiny: Tiny, kind: str
) -> None:
    model, images = _without_images(tiny(kind)), torch.rand(2, 3, 32, 32)
    said = f"tiny {kind} gives image features that are not finite, for 2 of 2 images"
    with pytest.raises(ValueError, match=said):
        model.encode_image(images)
    with pytest.raises(ValueError, match=said):
        encode_images(model, images)
    assert model.encode_text(["a lemon"]).isfinite().all()


def test_a_head_that_gives_no_number_is_an_error(tiny: Tiny) -> None:
    class Head(torch.nn.Module):
        def forward(self, _: torch.nn.Module, features: torch.Tensor) -> torch.Tensor:
            return torch.full((len(features), 2), torch.nan)

    model = tiny("vit")
    model.head = Head()
    with pytest.raises(ValueError, match="similarities of its head that are not finite, for 3 of"):
        model.similarities(torch.eye(3, 16), torch.eye(16, 2))


def test_a_training_is_told_by_its_loss(tiny: Tiny) -> None:
    model = _without_images(tiny("vit")).train()
    assert model.encode_image(torch.rand(1, 3, 32, 32)).isnan().all()
