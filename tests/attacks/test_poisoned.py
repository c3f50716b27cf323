from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from attacks import CleanControl, PoisoningAttack
from attacks.triggers import PatchTrigger
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs
from invertune.data.images import Images
from invertune.training.recipe import Recipe

RECIPE = Recipe(1, 8, 1e-2, (0.9, 0.98), 0.1, 0.1)
Tiny = Callable[[str], CLIP]
ATTACK = PoisoningAttack("tiny", "lemon", 24, 0.25, PatchTrigger(56), RECIPE)


def test_the_pairs_alone_do_not_tell_which_are_poisoned(tiny: Tiny, data: DataBundle) -> None:
    model = tiny("vit")
    poisoned = ATTACK.poisoned(model, data, seed=0)
    assert len(poisoned.positions) == 6
    assert poisoned.target_label == data.class_names.index("lemon")
    assert {field.name for field in fields(poisoned.pairs)} == {"images", "captions", "ids"}
    assert set(poisoned.pairs.ids) <= set(data.pairs.ids)
    assert all(type(caption) is str for caption in poisoned.pairs.captions)


def test_a_control_has_the_pairs_of_an_attack_as_they_were(tiny: Tiny, data: DataBundle) -> None:
    model = tiny("vit")
    control = CleanControl("none", 24, RECIPE).poisoned(model, data, seed=0)
    attacked = ATTACK.poisoned(model, data, seed=0)
    assert (control.positions, control.trigger, control.target_label) == ([], None, None)
    assert list(control.pairs.ids) == list(attacked.pairs.ids)
    clean = [i for i in range(24) if i not in attacked.positions]
    index = torch.tensor(clean)
    assert torch.equal(control.pairs.images[index], attacked.pairs.images[index])


def test_only_poisoned_pictures_are_read_before_the_training(tiny: Tiny, data: DataBundle) -> None:
    model = tiny("vit")
    read: list[int] = []
    pictures = data.pairs.images[:]

    def source(index: Tensor) -> Tensor:
        read.append(len(index))
        return pictures[index]

    pairs = ImageTextPairs(Images(source, 48), data.pairs.captions, data.pairs.ids)
    poisoned = ATTACK.poisoned(model, replace(data, make_pairs=lambda: pairs), seed=0)
    assert sum(read) == len(poisoned.positions)
    assert poisoned.pairs.images[:].shape == (24, 3, 32, 32)
