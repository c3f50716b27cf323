"""What a defense needs is compared with what there is before anything is planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.stages.stages import Stages
from experiments.stages.store import CHECKPOINT, StageFolder
from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, ImageTextPairs
from invertune.defense import Purified
from invertune.evidence import Evidence

Resolve = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Spy:
    """A defense that remembers what it is given."""

    needs: str = "images"
    clean_samples: int = 4
    name: str = "spy"
    knows: str = "nothing"
    given: list[tuple[CleanData, Path | None]] = field(default_factory=list)

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        self.given.append((clean, checkpoint))
        return Purified(model, Evidence())


def _stages(config: dict[str, Any], tmp_path: Path, defense: Spy) -> Stages:
    stages = Stages({**config, "runs_dir": str(tmp_path)})
    stages.parts.__dict__["defense"] = defense  # in place of what the config describes
    return stages


def _made(stages: Stages, role: str) -> StageFolder:
    (stage,) = (stage for stage in stages.stages if stage.role == role)
    return stages.obtain(stage)


@pytest.mark.parametrize(
    ("defense", "overrides", "said"),
    [
        (Spy(clean_samples=13), [], "spy needs 13 clean images, tiny has 12"),
        (Spy("pairs"), [], "spy needs pairs, but the clean images of silent have no captions"),
        (Spy("poisoned_pairs"), ["attack=trojannet"], "but the attack trains on no pairs"),
        (Spy("labels"), [], "needs is one of images, pairs, poisoned_pairs, got 'labels'"),
    ],
)
def test_it_is_refused_before_anything_is_planted(
    resolve: Resolve, tmp_path: Path, defense: Spy, overrides: list[str], said: str
) -> None:
    stages = _stages(resolve(*overrides), tmp_path, defense)
    if "silent" in said:
        stages.parts.__dict__["data"] = replace(
            stages.parts.data, name="silent", make_clean_captions=None
        )
    with pytest.raises(ValueError, match=said) as caught:
        stages.check()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.rglob("*.safetensors")) == []
    assert defense.given == []


def test_it_is_given_what_it_needs_and_a_file_to_go_on_from(
    resolve: Resolve, tmp_path: Path
) -> None:
    plain = resolve("data.sizes.pairs=48")
    stages = _stages(plain, tmp_path, Spy())
    stages.check()
    backdoored = _made(stages, "implant")
    found: dict[str, CleanData] = {}
    for needs in ("images", "pairs", "poisoned_pairs"):
        spy = Spy(needs)
        # The config decides the stage's folder.
        config = {**plain, "defense": {**plain["defense"], "needs": needs}}
        own = _stages(config, tmp_path, spy)
        own.check()
        _made(own, "purify")
        ((found[needs], file),) = spy.given
        assert file is not None
        assert file.name == CHECKPOINT
        assert file.parent.parent == own.store.root
    assert found["images"].captions is None
    assert found["images"].suspects is None
    assert found["pairs"].pairs.captions == list(stages.parts.data.captioned_clean.pairs.captions)
    assert found["pairs"].suspects is None
    suspects = found["poisoned_pairs"].suspects
    assert isinstance(suspects, ImageTextPairs)
    assert {one.name for one in fields(suspects)} == {"images", "captions", "ids"}
    card = backdoored.json("backdoor.json")
    assert list(suspects.ids) == card["pairs"]
    place = {name: i for i, name in enumerate(stages.parts.data.pairs.ids)}
    original = stages.parts.data.pairs.take(torch.tensor([place[name] for name in suspects.ids]))
    changed = (suspects.images[:] != original.images[:]).flatten(1).any(dim=1)
    assert changed.nonzero().flatten().tolist() == card["poisoned"]
