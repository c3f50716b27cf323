from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from invertune.baselines.safe_pairs import (
    Division,
    batches_apart,
    better_posteriors,
    next_share,
    pair_similarities,
    safest,
)
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, to_float


def _bimodal() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    safe = torch.arange(500) % 5 > 0
    noise = 0.02 * torch.randn(500, generator=generator)
    return torch.where(safe, 0.3, 0.1) + noise, safe


def test_two_gaussians_by_numpy() -> None:
    similarities, safe = _bimodal()
    posteriors, means = better_posteriors(similarities)
    # Expectation maximization, written out.
    x = similarities.double().numpy()
    mean, variance, share = np.array([x.min(), x.max()]), np.full(2, x.var()), np.full(2, 0.5)
    for _ in range(200):
        density = share * np.exp(-((x[:, None] - mean) ** 2) / (2 * variance)) / variance**0.5
        weight = density / density.sum(axis=1, keepdims=True)
        share = weight.mean(axis=0)
        mean = (weight * x[:, None]).sum(axis=0) / weight.sum(axis=0)
        variance = (weight * (x[:, None] - mean) ** 2).sum(axis=0) / weight.sum(axis=0)
    assert means == pytest.approx(list(mean), abs=1e-3)
    np.testing.assert_allclose(posteriors.numpy(), weight[:, 1], atol=0.02)
    assert ((posteriors > 0.5) == safe).double().mean() > 0.99


def test_the_share_of_safe_pairs_grows_up_to_a_limit() -> None:
    posteriors = torch.tensor([0.95, 0.9, 0.89, 0.1, 0.0])
    assert next_share(None, posteriors, 0.9, 0.01, 0.85) == pytest.approx(0.4)
    assert next_share(0.4, posteriors, 0.9, 0.01, 0.85) == pytest.approx(0.41)
    assert next_share(0.845, posteriors, 0.9, 0.01, 0.85) == 0.85
    assert next_share(0.93, posteriors, 0.9, 0.01, 0.85) == 0.85  # as the paper's code has it


def test_the_safest_are_chosen_by_posterior_then_by_similarity() -> None:
    posteriors = torch.tensor([1.0, 0.5, 1.0, 1.0, 0.9])
    similarities = torch.tensor([0.2, 0.9, 0.3, 0.1, 0.8])
    for count, chosen in ((0, []), (1, [2]), (2, [0, 2]), (3, [0, 2, 3]), (4, [0, 2, 3, 4])):
        assert safest(posteriors, similarities, count).nonzero().flatten().tolist() == chosen


@pytest.mark.parametrize("safe", [0, 1, 4, 5, 6, 7, 8, 9, 12])
def test_batches_hold_one_kind_each_risky_ones_first(safe: int) -> None:
    # Twelve of the fourteen are taken, in batches of four.
    order = torch.randperm(14, generator=torch.Generator().manual_seed(1))[:12].view(3, 4)
    kind = torch.zeros(14, dtype=torch.bool)
    kind[order.flatten()[torch.randperm(12)[:safe]]] = True
    found = batches_apart(order, kind)
    assert found.shape == (3, 4)
    kinds = kind[found]
    assert bool((kinds == kinds[:, :1]).all())
    whole = round(safe / 4)
    assert kinds[:, 0].tolist() == (3 - whole) * [False] + whole * [True]
    for one, count in ((False, 12 - safe), (True, safe)):
        taken, places = found[kinds == one].tolist(), 4 * (whole if one else 3 - whole)
        assert len(set(taken)) == min(count, places)  # none twice before all are taken
        wanted = [i for i in order.flatten().tolist() if bool(kind[i]) == one]
        assert taken == (2 * wanted)[:places]


def test_similarities_are_those_of_each_pair(
    plain: DataBundle, taught: Callable[[str], CLIP]
) -> None:
    model, pairs = taught("vit"), plain.pairs.take(torch.arange(20))
    found = pair_similarities(
        model, pairs.images, model.tokenize(pairs.captions), lambda images: images.flip(-1)
    )
    with torch.no_grad():
        images = model.encode_image(to_float(pairs.images[:]).flip(-1))
        texts = model.encode_text(pairs.captions)
    torch.testing.assert_close(found, (images * texts).sum(dim=1), atol=2e-2, rtol=0)


def test_epochs_are_remembered() -> None:
    similarities, safe = _bimodal()
    first = Division().after(similarities, 6, 0.9, 0.01, 0.85)
    assert first.shares[0] == pytest.approx(float(safe.float().mean()), abs=0.01)
    assert bool((first.safe == safe).float().mean() > 0.99)
    second = first.after(similarities, 7, 0.9, 0.01, 0.85)
    assert second.epoch == 7
    assert second.shares == (first.shares[0], first.shares[0] + 0.01)
    assert int(second.safe.sum()) == round(500 * second.shares[1])
    assert bool(second.safe[first.safe].all())  # the same similarities: only more of them
    again = Division.of(second.state())
    assert torch.equal(again.safe, second.safe)
    assert again.findings() == second.findings()
    risky = second.findings()["risky"]
    assert risky == (~second.safe).nonzero().flatten().tolist()
