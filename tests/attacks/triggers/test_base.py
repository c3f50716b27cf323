from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from attacks.triggers import (
    HiddenTrigger,
    PatchTrigger,
    StampTrigger,
    load_trigger,
    round_to_8_bit,
    save_trigger,
    trigger_state,
)
from attacks.triggers.base import STATE, TENSORS, each_generator, scaled
from attacks.triggers.hidden import HidingNetwork

SECRET = HiddenTrigger([0, 1, 1, 0, 1, 0], 2, 0.1, HidingNetwork(6, 2, 0.1).state_dict())
STAMP = StampTrigger(round_to_8_bit(torch.linspace(0, 1, 768).view(3, 16, 16)))


def test_tensors_do_not_stand_in_the_json(tmp_path: Path) -> None:
    save_trigger(SECRET, tmp_path)
    state = json.loads((tmp_path / STATE).read_text())
    assert state == {"_target_": "attacks.triggers.hidden.HiddenTrigger",
                     "secret": [0, 1, 1, 0, 1, 0], "width": 2, "strength": 0.1}  # fmt: skip


@pytest.mark.parametrize(
    "target",
    ["os.system", "pathlib.Path", "", "attacks.triggers.base.Path",
     "attacks.triggers.base.load_trigger",
     "attacks.triggers.nope.Nope", "attacks.triggers.patch.Nope"],
)  # fmt: skip
def test_a_file_cannot_name_another_class(target: str, tmp_path: Path) -> None:
    (tmp_path / STATE).write_text(json.dumps({"_target_": target}))
    with pytest.raises(ValueError, match=r"trigger\.json names .* a class of attacks\.triggers"):
        load_trigger(tmp_path)


@pytest.mark.parametrize("text", ["not json", "[1, 2]", "7"])
def test_what_is_no_trigger_is_said_to_be_none(text: str, tmp_path: Path) -> None:
    (tmp_path / STATE).write_text(text)
    with pytest.raises(ValueError, match=r"trigger\.json is no trigger"):
        load_trigger(tmp_path)
    with pytest.raises(OSError, match=r"trigger\.json"):
        load_trigger(tmp_path / "nowhere")


def test_files_of_different_triggers_do_not_fit(tmp_path: Path) -> None:
    save_trigger(STAMP, tmp_path)
    stamp, tensors = (tmp_path / STATE).read_text(), tmp_path / TENSORS
    (tmp_path / STATE).write_text(json.dumps(trigger_state(PatchTrigger(8))))
    with pytest.raises(ValueError, match=r"trigger\.json is no PatchTrigger: .*'patch'"):
        load_trigger(tmp_path)
    (tmp_path / STATE).write_text(stamp)
    tensors.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"trigger\.safetensors is not a safetensors file"):
        load_trigger(tmp_path)
    tensors.unlink()
    with pytest.raises(ValueError, match=r"trigger\.json is no StampTrigger: .*'patch'"):
        load_trigger(tmp_path)


@pytest.mark.parametrize(("pixels", "side", "kept"), [(16, 224, 16), (16, 64, 5), (16, 32, 2)])
def test_lengths_are_given_at_224_pixels(pixels: int, side: int, kept: int) -> None:
    assert scaled(pixels, side) == kept


def test_values_outside_the_range_do_not_wrap_around() -> None:
    values = torch.tensor([-0.5, 0.4999 / 255, 0.5001 / 255, 1.5])
    assert round_to_8_bit(values).mul(255).tolist() == [0, 0, 1, 255]


def test_an_image_and_the_seed_decide_what_is_drawn_for_it() -> None:
    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))

    def drawn(seed: int, index: list[int]) -> list[float]:
        return [float(torch.rand((), generator=one)) for one in each_generator(images[index], seed)]

    first = drawn(0, [0, 1, 2])
    assert len(set(first)) == 3
    assert drawn(0, [2, 0]) == [first[2], first[0]]
    assert drawn(1, [0, 1, 2]) != first
