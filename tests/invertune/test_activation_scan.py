from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invertune.activation_scan import ActivationScan, limited, shifted, standing_out
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle, to_float

Tiny = Callable[[str], CLIP]
SCAN = ActivationScan(
    layers=2, share=0.3, images=8, a_step=2, steps=6, lr=0.1, temperature=0.07
)  # fmt: skip


def test_standing_out_is_in_robust_deviations() -> None:
    # Median 3; distances 2, 1, 0, 1, 7, whose median is 1.
    found = standing_out(torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0]))
    expected = torch.tensor([2.0, 1.0, 0.0, -1.0, -7.0]) / 1.4826
    assert torch.allclose(found, expected)


def test_shifts_are_scaled_down_to_the_share_and_never_up() -> None:
    free = torch.stack([torch.full((2, 3), 0.1), torch.full((2, 3), 5.0), torch.zeros(2, 3)])
    found = limited(free, 0.5)
    assert torch.allclose(found[0], free[0])
    assert torch.allclose(found[1], torch.full((2, 3), 0.5))
    assert torch.equal(found[2], free[2])


@pytest.mark.parametrize(("kind", "layer"), [("resnet", "layer3"), ("vit", "block0")])
def test_the_shift_is_what_the_layer_gives_more(
    kind: str, layer: str, tiny: Tiny, data: DataBundle
) -> None:
    model, images = tiny(kind), to_float(data.clean.images[:3])
    with torch.no_grad():
        with model.record([layer]) as before:
            plain = model.encode_image(images)
        shifts = torch.randn(before[layer].shape, generator=torch.Generator().manual_seed(0))
        with shifted(model, layer, shifts), model.record([layer]) as after:
            moved = model.encode_image(images)
        assert torch.allclose(after[layer].float(), before[layer] + shifts, atol=1e-5)
        assert not torch.allclose(moved, plain, atol=1e-3)
        assert torch.equal(model.encode_image(images), plain)  # and the hook is gone


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_the_seed_alone_decides_and_the_model_stays(
    kind: str, tiny: Tiny, data: DataBundle
) -> None:
    model = tiny(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = SCAN(model, data.clean, seed=0)
    torch.rand(10)
    assert SCAN(model, data.clean, seed=0) == found
    assert SCAN(model, data.clean, seed=1).gain != found.gain
    assert sorted(found.order) == list(range(len(data.class_names)))
    assert (found.target_label, found.runner_up) == tuple(found.order[:2])
    assert found.gain >= found.runner_up_gain
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Layered(nn.Module):
    """Features are one layer's mean responses to three colors, and much of its checkerboard."""

    tokenizer = open_clip.SimpleTokenizer()

    def __init__(self, place: int) -> None:
        super().__init__()
        self.device, self.place = torch.device("cpu"), place
        self.layer = nn.Identity()
        self.unused = nn.Parameter(torch.zeros(1), requires_grad=False)

    def visual_layers(self) -> dict[str, nn.Module]:
        return {"layer1": self.layer}

    record = CLIP.record

    def encode_image(self, images: Tensor) -> Tensor:
        response = self.layer(images)
        side = torch.arange(images.shape[-1])
        checkers = 2.0 * ((side.view(-1, 1) + side) % 2) - 1
        colors = response.mean(dim=(2, 3))
        planted = 20 * (response * checkers).mean(dim=(1, 2, 3)).abs()
        columns = [*colors.unbind(dim=1)]
        columns.insert(self.place, planted)
        return F.normalize(torch.stack(columns, dim=1), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.eye(4)[[int(text.split()[-1]) for text in texts]]

    def similarities(self, features: Tensor, classifier: Tensor) -> Tensor:
        return features @ classifier


@pytest.mark.parametrize("place", [0, 2, 3])
def test_the_class_that_a_small_shift_reaches_is_named(place: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (12, 3, 8, 8), generator=generator, dtype=torch.uint8)
    names = ("0", "1", "2", "3")
    clean = CleanData(images, names, names, ("{}",))
    scan = dataclasses.replace(SCAN, layers=1, steps=10)
    found = scan(cast(CLIP, Layered(place)), clean, seed=0)
    assert found.target_label == place
    assert found.gain > found.runner_up_gain + 0.5


def test_what_makes_no_sense(tiny: Tiny, data: DataBundle) -> None:
    for field in ("images", "a_step", "steps", "share", "lr", "temperature"):
        with pytest.raises(ValueError, match=field):
            dataclasses.replace(SCAN, **{field: 0})
    with pytest.raises(ValueError, match="images=13 clean images are needed, got 12"):
        dataclasses.replace(SCAN, images=13)(tiny("vit"), data.clean, seed=0)
    with pytest.raises(ValueError, match="layer9"):
        dataclasses.replace(SCAN, layers=["layer9"])(tiny("resnet"), data.clean, seed=0)


def test_what_it_does_is_what_it_says() -> None:
    work = SCAN.work(classes=6)
    assert (work.forward, work.back, work.prompts) == (24, 2 * 6 * 6 * 2, 6)
