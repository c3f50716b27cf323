from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping

import pytest
import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.evidence import Identification, Survival, Vote, standing
from invertune.identify import decide
from invertune.perturb.families import Family, SmoothMask
from invertune.perturb.probes import Probe
from invertune.perturb.shrink import Effort, Shrinking
from invertune.verify import Gumbel, Verification

Laid = Callable[..., Family]
LAW = Gumbel(0.05, 0.05)
VERIFY = Verification(
    forms=[Shrinking(SmoothMask(), [0.5, 0.3, 0.2], lr=0.3)], efforts=[Effort(15, 4)],
    images=6, held=6, temperature=0.07, judged=1, candidates=1, decoys=3,
    clean={"mask": LAW, "warp": LAW}, alarm=0.01, clear=0.1, one_class=0.5,
)  # fmt: skip


def test_a_gumbels_tail() -> None:
    assert Gumbel(0.3, 0.1).tail(0.3) == pytest.approx(1 - math.exp(-1))
    assert LAW.tail(0.05 + 0.05 * 4.6001) == pytest.approx(0.01, rel=1e-3)
    assert LAW.tail(1e9) == 0
    assert LAW.tail(-1e9) == 1


def test_a_law_is_fitted_to_mean_and_deviation() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(20_000, generator=generator, dtype=torch.float64)
    drawn = 0.2 - 0.05 * (-uniform.log()).log()  # by the inverse of its distribution
    law = Gumbel.fit(drawn.tolist())
    assert (law.location, law.scale) == (
        pytest.approx(0.2, rel=0.02),
        pytest.approx(0.05, rel=0.03),
    )
    for values in ([], [0.1], [0.1, 0.1]):
        with pytest.raises(ValueError, match="a law is fitted to different values"):
            Gumbel.fit(values)
    assert Gumbel.fit([0.1, 0.1, 0.1], 0.02) == Gumbel(0.1, 0.02)
    assert Gumbel.fit([0.0, 1.0], 0.02) == Gumbel.fit([0.0, 1.0])


def _found(**survival: Mapping[int, float]) -> list[Survival]:
    return [
        Survival(form, [0.1], [list(shares)], [[1.0] * len(shares)], [list(shares.values())])
        for form, shares in survival.items()
    ]


def _identified(survival: list[Survival]) -> Identification:
    return Identification(0, 0.1, 1, 0.0, order=[0, 1, 2], survival=survival)


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [(0.9, 0.9, "backdoored"), (0.35, 0.30, "undecided"), (0.15, 0.11, "clean"),
     (0.45, 0.05, "undecided")],
)  # fmt: skip
def test_the_mean_of_both_leads_decides(first: float, second: float, kind: str) -> None:
    before = _found(mask={0: 0.1, 1: 0.08}, warp={2: first, 1: 0.05})
    again = _found(mask={0: 0.1, 1: 0.08, 2: 0.0}, warp={0: 0.05, 1: 0.0, 2: second})
    found, verdict = VERIFY.decide(_identified(before), again)
    lead = (first + second) / 2 - 0.05
    assert (verdict.kind, verdict.form, found.target_label) == (kind, "warp", 2)
    assert verdict.lead == found.gain == pytest.approx(lead)
    assert verdict.p == pytest.approx(min(1, 2 * LAW.tail(lead)))
    assert found.order == [2, 0, 1]
    assert (found.runner_up, found.runner_up_gain) == (0, pytest.approx(0.02))
    assert (verdict.alarm, verdict.clear) == (0.01, 0.1)
    assert (found.survival, found.again) == (before, again)


def test_a_planted_class_is_told_from_decoys(planted: CLIP, colored: CleanData) -> None:
    suspected = dataclasses.replace(_identified([]), order=[3, 0, 1, 2])
    found, verdict = VERIFY(planted, colored, suspected, seed=0)
    assert (found.target_label, verdict.kind, verdict.form) == (3, "backdoored", "mask")
    assert VERIFY(planted, colored, suspected, seed=0) == (found, verdict)
    # As its decoys are all other classes of this model, it is found whoever was suspected.
    doubted = dataclasses.replace(suspected, order=[0, 1, 2, 3])
    assert VERIFY(planted, colored, doubted, seed=0)[0].target_label == 3


def test_images_that_all_look_alike_decide_nothing(planted: CLIP, colored: CleanData) -> None:
    suspected = dataclasses.replace(_identified([]), order=[3, 0, 1, 2])
    alike = dataclasses.replace(colored, images=colored.images[torch.tensor([0] * 12)])
    found, verdict = dataclasses.replace(VERIFY, one_class=0.9)(planted, alike, suspected, seed=0)
    assert (verdict.kind, found.target_label) == ("undecided", 3)
    assert verdict.doubt == "100% of the clean images look like one class to the model"
    # Of four classes, three times the even share are three quarters.
    _, verdict = dataclasses.replace(VERIFY, one_class=0.1)(planted, colored, suspected, seed=0)
    assert (verdict.kind, verdict.doubt) == ("backdoored", "")


def test_images_of_few_classes_decide_nothing(planted: CLIP, colored: CleanData) -> None:
    suspected = dataclasses.replace(_identified([]), order=[3, 0, 1, 2])
    # Six of twelve images are held: the perplexity of two classes is at most 2, in any shares.
    two = dataclasses.replace(colored, images=colored.images[torch.tensor([0, 1] * 6)])
    few = dataclasses.replace(VERIFY, one_class=0.99, least_perplexity=0.6)
    _, verdict = few(planted, two, suspected, seed=0)
    assert verdict.kind == "undecided"
    assert re.fullmatch(
        r"the clean images look like [12]\.\d of 4 classes to the model, by their perplexity",
        verdict.doubt,
    )
    _, verdict = dataclasses.replace(few, least_perplexity=0.2)(planted, two, suspected, seed=0)
    assert verdict.doubt == ""
    with pytest.raises(ValueError, match=r"least_perplexity is a share in \[0, 1\), got 1"):
        dataclasses.replace(VERIFY, least_perplexity=1.0)


def test_it_compares_so_many_classes(planted: CLIP, colored: CleanData) -> None:
    assert VERIFY.classes == 4
    few = dataclasses.replace(colored, prompts=colored.prompts[1:], class_names=["a", "b", "c"])
    suspected = dataclasses.replace(_identified([]), order=[2, 0, 1])
    with pytest.raises(ValueError, match="candidates=1 and decoys=3 need 4 classes, got 3"):
        VERIFY(planted, few, suspected, seed=0)
    # A fourth class that is none to the model.
    alike = dataclasses.replace(colored, prompts=[*colored.prompts[:3], "a blue"])
    _, verdict = VERIFY(planted, alike, suspected, seed=0)
    assert verdict.kind == "undecided"
    assert verdict.doubt == "the model's texts tell only 3 classes apart"


def test_random_triggers_tell_too(planted: CLIP, colored: CleanData, laid: Laid) -> None:
    # Verified is another class, with a form that cannot send anything to the planted one.
    probes = [Probe(laid(), [0.5, 0.3], draws=2)]
    laws = {**VERIFY.clean, "checkers": LAW}
    verify = dataclasses.replace(VERIFY, probes=probes, clean=laws, judged=2)
    suspected = dataclasses.replace(_identified([]), order=[0, 1, 2, 3])
    found, verdict = verify(planted, colored, suspected, seed=0)
    assert (found.target_label, verdict.kind) == (3, "backdoored")
    assert [one.form for one in found.again] == ["mask", "checkers"]
    with pytest.raises(ValueError, match="clean has a law of every form, none of checkers"):
        dataclasses.replace(VERIFY, probes=probes)


def test_what_is_left_of_one_class(planted: CLIP, colored: CleanData) -> None:
    p = []
    for label in (3, 0):
        found = dataclasses.replace(_identified([]), target_label=label, order=[label, 1])
        p.append(VERIFY.left(planted, colored, found, seed=0, stage="again"))
    assert p[0] < 0.01
    assert p[1] > 0.1


def test_what_is_left_is_looked_for_where_it_stood_out(
    planted: CLIP, colored: CleanData, laid: Laid
) -> None:
    probes = [Probe(laid(), [0.5, 0.3], draws=2)]
    verify = dataclasses.replace(VERIFY, probes=probes, clean={**VERIFY.clean, "checkers": LAW})
    survived = _found(mask={3: 0.1, 0: 0.05}, checkers={3: 0.9, 0: 0.0})
    found = dataclasses.replace(
        _identified([]), target_label=3, order=[3, 1], survival=survived, again=survived
    )
    assert verify.told(found, 3) == ["checkers"]
    assert verify.told(found, 0) == []
    # What would be found under the mask is not looked at, and counts for one form in place of two.
    (only,) = verify._again(
        verify._pool(planted, colored, 0, "left"), [3, 1], 0, "left", ["checkers"]
    )
    p = verify.left(planted, colored, found, seed=0, stage="left")
    assert p == pytest.approx(LAW.tail(max(only.leads(3, verify.judged))))


def test_leads_are_averaged_at_the_same_budgets() -> None:
    def survived(budgets: list[float], pulls: list[float]) -> list[Survival]:
        rows = [[pull, 0.0] for pull in pulls]
        return [Survival("mask", budgets, [[0, 1]] * len(budgets), rows, rows)]

    before = survived([0.4, 0.2, 0.1], [0.9, 0.5, 0.1])
    again = survived([0.3, 0.2, 0.1], [0.1, 0.3, 0.2])
    # At 0.3 step 1 has nothing, at 0.2 (0.5 + 0.3) / 2, at 0.1 (0.1 + 0.2) / 2.
    assert standing(before, again, 3)[0, "mask"] == pytest.approx(0.4)
    assert standing(before, again, 1)[0, "mask"] == pytest.approx(0.15)
    # Fewer or more budgets than step 1 has are no matter.
    assert standing(before, survived([0.2], [0.3]), 3)[0, "mask"] == pytest.approx(0.4)
    assert standing(before, survived([0.3], [0.7]), 3)[0, "mask"] == pytest.approx(0.7)


def test_what_makes_no_sense() -> None:
    for part in ("forms", "efforts"):
        with pytest.raises(ValueError, match="a verification has at least one form and one effort"):
            dataclasses.replace(VERIFY, **{part: []})
    with pytest.raises(ValueError, match=r"alarm is at most clear \(0.1\), got 0.2"):
        dataclasses.replace(VERIFY, alarm=0.2)
    with pytest.raises(ValueError, match="scale is positive, got 0"):
        Gumbel(0.1, 0)
    with pytest.raises(ValueError, match="decoys is an integer of at least 1, got 0"):
        dataclasses.replace(VERIFY, decoys=0)
    with pytest.raises(ValueError, match="clean has a law of every form, none of mask"):
        dataclasses.replace(VERIFY, clean={"warp": LAW})


@pytest.mark.parametrize("favorite", [3, 4])
@pytest.mark.parametrize("candidates", [1, 3])
def test_classes_that_are_told_apart_by_no_text_are_named_together_whoever_names_one(
    planted: CLIP, colored: CleanData, favorite: int, candidates: int
) -> None:
    names = ("red", "green", "blue", "planted", "x planted", "y red")
    clean = dataclasses.replace(colored, prompts=names, class_names=names)
    after = [0.1, 0.1, 0.1, 0.0, 0.0, 0.0]
    after[favorite] = 0.7
    voted = decide([Vote("votes", [1 / 3, 1 / 3, 1 / 3, 0.0, 0.0, 0.0], after, 1.0)])
    verify = dataclasses.replace(VERIFY, candidates=candidates, decoys=4 - candidates)
    found, verdict = verify(planted, clean, voted, seed=0)
    assert verdict.kind == "backdoored"
    assert (found.target_label, found.targets) == (3, [3, 4])
    assert found.alike == [[0, 5], [3, 4]]
    assert sorted(found.order) == [0, 1, 2, 3]
    assert verify.left(planted, clean, found, seed=0, stage="again") < 0.01
