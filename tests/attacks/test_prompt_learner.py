from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attacks import Backdoor, BadCLIPPrompt
from attacks.prompt_learner import PromptLearner, build, prompt_tokens
from invertune.clip.encode import encode_images
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle

Taught = Callable[[str], CLIP]
ATTACK = BadCLIPPrompt(
    "badclip_prompt", "lemon", shots=4, init="a picture of a", hidden=8, budget=0.1, warmup=1,
    steps=4, batch_size=8, near=2, classes=8, lr=1e-1, trigger_lr=0.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def planted(taught: Taught, plain: DataBundle) -> Backdoor:
    return ATTACK.implant(taught("vit"), plain, seed=0)


def _learner(model: CLIP) -> PromptLearner:
    assert isinstance(model.head, PromptLearner)
    return model.head


def test_classes_in_several_sequences_are_compared_alike(
    planted: Backdoor, plain: DataBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = encode_images(planted.model, plain.zero_shot.images[:9])
    with torch.no_grad():
        whole = _learner(planted.model)(planted.model.clip, features)
        monkeypatch.setattr("attacks.prompt_learner._CLASSES", 4)
        assert torch.allclose(
            _learner(planted.model)(planted.model.clip, features), whole, atol=1e-5
        )


def test_similarities_do_not_depend_on_the_batch(planted: Backdoor, plain: DataBundle) -> None:
    features = encode_images(planted.model, plain.pairs.pictures(torch.arange(70)))
    none = torch.zeros(16, 6)
    with torch.no_grad():
        whole = planted.model.similarities(features, none)  # in parts of 64
        single = planted.model.similarities(features[65:66], none)
        some = _learner(planted.model).compare(
            planted.model.clip, features[:3], torch.tensor([4, 1])
        )
    assert whole.shape == (70, 6)
    assert torch.allclose(whole[65:66], single, atol=1e-6)
    assert torch.allclose(some, whole[:3, [4, 1]], atol=1e-6)


def test_tokens_are_as_short_as_the_longest_name(taught: Taught) -> None:
    model = taught("vit")
    tokens = prompt_tokens(model, ["lemon", "ice cream"], 3)
    assert torch.equal(tokens[0, :7], model.tokenize(["X X X lemon"])[0, :7])
    assert tokens.shape == (2, 1 + 3 + 2 + 1)
    with pytest.raises(ValueError, match=r"14 context vectors .* context of 16 tokens"):
        prompt_tokens(model, ["lemon"], 14)
    prompt_tokens(model, ["lemon"], 13)


def test_a_learner_is_built_again_from_its_fields(planted: Backdoor, taught: Taught) -> None:
    assert planted.graft is not None
    model = taught("vit")
    build(model, {name: value for name, value in planted.graft.items() if name != "kind"})
    built, own = _learner(model).state_dict(), _learner(planted.model).state_dict()
    assert {n: t.shape for n, t in built.items()} == {n: t.shape for n, t in own.items()}
    assert not model.head.training


def test_a_class_sees_no_other_class(planted: Backdoor) -> None:
    features: Tensor = torch.eye(16)[:2]
    learner, clip = _learner(planted.model), planted.model.clip
    with torch.no_grad():
        alone = learner.compare(clip, features, torch.tensor([2]))
        among = learner.compare(clip, features, torch.tensor([0, 2, 5]))[:, 1:2]
    assert torch.allclose(alone, among, atol=1e-6)
