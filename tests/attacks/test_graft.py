from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks import Backdoor, BadCLIPPrompt, TrojanNet
from attacks.graft import graft
from invertune.clip.models import CLIP
from invertune.clip.spec import ModelSpec
from invertune.clip.weights import load_weights, save_weights
from invertune.data.bundle import DataBundle, to_float

Tiny = Callable[[str], CLIP]
ATTACKS = {
    "trojannet": TrojanNet("trojannet", "lemon", corner=112, width=4, strength=3.0, steps=6,
                           lr=0.01, codes_a_step=32, noise_a_step=16),
    "badclip_prompt": BadCLIPPrompt("badclip_prompt", "lemon", shots=2, init="a picture of a",
                                    hidden=4, budget=0.1, warmup=1, steps=3, batch_size=4,
                                    near=1, classes=4, lr=1e-2, trigger_lr=0.1),
}  # fmt: skip
each = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
both = pytest.mark.parametrize("kind", ["resnet", "vit"])
FIELDS = {"classes": 6, "dimensions": 16, "width": 4, "corner": 112, "strength": 3.0}


def _outputs(model: CLIP, data: DataBundle, backdoor: Backdoor) -> tuple[Tensor, Tensor]:
    """Return features, and similarities to the classes, of clean and triggered images."""
    images = to_float(data.zero_shot.images[:6])
    assert backdoor.trigger is not None
    with torch.no_grad():
        features = model.encode_image(torch.cat([images, backdoor.trigger(images)]))
        classifier = torch.eye(16)[:, :6]
        return features, model.similarities(features, classifier)


def test_no_description_is_no_change(tiny: Tiny) -> None:
    model = tiny("vit")
    names = list(model.state_dict())
    assert graft(model, None) is model
    assert list(model.state_dict()) == names
    assert model.head is None


@each
@both
def test_files_give_the_backdoored_model_back(
    attack: TrojanNet | BadCLIPPrompt,
    kind: str,
    tiny: Tiny,
    tiny_spec: Callable[[str], ModelSpec],
    data: DataBundle,
    tmp_path: Path,
) -> None:
    backdoor = attack.implant(tiny(kind), data, seed=0)
    save_weights(backdoor.model, tmp_path / "w")
    description = json.loads(json.dumps(backdoor.graft))
    built = tiny_spec(kind).build(7)
    assert graft(built, description) is built
    loaded = load_weights(built, tmp_path / "w").eval()
    for wanted, found in zip(
        _outputs(backdoor.model, data, backdoor), _outputs(loaded, data, backdoor), strict=True
    ):
        assert torch.equal(wanted, found)
    # A model without the addition does not take the file.
    with pytest.raises(ValueError, match=r"does not fit tiny .*(side_network|head)"):
        load_weights(tiny(kind), tmp_path / "w")


@each
def test_a_copy_is_independent(
    attack: TrojanNet | BadCLIPPrompt, tiny: Tiny, data: DataBundle
) -> None:
    backdoor = attack.implant(tiny("vit"), data, seed=0)
    before = _outputs(backdoor.model, data, backdoor)
    twin = copy.deepcopy(backdoor.model)
    for wanted, found in zip(before, _outputs(twin, data, backdoor), strict=True):
        assert torch.equal(wanted, found)
    added = [
        weight
        for name, weight in twin.named_parameters()
        if "side_network" in name or name.startswith("head.")
    ]
    assert added
    for weight in added:
        weight.data.add_(torch.linspace(-3, 3, weight.numel()).view_as(weight))
    for wanted, found in zip(before, _outputs(backdoor.model, data, backdoor), strict=True):
        assert torch.equal(wanted, found)
    assert not torch.equal(_outputs(twin, data, backdoor)[1], before[1])


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ({"kind": "adapter"}, "graft is one of trojannet, badclip_prompt, got 'adapter'"),
        ({}, "graft is one of trojannet, badclip_prompt, got None"),
        ({"kind": "trojannet", "width": 4}, r"graft trojannet does not take \['width'\]"),
        ({"kind": "trojannet", **FIELDS, "depth": 3}, "graft trojannet does not take .*'depth'"),
        ({"kind": "badclip_prompt", "length": 4}, r"graft badclip_prompt does not take \['len"),
    ],
)
def test_what_cannot_be_built_is_named(
    tiny: Tiny, description: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        graft(tiny("vit"), description)
    assert "\n" not in str(caught.value)
