from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.perturb.augment import Augmentation
from invertune.perturb.triggers import InvertedTrigger
from invertune.tune import ActivationTuning
from invertune.tuned_weights import Best, Mean, Rows, TuningState, cosine
from invertune.tuning_terms import TuningTerms

Tiny = Callable[[str], CLIP]
TUNE = ActivationTuning(
    samples=8, steps=6, lr=1e-3, weight_decay=0.0, layers=1, clusters=2, unit="channel",
    update="all", match="sample", schedule="cosine", batch_norm="frozen", clip=None,
    weights={"activation": 1.0, "embedding": 1.0, "preserve": 1.0, "distance": 0.0,
             "cross_modal": 0.0},
)  # fmt: skip


def _model(value: float) -> nn.Linear:
    model = nn.Linear(2, 3, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def test_only_the_chosen_rows_move() -> None:
    model = _model(1.0)
    rows = Rows(model.weight, torch.tensor([0.0, 1.0, 0.0]))
    model(torch.ones(1, 2)).sum().backward()
    rows.mask_gradient()
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [[0, 0], [1, 1], [0, 0]]
    with torch.no_grad():
        model.weight.fill_(5.0)  # as an optimizer with weight decay would
    rows.restore()
    assert model.weight.tolist() == [[1, 1], [5, 5], [1, 1]]


def test_the_mean_is_of_what_was_added() -> None:
    model = _model(1.0)
    mean = Mean(model)
    mean.restore()
    assert model.weight.unique().tolist() == [1.0]  # of nothing: as it is
    mean.add()
    nn.init.constant_(model.weight, 4.0)
    mean.add()
    later = Mean(model)
    later.resume(mean.state())
    nn.init.constant_(model.weight, 7.0)
    later.add()
    later.restore()
    assert model.weight.unique().tolist() == pytest.approx([4.0])


def test_the_best_weights_have_the_least_loss() -> None:
    model = _model(0.0)
    best = Best(model)
    for loss in (3.0, 1.0, 2.0):
        nn.init.constant_(model.weight, loss)
        best.offer(loss)
    later = Best(model)
    later.resume(best.state())
    later.offer(1.5)
    later.restore()
    assert model.weight.unique().tolist() == [1.0]


@pytest.mark.parametrize(("bounce", "ends"), [(False, [1.0, 0.5, 0.0]), (True, [1.0, 0.05, 1.0])])
def test_a_rate_falls_or_bounces(bounce: bool, ends: list[float]) -> None:
    optimizer = torch.optim.SGD(_model(1.0).parameters(), lr=1.0)
    scheduler = cosine(optimizer, 8, bounce=bounce)
    rates = [scheduler.get_last_lr()[0]]
    for _ in range(8):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    assert [rates[0], rates[4], rates[8]] == pytest.approx(ends)


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    "change",
    [{"average_from": 0.2}, {"keep_best": 2}, {"refresh_every": 1}, {"refresh_every": 3},
     {"update": "neurons", "weight_decay": 0.1},
     {"schedule": "bounce", "batch_norm": "batch", "clip": 0.1, "passes": "separate"}],
)  # fmt: skip
@pytest.mark.parametrize("killed_at", [2, 3, 5])
def test_a_tuning_that_is_killed_ends_like_an_undisturbed_one(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, change: dict[str, Any], killed_at: int,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tune = replace(TUNE, augment=Augmentation(), **change)
    path, other = tmp_path / "checkpoint.pt", replace(trigger, pattern=trigger.pattern / 2)
    triggers, model = [trigger, other], tiny("resnet")

    def refresh(_: CLIP, old: Sequence[InvertedTrigger], step: int) -> list[InvertedTrigger]:
        changed = [one.pattern * 0.9 + step / 100 for one in old]
        origin = {"label": torch.tensor(step)}
        return [
            replace(one, pattern=pattern, origin=origin)
            for one, pattern in zip(old, changed, strict=True)
        ]

    options: dict[str, Any] = {"seed": 0, "refresh": refresh}
    straight = tune(model, data.clean, triggers, **options)
    steps, terms = iter(range(killed_at)), TuningTerms.__call__

    def interrupted(self: TuningTerms, *given: Any) -> Any:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return terms(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(TuningTerms, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(model, data.clean, triggers, **options, checkpoint=path, checkpoint_every=2)
    assert path.exists()
    done: list[int] = []

    def counted(self: TuningTerms, *given: Any) -> Any:
        done.append(1)
        return terms(self, *given)

    monkeypatch.setattr(TuningTerms, "__call__", counted)
    torch.rand(7)
    resumed = tune(model, data.clean, triggers, **options, checkpoint=path, checkpoint_every=2)
    assert len(done) == 6 - killed_at // 2 * 2  # the steps before the last file are not made again
    assert not path.exists()
    assert resumed.curves == straight.curves
    assert not _changed(straight.model.state_dict(), resumed.model.state_dict())


def test_the_best_weights_are_those_that_the_step_of_least_loss_left(
    tiny: Tiny, data: DataBundle, trigger: InvertedTrigger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Constants move no weight; the least of all is of a step that is not looked at.
    added, terms, left = iter([9, 9, 2, 9, 0, 1, 9, 9, 3, 0]), TuningTerms.__call__, []

    def shifted(self: TuningTerms, *given: Any) -> dict[str, Tensor]:
        (preserve,) = terms(self, *given).values()
        return {"preserve": preserve + 100 * next(added)}

    def remembered(self: TuningState, *_: Any) -> None:
        left.append({name: value.clone() for name, value in self.model.state_dict().items()})

    monkeypatch.setattr(TuningTerms, "__call__", shifted)
    monkeypatch.setattr(TuningState, "save", remembered)
    only = dict.fromkeys(TUNE.weights, 0.0) | {"preserve": 1.0}
    tune = replace(TUNE, steps=10, keep_best=3, batch_norm="batch", weights=only)
    found = tune(tiny("resnet"), data.clean, [trigger], seed=0).model.state_dict()
    same = [not _changed(weights, found) for weights in left]
    assert same == [step == 6 for step in range(1, 11)]
