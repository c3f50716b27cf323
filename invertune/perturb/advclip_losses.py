"""The losses of AdvCLIP (Zhou et al., 2023): adversarial, topological, the GAN's, the pixels'."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_EPSILON = 1e-7


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of finding row i of the keys with row i of the queries, a scalar.

    Args:
        queries, keys: (B, D), of any length.
        temperature: Divides the cosine similarities.
    """
    logits = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def topology_graph(features: Tensor) -> Tensor:
    """Return how near every feature is to every other, (B, B); rows sum to 1.

    Distances, 1 - cosine, count from the nearest other feature's, so only the shape of the
    neighborhood is left; they become similarities in [0, 1] and then shares of their row.

    Args:
        features: (B, D), of any length.
    """
    unit = F.normalize(features, dim=-1)
    diagonal = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    distance = 1 - unit @ unit.T
    # No cosine distance is larger, so that an image is not its own nearest one.
    nearest = distance.masked_fill(diagonal, 2).amin(dim=1, keepdim=True)
    similarity = 1 - (distance - nearest).masked_fill(diagonal, 0)
    scaled = (1 + similarity) / 2
    return scaled / scaled.sum(dim=1, keepdim=True)


def topology_criterion(source: Tensor, target: Tensor) -> Tensor:
    """Return C(source -> target), a scalar: how far the source's graph is from the target's.

    KL(G(target) || G(source)) + KL(1 - G(target) || 1 - G(source)), summed over the entries.

    Args:
        source, target: (B, D) and (B, E), features of the same B samples.
    """
    found, wanted = topology_graph(source), topology_graph(target)
    return _divergence(wanted, found) + _divergence(1 - wanted, 1 - found)


def _divergence(wanted: Tensor, found: Tensor) -> Tensor:
    return (wanted * ((wanted + _EPSILON).log() - (found + _EPSILON).log())).sum()


def adversarial_loss(
    clean: Tensor, perturbed: Tensor, text: Tensor, *, temperature: float, beta: float
) -> Tensor:
    """Return L_adv, a scalar: perturbed images are to match neither their clean ones nor the texts.

    Args:
        clean, perturbed, text: (B, D), features of the same B images and of their texts.
        temperature: Divides the cosine similarities.
        beta: Weight of the texts.
    """
    images = info_nce(clean, perturbed, temperature)
    return -images - beta * info_nce(perturbed, text, temperature)


def topology_loss(clean: Tensor, perturbed: Tensor, text: Tensor, *, gamma: float) -> Tensor:
    """Return L_topo, a scalar: perturbed images are to have other neighbors than clean ones, texts.

    Args:
        clean, perturbed, text: (B, D), features of the same B images and of their texts.
        gamma: Weight of the texts.
    """
    return -topology_criterion(clean, perturbed) - gamma * topology_criterion(perturbed, text)


def gan_loss(decisions: Tensor, real: bool) -> Tensor:
    """Return the cross-entropy of a discriminator's decisions, a scalar; also L_GAN with ``real``.

    Args:
        decisions: (B,), each the probability that an image is a real one.
        real: What they should be.
    """
    return F.binary_cross_entropy(decisions, torch.full_like(decisions, float(real)))


def reconstruction_loss(perturbed: Tensor, clean: Tensor) -> Tensor:
    """Return L_rec, a scalar: mean squared error of normalized images, (B, 3, H, W)."""
    return F.mse_loss(perturbed, clean)
