from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle, to_float
from invertune.finite import NonFiniteLossError
from invertune.identify import TargetIdentification
from invertune.perturb.advclip import AdvCLIPGenerator, nearest_texts
from invertune.perturb.raw import RawPerturbation
from invertune.perturb.triggers import InvertedTrigger
from invertune.seeds import seeded

CONF = Path(__file__).parents[3] / "conf"


def _generator(**changes: Any) -> AdvCLIPGenerator:
    small = AdvCLIPGenerator(
        name="advclip", share=0.25, corner=0.25, channels=8, alpha=10.0, beta=5.0, gamma=5.0,
        delta=1.0, temperature=0.1, lr=2e-3, betas=(0.5, 0.999), batch_size=8, steps=3, clip=0.01,
        starts=1, clean_gain=1.0,
    )  # fmt: skip
    return replace(small, **changes)


def _perturb(
    model: CLIP, clean: CleanData, generator: AdvCLIPGenerator, seed: int = 0, start: int = 0
) -> InvertedTrigger:
    features = encode_images(model, clean.images[:])
    classifier = zero_shot_classifier(model, clean.prompts, clean.templates)
    return generator.perturb(
        model, clean.images[:], features, classifier=classifier, seed=seed, start=start
    )


def _composed() -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["defense=invertune_advclip"])
    defense = OmegaConf.to_container(config.defense, resolve=True)
    assert isinstance(defense, dict)
    return {str(key): value for key, value in defense.items()}


def test_the_text_of_an_image_is_the_nearest_prompt() -> None:
    classifier = torch.eye(3)[:, [2, 0]]
    features = torch.tensor([[0.8, 0.6, 0.0], [0.0, 0.6, 0.8]])
    assert torch.equal(nearest_texts(features, classifier), torch.eye(3)[[0, 2]])


def test_the_patch_lies_where_advclips_does() -> None:
    (generator,) = instantiate(_composed()["identify"]["generators"], _convert_="all")
    mask = generator.mask(224)
    assert mask.shape == (1, 224, 224)
    assert mask.sum() == 38 * 38
    assert mask[:, 172:210, 172:210].eq(1).all()


def test_only_the_patch_changes(planted: CLIP, colored: CleanData) -> None:
    state = {name: value.clone() for name, value in planted.state_dict().items()}
    trigger = _perturb(planted, colored, _generator())
    assert trigger.form == "advclip"
    assert trigger.pattern.shape == (3, 16, 16)
    assert 0 <= trigger.pattern.min() < trigger.pattern.max() <= 1
    assert not trigger.pattern.requires_grad
    assert not trigger.offset.any()
    images = to_float(colored.images[:])
    changed = (trigger(images) != images).any(dim=0).any(dim=0)
    box = torch.zeros(16, 16, dtype=torch.bool)
    box[4:12, 4:12] = True
    assert torch.equal(changed, box)
    assert all(torch.equal(state[name], value) for name, value in planted.state_dict().items())
    assert [parameter.requires_grad for parameter in planted.parameters()] == [True, False]
    assert all(parameter.grad is None for parameter in planted.parameters())


def test_seed_and_start_alone_decide(planted: CLIP, colored: CleanData) -> None:
    first = _perturb(planted, colored, _generator())
    torch.rand(10)
    state = torch.get_rng_state()
    again = _perturb(planted, colored, _generator())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.pattern, again.pattern)
    for seed, start in ((1, 0), (0, 1)):
        other = _perturb(planted, colored, _generator(), seed, start)
        assert not torch.equal(first.pattern, other.pattern)


def test_it_moves_images_further_than_noise_does(planted: CLIP, colored: CleanData) -> None:
    trigger = _perturb(planted, colored, _generator(steps=20))
    noise = torch.rand(3, 16, 16, generator=seeded(0, "noise"))
    clean, images = encode_images(planted, colored.images[:]), to_float(colored.images[:])

    def cosine(patch: InvertedTrigger) -> Tensor:
        return (encode_images(planted, patch(images)) * clean).sum(dim=-1).mean()

    assert cosine(trigger) < cosine(replace(trigger, pattern=noise)) - 0.005


def test_a_loss_that_is_no_number_names_the_stage(planted: CLIP, colored: CleanData) -> None:
    with pytest.raises(NonFiniteLossError, match="identify: the loss is nan at step 0"):
        _perturb(planted, colored, _generator(temperature=1e-45))


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match=r"clean_gain is a share in \(0, 1\], got 0"):
        _generator(clean_gain=0)
    with pytest.raises(ValueError, match="channels is a multiple of 8, got 100"):
        _generator(channels=100)
    with pytest.raises(ValueError, match="batch_size is at least 2 images to compare, got 1"):
        _generator(batch_size=1)
    with pytest.raises(ValueError, match="steps is an integer of at least 1, got 0"):
        _generator(steps=0)
    with pytest.raises(ValueError, match="alpha is a number of at least 0, got nan"):
        _generator(alpha=float("nan"))
    with pytest.raises(ValueError, match="does not fit into an image of 16 pixels"):
        _generator(corner=0.9).mask(16)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_the_yaml_is_the_votes_with_another_generator(
    tiny: Callable[[str], CLIP], data: DataBundle, kind: str
) -> None:
    config = _composed()
    whole = OmegaConf.to_container(OmegaConf.load(CONF / "defense" / "invertune_votes.yaml"))
    assert isinstance(whole, dict)
    assert config["name"] == "invertune_advclip"
    assert {key: config[key] for key in ("invert", "tune")} == {
        key: whole[key] for key in ("invert", "tune")
    }
    identify = instantiate(config["identify"], _convert_="all")
    assert isinstance(identify, TargetIdentification)
    (generator,) = identify.generators
    assert isinstance(generator, AdvCLIPGenerator)
    few = replace(generator, channels=16, steps=2, batch_size=10)
    small = replace(identify, generators=[few], images=10)
    found = small(tiny(kind), data.clean, seed=0)
    (vote,) = found.votes
    assert vote.generator == "advclip"
    assert sum(vote.perturbed_frequency) == pytest.approx(1)
    assert small(tiny(kind), data.clean, seed=0) == found


@pytest.mark.parametrize("kind", [TargetIdentification, RawPerturbation])
def test_a_batch_larger_than_the_images_is_refused_before_any_work(
    kind: Callable[..., object],
) -> None:
    kind(generators=[_generator()], images=8)
    with pytest.raises(ValueError, match="advclip needs at least batch_size=8 images, got 7"):
        kind(generators=[_generator()], images=7)
    with pytest.raises(ValueError, match="images is an integer of at least 1, got 0"):
        kind(generators=[_generator()], images=0)
