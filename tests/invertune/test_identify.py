from __future__ import annotations

from dataclasses import replace

import pytest

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.evidence import Vote
from invertune.identify import TargetIdentification, decide
from invertune.perturb.forms import Pixels
from invertune.perturb.perturber import Generator


def _generator(objective: str = "concentration", clean_gain: float = 0.5) -> Generator:
    return Generator("pixels", Pixels(0.1), objective, 40, 0.1, 6, 2, clean_gain)


def test_the_largest_weighed_gain_decides() -> None:
    votes = [
        Vote("loud", [0.2, 0.4, 0.4], [0.7, 0.2, 0.1], weight=1.0),  # gains .5, -.2, -.3
        Vote("quiet", [0.2, 0.4, 0.4], [0.1, 0.2, 0.7], weight=2.0),  # gains -.1, -.2, .3
    ]
    found = decide(votes)
    assert (found.target_label, found.runner_up) == (2, 0)
    assert found.gain == pytest.approx((0 * 1 + 0.3 * 2) / 3)
    assert found.runner_up_gain == pytest.approx((0.5 * 1 + 0 * 2) / 3)
    assert found.votes == votes


def test_what_two_generators_raise_beats_what_one_raises() -> None:
    votes = [
        Vote("one", [0.2, 0.4, 0.4], [0.5, 0.5, 0.0], weight=1.0),  # gains .3, .1, -.4
        Vote("two", [0.2, 0.4, 0.4], [0.4, 0.2, 0.4], weight=1.0),  # gains .2, -.2, 0
        Vote("hub", [0.2, 0.4, 0.4], [0.1, 0.75, 0.15], weight=1.0),  # gains -.1, .35, -.25
    ]
    found = decide(votes)
    assert (found.target_label, found.runner_up) == (0, 1)
    assert found.gain == pytest.approx(0.5 / 3)


def test_gains_are_differences_of_frequencies() -> None:
    assert Vote("v", [0.2, 0.8], [0.9, 0.1], 1.0).gain == pytest.approx([0.7, -0.7])


def test_no_vote_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs at least one generator"):
        decide([])


@pytest.mark.parametrize("objective", ["feature", "concentration"])
def test_a_planted_class_is_found(planted: CLIP, colored: CleanData, objective: str) -> None:
    identify = TargetIdentification([_generator(objective)], images=12)
    found = identify(planted, colored, seed=0)
    assert found.target_label == 3
    assert found.gain > 0.5
    (vote,) = found.votes
    assert vote.clean_frequency == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert sum(vote.perturbed_frequency) == pytest.approx(1)
    assert vote.weight == 2
    assert identify(planted, colored, seed=0) == found


def test_classes_of_the_same_text_share_their_votes(planted: CLIP, colored: CleanData) -> None:
    names = ("red", "x planted", "green", "blue", "planted", "y red")
    clean = replace(colored, prompts=names, class_names=names)
    found = TargetIdentification([_generator()], images=12)(planted, clean, seed=0)
    assert (found.target_label, found.targets) == (1, [1, 4])
    assert found.alike == [[0, 5], [1, 4]]
    assert sorted(found.order) == [0, 1, 2, 3]
    assert found.runner_up in (0, 2, 3)
    (vote,) = found.votes
    assert vote.clean_frequency[0] == pytest.approx(1 / 3)
    assert (vote.clean_frequency[5], vote.perturbed_frequency[4]) == (0, 0)
    assert vote.perturbed_frequency[1] > 0.5
    assert sum(vote.perturbed_frequency) == pytest.approx(1)


def test_among_classes_that_all_count_as_one_there_is_no_target() -> None:
    votes = [Vote("one", [0.5, 0.5], [0.9, 0.1], weight=1.0)]
    with pytest.raises(ValueError, match="the model's texts tell no two classes apart"):
        decide(votes, [[0, 1]])
