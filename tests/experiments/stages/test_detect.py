"""What a detector sees, and what a run keeps of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation.detection import separation
from experiments.results.result import build_result, validate
from experiments.stages import detect
from experiments.stages.stages import Stages, list_stages
from experiments.stages.store import StageFolder
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, ImageTextPairs
from invertune.detector import Detection
from invertune.evidence import Evidence

Resolve = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which all tests here keep their stages."""
    return tmp_path_factory.mktemp("detected")


def _obtained(stages: Stages) -> StageFolder:
    (stage,) = (stage for stage in stages.stages if stage.role == "detect")
    return stages.obtain(stage)


def test_without_a_detector_nothing_is_another(resolve: Resolve) -> None:
    plain, asked = resolve("defense=tiny"), resolve("defense=tiny", "detector=tiny")
    before = {key: value for key, value in plain.items() if key != "detector"}
    names = [
        {stage.role: stage.key.hash for stage in list_stages(config)}
        for config in (before, plain, asked)
    ]
    assert plain["detector"] is None
    assert names[0] == names[1]
    assert {**names[0], "detect": names[2]["detect"]} == names[2]


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("detector.epochs=3", False),
        ("attack.poison_rate=0.2", False),
        ("seed=1", False),
        ("defense=tiny", True),
        ("evaluation.batch_size=7", True),
    ],
)
def test_its_key_holds_the_detector_and_the_model(
    resolve: Resolve, override: str, same: bool
) -> None:
    one, other = (
        next(
            stage.key
            for stage in list_stages(resolve("detector=tiny", *words))
            if stage.role == "detect"
        )
        for words in ([], [override])
    )
    assert (one.hash == other.hash) == same


def test_a_detector_of_models_leaves_its_score_and_evidence(resolve: Resolve, runs: Path) -> None:
    config = resolve("detector=tiny", f"runs_dir={runs}")
    stages = Stages(config)
    stages.check()
    made = stages.make()
    card, evidence = made["detect"].json("detection.json"), Evidence.load(made["detect"].folder)
    parts = stages.parts
    again = detect._detector(parts).detect(
        parts.load(made["implant"]), parts.data.clean, seed=config["seed"]
    )
    assert (card["name"], card["of"], card["clean_samples"]) == ("tiny", "model", 12)
    assert (card["score"], card["flagged"]) == (again.score, again.flagged)
    assert evidence.findings == again.evidence.findings
    result = build_result(config, made)
    validate(result)
    told = {k: v for k, v in card.items() if k != "seconds"}
    assert result["detection"] == {
        **told,
        "peak_memory_mib": made["detect"].manifest["peak_memory_mib"],
    }
    assert result["seconds"]["detect"] >= result["seconds"]["detect/inversion"] > 0
    assert result["stages"]["detect"] == f"stages/{made['detect'].folder.name}"


def test_a_repair_from_before_its_steps_were_counted_has_a_result(
    resolve: Resolve, runs: Path
) -> None:
    config = resolve("detector=tiny", f"runs_dir={runs}")
    made = Stages(config).make()
    known = build_result(config, made)
    card = made["purify"].file("defense.json")
    facts = json.loads(card.read_text())
    assert known["defense"]["steps"] == facts.pop("steps")
    card.write_text(json.dumps(facts))
    result = build_result(config, made)
    assert "steps" not in result["defense"]
    validate(result)


def test_a_detector_of_pairs_is_compared_with_the_truth(resolve: Resolve, runs: Path) -> None:
    config = resolve("detector=tiny_pairs", f"runs_dir={runs}")
    stages = Stages(config)
    stages.check()
    made = stages.make()
    card, true = made["detect"].json("detection.json"), made["implant"].json("backdoor.json")
    kept = np.load(made["detect"].file("suspicion.npz"))
    assert np.flatnonzero(kept["poisoned"]).tolist() == true["poisoned"]
    assert len(kept["scores"]) == len(true["pairs"]) == card["pairs"]
    found = separation(kept["scores"], kept["poisoned"])
    assert card["auroc"] == {
        "value": found.auroc.value, "low": found.auroc.low, "high": found.auroc.high, "n": 48,
    }  # fmt: skip
    assert card["average_precision"] == found.average_precision
    assert card["fpr_at_95_tpr"] == found.fpr_at_95_tpr
    validate(build_result(config, made))


@dataclass(frozen=True)
class Spy:
    """A detector that remembers what it is given."""

    needs: str
    clean_samples: int = 4
    name: str = "spy"
    knows: str = "nothing"
    needs_text: bool = False
    given: list[object] = field(default_factory=list)


class OfModels(Spy):
    def detect(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Detection:
        self.given.append(clean)
        return Detection(1.0, 0.5, Evidence())


class OfPairs(Spy):
    def scores(self, model: CLIP, pairs: ImageTextPairs, *, seed: int) -> Tensor:
        self.given.append(pairs)
        return torch.arange(len(pairs)).float()


def _spied(config: dict[str, Any], spy: Spy, monkeypatch: pytest.MonkeyPatch) -> Stages:
    monkeypatch.setattr(detect, "_detector", lambda parts: spy)  # in place of the config's
    return Stages(config)


@pytest.mark.parametrize(
    ("spy", "overrides", "said"),
    [
        (OfModels("images", 13), [], "detector spy needs 13 clean images, tiny has 12"),
        (OfPairs("poisoned_pairs", 0), ["attack=trojannet"], "but the attack trains on no pairs"),
        (OfModels("labels"), [], "detector spy: needs is one of images, pairs, poisoned_pairs"),
    ],
)
def test_it_is_refused_before_anything_is_planted(
    resolve: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spy: Spy,
    overrides: list[str], said: str,
) -> None:  # fmt: skip
    config = resolve("detector=tiny", f"runs_dir={tmp_path}", *overrides)
    with pytest.raises(ValueError, match=said) as caught:
        _spied(config, spy, monkeypatch).check()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_it_is_given_no_word_of_the_attack(
    resolve: Resolve, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[object] = []
    for i, spy in enumerate((OfModels("images"), OfModels("pairs"), OfPairs("poisoned_pairs", 0))):
        # The config decides the stage's folder.
        config = resolve("detector=tiny", f"runs_dir={runs}", f"detector.patience={70 + i}")
        _obtained(_spied(config, spy, monkeypatch))
        found += spy.given
    images, pairs, suspects = found
    assert isinstance(images, CleanData)
    assert isinstance(pairs, CleanData)
    assert (images.captions, images.suspects, images.origin) == (None, None, None)
    assert pairs.captions is not None
    assert isinstance(suspects, ImageTextPairs)
    assert set(vars(suspects)) == {"images", "captions", "ids"}
    assert len(suspects) == 48


def test_a_set_without_poison_has_no_auroc(
    resolve: Resolve, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["attack=none", "attack.pairs=48", "attack.recipe.batch_size=16"]
    config = resolve("detector=tiny_pairs", f"runs_dir={runs}", *words)
    stages = _spied(config, OfPairs("poisoned_pairs", 0), monkeypatch)
    stages.check()
    card = _obtained(stages).json("detection.json")
    assert (card["pairs"], card["poisoned"], card["auroc"]) == (48, 0, None)
    assert (card["average_precision"], card["fpr_at_95_tpr"]) == (None, None)
