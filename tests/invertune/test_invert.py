from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle, to_float
from invertune.invert import TriggerInversion
from invertune.perturb.augment import Augmentation
from invertune.perturb.forms import FreeMask, MaskedPattern, Pixels
from invertune.seeds import seeded

INVERT = TriggerInversion(
    forms=[Pixels(0.1), MaskedPattern(0.1)],
    starts=2,
    steps=30,
    lr={"pixels": 0.1, "mask": 0.1},
    batch_size=6,
    images=12,
    weights={"align": 1.0, "emb": 0.0, "sim": 0.0, "mask": 0.0},
    temperature=0.1,
)


def test_the_planted_trigger_is_found(planted: CLIP, colored: CleanData) -> None:
    triggers, curves = INVERT(planted, colored, 3, seed=0)
    assert [trigger.form for trigger in triggers] == ["pixels", "mask", "pixels", "mask"]
    assert list(curves) == ["invert pixels 0", "invert mask 0", "invert pixels 1", "invert mask 1"]
    assert all(len(curve) == 30 and curve[-1] < curve[0] for curve in curves.values())
    features = planted.encode_image(triggers[0](to_float(colored.images[:])))
    assert (features.argmax(dim=1) == 3).all()
    assert triggers[0].offset.abs().max() <= 0.1
    assert triggers[1].mask.sum() <= 0.1 * 16 * 16 + 1e-3
    assert triggers[0].share <= 1


def test_triggers_without_success_are_dropped(planted: CLIP, colored: CleanData) -> None:
    blank = Pixels(1e-6, name="blank")  # changes next to nothing, so nothing reaches class 3
    forms, rates = [blank, Pixels(0.1)], {"blank": 0.1, "pixels": 0.1}
    invert = replace(INVERT, forms=forms, lr=rates, starts=1, least_success=0.5)
    triggers, curves = invert(planted, colored, 3, seed=0)
    assert [trigger.form for trigger in triggers] == ["pixels"]
    assert list(curves) == ["invert blank 0", "invert pixels 0"]
    useless = replace(invert, forms=[blank])
    assert len(useless(planted, colored, 3, seed=0)[0]) == 1  # the best one stays


def test_the_seed_alone_decides(planted: CLIP, colored: CleanData) -> None:
    short = replace(INVERT, starts=1, steps=2, augment=Augmentation())
    first = short(planted, colored, 3, seed=0)
    torch.rand(10)
    again, other = short(planted, colored, 3, seed=0), short(planted, colored, 3, seed=1)
    assert first[1] == again[1]
    assert first[1] != other[1]


@pytest.mark.parametrize("reference", ["clean", "target_image"])
def test_all_terms_count(planted: CLIP, colored: CleanData, reference: str) -> None:
    terms = ("align", "emb", "sim", "mask")
    first_losses = []
    for term in terms:
        only = replace(
            INVERT, forms=[FreeMask(1)], lr={"mask": 0.01}, starts=1, steps=1, reference=reference,
            weights={name: float(name == term) for name in terms},
        )  # fmt: skip
        _, curves = only(planted, colored, 3, seed=0)
        first_losses.append(curves["invert mask 0"][0])
    assert first_losses[3] == 16 * 16  # the mask starts at 1 everywhere
    everything = replace(
        INVERT, forms=[FreeMask(1)], lr={"mask": 0.01}, starts=1, steps=1, reference=reference,
        weights={"align": 2.0, "emb": 3.0, "sim": 5.0, "mask": 0.5},
    )  # fmt: skip
    _, curves = everything(planted, colored, 3, seed=0)
    weighed = sum(w * loss for w, loss in zip((2, 3, 5, 0.5), first_losses, strict=True))
    assert curves["invert mask 0"][0] == pytest.approx(weighed, rel=1e-5)


# The released code's reading, at a rate that brings the mask to 0 within a few steps.
CODE = replace(
    INVERT, forms=[FreeMask(3)], lr={"mask": 0.15}, starts=1, steps=11, batch_size=10,
    temperature=0.07, reference="target_image", similarity="normalized", area="norm",
    weights={"align": 5.0, "emb": 0.5 * 10**0.5, "sim": 1.0, "mask": 1e-4},
)  # fmt: skip
MEAN, STD = (
    torch.tensor(values).view(3, 1, 1)
    for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
)


def _ssim(one: Tensor, other: Tensor) -> Tensor:
    """Return SSIM by its definition: Gaussian windows of 11 pixels, a range of 1."""
    line = (-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2)).exp().to(one)
    window = (line[:, None] * line / line.sum() ** 2).expand(3, 1, 11, 11)

    def blurred(images: Tensor) -> Tensor:
        return F.conv2d(images, window, groups=3)

    mean, mean_of_other = blurred(one), blurred(other)
    variances = blurred(one**2) + blurred(other**2) - mean**2 - mean_of_other**2
    covariance = blurred(one * other) - mean * mean_of_other
    light = (2 * mean * mean_of_other + 1e-4) / (mean**2 + mean_of_other**2 + 1e-4)
    return (light * (2 * covariance + 9e-4) / (variances + 9e-4)).mean()


def _drawn(data: CleanData, steps: int) -> tuple[Tensor, list[Tensor]]:
    """Return the pattern that a start draws, normalized, and the batches in [0, 1]."""
    generator = seeded(0, "invert", "mask", 0)
    pattern = torch.rand(3, 32, 32, generator=generator)
    draws = [torch.randint(12, (10,), generator=generator) for _ in range(steps)]
    return pattern, [to_float(data.images[draw]) for draw in draws]


@pytest.mark.parametrize("similarity", ["pixels", "normalized"])
def test_what_is_similar(tiny: Callable[[str], CLIP], data: DataBundle, similarity: str) -> None:
    only = {"align": 0.0, "emb": 0.0, "sim": 1.0, "mask": 0.0}
    _, curves = replace(CODE, steps=1, weights=only, similarity=similarity)(
        tiny("vit"), data.clean, 1, seed=0
    )
    pattern, (batch,) = _drawn(data.clean, 1)
    shown, images = (pattern * STD + MEAN).expand_as(batch), batch.double()
    found = {
        (space, count): 1 - float(_ssim(one.double()[:count], other[:count]))
        for space, one, other in (
            ("pixels", shown, images),
            ("normalized", pattern.expand_as(batch), (images - MEAN) / STD),
        )
        for count in (8, 10)
    }
    assert min(abs(a - b) for a, b in itertools.combinations(found.values(), 2)) > 2e-4
    wanted = found[similarity, 8 if similarity == "pixels" else 10]
    assert curves["invert mask 0"] == pytest.approx([wanted], abs=5e-5)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, mask: Tensor, pattern: Tensor) -> None:
    """Take the code's step, which keeps the mask in [0, 1] and the pattern in its range."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    with torch.no_grad():
        mask.clamp_(0, 1)
        pattern.clamp_(-1.7922, 2.1461)


def _reference(model: CLIP, data: CleanData, target: int) -> tuple[Tensor, Tensor]:
    """Return the mask and the normalized pattern that the released code's loop ends with."""
    classifier = zero_shot_classifier(model, data.prompts, data.templates)
    features = encode_images(model, data.images[:])
    near = features[(features @ classifier[:, target]).argmax()]
    pattern, batches = _drawn(data, CODE.steps)
    mask = torch.ones(3, 32, 32).requires_grad_()
    pattern.requires_grad_()
    optimizer = torch.optim.Adam([mask, pattern], lr=0.15)
    for batch in batches:
        clean = (batch - MEAN) / STD
        # No image has a color beyond black and white; the code's range is a little wider.
        shown = torch.minimum(torch.maximum(pattern, -MEAN / STD), (1 - MEAN) / STD)
        triggered = mask * shown + (1 - mask) * clean
        z = F.normalize(model.visual(triggered), dim=-1)
        loss = 5 * F.cross_entropy(z @ classifier / 0.07, torch.full((10,), target))
        loss = loss + 0.5 * torch.linalg.norm(z - near) + 1 - _ssim(triggered, clean)
        loss = loss + 1e-4 * torch.norm(mask, p=1)
        _step(optimizer, loss, mask, pattern)
    return mask.detach(), pattern.detach()


@pytest.mark.usefixtures("float32")
def test_the_released_codes_reading_is_its_loop(
    tiny: Callable[[str], CLIP], data: DataBundle
) -> None:
    model = tiny("vit")
    mask, pattern = _reference(model, data.clean, 1)
    wanted = (pattern * STD + MEAN).clamp(0, 1)

    def apart(**other: str) -> float:
        (found,), _ = replace(CODE, **other)(model, data.clean, 1, seed=0)
        return float((found.mask * found.pattern - mask * wanted).abs().mean())

    assert apart() < 1e-5
    assert min(apart(similarity="pixels"), apart(reference="clean")) > 1e-3


@pytest.mark.parametrize(("area", "held"), [("sum", 0.76), ("norm", 0.52)])
def test_what_holds_a_mask_at_zero(
    planted: CLIP, colored: CleanData, area: str, held: float
) -> None:
    tune = replace(
        INVERT, forms=[FreeMask(1)], lr={"mask": 0.15}, starts=1, steps=20, area=area,
        weights={"align": 1.0, "emb": 0.0, "sim": 0.0, "mask": 0.3},
    )  # fmt: skip
    (found,), _ = tune(planted, colored, 3, seed=0)
    generator = seeded(0, "invert", "mask", 0)
    pattern, mask = torch.rand(3, 16, 16, generator=generator), torch.ones(1, 16, 16)
    optimizer = torch.optim.Adam([mask.requires_grad_(), pattern.requires_grad_()], lr=0.15)
    for _ in range(20):
        batch = to_float(colored.images[torch.randint(12, (6,), generator=generator)])
        triggered = (1 - mask) * batch + mask * (pattern * STD + MEAN).clamp(0, 1)
        logits = planted.encode_image(triggered) / 0.1
        pull = torch.norm(mask, p=1) if area == "norm" else mask.sum()
        loss = F.cross_entropy(logits, torch.full((6,), 3)) + 0.3 * pull
        _step(optimizer, loss, mask, pattern)
    assert torch.allclose(found.mask, mask, atol=1e-5)
    # A norm lets go of what a sum holds at 0.
    assert found.mask.eq(0).float().mean().item() == pytest.approx(held, abs=0.01)


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match="similarity is one of pixels, normalized, got 'ssim'"):
        replace(INVERT, similarity="ssim")
    with pytest.raises(ValueError, match="area is one of sum, norm, got 'mean'"):
        replace(INVERT, area="mean")
    with pytest.raises(ValueError, match="reference is one of clean, target_image, got 'label'"):
        replace(INVERT, reference="label")
    with pytest.raises(ValueError, match="weights are of align, emb, sim, mask, got align"):
        replace(INVERT, weights={"align": 1.0})
    with pytest.raises(ValueError, match=r"a learning rate for each form, none for \['mask'\]"):
        replace(INVERT, lr={"pixels": 0.1})
