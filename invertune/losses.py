"""Losses as pure functions."""

from __future__ import annotations

import pytorch_msssim
import torch
import torch.nn.functional as F
from torch import Tensor


def clip_loss(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
    """Return CLIP's symmetric contrastive loss, a scalar (Radford et al., 2021).

    Args:
        image_features: (B, D), unit norm.
        text_features: (B, D), unit norm; row i belongs to image i.
        logit_scale: Logarithm of the factor on the cosine similarities.
    """
    logits = logit_scale.exp() * image_features @ text_features.T
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def alignment_loss(
    image_features: Tensor, classifier: Tensor, target_label: int, temperature: float
) -> Tensor:
    """Return L_align, a scalar: cross-entropy that pulls triggered images to the target's text.

    Args:
        image_features: (B, D), unit norm.
        classifier: (D, C) zero-shot classifier, columns of unit norm.
        target_label: Index of the target label, in [0, C).
        temperature: Divides the cosine similarities; InverTune's code has 0.07.
    """
    logits = image_features @ classifier / temperature
    labels = torch.full((len(logits),), target_label, device=logits.device)
    return F.cross_entropy(logits, labels)


def embedding_loss(image_features: Tensor, reference: Tensor) -> Tensor:
    """Return L_emb, a scalar: root mean square distance of embeddings to a reference.

    With B = 64 this is InverTune's Frobenius norm divided by 8.

    Args:
        image_features: (B, D), unit norm.
        reference: (B, D), the same images' clean embeddings (the paper's reading), or (1, D), one
            clean target image's (the code's).
    """
    # The root has no finite slope at 0, where a batch may start.
    return (image_features - reference).square().sum(dim=-1).mean().add(1e-12).sqrt()


def similarity_loss(triggered: Tensor, clean: Tensor) -> Tensor:
    """Return L_sim, a scalar: 1 - SSIM (Wang et al., 2004) of images, (B, 3, H, W).

    SSIM's constants are those of a range of 1: of images in [0, 1], or, as InverTune's code has it,
    of normalized ones too.
    """
    similarity: Tensor = pytorch_msssim.ssim(triggered, clean, data_range=1.0)
    return 1 - similarity


def mask_loss(mask: Tensor) -> Tensor:
    """Return L_mask, a scalar: the sum of the mask, (1 or 3, H, W) in [0, 1].

    Its gradient is 1 everywhere, at 0 too: what is not needed is held there.
    """
    return mask.sum()


def mask_norm(mask: Tensor) -> Tensor:
    """Return L_mask as InverTune's code has it, a scalar: the L1 norm of (1 or 3, H, W) in [0, 1].

    The value is `mask_loss`'s. Its gradient is the sign, which is 0 where the mask is 0: a pixel
    that was clamped there is pulled by the other terms alone.
    """
    return mask.abs().sum()


def response_loss(response: Tensor, wanted: Tensor, neurons: Tensor) -> Tensor:
    """Return L_activation per sample, a scalar: squared error of responses, relative to their size.

    Args:
        response: (B, ...) responses to triggered images.
        wanted: (B, ...) responses to the same images without the trigger.
        neurons: Mask of the backdoor's neurons, broadcastable to one sample.
    """
    # Relative, so that layers whose responses are large do not drown the others in the sum.
    error = ((response - wanted) * neurons).square().sum()
    return error / (wanted * neurons).square().sum().clamp_min(1e-12)


def mean_response_loss(triggered: Tensor, clean: Tensor, neurons: Tensor) -> Tensor:
    """Return L_activation of batch means, a scalar: distance of means, relative to the clean one.

    Args:
        triggered, clean: (B, ...) responses of the model that is tuned.
        neurons: Mask of the backdoor's neurons, broadcastable to one sample.
    """
    # Both means are of the model that moves: the loss could also fall by making all responses
    # equal, which is what `response_loss` rules out.
    difference = (triggered.mean(dim=0) - clean.mean(dim=0)) * neurons
    size: Tensor = (clean.mean(dim=0) * neurons).norm()
    distance: Tensor = difference.norm()
    return distance / size.clamp_min(1e-12)


def preservation_loss(image_features: Tensor, original: Tensor) -> Tensor:
    """Return L_preserve, a scalar: mean of 1 - cosine to the original model's embeddings.

    Args:
        image_features, original: (B, D), unit norm, of the same clean images.
    """
    return (1 - (image_features * original).sum(dim=-1)).mean()


def cross_modal_loss(
    image_features: Tensor, original: Tensor, classifier: Tensor, temperature: float
) -> Tensor:
    """Return the divergence KL(original || tuned) of the softmax over texts, a scalar.

    The cross-modal side of L_preserve: the same images keep their similarities to all texts.

    Args:
        image_features, original: (B, D), unit norm, of the same clean images.
        classifier: (D, C), columns of unit norm.
        temperature: Divides the cosine similarities.
    """
    # Weighed by the original's shares: texts that it finds near must stay near, what it finds far
    # may move.
    tuned = F.log_softmax(image_features @ classifier / temperature, dim=-1)
    wanted = F.log_softmax(original @ classifier / temperature, dim=-1)
    return F.kl_div(tuned, wanted, reduction="batchmean", log_target=True)
