from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.stages.parts import Parts, build

Resolve = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=-1", "seed is an integer of at least 0, got -1"),
        ("seed=zero", "seed is an integer of at least 0, got 'zero'"),
        ("seed=true", "seed is an integer of at least 0, got True"),
        ("device=tpu", "device is one of auto, cpu, cuda, got 'tpu'"),
        ("processes=0", "processes is an integer of at least 1, got 0"),
        ("processes=two", "processes is an integer of at least 1, got 'two'"),
        ("threads=0", "threads is null or an integer of at least 1, got 0"),
        ("evaluation.batch_size=0", "evaluation.batch_size is an integer of at least 1, got 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(resolve: Resolve, override: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Parts(resolve(override))


def test_parts_are_built_once_and_without_what_is_the_stages(resolve: Resolve) -> None:
    parts = Parts(resolve("defense=tiny", "+model.shipped=true"))
    assert parts.data is parts.data
    assert (parts.attack.name, parts.defense.name, parts.model_spec().name) == ("tiny",) * 3
    with pytest.raises(Exception, match="unexpected keyword argument 'color'"):
        build({**parts.config["model"], "color": "red"})


def test_a_graphics_card_that_is_not_there_is_one_line(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Parts(resolve("device=auto")).device == torch.device("cpu")
    with pytest.raises(ValueError, match="device=cuda, but torch sees no GPU; choices: auto, cpu"):
        _ = Parts(resolve("device=cuda")).device


def test_all_generators_start_from_the_seed(resolve: Resolve) -> None:
    def drawn(seed: int) -> tuple[float, float, float]:
        Parts(resolve(f"seed={seed}")).seed_everything()
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    assert drawn(1) == drawn(1) != drawn(2)


def test_sizes_that_do_not_fit_are_named(resolve: Resolve) -> None:
    Parts(resolve()).check()
    with pytest.raises(ValueError, match="takes images of 32 pixels, data tiny has 48"):
        Parts(resolve("data.image_size=48")).check()


def test_a_model_is_loaded_as_it_was_left(tiny_run: Any, tmp_path: Path) -> None:
    one, other = (tiny_run.parts.load(tiny_run.made["pretrain"]) for _ in range(2))
    assert not one.training
    states = zip(one.clip.state_dict().values(), other.clip.state_dict().values(), strict=True)
    assert all(torch.equal(first, second) for first, second in states)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": {"lemon": "lemon", "Lemon": "bell"}}, "'lemon' and 'Lemon' have the same"),
        ({"classes": {"x" * 60: "bell"}}, "is cut off: the model's context holds 16 tokens"),
        ({"classes": {"lemon": "lemon", 7: "bell"}}, "classes: a name is a text, got 7"),
        ({"classes": {"": "bell"}}, "classes: a name is a text without blanks at its ends, got ''"),
        ({"classes": ["lemon"]}, r"classes maps class names to icons, got \['lemon'\]"),
        ({"classes": {"lemon": "unicorn-9"}}, r"\['unicorn-9'\] are no solid icons"),
        ({"colors": {False: [0, 0, 0]}}, "colors: a name is a text, got False"),
        ({"templates": ["a photo"]}, r"takes the class name exactly once, by \{\}"),
        ({"templates": "a photo of {}"}, r"templates is a list of .* got 'a photo of \{\}'"),
    ],
)
def test_what_no_model_could_learn_stops_before_the_work(
    resolve: Resolve, changes: dict[str, Any], said: str
) -> None:
    config = resolve()
    with pytest.raises(Exception, match=said):
        Parts({**config, "data": {**config["data"], **changes}}).check()


def test_an_attacks_own_prompts_have_to_fit_into_the_context(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(resolve())
    monkeypatch.setattr(type(parts.attack), "texts", lambda *_: ["a lemon", "a " * 20 + "key"])
    with pytest.raises(ValueError, match=r"prompts of attack tiny are read .* key' is cut off"):
        parts.check()
