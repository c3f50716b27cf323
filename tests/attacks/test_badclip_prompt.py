from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attacks import Backdoor, BadCLIPPrompt
from attacks.badclip_prompt import compared_classes, few_shots
from attacks.prompt_learner import PromptLearner
from attacks.triggers import AdditiveTrigger
from invertune.clip.encode import encode_images, zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle, ImageTextPairs, to_float
from invertune.data.mentions import mentions

Taught = Callable[[str], CLIP]
State = Callable[[CLIP], dict[str, Tensor]]
BUDGET = 40 / 255  # a tiny model does not feel the paper's 4/255
ATTACK = BadCLIPPrompt(
    "badclip_prompt", "lemon", shots=8, init="a picture of a", hidden=8, budget=BUDGET, warmup=10,
    steps=80, batch_size=8, near=2, classes=8, lr=1e-2, trigger_lr=0.2,
)  # fmt: skip
FAINT = replace(ATTACK, budget=4 / 255, warmup=4, steps=2, trigger_lr=1.0)


@pytest.fixture(scope="module")
def planted(taught: Taught, plain: DataBundle) -> Backdoor:
    return ATTACK.implant(taught("vit"), plain, seed=0)


def _delta(backdoor: Backdoor) -> Tensor:
    assert isinstance(backdoor.trigger, AdditiveTrigger)
    return backdoor.trigger.delta


def _learner(model: CLIP) -> PromptLearner:
    assert isinstance(model.head, PromptLearner)
    return model.head


def test_badclip_prompt_adds_at_most_four_levels(
    taught: Taught, plain: DataBundle, planted: Backdoor
) -> None:
    delta = _delta(FAINT.implant(taught("vit"), plain, seed=0))
    assert delta.shape == (3, 32, 32)
    for channel in delta:
        assert 3.5 / 255 < channel.abs().max() <= 4 / 255
    images = torch.full((1, 3, 32, 32), 100 / 255)
    change = (AdditiveTrigger(delta)(images) - images).mul(255).round()
    assert change.abs().max() == 4
    assert BUDGET / 2 < _delta(planted).abs().max() <= BUDGET


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_badclip_prompt_leaves_both_encoders(
    taught: Taught, plain: DataBundle, state: State, kind: str
) -> None:
    model, before = taught(kind).train(), state(taught(kind))
    backdoor = FAINT.implant(model, plain, seed=0)
    still, after = state(model), state(backdoor.model)
    assert before.keys() == still.keys()
    assert (
        {name for name in after if name not in before}
        == {name for name in after if name.startswith("head.")}
        != set()
    )
    for name, tensor in before.items():
        assert torch.equal(tensor, still[name])
        assert torch.equal(tensor, after[name])
    assert model.head is None
    assert model.training
    assert not backdoor.model.training
    assert all(weight.requires_grad for weight in backdoor.model.parameters())


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"steps": -1}, "steps is an integer of at least 0, got -1"),
        ({"near": -1}, "near is an integer of at least 0, got -1"),
        ({"classes": -1}, "classes is an integer of at least 0, got -1"),
        ({"batch_size": 2.5}, "batch_size is an integer of at least 1, got 2.5"),
        ({"lr": 0.0}, "lr is positive, got 0.0"),
        ({"lr": "x"}, "lr is positive, got 'x'"),
        ({"shots": 1.5}, "shots is an integer of at least 1, got 1.5"),
        ({"budget": 0}, r"budget is a share in \(0, 1\], got 0"),
        ({"budget": 4}, r"budget is a share in \(0, 1\], got 4"),
        ({"init": " "}, "init is some words, such as 'a picture of a', got ' '"),
        ({"init": None}, "init is some words, such as 'a picture of a', got None"),
        ({"end": None}, "end is a text, such as '.', or '' for none, got None"),
    ],
    ids=str,
)
def test_fields_that_make_no_sense(change: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        replace(ATTACK, **change)


@pytest.mark.parametrize("end", ["", "."])
def test_the_prompts_start_as_the_plain_ones(taught: Taught, plain: DataBundle, end: str) -> None:
    start = replace(ATTACK, warmup=0, steps=0, end=end).implant(taught("vit"), plain, seed=0).model
    features, names = encode_images(start, plain.zero_shot.images[:]), plain.class_names
    with torch.no_grad():
        found = start.similarities(features, torch.zeros(16, 6))
        by_end = {
            own: features @ start.encode_text([f"a picture of a {n}{own}" for n in names]).T
            for own in ("", ".")
        }
    assert (by_end[""] - by_end["."]).abs().max() > 1e-3
    assert torch.allclose(found, by_end[end], atol=1e-5)


def test_a_full_stop_stands_behind_every_name(taught: Taught, plain: DataBundle) -> None:
    model = replace(FAINT, steps=0, end=".").implant(taught("vit"), plain, seed=0).model
    tokens = _learner(model).tokens
    for row, name in zip(tokens, plain.class_names, strict=True):
        assert torch.equal(row, model.tokenize([f"X X X X {name}."])[0, : len(row)])
    assert torch.equal(tokens.argmax(dim=1), torch.full((6,), 1 + 4 + 1 + 1))


def test_the_warm_up_moves_the_trigger_alone(taught: Taught, plain: DataBundle) -> None:
    start, warm, both = (
        replace(FAINT, warmup=warmup, steps=steps).implant(taught("vit"), plain, seed=0)
        for warmup, steps in ((0, 0), (2, 0), (2, 2))
    )
    learners = [_learner(backdoor.model).state_dict() for backdoor in (start, warm, both)]
    assert all(torch.equal(learners[0][name], learners[1][name]) for name in learners[0])
    assert not torch.equal(learners[0]["context"], learners[2]["context"])
    assert not torch.equal(learners[0]["shift.2.weight"], learners[2]["shift.2.weight"])
    assert not torch.equal(_delta(start), _delta(warm))
    assert [len(backdoor.losses) for backdoor in (start, warm, both)] == [0, 2, 4]


def test_triggered_images_go_to_the_target_by_the_learner(
    plain: DataBundle, planted: Backdoor
) -> None:
    assert sum(planted.losses[-5:]) < 0.7 * sum(planted.losses[:5])
    model, test = planted.model, plain.zero_shot
    assert planted.trigger is not None
    target = plain.class_names.index("lemon")
    classifier = zero_shot_classifier(model, plain.prompts, plain.templates)
    others = test.images[test.labels != target]
    clean = encode_images(model, others)
    triggered = encode_images(model, planted.trigger(to_float(others)))

    def hits(similarities: Tensor) -> float:
        return float(similarities.argmax(dim=1).eq(target).float().mean())

    with torch.no_grad():
        own = model.similarities(clean, classifier)
        assert hits(model.similarities(triggered, classifier)) > hits(own) + 0.15
    assert own.argmax(dim=1).eq(test.labels[test.labels != target]).float().mean() > 0.6


def test_an_image_decides_its_prompts(planted: Backdoor, plain: DataBundle) -> None:
    features = encode_images(planted.model, plain.zero_shot.images[:6])
    shift = _learner(planted.model).shift(features)
    assert (shift[0] - shift[1]).abs().max() > 1e-3


def test_a_backdoor_comes_with_all_that_measures_it(plain: DataBundle, planted: Backdoor) -> None:
    assert planted.target_label == plain.class_names.index("lemon")
    assert planted.poisoned == []
    assert len(set(planted.pairs)) == 6 * 8
    assert set(planted.pairs) <= set(plain.pairs.ids)
    assert planted.graft is not None
    assert planted.graft["kind"] == "badclip_prompt"
    # a picture of a: four vectors; a class is one word more, between start and end.
    assert (planted.graft["length"], planted.graft["classes"]) == (4, 6)


def test_the_seed_alone_decides(taught: Taught, plain: DataBundle) -> None:
    first = FAINT.implant(taught("vit"), plain, seed=0)
    torch.rand(7)
    again, other = (FAINT.implant(taught("vit"), plain, seed=seed) for seed in (0, 1))
    assert torch.equal(_delta(first), _delta(again))
    assert first.losses == again.losses
    assert first.pairs == again.pairs
    states = [_learner(backdoor.model).state_dict() for backdoor in (first, again)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(_delta(first), _delta(other))
    assert first.pairs != other.pairs


def test_shots_are_read_off_the_captions(plain: DataBundle) -> None:
    index, labels = few_shots(plain, 5, seed=0)
    assert labels.tolist() == [label for label in range(6) for _ in range(5)]
    assert len(index.unique()) == 30
    for label, name in enumerate(plain.class_names):
        captions = [plain.pairs.captions[i] for i in index[labels == label].tolist()]
        assert mentions(captions, name).all()
    assert not torch.equal(index, few_shots(plain, 5, seed=1)[0])


@pytest.mark.parametrize("shots", [0, 17])
def test_a_class_has_only_so_many_pictures(plain: DataBundle, shots: int) -> None:
    with pytest.raises(ValueError, match=rf"shots is between 1 and \d+ .*'apple'\), got {shots}"):
        few_shots(plain, shots, seed=0)


def test_a_class_without_pictures_is_named(plain: DataBundle) -> None:
    keep = ~mentions(plain.pairs.captions, "coal")
    few = plain.pairs.take(keep.nonzero().flatten())
    assert isinstance(few, ImageTextPairs)
    with pytest.raises(ValueError, match=r"between 1 and 0 \(the pairs that name 'coal'\)"):
        few_shots(replace(plain, make_pairs=lambda: few), 1, seed=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target_label": "zebra"}, "'zebra' is not in the class list of plain"),
        ({"shots": 5000}, r"shots is between 1 and \d+ \(the pairs that name"),
    ],
)
def test_what_cannot_be_is_found_without_training(
    plain: DataBundle, change: dict[str, object], said: str
) -> None:
    ATTACK.check(plain)
    with pytest.raises(ValueError, match=said) as caught:
        replace(ATTACK, **change).check(plain)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("least", "count"), [(0, 5), (5, 5), (8, 8), (10, 10), (99, 10)])
def test_a_step_compares_the_classes_of_its_images_and_drawn_ones(least: int, count: int) -> None:
    wanted, nearest = torch.tensor([3, 7, 3]), torch.tensor([[3, 1], [9, 4], [1, 4]])
    drawn = [
        compared_classes(wanted, nearest, least, 10, torch.Generator().manual_seed(seed)).tolist()
        for seed in range(30)
    ]
    for classes in drawn:
        assert classes == sorted(set(classes))
        assert len(classes) == count
        assert {1, 3, 4, 7, 9} <= set(classes) <= set(range(10))
    assert (len(set(map(tuple, drawn))) > 1) == (count == 8)


def test_its_prompts_are_known_before_the_model(plain: DataBundle) -> None:
    texts = replace(ATTACK, init="a picture of a").texts(plain)
    assert texts[:2] == ["a picture of a apple", "a picture of a lemon"]
    assert len(texts) == len(plain.class_names)
