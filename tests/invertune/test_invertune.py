from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from experiments.config import class_fields
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle
from invertune.evidence import Evidence
from invertune.invertune import InverTune

CONF = Path(__file__).parents[2] / "conf"
VARIANTS = sorted(path.stem for path in (CONF / "defense").glob("invertune*.yaml"))


def _few_steps(variant: str) -> InverTune:
    """Return a configured InverTune that does every step, but only a few times."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"defense={variant}"]).defense
    defense = instantiate(class_fields(config), _convert_="all")
    generators = [
        replace(generator, steps=2, batch_size=4, starts=1)
        for generator in defense.identify.generators
    ]
    return replace(
        defense,
        identify=replace(defense.identify, generators=generators, images=10),
        invert=replace(defense.invert, steps=2, batch_size=4, images=8),
        tune=replace(defense.tune, samples=4, steps=3, keep_best=min(2, defense.tune.keep_best)),
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_the_whole_way(
    tiny: Callable[[str], CLIP], data: DataBundle, variant: str, kind: str, tmp_path: Path
) -> None:
    defense, model = _few_steps(variant), tiny(kind)
    assert (defense.name, defense.clean_samples) == (variant, 10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    purified = defense.purify(model, data.clean, seed=0)

    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in model.parameters())
    tuned = purified.model.state_dict()
    assert tuned.keys() == before.keys()
    assert any(not torch.equal(before[name], tuned[name]) for name in before)
    assert all(torch.isfinite(value).all() for value in tuned.values())

    evidence = purified.evidence
    assert evidence.identification is not None
    assert 0 <= evidence.identification.target_label < len(data.class_names)
    assert len(evidence.identification.votes) == len(defense.identify.generators)
    assert 1 <= len(evidence.triggers) <= defense.invert.starts * len(defense.invert.forms)
    divergence, tuned_layers = (evidence.findings[n] for n in ("divergence", "tuned_layers"))
    assert list(divergence) == list(model.visual_layers())
    assert len(tuned_layers) == min(defense.tune.layers, len(divergence))
    assert list(evidence.findings["neurons"]) == tuned_layers
    assert list(evidence.seconds) == ["identify", "invert", "tune"]
    assert len(evidence.curves["tune total"]) == 3
    evidence.save(tmp_path)
    assert Evidence.load(tmp_path).identification == evidence.identification


def test_the_seed_alone_decides(tiny: Callable[[str], CLIP], data: DataBundle) -> None:
    defense = _few_steps("invertune")
    first = defense.purify(tiny("vit"), data.clean, seed=0)
    torch.rand(10)
    again = defense.purify(tiny("vit"), data.clean, seed=0)
    one, other = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert first.evidence.curves == again.evidence.curves
    changed = defense.purify(tiny("vit"), data.clean, seed=1).evidence.curves
    assert changed != first.evidence.curves


def test_too_few_clean_images(tiny: Callable[[str], CLIP], data: DataBundle) -> None:
    clean = data.clean
    few = CleanData(clean.images[:9], clean.prompts, clean.class_names, clean.templates)
    with pytest.raises(ValueError, match="invertune needs 10 clean images, got 9"):
        _few_steps("invertune").purify(tiny("vit"), few, seed=0)


def test_an_interrupted_repair_goes_on_from_its_file(
    tiny: Callable[[str], CLIP], data: DataBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defense, file = _few_steps("invertune"), tmp_path / "checkpoint.pt"
    undisturbed = defense.purify(tiny("vit"), data.clean, seed=0)
    seen: list[Path | None] = []
    tune = type(defense.tune).__call__

    def spied(*args: object, checkpoint: Path | None = None, **kwargs: object) -> object:
        seen.append(checkpoint)
        return tune(*args, checkpoint=checkpoint, **kwargs)

    monkeypatch.setattr(type(defense.tune), "__call__", spied)
    found = defense.search(tiny("vit"), data.clean, seed=0)
    repaired = defense.repair(tiny("vit"), data.clean, found, seed=0, checkpoint=file)
    whole = defense.purify(tiny("vit"), data.clean, seed=0, checkpoint=file)
    assert seen == [file, file]
    for other in (repaired, whole):
        one, two = undisturbed.model.state_dict(), other.model.state_dict()
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert not file.exists()


def test_what_was_found_can_wait_on_disk(
    tiny: Callable[[str], CLIP], data: DataBundle, tmp_path: Path
) -> None:
    defense, model = _few_steps("invertune"), tiny("resnet")
    at_once = defense.purify(model, data.clean, seed=0)
    defense.search(model, data.clean, seed=0).save(tmp_path)
    torch.rand(10)
    later = defense.repair(model, data.clean, Evidence.load(tmp_path), seed=0)
    one, other = at_once.model.state_dict(), later.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert at_once.evidence.curves == later.evidence.curves
    assert at_once.evidence.findings == later.evidence.findings
