from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.stages.stages import Stages, list_stages
from invertune.evidence import Evidence

Resolve = Callable[..., dict[str, Any]]


def test_the_repaired_model_is_left_with_what_was_found(tiny_run: Any) -> None:
    stage, parts = tiny_run.made["purify"], tiny_run.parts
    card = stage.json("defense.json")
    assert (card["name"], card["knows"], card["clean_samples"]) == ("tiny", "class names", 12)
    assert card["identification"]["target_label"] in parts.data.class_names
    assert set(card["seconds"]) == {"identify", "invert", "tune"}
    evidence = Evidence.load(stage.folder)
    assert evidence.curves == card["curves"]
    before, after = parts.load(tiny_run.made["implant"]), parts.load(stage)
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)


def test_the_key_holds_what_the_search_does_not(resolve: Resolve) -> None:
    stages = {stage.role: stage for stage in list_stages(resolve("defense=tiny"))}
    own, found = stages["purify"].key.config, stages["purify/search"].key.config
    assert isinstance(own, dict)
    assert isinstance(found, dict)
    assert {"identify", "invert"} <= found.keys()
    assert own.keys() & found.keys() == {"_target_"}
    assert "_stages_" not in own


@pytest.mark.parametrize(
    ("defense", "said"),
    [
        ("par", "purify: its objective sees a whole batch; choices: processes=1 and speed.chunk"),
        ("ft", "purify: chunk=8 needs a model without BatchNorm, or recipe.freeze_batch_norm=true"),
    ],
)
def test_what_cannot_be_trained_in_parts_is_said_before_the_implant(
    resolve: Resolve, tmp_path: Path, defense: str, said: str
) -> None:
    words = [f"defense={defense}", "defense.clean_samples=12", "defense.recipe.batch_size=6",
             "++attack.recipe.freeze_batch_norm=true", f"runs_dir={tmp_path}"]  # fmt: skip
    Stages(resolve(*words)).check()
    with pytest.raises(ValueError, match=said):
        Stages(resolve(*words, "speed.chunk=8")).check()
