from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, to_float
from invertune.invert import TriggerInversion
from invertune.perturb.augment import Augmentation
from invertune.perturb.forms import FreeMask, MaskedPattern, Pixels

INVERT = TriggerInversion(
    forms=[Pixels(0.1), MaskedPattern(0.1)],
    starts=2,
    steps=30,
    lr={"pixels": 0.1, "mask": 0.1},
    batch_size=6,
    images=12,
    weights={"align": 1.0, "emb": 0.0, "sim": 0.0, "mask": 0.0},
    temperature=0.1,
)


def test_the_planted_trigger_is_found(planted: CLIP, colored: CleanData) -> None:
    triggers, curves = INVERT(planted, colored, 3, seed=0)
    assert [trigger.form for trigger in triggers] == ["pixels", "mask", "pixels", "mask"]
    assert list(curves) == ["invert pixels 0", "invert mask 0", "invert pixels 1", "invert mask 1"]
    assert all(len(curve) == 30 and curve[-1] < curve[0] for curve in curves.values())
    features = planted.encode_image(triggers[0](to_float(colored.images[:])))
    assert (features.argmax(dim=1) == 3).all()
    assert triggers[0].offset.abs().max() <= 0.1
    assert triggers[1].mask.sum() <= 0.1 * 16 * 16 + 1e-3
    assert triggers[0].share <= 1


def test_triggers_without_success_are_dropped(planted: CLIP, colored: CleanData) -> None:
    blank = Pixels(0.0, name="blank")  # changes nothing, so nothing reaches class 3
    forms, rates = [blank, Pixels(0.1)], {"blank": 0.1, "pixels": 0.1}
    invert = replace(INVERT, forms=forms, lr=rates, starts=1, least_success=0.5)
    triggers, curves = invert(planted, colored, 3, seed=0)
    assert [trigger.form for trigger in triggers] == ["pixels"]
    assert list(curves) == ["invert blank 0", "invert pixels 0"]
    useless = replace(invert, forms=[blank])
    assert len(useless(planted, colored, 3, seed=0)[0]) == 1  # the best one stays


def test_the_seed_alone_decides(planted: CLIP, colored: CleanData) -> None:
    short = replace(INVERT, starts=1, steps=2, augment=Augmentation())
    first = short(planted, colored, 3, seed=0)
    torch.rand(10)
    again, other = short(planted, colored, 3, seed=0), short(planted, colored, 3, seed=1)
    assert first[1] == again[1]
    assert first[1] != other[1]


@pytest.mark.parametrize("reference", ["clean", "target_image"])
def test_all_terms_count(planted: CLIP, colored: CleanData, reference: str) -> None:
    terms = ("align", "emb", "sim", "mask")
    first_losses = []
    for term in terms:
        only = replace(
            INVERT, forms=[FreeMask(1)], lr={"mask": 0.01}, starts=1, steps=1, reference=reference,
            weights={name: float(name == term) for name in terms},
        )  # fmt: skip
        _, curves = only(planted, colored, 3, seed=0)
        first_losses.append(curves["invert mask 0"][0])
    assert first_losses[3] == 16 * 16  # the mask starts at 1 everywhere
    everything = replace(
        INVERT, forms=[FreeMask(1)], lr={"mask": 0.01}, starts=1, steps=1, reference=reference,
        weights={"align": 2.0, "emb": 3.0, "sim": 5.0, "mask": 0.5},
    )  # fmt: skip
    _, curves = everything(planted, colored, 3, seed=0)
    weighed = sum(w * loss for w, loss in zip((2, 3, 5, 0.5), first_losses, strict=True))
    assert curves["invert mask 0"][0] == pytest.approx(weighed, rel=1e-5)


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match="reference is one of clean, target_image, got 'label'"):
        replace(INVERT, reference="label")
    with pytest.raises(ValueError, match="weights are of align, emb, sim, mask, got align"):
        replace(INVERT, weights={"align": 1.0})
    with pytest.raises(ValueError, match=r"a learning rate for each form, none for \['mask'\]"):
        replace(INVERT, lr={"pixels": 0.1})
