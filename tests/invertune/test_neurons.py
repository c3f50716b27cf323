from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch

from invertune.clip.encode import autocast
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, to_float
from invertune.neurons import (
    backdoor_neurons,
    channel_set,
    choose_layers,
    layer_responses,
    neuron_mask,
    output_weights,
    response_divergence,
)
from invertune.perturb.triggers import InvertedTrigger

Tiny = Callable[[str], CLIP]
both = pytest.mark.parametrize("kind", ["resnet", "vit"])


def test_divergence_by_hand() -> None:
    clean = torch.tensor([3.0, 4.0]).view(2, 1, 1)  # of length 5
    triggered = clean + torch.tensor([6.0, 8.0]).view(2, 1, 1)
    assert response_divergence(clean, triggered) == pytest.approx(2.0)
    assert response_divergence(clean, clean) == 0


def test_the_cluster_of_largest_difference_is_the_backdoors() -> None:
    clean, triggered = torch.zeros(4, 2, 2), torch.zeros(4, 2, 2)
    triggered[1], triggered[3] = 5.0, -5.0  # size counts, not sign
    triggered[0, 0, 0] = 8.0  # one position: 2 on average
    channels = neuron_mask(clean, triggered, "channel", 2, seed=0)
    assert channels.shape == (4, 2, 2)
    assert channels[:, 0, 0].tolist() == [0, 1, 0, 1]
    assert (channels == channels[:, :1, :1]).all()
    positions = neuron_mask(clean, triggered, "position", 2, seed=0)
    expected = channels.clone()
    expected[0, 0, 0] = 1
    assert torch.equal(positions, expected)
    assert channel_set(positions).tolist() == [1, 1, 0, 1]
    assert torch.equal(neuron_mask(clean, triggered, "position", 3, seed=0).nonzero(),
                       torch.tensor([[0, 0, 0]]))  # fmt: skip


def test_the_neurons_of_a_vit_are_hidden_units() -> None:
    clean, triggered = torch.zeros(5, 4), torch.zeros(5, 4)
    triggered[:, 2] = 5.0
    mask = neuron_mask(clean, triggered, "channel", 2, seed=0)
    assert mask.shape == (5, 4)
    assert mask[0].tolist() == [0, 0, 1, 0]
    assert (mask == mask[:1]).all()
    assert channel_set(mask).tolist() == [0, 0, 1, 0]


@both
def test_output_weights_have_a_row_per_channel(tiny: Tiny, kind: str) -> None:
    model = tiny(kind)
    layer = list(model.visual_layers().values())[-1]
    width = 256 if kind == "resnet" else 16
    found = output_weights(layer, torch.ones(width))
    names = {name for name, p in layer.named_parameters() if id(p) in found}
    parts = {name.rsplit(".", 1)[0] for name in names}
    assert parts == (
        {"0.conv3", "0.bn3", "0.downsample.0", "0.downsample.1"}
        if kind == "resnet"
        else {"attn.out_proj", "mlp.c_proj"}
    )


@both
def test_responses_are_each_layers_means_over_images_and_triggers(tiny: Tiny, kind: str) -> None:
    model, images = tiny(kind), torch.rand(2, 3, 32, 32)
    zeros, ones = torch.zeros(3, 32, 32), torch.ones(3, 32, 32)
    dark, bright = (InvertedTrigger("mask", ones[:1], color, zeros) for color in (zeros, ones))
    found = layer_responses(model, images, [dark, bright])
    assert list(found) == list(model.visual_layers())
    alone = [layer_responses(model, images, [trigger]) for trigger in (dark, bright)]
    for name, (clean, triggered) in found.items():
        assert clean.shape == triggered.shape
        torch.testing.assert_close(triggered, (alone[0][name][1] + alone[1][name][1]) / 2)
        assert torch.equal(clean, alone[0][name][0])
    with autocast(model.device), model.record(list(found)) as outputs, torch.no_grad():
        model.encode_image(images)
    for name, (clean, _) in found.items():
        torch.testing.assert_close(clean, outputs[name].float().mean(dim=0))


def test_responses_to_many_triggers_are_not_held_at_once(
    tiny: Tiny, float32: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half precision would be copied to single, and the copies are what would be held.
    model, images = tiny("resnet"), torch.rand(4, 3, 32, 32)
    record, held = model.record, list[weakref.ref[torch.Tensor]]()
    most = [0]

    @contextlib.contextmanager
    def recorded(layers: list[str]) -> Iterator[dict[str, torch.Tensor]]:
        with record(layers) as outputs:
            yield outputs
        held.extend(weakref.ref(output) for output in outputs.values())
        most[0] = max(most[0], sum(one() is not None for one in held))

    monkeypatch.setattr(model, "record", recorded)
    zeros = torch.zeros(3, 32, 32)
    layer_responses(model, images, [InvertedTrigger("mask", zeros[:1], zeros, zeros)] * 5)
    assert len(held) == 6 * len(model.visual_layers())
    assert most[0] <= 2 * len(model.visual_layers())


DIVERGENCE = {"layer1": 0.1, "layer2": 0.5, "layer3": 0.2}


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [(2, ["layer2", "layer3"]), (9, ["layer2", "layer3", "layer1"]),
     ([0, -1], ["layer1", "layer3"]),
     (["layer3", 2, "layer1"], ["layer3", "layer1"])],
)  # fmt: skip
def test_layers_are_chosen_by_rank_name_or_place(
    layers: int | list[int | str], chosen: list[str]
) -> None:
    assert choose_layers(DIVERGENCE, layers) == chosen


@pytest.mark.parametrize("layer", ["layer4", 3, -4])
def test_a_layer_that_there_is_not_names_the_choices(layer: int | str) -> None:
    with pytest.raises(ValueError, match=r"choices: layer1, .*, or places from -3 to 2"):
        choose_layers(DIVERGENCE, [layer])


@both
def test_the_backdoors_neurons_are_those_of_the_chosen_layers(
    tiny: Tiny, data: DataBundle, kind: str
) -> None:
    model, images = tiny(kind), to_float(data.clean.images[:6])
    none, white = torch.zeros(3, 32, 32), torch.ones(3, 32, 32)
    triggers = [InvertedTrigger("mask", none[:1] + 0.5, white * i, none) for i in (0, 1)]
    responses = layer_responses(model, images, triggers)
    divergence, masks = backdoor_neurons(model, images, triggers, 1, "channel", 2, 0)
    assert divergence == {name: response_divergence(*pair) for name, pair in responses.items()}
    most = max(divergence, key=divergence.__getitem__)
    assert list(masks) == [most]
    assert torch.equal(masks[most], neuron_mask(*responses[most], "channel", 2, 0))
