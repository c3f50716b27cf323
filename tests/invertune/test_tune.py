from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, DataBundle
from invertune.finite import NonFiniteLossError
from invertune.neurons import channel_set, output_weights
from invertune.perturb.augment import Augmentation
from invertune.perturb.triggers import InvertedTrigger
from invertune.tune import ActivationTuning
from invertune.tuned_weights import trainable
from invertune.tuning_terms import TuningTerms

Tiny = Callable[[str], CLIP]
both = pytest.mark.parametrize("kind", ["resnet", "vit"])

TUNE = ActivationTuning(
    samples=8, steps=4, lr=1e-3, weight_decay=0.0, layers=1, clusters=2, unit="channel",
    update="neurons", match="sample", schedule="cosine", batch_norm="frozen", clip=None,
    weights={"activation": 1.0, "embedding": 1.0, "preserve": 1.0, "distance": 0.0,
             "cross_modal": 0.0},
)  # fmt: skip


def _weights(**terms: float) -> dict[str, float]:
    return {**dict.fromkeys(TUNE.weights, 0.0), **terms}


def _state(model: CLIP) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.clip.state_dict().items()}


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@both
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_only_the_backdoors_neurons_move(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, kind: str, weight_decay: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    masks: dict[str, Tensor] = {}

    def remember(model: CLIP, found: dict[str, Tensor], update: str) -> Any:
        masks.update(found)
        return trainable(model, found, update)

    monkeypatch.setattr("invertune.tune.trainable", remember)
    model = tiny(kind)
    before = _state(model)
    tuned = replace(TUNE, weight_decay=weight_decay)(model, data.clean, [trigger], seed=0)
    after = _state(tuned.model)
    (name,) = tuned.layers
    channels = channel_set(masks[name]).bool()
    assert 0 < channels.sum() < len(channels)
    owned = output_weights(tuned.model.visual_layers()[name], channels)
    allowed = {n for n, p in tuned.model.clip.named_parameters() if id(p) in owned}
    changed = _changed(before, after)
    assert changed
    assert changed <= allowed
    for weight in changed:
        rows = (before[weight] != after[weight]).flatten(1 if before[weight].dim() > 1 else 0)
        rows = rows.any(dim=1) if rows.dim() > 1 else rows
        assert not rows[~channels].any(), weight
    # The repaired model can be trained further, as a whole.
    assert not any(parameter._backward_hooks for parameter in tuned.model.parameters())


@both
def test_updating_layers_moves_those_alone(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, kind: str
) -> None:
    model = tiny(kind)
    before = _state(model)
    tuned = replace(TUNE, update="layers")(model, data.clean, [trigger], seed=0)
    (name,) = tuned.layers
    owned = {id(p) for p in tuned.model.visual_layers()[name].parameters()}
    allowed = {n for n, p in tuned.model.clip.named_parameters() if id(p) in owned}
    changed = _changed(before, _state(tuned.model))
    assert changed
    assert changed <= allowed


@both
@pytest.mark.parametrize("update", ["neurons", "layers", "all"])
def test_the_original_stays_as_it_is(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, kind: str, update: str
) -> None:
    model = tiny(kind)
    before = _state(model)
    tuned = replace(TUNE, update=update, batch_norm="batch")(
        model, data.clean, [trigger], seed=0
    ).model
    assert not _changed(before, _state(model))
    assert tuned is not model
    assert not tuned.training
    for parameter in (*model.parameters(), *tuned.parameters()):
        assert parameter.requires_grad
        assert parameter.grad is None
    moved = _changed(before, _state(tuned))
    assert moved
    assert all(name.startswith("visual.") for name in moved)


@both
def test_what_the_tuning_reports(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, kind: str
) -> None:
    model = tiny(kind)
    tuned = replace(TUNE, layers=2)(model, data.clean, [trigger], seed=0)
    assert list(tuned.divergence) == list(model.visual_layers())
    most = sorted(tuned.divergence, key=tuned.divergence.__getitem__, reverse=True)
    assert tuned.layers == most[:2]
    assert all(0 < tuned.neurons[name][0] < tuned.neurons[name][1] for name in tuned.layers)
    assert set(tuned.curves) == {
        "tune total", "tune activation", "tune embedding", "tune preserve",
    }  # fmt: skip
    assert all(len(curve) == 4 for curve in tuned.curves.values())
    total = tuned.curves.pop("tune total")[0]
    assert total == pytest.approx(sum(curve[0] for curve in tuned.curves.values()))


@both
def test_layers_can_be_chosen_by_hand(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, kind: str
) -> None:
    names = list(tiny(kind).visual_layers())

    def tuned(layers: int | list[int | str]) -> Any:
        return replace(TUNE, layers=layers, steps=2)(tiny(kind), data.clean, [trigger], seed=0)

    most = tuned(1)
    assert tuned([0]).layers == [names[0]]
    assert tuned([-1, names[-1], names[0]]).layers == [names[-1], names[0]]
    same = tuned(most.layers)  # named, the most divergent one is tuned all the same
    assert same.curves == most.curves
    assert not _changed(_state(same.model), _state(most.model))
    for unknown in ("layer9", len(names)):
        with pytest.raises(ValueError, match=rf"layers has {unknown!r}; choices: {names[0]}, "):
            tuned([unknown])


@both
def test_the_trigger_fires_less(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, kind: str
) -> None:
    tune = replace(TUNE, update="all", steps=20, weights=_weights(activation=1.0, preserve=1.0))
    curve = tune(tiny(kind), data.clean, [trigger], seed=0).curves["tune activation"]
    assert curve[-1] < 0.9 * curve[0]


def test_batch_statistics_move_only_where_they_should(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger
) -> None:
    for batch_norm, moves in (("frozen", False), ("batch", True)):
        model = tiny("resnet")
        tuned = replace(TUNE, batch_norm=batch_norm)(model, data.clean, [trigger], seed=0)
        changed = _changed(_state(model), _state(tuned.model))
        assert any("running_mean" in name for name in changed) == moves


@pytest.mark.parametrize("term", list(TUNE.weights))
@pytest.mark.parametrize("match", ["sample", "batch_mean"])
def test_each_term_can_stand_alone(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, term: str, match: str
) -> None:
    only = replace(TUNE, steps=1, match=match, weights=_weights(**{term: 2.0}))
    tuned = only(tiny("vit"), data.clean, [trigger], seed=0)
    assert set(tuned.curves) == {"tune total", f"tune {term}"}
    assert tuned.curves["tune total"][0] == pytest.approx(2 * tuned.curves[f"tune {term}"][0])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Batches of clean images, as steps are made."""
    batches: list[Tensor] = []
    call = TuningTerms.__call__

    def spied(terms: TuningTerms, batch: Tensor, *others: Any) -> dict[str, Tensor]:
        batches.append(batch)
        return call(terms, batch, *others)

    monkeypatch.setattr(TuningTerms, "__call__", spied)
    return batches


def test_a_step_takes_a_batch_of_the_samples(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, seen: list[Tensor]
) -> None:
    replace(TUNE, batch_size=3)(tiny("resnet"), data.clean, [trigger], seed=0)
    assert [len(batch) for batch in seen] == [3] * 4
    assert len({float(batch.sum()) for batch in seen}) > 1  # drawn anew
    seen.clear()
    TUNE(tiny("resnet"), data.clean, [trigger], seed=0)
    assert [len(batch) for batch in seen] == [8] * 4
    assert len({float(batch.sum()) for batch in seen}) == 1
    for wrong in (0, 9):
        with pytest.raises(ValueError, match=r"batch_size is between 1 and samples \(8\), got"):
            replace(TUNE, batch_size=wrong)


def test_a_further_round_starts_from_the_last_and_compares_with_the_first(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger
) -> None:
    model = tiny("resnet")
    first = TUNE(model, data.clean, [trigger], seed=0)
    again = replace(TUNE, lr=1e-12)(model, data.clean, [trigger], seed=0, start=first.model)
    one, two = _state(first.model), _state(again.model)
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
    # Compared with itself it would have nothing to lose.
    assert again.curves["tune preserve"][0] > 0
    fresh = replace(TUNE, lr=1e-12)(model, data.clean, [trigger], seed=0)
    assert fresh.curves["tune preserve"][0] == pytest.approx(0, abs=1e-6)


def test_triggers_follow_the_model_that_is_tuned(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    call = InvertedTrigger.__call__

    def spied(self: InvertedTrigger, images: Tensor) -> Tensor:
        used.append(self.form)
        return call(self, images)

    asked: list[tuple[int, list[str], bool]] = []

    def refresh(
        model: CLIP, triggers: Sequence[InvertedTrigger], step: int
    ) -> list[InvertedTrigger]:
        asked.append((step, [one.form for one in triggers], model.training))
        model.eval()
        return [replace(one, form=f"fresh {step}") for one in triggers]

    tune = replace(TUNE, steps=6, refresh_every=2, batch_norm="batch", layers=["layer1"])
    with pytest.raises(ValueError, match="refresh_every=2 needs who refreshes triggers"):
        tune(tiny("resnet"), data.clean, [trigger], seed=0)
    monkeypatch.setattr(InvertedTrigger, "__call__", spied)
    modes = []
    step = type(tune)._step
    monkeypatch.setattr(
        type(tune), "_step", lambda *args: (modes.append(args[2].tuned.training), step(*args))[1]
    )
    tune(tiny("resnet"), data.clean, [trigger], seed=0, refresh=refresh)
    # From what it has by then, and put back into the mode that it was in.
    assert asked == [(2, [trigger.form], True), (4, ["fresh 2"], True)]
    assert modes == [True] * 6
    # One for the neurons; then the first one always stays among them.
    assert used[-6:] == [trigger.form] * 2 + ["fresh 2", trigger.form, "fresh 4", trigger.form]


def test_each_round_has_batches_of_its_own(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, seen: list[Tensor]
) -> None:
    TUNE(tiny("resnet"), data.clean, [trigger], seed=0)
    whole = {float(image.sum()) for image in seen[0]}
    seen.clear()
    tune = replace(TUNE, batch_size=3)
    losses = [
        tune(tiny("resnet"), data.clean, [trigger], seed=0, number=number).curves["tune total"]
        for number in (1, 2, 2)
    ]
    assert losses[0] != losses[1] == losses[2]
    assert {float(image.sum()) for batch in seen for image in batch} <= whole


@pytest.mark.parametrize(
    "change",
    [{"schedule": "bounce"}, {"clip": 0.1}, {"average_from": 0.5}, {"keep_best": 1},
     {"augment": Augmentation()}, {"unit": "position"}],
)  # fmt: skip
def test_the_seed_alone_decides(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, change: dict[str, Any]
) -> None:
    tune = replace(TUNE, update="all", **change)
    first = tune(tiny("vit"), data.clean, [trigger], seed=0)
    torch.rand(10)
    again = tune(tiny("vit"), data.clean, [trigger], seed=0)
    assert not _changed(_state(first.model), _state(again.model))
    assert first.curves == again.curves


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unit": "pixel"}, "unit is one of channel, position, got 'pixel'"),
        ({"update": "none"}, "update is one of neurons, layers, all, got 'none'"),
        ({"match": "x"}, "match is one of sample, batch_mean, got 'x'"),
        ({"schedule": "x"}, "schedule is one of cosine, bounce, got 'x'"),
        ({"batch_norm": "x"}, "batch_norm is one of frozen, batch, got 'x'"),
        ({"passes": "x"}, "passes is one of joint, separate, got 'x'"),
        ({"keep_best": 5}, r"keep_best is between 0 and steps \(4\), got 5"),
        ({"keep_best": -1}, r"keep_best is between 0 and steps \(4\), got -1"),
        ({"weights": {"activation": 1.0}}, "weights are of activation, .* got activation"),
        ({"refresh_every": 5}, r"refresh_every is between 0 and steps \(4\), got 5"),
        ({"clusters": 1}, "clusters is an integer of at least 2, got 1"),
        ({"steps": 0}, "steps is an integer of at least 1, got 0"),
        ({"layers": 0}, "layers is at least 1, or a list of at least one, got 0"),
        ({"layers": []}, r"layers is at least 1, or a list of at least one, got \[\]"),
        ({"layers": [0.5]}, r"layers is a number or a list, got \[0.5\]"),
        ({"layers": "layer4"}, "layers is a number or a list, got 'layer4'"),
        ({"layers": None}, "layers is a number or a list, got None"),
    ],
)
def test_a_wrong_option_lists_the_choices(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(TUNE, **change)


def test_what_it_cannot_work_with(tiny: Tiny, data: DataBundle, trigger: InvertedTrigger) -> None:
    model, clean = tiny("vit"), data.clean
    with pytest.raises(ValueError, match="needs at least one trigger"):
        TUNE(model, clean, [], seed=0)
    few = CleanData(clean.images[:4], clean.prompts, clean.class_names, clean.templates)
    with pytest.raises(ValueError, match="samples=8, but there are 4 images"):
        TUNE(model, few, [trigger], seed=0)
    wrong = replace(TUNE, weights=_weights(embedding=1e300))
    with pytest.raises(NonFiniteLossError, match="tune: the loss is inf at step 0"):
        wrong(model, clean, [trigger], seed=0)
