"""What every detector promises; a detector is tested by its YAML being there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.detector import (
    Detection,
    Detector,
    ModelDetector,
    PairDetector,
    check_detector,
    check_text,
    given_to_detector,
)
from invertune.evidence import Evidence

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
FOLDER = Path(__file__).parents[2] / "conf" / "detector"
CHOICES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "none")
every = pytest.mark.parametrize("choice", CHOICES)


@pytest.fixture
def detector(small: Callable[[str, str], Detector], choice: str) -> Detector:
    return small("detector", choice)


def _kind(choice: str) -> str:
    return ("resnet", "vit")[CHOICES.index(choice) % 2]


def _found(
    detector: Detector, model: CLIP, plain: DataBundle, lazy: bool = False
) -> Detection | Tensor:
    if isinstance(detector, PairDetector):
        pairs = plain.pairs.take(torch.arange(24))
        return detector.scores(model, pairs if lazy else pairs.kept(), seed=0)
    clean = given_to_detector(detector, plain)
    images = clean.images.take(torch.arange(len(clean.images))) if lazy else clean.images
    return detector.detect(model, replace(clean, images=images), seed=0)


@every
def test_contract(
    detector: Detector, choice: str, taught: Taught, plain: DataBundle, state: State, tmp_path: Path
) -> None:
    model = taught(_kind(choice))
    before = state(model)
    found = _found(detector, model, plain)
    after = state(model)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not model.training
    assert all(weight.requires_grad for weight in model.parameters())
    torch.rand(7)  # moves the global generator
    # Pictures may be read only where they are looked at.
    again = _found(detector, model, plain, lazy=True)
    if isinstance(found, Tensor):
        assert isinstance(again, Tensor)
        assert (found.shape, found.dtype) == ((24,), torch.float32)
        assert not found.isnan().any()
        assert torch.equal(found, again)
        return
    assert isinstance(again, Detection)
    assert (found.score, found.threshold) == (again.score, again.threshold)
    assert found.evidence.findings == again.evidence.findings
    assert found.evidence.curves == again.evidence.curves
    assert sum(found.evidence.seconds.values()) > 0
    found.evidence.save(tmp_path)
    assert Evidence.load(tmp_path).findings == found.evidence.findings


@every
def test_it_says_what_it_needs_and_is_held_to_it(detector: Detector, plain: DataBundle) -> None:
    assert detector.name
    assert detector.knows
    assert isinstance(detector, ModelDetector) != isinstance(detector, PairDetector)
    check_detector(detector, plain, poisoned_pairs=True)
    nothing = replace(plain.labeled_clean, images=plain.labeled_clean.images[:0],
                      labels=plain.labeled_clean.labels[:0], ids=[])  # fmt: skip
    few = replace(plain, make_clean=lambda: nothing, make_clean_captions=None)
    with pytest.raises(ValueError, match=f"detector {detector.name} needs ") as caught:
        check_detector(detector, few, poisoned_pairs=False)
    assert "\n" not in str(caught.value)


class _Tower(nn.Module):
    """An image tower alone, as encoders of images have it."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.visual, self.logit_scale = clip.visual, clip.logit_scale


@every
def test_it_takes_an_encoder_without_texts_or_says_why_not(
    detector: Detector, choice: str, taught: Taught, plain: DataBundle
) -> None:
    whole = taught(_kind(choice))
    model = CLIP("tower", _Tower(copy.deepcopy(whole.clip)), whole.tokenizer, whole.image_size)
    if not getattr(detector, "needs_text", False):
        check_text(detector, model)
        found, wanted = (_found(detector, one, plain) for one in (model.eval(), whole))
        one, other = (own if isinstance(own, Tensor) else own.score for own in (found, wanted))
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
        return
    check_text(detector, whole)
    said = f"detector {detector.name} needs a text tower, tower has none: choose a detector of the"
    with pytest.raises(ValueError, match=said) as caught:
        check_text(detector, model)
    assert "\n" not in str(caught.value)
