from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from invertune.clip.encode import encode_images, frequency, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle, to_float
from invertune.identify import TargetIdentification
from invertune.invertune import InverTune
from invertune.perturb.forms import MaskedPattern, Pixels
from invertune.perturb.perturber import Generator
from invertune.perturb.raw import RawPerturbation
from invertune.tune import ActivationTuning

GENERATORS = [
    Generator("pixels", Pixels(0.1), "feature", 5, 0.1, 6, 2, 1.0),
    Generator("mask", MaskedPattern(0.1), "concentration", 5, 0.1, 6, 1, 1.0),
]


def test_they_are_the_perturbations_that_voted(planted: CLIP, colored: CleanData) -> None:
    votes = TargetIdentification(GENERATORS, 12)(planted, colored, seed=3).votes
    triggers, curves = RawPerturbation(GENERATORS, 12)(planted, colored, 0, seed=3)
    assert [trigger.form for trigger in triggers] == ["pixels", "pixels", "mask"]
    assert curves == {}
    classifier = zero_shot_classifier(planted, colored.prompts, colored.templates)
    images = to_float(colored.images[:])
    seen = [
        frequency(planted, encode_images(planted, trigger(images)), classifier)
        for trigger in triggers
    ]
    first, second = votes
    assert ((seen[0] + seen[1]) / 2).tolist() == pytest.approx(first.perturbed_frequency)
    assert seen[2].tolist() == pytest.approx(second.perturbed_frequency)


def test_the_seed_decides_and_the_target_does_not(planted: CLIP, colored: CleanData) -> None:
    raw = RawPerturbation(GENERATORS, 12)
    first, _ = raw(planted, colored, 0, seed=0)
    torch.rand(10)
    again, _ = raw(planted, colored, 3, seed=0)
    other, _ = raw(planted, colored, 0, seed=1)
    assert all(torch.equal(a.offset, b.offset) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].offset, other[0].offset)


def test_it_takes_the_place_of_the_inversion(tiny: Callable[[str], CLIP], data: DataBundle) -> None:
    tune = ActivationTuning(
        samples=4, steps=2, lr=1e-3, weight_decay=0.0, layers=[-1], clusters=2, unit="channel",
        update="all", match="sample", schedule="cosine", batch_norm="frozen", clip=None,
        weights={"activation": 1.0, "embedding": 0.0, "preserve": 1.0, "distance": 0.0,
                 "cross_modal": 0.0},
    )  # fmt: skip
    generators = [replace(generator, steps=2) for generator in GENERATORS]
    defense = InverTune(
        "raw", TargetIdentification(generators, 8), RawPerturbation(generators, 8), tune
    )
    assert defense.clean_samples == 8
    evidence = defense.purify(tiny("vit"), data.clean, seed=0).evidence
    assert [trigger.form for trigger in evidence.triggers] == ["pixels", "pixels", "mask"]
    assert evidence.findings["tuned_layers"] == ["block1"]


def test_no_generator() -> None:
    with pytest.raises(ValueError, match="at least one generator"):
        RawPerturbation([], 12)
