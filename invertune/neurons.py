"""Which neurons answer to a trigger: responses, divergences, clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from invertune.clip.encode import autocast
from invertune.clip.models import CLIP
from invertune.perturb.triggers import InvertedTrigger


@torch.no_grad()
def layer_responses(
    model: CLIP, images: Tensor, triggers: Sequence[InvertedTrigger]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each layer's mean response to clean and to triggered images, of all triggers.

    No more than one trigger's responses are held at once: those of a RN50 to 64 images of 224
    pixels are 0.4 GB.

    Returns:
        By layer, (C, H, W) of a ResNet stage or (T, C) of a ViT block, each twice.
    """
    model.eval()
    layers = list(model.visual_layers())

    def run(batch: Tensor) -> dict[str, Tensor]:
        with autocast(model.device), model.record(layers) as outputs:
            model.encode_image(batch)
        return {name: output.float().mean(dim=0) for name, output in outputs.items()}

    clean = run(images)
    fired = {name: torch.zeros_like(mean) for name, mean in clean.items()}
    for trigger in triggers:
        for name, mean in run(trigger(images)).items():
            fired[name] += mean / len(triggers)
    return {name: (clean[name], fired[name]) for name in layers}


def backdoor_neurons(
    model: CLIP,
    images: Tensor,
    triggers: Sequence[InvertedTrigger],
    layers: int | Sequence[int | str],
    unit: str,
    clusters: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return the divergence of every layer, and the mask of the neurons in the chosen ones.

    Args:
        model: As it came; neither layers nor neurons are chosen anew while it changes.
        images: (B, 3, H, W) in [0, 1].
        triggers: Their responses are averaged.
        layers: As `choose_layers` has them.
        unit, clusters, seed: As `neuron_mask` has them.
    """
    responses = layer_responses(model, images, triggers)
    divergence = {name: response_divergence(*pair) for name, pair in responses.items()}
    return divergence, {
        name: neuron_mask(*responses[name], unit, clusters, seed)
        for name in choose_layers(divergence, layers)
    }


def response_divergence(clean: Tensor, triggered: Tensor) -> float:
    """Return ||clean - triggered|| / ||clean|| of mean responses."""
    return float((clean - triggered).norm() / clean.norm().clamp_min(1e-12))


def neuron_mask(clean: Tensor, triggered: Tensor, unit: str, clusters: int, seed: int) -> Tensor:
    """Return the backdoor's neurons, a float mask shaped like one response.

    One-dimensional K-means over the neurons' mean differences; the cluster of largest mean.

    Args:
        clean, triggered: Mean responses, (C, H, W) of a ResNet stage or (T, C) of a ViT block.
        unit: ``channel`` (averaged over positions, the mask is constant over them) or
            ``position``.
        clusters: K.
        seed: K-means' random state.
    """
    difference = (clean - triggered).abs()
    over = (1, 2) if difference.dim() == 3 else (0,)
    values = difference.mean(dim=over, keepdim=True) if unit == "channel" else difference
    flat = values.flatten().cpu().numpy().astype(np.float64)[:, None]
    # K-means ends in a local minimum; the best of four starts counts.
    found = KMeans(clusters, n_init=4, random_state=seed).fit(flat)
    backdoor = int(found.cluster_centers_.argmax())
    mask = torch.from_numpy(found.labels_ == backdoor).view_as(values).to(clean)
    return mask.expand_as(difference).contiguous()


def check_layers(layers: object) -> None:
    """Find out whether layers are so many, or a list of names and places, as `choose_layers` takes.

    Raises:
        ValueError: If they are not.
    """
    listed = isinstance(layers, list | tuple) and all(
        isinstance(one, int | str) and not isinstance(one, bool) for one in layers
    )
    if not listed and (not isinstance(layers, int) or isinstance(layers, bool)):
        raise ValueError(f"layers is a number or a list, got {layers!r:.80}")
    if not layers or (isinstance(layers, int) and layers < 1):
        raise ValueError(f"layers is at least 1, or a list of at least one, got {layers!r}")


def choose_layers(divergence: Mapping[str, float], layers: int | Sequence[int | str]) -> list[str]:
    """Return the names of the layers to tune.

    Args:
        divergence: Of every layer, in order of depth.
        layers: How many, most divergent first; or which ones, by name or by place.

    Raises:
        ValueError: If there is no such layer.
    """
    if isinstance(layers, int):
        return sorted(divergence, key=lambda name: -divergence[name])[:layers]
    names = list(divergence)
    chosen = []
    for layer in layers:
        if layer in names:
            chosen.append(str(layer))
        elif isinstance(layer, int) and -len(names) <= layer < len(names):
            chosen.append(names[layer])
        else:
            raise ValueError(
                f"layers has {layer!r}; choices: {', '.join(names)}, or places from "
                f"{-len(names)} to {len(names) - 1}"
            )
    return list(dict.fromkeys(chosen))


def channel_set(mask: Tensor) -> Tensor:
    """Return which channels hold a neuron of the mask, (C,) of 0 and 1."""
    return mask.amax(dim=(1, 2)) if mask.dim() == 3 else mask.amax(dim=0)


def output_weights(layer: nn.Module, channels: Tensor) -> dict[int, Tensor]:
    """Return the parameters whose rows make a layer's output channels, by id, with those rows.

    In a ResNet stage: of every bottleneck the last convolution, its norm, and the shortcut's. In
    a ViT block: the output projections of attention and MLP.
    """
    found: dict[int, Tensor] = {}
    for name, parameter in layer.named_parameters():
        # Earlier weights feed all of the layer's channels; a row of these makes one channel alone.
        parts = ("conv3", "bn3", "downsample", "out_proj", "c_proj")
        if any(part in name for part in parts) and parameter.shape[0] == len(channels):
            found[id(parameter)] = channels
    return found
