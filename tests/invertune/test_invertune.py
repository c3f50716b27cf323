from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from experiments.config import class_fields
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle
from invertune.evidence import Evidence, Identification, Survival, Verdict
from invertune.identify import TargetIdentification
from invertune.invert import TriggerInversion
from invertune.invertune import InverTune
from invertune.shrinking_inversion import ShrinkingInversion
from invertune.survival import Pool
from invertune.tune import ActivationTuning, Tuned
from invertune.verify import Verification, kind_of
from invertune.work import Work

CONF = Path(__file__).parents[2] / "conf"
# All that repair.
VARIANTS = sorted(
    path.stem
    for path in (CONF / "defense").glob("invertune*.yaml")
    if "\ntune: null\n" not in path.read_text(encoding="utf-8")
)


def _few_steps(variant: str, **changes: Any) -> InverTune:
    """Return a configured InverTune that does every step, but only a few times."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"defense={variant}"]).defense
    defense = instantiate(class_fields(config), _convert_="all")
    few = replace(defense, identify=_few(defense.identify), invert=_few(defense.invert))
    if (tune := few.tune) is not None:
        steps = {"samples": 4, "batch_size": None, "steps": 3}
        fewer = {name: min(2, getattr(tune, name)) for name in ("keep_best", "refresh_every")}
        few = replace(few, tune=replace(tune, **steps, **fewer))
    if few.verify is not None:
        few = replace(few, verify=_few(few.verify))
    return replace(few, **changes)


def _few(step: Any) -> Any:
    if isinstance(step, TargetIdentification):
        generators = [
            replace(generator, steps=2, batch_size=4, starts=1) for generator in step.generators
        ]
        return replace(step, generators=generators, images=10)
    if isinstance(step, TriggerInversion):
        return replace(step, steps=2, batch_size=4, images=8)
    if isinstance(step, ShrinkingInversion):
        effort = replace(step.effort, steps=2, images=2)
        return replace(step, effort=effort, refreshing=effort, images=4, held=4)
    efforts = [replace(effort, steps=2, images=2) for effort in step.efforts]
    # As little as the others, and one budget that is judged.
    budgets = [form.budgets[-len(efforts) :] for form in step.forms]
    forms = [
        replace(form, efforts=(), budgets=few)
        for form, few in zip(step.forms, budgets, strict=True)
    ]
    return replace(step, efforts=efforts, forms=forms, images=5, held=5)


class Settled(Verification):
    """Says what it is told to, in place of looking."""

    verdicts: ClassVar[list[float]] = []

    def decide(
        self, found: Identification, again: Sequence[Survival]
    ) -> tuple[Identification, Verdict]:
        found, verdict = super().decide(found, again)
        return found, replace(
            verdict, p=(p := self.verdicts.pop(0)), kind=kind_of(p, self.alarm, self.clear)
        )

    def _doubted(self, verdict: Verdict, pool: Pool) -> Verdict:
        return verdict  # the tiny model hardly knows its classes

    def left(self, *args: Any, **kwargs: Any) -> float:
        super().left(*args, **kwargs)
        return self.verdicts.pop(0)


def _settled(defense: InverTune, *verdicts: float, **changes: Any) -> InverTune:
    """Return the defense with its p-values given: that of the verdict, and after each round."""
    fields = {
        field.name: getattr(defense.verify, field.name) for field in dataclass_fields(Verification)
    }
    settled = Settled(**fields)
    Settled.verdicts = list(verdicts)
    return replace(defense, verify=settled, **changes)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_the_whole_way(
    tiny: Callable[[str], CLIP], data: DataBundle, variant: str, kind: str, tmp_path: Path
) -> None:
    # A model that was never trained is found clean.
    always = {"always_repair": True} if variant == "invertune" else {}
    defense, model = _few_steps(variant, **always), tiny(kind)
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
    assert (evidence.verdict is None) == (defense.verify is None)
    assert evidence.triggers
    divergence, tuned_layers = (evidence.findings[n] for n in ("divergence", "tuned_layers"))
    assert list(divergence) == list(model.visual_layers())
    assert len(tuned_layers) == min(defense.tune.layers, len(divergence))
    assert list(evidence.findings["neurons"]) == tuned_layers
    steps = ["identify", "invert", *(["refresh"] if defense.tune.refresh_every else []), "tune"]
    assert [step for step in evidence.seconds if "verify" not in step] == steps
    assert len(evidence.curves["tune total"]) == 3
    evidence.save(tmp_path)
    assert Evidence.load(tmp_path).identification == evidence.identification
    assert Evidence.load(tmp_path).verdict == evidence.verdict


def test_a_model_that_is_found_clean_stays_as_it_is(
    tiny: Callable[[str], CLIP], data: DataBundle, tmp_path: Path
) -> None:
    model = tiny("resnet")
    purified = _settled(_few_steps("invertune"), 0.5).purify(model, data.clean, seed=0)
    before, after = model.state_dict(), purified.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert purified.model is not model
    evidence = purified.evidence
    assert evidence.verdict is not None
    assert evidence.verdict.kind == "clean"
    assert (evidence.triggers, evidence.curves) == ([], {})
    evidence.save(tmp_path)
    assert Evidence.load(tmp_path) == evidence


def test_without_a_repair_it_finds_the_same_and_the_model_stays_as_it_is(
    tiny: Callable[[str], CLIP], data: DataBundle
) -> None:
    model = tiny("resnet")
    whole = _settled(_few_steps("invertune"), 0.001).search(model, data.clean, seed=0)
    purified = _settled(_few_steps("invertune_verdict"), 0.001).purify(model, data.clean, seed=0)
    assert purified.evidence.identification == whole.identification
    assert purified.evidence.verdict == whole.verdict
    assert purified.evidence.curves == whole.curves
    assert len(purified.evidence.triggers) == len(whole.triggers) > 0
    before, after = model.state_dict(), purified.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (purified.model is not model, purified.steps) == (True, 0)
    verdict, default = _few_steps("invertune_verdict").work(9), _few_steps("invertune").work(9)
    assert verdict == {"search": default["search"], "purify": Work()}


@pytest.mark.parametrize(
    ("asked", "said"), [({"always_repair": True}, "always_repair"), ({"rounds": 2}, "rounds=2")]
)
def test_what_repairs_needs_the_step_that_does(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said} needs tune, which repairs"):
        _few_steps("invertune_verdict", **asked)


@pytest.mark.parametrize(
    ("p", "kind", "labels"), [(0.001, "backdoored", 1), (0.05, "undecided", 2), (0.5, "clean", 2)]
)
def test_the_verdict_says_whose_triggers_are_inverted(
    tiny: Callable[[str], CLIP], data: DataBundle, p: float, kind: str, labels: int
) -> None:
    defense = _settled(_few_steps("invertune"), p, always_repair=True)
    evidence = defense.search(tiny("vit"), data.clean, seed=0)
    assert evidence.verdict is not None
    assert evidence.verdict.kind == kind
    others = {name.partition(" of ")[2] for name in evidence.curves}
    assert len(others) == labels


def test_the_tuning_is_told_whose_triggers_it_has(
    tiny: Callable[[str], CLIP], data: DataBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[bool, list[int]]] = []
    tune = ActivationTuning.__call__

    def spied(self: ActivationTuning, *args: Any, suspected: list[int], **kwargs: Any) -> Tuned:
        told.append((self.leave_out, suspected))
        return tune(self, *args, suspected=suspected, **kwargs)

    monkeypatch.setattr(ActivationTuning, "__call__", spied)
    for p in (0.001, 0.05):
        defense, model = _settled(_few_steps("invertune"), p, 0.5), tiny("vit")
        found = defense.search(model, data.clean, seed=0)
        assert found.identification is not None
        first, second, third, *_ = found.identification.order
        alike = replace(found.identification, alike=[[first, third]])
        defense.repair(model, data.clean, replace(found, identification=alike), seed=0)
        assert told.pop() == (True, [first, third] if p == 0.001 else [first, third, second])


def test_rounds_go_on_until_nothing_stands_out(
    tiny: Callable[[str], CLIP], data: DataBundle
) -> None:
    few = _few_steps("invertune", rounds=4)
    once = _settled(few, 0.001, 0.02).purify(tiny("resnet"), data.clean, seed=0)
    twice = _settled(few, 0.001, 0.005, 0.2).purify(tiny("resnet"), data.clean, seed=0)
    assert once.evidence.findings["p_after_round"] == [0.02]
    assert twice.evidence.findings["p_after_round"] == [0.005, 0.2]
    assert "tune total, round 2" in twice.evidence.curves
    assert "tune total, round 3" not in twice.evidence.curves
    assert len(twice.evidence.triggers) > len(once.evidence.triggers)
    one, two = once.model.state_dict(), twice.model.state_dict()
    assert any(not torch.equal(one[name], two[name]) for name in one)
    most = _settled(replace(few, rounds=2), 0.001, 0.005).purify(tiny("vit"), data.clean, seed=0)
    assert most.evidence.findings["p_after_round"] == [0.005]


@pytest.mark.parametrize("stood_out", [True, False])
def test_the_second_class_of_an_undecided_model_is_looked_at_again_if_it_stood_out(
    tiny: Callable[[str], CLIP],
    data: DataBundle,
    monkeypatch: pytest.MonkeyPatch,
    stood_out: bool,
) -> None:
    asked: list[int] = []
    invert = ShrinkingInversion.__call__

    def spied(self: ShrinkingInversion, *args: Any, seed: int) -> Any:
        asked.append(args[2])
        return invert(self, *args, seed=seed)

    monkeypatch.setattr(ShrinkingInversion, "__call__", spied)
    told = ["mask"] if stood_out else []
    monkeypatch.setattr(Settled, "told", lambda self, found, label: told)
    # The verdict; what is left of the first class, and of the second.
    defense = _settled(_few_steps("invertune", rounds=2), 0.05, 0.5, 0.001)
    evidence = defense.purify(tiny("vit"), data.clean, seed=0).evidence
    assert evidence.identification is not None
    first, second, *_ = evidence.identification.order
    assert asked == ([first, second, second] if stood_out else [first, second])
    assert evidence.findings["p_after_round"] == ([0.001] if stood_out else [0.5])


def test_no_step_sees_more_images_than_the_defense_counts(
    tiny: Callable[[str], CLIP], data: DataBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, list[int]] = {}
    defense = _settled(_few_steps("invertune", rounds=2), 0.001, 0.005)
    take = CleanData.take

    def spied(clean: CleanData, index: Tensor) -> CleanData:
        asked.setdefault("few", []).extend(index.tolist())
        return take(clean, index)

    monkeypatch.setattr(CleanData, "take", spied)
    defense.purify(tiny("resnet"), data.clean, seed=0)
    assert len(set(asked["few"])) == defense.clean_samples == 10
    assert len(data.clean.images) > 10


def test_triggers_follow_only_where_the_inversion_can_make_them() -> None:
    tune = replace(_few_steps("invertune_votes").tune, refresh_every=1)
    with pytest.raises(ValueError, match="invert is a Refreshing, got TriggerInversion"):
        _few_steps("invertune_votes", tune=tune)


def test_rounds_need_what_says_when_to_stop() -> None:
    with pytest.raises(ValueError, match="rounds=2 needs verify, which says when to stop"):
        _few_steps("invertune_votes", rounds=2)


def test_the_seed_alone_decides(tiny: Callable[[str], CLIP], data: DataBundle) -> None:
    defense = _few_steps("invertune", always_repair=True)
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
        _few_steps("invertune", always_repair=True).purify(tiny("vit"), few, seed=0)


def test_the_tuning_is_given_the_file_that_it_goes_on_from(
    tiny: Callable[[str], CLIP], data: DataBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defense, file = _few_steps("invertune", always_repair=True), tmp_path / "checkpoint.pt"
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
    defense, model = _few_steps("invertune", always_repair=True), tiny("resnet")
    at_once = defense.purify(model, data.clean, seed=0)
    defense.search(model, data.clean, seed=0).save(tmp_path)
    torch.rand(10)
    later = defense.repair(model, data.clean, Evidence.load(tmp_path), seed=0)
    one, other = at_once.model.state_dict(), later.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert at_once.evidence.curves == later.evidence.curves
    assert at_once.evidence.findings == later.evidence.findings
