from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor, nn

from invertune.clip.fast import (
    PatchConvolution,
    QuickMLP,
    SelfAttention,
    SingleQueryPool,
    folded,
    quicken,
)
from invertune.clip.models import CLIP

Tiny = Callable[[str], CLIP]


def _images(count: int = 5, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def plain() -> Any:
    """Return open_clip's own image tower, with statistics and weights that are not the start's."""
    torch.manual_seed(1)
    tower = open_clip.modified_resnet.ModifiedResNet([1, 2, 1, 1], 16, 8, image_size=64, width=8)
    for module in tower.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
    return tower.eval()


def test_a_quickened_tower_has_the_features_and_gradients_of_open_clips(plain: Any) -> None:
    quick = copy.deepcopy(plain)
    quicken(quick)
    assert [type(m) for m in quick.modules() if isinstance(m, AttentionPool2d)] == [SingleQueryPool]
    images = _images(side=64)
    weights = torch.randn(16, generator=torch.Generator().manual_seed(2))
    for tower in (plain, quick):
        tower.train()
        (tower(images) @ weights).square().sum().backward()
    wanted = dict(plain.named_parameters())
    assert wanted.keys() == dict(quick.named_parameters()).keys()
    for name, parameter in quick.named_parameters():
        assert torch.allclose(parameter.grad, wanted[name].grad, rtol=2e-3, atol=1e-4), name
    assert torch.allclose(plain.eval()(images), quick.eval()(images), atol=1e-5)


@pytest.mark.parametrize("side", [64, 61])
@pytest.mark.parametrize("quick_gelu", [True, False])
def test_a_quickened_transformer_has_the_features_and_gradients_of_open_clips(
    quick_gelu: bool, side: int
) -> None:
    torch.manual_seed(1)
    activation = open_clip.transformer.QuickGELU if quick_gelu else nn.GELU
    plain = open_clip.transformer.VisionTransformer(
        image_size=64, patch_size=8, width=32, layers=2, heads=4, mlp_ratio=4.0, output_dim=16,
        act_layer=activation, pos_embed_type="learnable",
    )  # fmt: skip
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.2)
    quick = copy.deepcopy(plain)
    quicken(quick)
    kinds = [type(module) for module in quick.modules()]
    assert [kinds.count(kind) for kind in (PatchConvolution, SelfAttention, QuickMLP)] == [1, 2, 2]
    images = _images(side=side).requires_grad_()
    if side != 64:  # the grid of a convolution that leaves pixels out
        assert torch.allclose(plain.conv1(images), quick.conv1(images), atol=1e-5)
        return
    weights = torch.randn(16, generator=torch.Generator().manual_seed(2))
    found = []
    for tower in (plain, quick):
        images.grad = None
        features = tower(images)
        (features @ weights).square().sum().backward()
        found.append((features, images.grad))
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*found, strict=True))
    wanted = dict(plain.named_parameters())
    assert wanted.keys() == dict(quick.named_parameters()).keys()
    for name, parameter in quick.named_parameters():
        scale = wanted[name].grad.abs().max() + 1e-6
        assert (parameter.grad - wanted[name].grad).abs().max() < 1e-3 * scale, name


@pytest.mark.parametrize("mask", ["none", "causal", "boolean"])
def test_quick_attention_is_attention(mask: str) -> None:
    torch.manual_seed(1)
    plain = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    quick = copy.deepcopy(plain)
    quick.__class__ = SelfAttention
    x, other = torch.randn(2, 3, 5, 16)
    above = torch.ones(5, 5, dtype=torch.bool).triu(1)
    causal = torch.zeros(5, 5).masked_fill(above, float("-inf"))
    options: dict[str, Any] = {
        "attn_mask": {"none": None, "causal": causal, "boolean": above}[mask],
        "need_weights": False,
    }
    for inputs in ((x, x, x), (x, other, other)):
        assert torch.allclose(plain(*inputs, **options)[0], quick(*inputs, **options)[0], atol=1e-6)
    wanted, found = plain(x, x, x)[1], quick(x, x, x)[1]  # who asks for the weights gets them
    assert torch.allclose(wanted, found)


def test_every_clip_is_quickened(tiny: Tiny) -> None:
    kinds = {type(module) for module in tiny("resnet").modules()}
    assert SingleQueryPool in kinds
    assert AttentionPool2d not in kinds


def test_folding_changes_no_feature_and_leaves_the_model_as_it_was(plain: Any) -> None:
    images, names = _images(side=64), [name for name, _ in plain.named_modules()]
    wanted = plain(images)
    seen: list[str] = []
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *_: seen.append("norm"))
    with torch.no_grad(), folded(plain):
        assert torch.allclose(plain(images), wanted, atol=1e-5)
        assert not seen
    assert [name for name, _ in plain.named_modules()] == names
    assert torch.equal(plain(images), wanted)
    assert seen


def test_folding_gives_trained_weights_their_gradients(plain: Any) -> None:
    images = _images(side=64).requires_grad_()
    other = copy.deepcopy(plain)
    (plain(images) ** 2).sum().backward()
    wanted, images.grad = images.grad, None
    with folded(other):
        (other(images) ** 2).sum().backward()
    assert torch.allclose(images.grad, wanted, rtol=1e-3, atol=1e-4)
    for (name, one), two in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert torch.allclose(two.grad, one.grad, rtol=2e-3, atol=2e-3), name


def test_norms_that_use_the_batch_are_not_folded(plain: Any) -> None:
    plain.train()
    before = plain.bn1.running_mean.clone()
    with folded(plain):
        assert isinstance(plain.bn1, nn.BatchNorm2d)
        plain(_images(side=64))
    assert not torch.equal(plain.bn1.running_mean, before)


def test_an_error_inside_the_block_undoes_the_folding(plain: Any) -> None:
    with pytest.raises(RuntimeError, match="inside"), folded(plain):
        raise RuntimeError("inside")
    assert isinstance(plain.bn1, nn.BatchNorm2d)


def test_a_vit_has_nothing_to_fold(tiny: Tiny) -> None:
    model = tiny("vit")
    wanted = model.encode_image(_images())
    with folded(model):
        assert torch.equal(model.encode_image(_images()), wanted)
