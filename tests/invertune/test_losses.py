from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from invertune.losses import (
    alignment_loss,
    clip_loss,
    cross_modal_loss,
    embedding_loss,
    mask_loss,
    mask_norm,
    mean_response_loss,
    preservation_loss,
    response_loss,
    similarity_loss,
)

EYE = torch.eye(2)
FLIPPED = EYE.flip(0)


def test_clip_loss_of_matching_pairs() -> None:
    # Logits s and 0: each row's cross-entropy is log(1 + exp(-s)).
    assert clip_loss(EYE, EYE, torch.tensor(0.0)).item() == pytest.approx(math.log1p(math.exp(-1)))
    scale = torch.tensor(math.log(3))
    assert clip_loss(EYE, EYE, scale).item() == pytest.approx(math.log1p(math.exp(-3)))
    assert clip_loss(EYE, FLIPPED, scale).item() == pytest.approx(math.log1p(math.exp(3)))


def test_clip_loss_looks_both_ways() -> None:
    texts = EYE[[0, 0]]
    # Images to texts: log 2 twice. Texts to images: log(1 + e^-1), then log(1 + e).
    other = (math.log1p(math.exp(-1)) + math.log1p(math.exp(1))) / 2
    expected = (math.log(2) + other) / 2
    assert clip_loss(EYE, texts, torch.tensor(0.0)).item() == pytest.approx(expected)


def test_alignment_divides_by_the_temperature() -> None:
    features = EYE[[0, 0, 0]]
    for temperature in (1.0, 0.5):
        gap = math.exp(-1 / temperature)
        loss = alignment_loss(features, EYE, 0, temperature)
        assert loss.item() == pytest.approx(math.log1p(gap))
    assert alignment_loss(features, EYE, 1, 1.0).item() == pytest.approx(math.log1p(math.e))


def test_embedding_distance_is_a_root_mean_square() -> None:
    reference = torch.stack([EYE[0], EYE[0]])
    assert embedding_loss(EYE, reference).item() == pytest.approx(1.0)  # mean of 0 and 2
    assert embedding_loss(EYE, EYE[:1]).item() == pytest.approx(1.0)
    features, other = torch.randn(64, 8), torch.randn(64, 8)
    frobenius = torch.linalg.norm(features - other).item()
    assert embedding_loss(features, other).item() == pytest.approx(frobenius / 8, rel=1e-4)


def test_embedding_distance_has_a_gradient_at_zero() -> None:
    features = EYE.clone().requires_grad_()
    embedding_loss(features, EYE).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_similarity_of_constant_images() -> None:
    black, white = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    assert similarity_loss(black, black).item() == pytest.approx(0)
    # Of the SSIM only (2 ab + c) / (a^2 + b^2 + c) is left, with c = 1e-4.
    assert similarity_loss(black, white).item() == pytest.approx(1 - 1e-4 / 1.0001, abs=1e-5)
    half = (2 * 0.5 + 1e-4) / (1.25 + 1e-4)
    assert similarity_loss(white / 2, white).item() == pytest.approx(1 - half, abs=1e-5)


def test_the_mask_loss_is_its_sum() -> None:
    assert mask_loss(torch.full((1, 4, 4), 0.25)).item() == pytest.approx(4)


@pytest.mark.parametrize(("loss", "at_zero"), [(mask_loss, 1.0), (mask_norm, 0.0)])
def test_what_pulls_a_mask_that_is_zero(
    loss: Callable[[torch.Tensor], torch.Tensor], at_zero: float
) -> None:
    mask = torch.tensor([[[0.0, 0.25], [1.0, 0.0]]], requires_grad=True)
    value = loss(mask)
    value.backward()
    assert value.item() == 1.25
    assert mask.grad is not None
    assert mask.grad.tolist() == [[[at_zero, 1.0], [1.0, at_zero]]]
    if loss is mask_norm:  # what the released code calls
        (wanted,) = torch.autograd.grad(torch.norm(mask, p=1), mask)
        assert torch.equal(mask.grad, wanted)


def test_responses_count_on_the_chosen_neurons_only() -> None:
    wanted = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    response = torch.tensor([[3.0, 9.0], [1.0, 9.0]])
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert response_loss(response, wanted, first).item() == pytest.approx(4 / 2)
    assert response_loss(response, wanted, second).item() == pytest.approx(2 * 49 / 8)
    assert response_loss(wanted, wanted, first).item() == 0


def test_mean_responses_ignore_single_samples() -> None:
    clean = torch.tensor([[3.0, 4.0], [3.0, 4.0]])
    triggered = torch.tensor([[0.0, 4.0], [6.0, 4.0]])  # the same means
    neurons = torch.ones(2)
    assert mean_response_loss(triggered, clean, neurons).item() == 0
    assert mean_response_loss(clean + 1, clean, neurons).item() == pytest.approx(math.sqrt(2) / 5)
    chosen = torch.tensor([0.0, 1.0])
    assert mean_response_loss(clean + 1, clean, chosen).item() == pytest.approx(1 / 4)


def test_preservation_is_one_minus_the_cosine() -> None:
    assert preservation_loss(EYE, EYE).item() == 0
    assert preservation_loss(EYE, FLIPPED).item() == 1
    assert preservation_loss(EYE, EYE[[0, 0]]).item() == 0.5


def test_cross_modal_divergence() -> None:
    assert cross_modal_loss(EYE, EYE, EYE, 0.1).item() == pytest.approx(0, abs=1e-6)
    # p = (e, 1) / (e + 1) against the swapped q: (p1 - p2) log(p1 / p2).
    expected = (math.e - 1) / (math.e + 1)
    assert cross_modal_loss(FLIPPED, EYE, EYE, 1.0).item() == pytest.approx(expected)
