from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.perturb.families import Family, Overlay, SmoothWarp
from invertune.perturb.probes import Probe
from invertune.probing import RandomProbes

Laid = Callable[..., Family]


@pytest.fixture
def probes(laid: Laid) -> RandomProbes:
    """Return checkerboards, which send images to the planted class, and waves, which do nothing."""
    kinds = [Probe(laid(), [0.5, 0.3, 0.001], draws=3), Probe(SmoothWarp(), [0.1], draws=2)]
    return RandomProbes(probes=kinds, held=12, judged=2)


def test_the_class_that_changes_send_images_to_is_named(
    planted: CLIP, colored: CleanData, probes: RandomProbes
) -> None:
    found = probes(planted, colored, seed=0)
    assert colored.class_names[found.target_label] == "planted"
    checkers, warp = found.survival
    assert (checkers.form, warp.form) == ("checkers", "warp")
    assert checkers.classes == [[0, 1, 2, 3]] * 3
    assert [shares[3] for shares in checkers.success] == [1, 1, 0]
    assert warp.success == [[0.0] * 4]  # plain images have nothing to warp
    # At the smallest budget nobody leads, at the one before the planted class does.
    assert found.gain == checkers.pull[1][3] > 0.5


def test_shares_are_of_images_of_other_classes(planted: CLIP, colored: CleanData) -> None:
    # All images become green: all eight that are red or blue, of eight.
    green = RandomProbes(probes=[Probe(Painted(), [1.0], draws=1)], held=12, judged=1)
    (painted,) = green(planted, colored, seed=0).survival
    assert painted.success == [[0.0, 1.0, 0.0, 0.0]]


class Painted(Overlay):
    """Lays green over everything."""

    def start(self, count: int, side: int, generator: torch.Generator) -> list[torch.Tensor]:
        color = torch.tensor([-20.0, 20.0, -20.0]).view(1, 3, 1, 1)
        return [color.expand(count, 3, side, side)]


def test_the_seed_alone_decides(planted: CLIP, colored: CleanData) -> None:
    probes = RandomProbes(probes=[Probe(Overlay(spread=3.0), [0.9], draws=3)], held=9, judged=1)
    first = probes(planted, colored, seed=0)
    torch.rand(10)
    assert probes(planted, colored, seed=0) == first
    assert probes(planted, colored, seed=1).survival != first.survival


def test_what_makes_no_sense(planted: CLIP, colored: CleanData, probes: RandomProbes) -> None:
    with pytest.raises(ValueError, match="random probes are of at least one kind"):
        dataclasses.replace(probes, probes=[])
    with pytest.raises(ValueError, match="13 clean images, got 12"):
        dataclasses.replace(probes, held=13)(planted, colored, seed=0)
