from __future__ import annotations

import math

import pytest
import torch

from invertune.perturb.advclip_losses import (
    adversarial_loss,
    gan_loss,
    info_nce,
    reconstruction_loss,
    topology_criterion,
    topology_graph,
    topology_loss,
)


def test_info_nce_of_the_same_orthonormal_features() -> None:
    wanted = -math.log(math.exp(10) / (math.exp(10) + 3))
    assert info_nce(torch.eye(4), torch.eye(4), 0.1).item() == pytest.approx(wanted, abs=1e-6)
    # Lengths do not matter; where all keys are alike, finding the right one is a guess.
    longer = info_nce(3 * torch.eye(4), 2 * torch.eye(4), 0.1)
    assert longer.item() == pytest.approx(wanted, abs=1e-6)
    alike = torch.ones(4, 4)
    assert info_nce(torch.eye(4), alike, 0.1).item() == pytest.approx(math.log(4))


def test_the_graph_by_hand() -> None:
    # All others are equally near: each counts as the nearest, as near as the feature itself.
    assert torch.allclose(topology_graph(torch.eye(3)), torch.full((3, 3), 1 / 3))
    # Two features in one place, one at a right angle: similarities 1, 1, 0, scaled 1, 1, 0.5.
    graph = topology_graph(torch.eye(2)[[0, 0, 1]])
    row = [0.4, 0.4, 0.2]
    assert torch.allclose(graph, torch.tensor([row, row, [1 / 3] * 3]))


def test_the_criterion_by_hand() -> None:
    spread, paired = torch.eye(3), torch.eye(3)[[0, 0, 1]]
    assert topology_criterion(spread, spread).item() == 0
    row = torch.tensor([0.4, 0.4, 0.2])
    third = torch.full((3,), 1 / 3)
    forward = (row * (row / third).log() + (1 - row) * ((1 - row) / (1 - third)).log()).sum()
    back = (third * (third / row).log() + (1 - third) * ((1 - third) / (1 - row)).log()).sum()
    assert topology_criterion(spread, paired).item() == pytest.approx(2 * forward.item(), abs=1e-5)
    assert topology_criterion(paired, spread).item() == pytest.approx(2 * back.item(), abs=1e-5)


def test_the_criterion_sees_neighborhoods_only() -> None:
    generator = torch.Generator().manual_seed(0)
    features, others = torch.randn(2, 6, 5, generator=generator)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator))[0]
    assert topology_criterion(features, others).item() > 0.01
    assert topology_criterion(features, features @ rotation).item() == pytest.approx(0, abs=1e-5)
    turned = topology_criterion(features @ rotation, others @ rotation)
    assert turned.item() == pytest.approx(topology_criterion(features, others).item(), abs=1e-5)


def test_the_sums_weigh_the_texts() -> None:
    clean, perturbed, text = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    first, second = info_nce(clean, perturbed, 0.1), info_nce(perturbed, text, 0.1)
    found = adversarial_loss(clean, perturbed, text, temperature=0.1, beta=5.0)
    assert found.item() == pytest.approx(-(first + 5 * second).item())
    first, second = topology_criterion(clean, perturbed), topology_criterion(perturbed, text)
    found = topology_loss(clean, perturbed, text, gamma=5.0)
    assert found.item() == pytest.approx(-(first + 5 * second).item())


def test_what_the_discriminator_and_the_pixels_cost() -> None:
    decisions = torch.tensor([0.5, 0.25])
    assert gan_loss(decisions, real=True).item() == pytest.approx(math.log(8) / 2)
    assert gan_loss(decisions, real=False).item() == pytest.approx(-math.log(0.5 * 0.75) / 2)
    ones = torch.ones(1, 3, 2, 2)
    assert reconstruction_loss(ones, 3 * ones).item() == 4
