"""InverTune (Sun et al., NDSS 2026): identify the target, invert the trigger, tune it away."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, chosen_clean
from invertune.defense import Purified, Searching, Training
from invertune.evidence import Evidence, Identification, Verdict
from invertune.fields import check_counts, check_is, check_types
from invertune.perturb.triggers import InvertedTrigger
from invertune.steps import CandidateSource, Clock, Inversion, Refreshing
from invertune.tune import Tuned, Tuning
from invertune.verify import Verification
from invertune.work import Work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InverTune(Searching):
    """Remove a backdoor by inverting its trigger and tuning away what it fires.

    Attributes:
        name: Name in results.
        identify, invert, tune: The three steps. Without ``tune`` (None) the model stays as it is,
            and what is found of a backdoor is all that there is.
        verify: Looks again at what step 1 suspects, and decides whether there is a backdoor at all;
            None repairs whatever step 1 names, as the paper does.
        always_repair: Repair models that are found clean too.
        fallback: Of how many suspected classes triggers are inverted where the verdict is
            ``undecided``.
        rounds: How often a model is tuned at most. Before every further time the repaired model is
            inverted again; it is tuned again if the target, or another class that stood out and was
            repaired, still does, by a p-value of at most ``alarm``. Needs ``verify``.
        knows: What it is given beyond the model and the images.
        needs: Clean images, without captions.
    """

    name: str
    identify: CandidateSource
    invert: Inversion
    tune: Tuning | None
    verify: Verification | None = None
    always_repair: bool = False
    fallback: int = 2
    rounds: int = 1
    knows: str = "class names"
    needs: str = "images"

    def __post_init__(self) -> None:
        check_types(self)
        check_is(self, "identify", CandidateSource)
        check_is(self, "invert", Inversion)
        if self.tune is not None:
            check_is(self, "tune", Tuning)
        if self.verify is not None:
            check_is(self, "verify", Verification)
        check_counts(self, "fallback", "rounds")
        if self.tune is not None and self.tune.refresh_every:
            check_is(self, "invert", Refreshing)
        if self.rounds > 1 and self.verify is None:
            raise ValueError(f"rounds={self.rounds} needs verify, which says when to stop")
        if self.tune is None and (self.always_repair or self.rounds > 1):
            asked = "always_repair" if self.always_repair else f"rounds={self.rounds}"
            raise ValueError(f"{asked} needs tune, which repairs")

    @property
    def clean_samples(self) -> int:
        """Number of clean images of the largest step."""
        # The steps draw from the same images; they do not add up.
        return max(self._searched, 0 if self.tune is None else self.tune.samples)

    @property
    def least_classes(self) -> int:
        """Number of classes that it compares."""
        return 2 if self.verify is None else self.verify.classes

    @property
    def _searched(self) -> int:
        """Number of clean images that steps 1 and 2 draw from."""
        verified = 0 if self.verify is None else self.verify.samples
        return max(self.identify.samples, verified, self.invert.samples)

    def _few(self, clean: CleanData, count: int, seed: int) -> CleanData:
        """Return so many of the images; fewer ones are among more.

        Raises:
            ValueError: If there are fewer clean images than ``clean_samples``.
        """
        if len(clean.images) < self.clean_samples:
            raise ValueError(
                f"{self.name} needs {self.clean_samples} clean images, got {len(clean.images)}"
            )
        return clean.take(chosen_clean(len(clean.images), count, seed))

    def trainings(self) -> list[Training]:
        """Return what step 3 trains by the one loop, if it does."""
        own = getattr(self.tune, "trainings", None)
        return [] if own is None else list(own())

    def work(self, classes: int) -> dict[str, Work]:
        """Return what goes through the model, for one class and one round, by the stage.

        A second class, where the verdict is undecided or with ``always_repair``, and further rounds
        come on top. Sources of candidates that do not say how much they do (votes, random probes,
        AdvCLIP's generator) are not counted.

        Args:
            classes: Number of the data's classes.
        """
        prompts = Work(prompts=classes)  # every step reads them anew
        verified = Work() if self.verify is None else _work(self.verify) + prompts
        search = _work(self.identify, classes) + verified + _work(self.invert) + prompts
        if self.tune is None:
            return {"search": search, "purify": Work()}
        repair = _work(self.tune) + prompts
        every = getattr(self.tune, "refresh_every", 0)
        if every and hasattr(self.invert, "refreshing_work"):
            refreshed = self.invert.refreshing_work() + prompts
            repair += refreshed * ((self.tune.steps - 1) // every)
        return {"search": search, "purify": repair + (verified if self.rounds > 1 else Work())}

    def search(self, model: CLIP, clean: CleanData, *, seed: int) -> Evidence:
        """Return what steps 1 and 2 find: the target, the verdict and the inverted triggers.

        A model that is found clean has no triggers, unless ``always_repair``.

        Raises:
            ValueError: If there are fewer clean images than ``clean_samples``.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        clean = self._few(clean, self._searched, seed)
        clock = Clock()
        with clock("identify"):
            found, verdict = self.identify(model, clean, seed=seed), None
        if self.verify is not None:
            with clock("verify"):
                found, verdict = self.verify(model, clean, found, seed=seed)
            log.info("verify: %s, p = %.2g", verdict.kind, verdict.p)
        triggers: list[InvertedTrigger] = []
        curves: dict[str, list[float]] = {}
        with clock("invert"):
            for label in self._labels(found, verdict):
                more, own = self.invert(model, clean, label, seed=seed)
                triggers += more
                name = f" of {clean.class_names[label]}" if label != found.target_label else ""
                curves |= {f"{key}{name}": curve for key, curve in own.items()}
        return Evidence(
            identification=found,
            verdict=verdict,
            triggers=triggers,
            curves=curves,
            seconds=clock.seconds,
        )

    def _labels(self, found: Identification, verdict: Verdict | None) -> list[int]:
        """Return the classes whose triggers are inverted."""
        if verdict is None or verdict.kind == "backdoored":
            return [found.target_label]
        if verdict.kind == "clean" and not self.always_repair:
            return []
        return found.order[: self.fallback]

    def repair(
        self,
        model: CLIP,
        clean: CleanData,
        found: Evidence,
        *,
        seed: int,
        checkpoint: Path | None = None,
    ) -> Purified:
        """Return what step 3 makes of ``model`` and of what `search` found.

        An interrupted tuning goes on from the file ``checkpoint``. Without triggers the copy is as
        the model came.

        Raises:
            ValueError: If there are fewer clean images than ``clean_samples``.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        seen = self._few(clean, self._searched, seed)
        clean = self._few(clean, self.clean_samples, seed)
        tuning = self.tune
        if not found.triggers or tuning is None:
            return Purified(copy.deepcopy(model), found)

        named = found.identification
        inverted = [] if named is None else self._labels(named, found.verdict)
        suspected = [alike for label in inverted if named for alike in named.group(label)]

        def tune(number: int, start: CLIP | None = None) -> Tuned:
            def refresh(
                tuned: CLIP, triggers: Sequence[InvertedTrigger], step: int
            ) -> list[InvertedTrigger]:
                inversion, stage = cast(Refreshing, self.invert), f"refresh {number} {step}"
                with clock("refresh"):
                    return inversion.refresh(tuned, seen, triggers, seed=seed, stage=stage)

            return tuning(
                model, clean, triggers, seed=seed, checkpoint=checkpoint, start=start,
                refresh=refresh, number=number, suspected=suspected,
            )  # fmt: skip

        clock, triggers, steps = Clock(), list(found.triggers), tuning.steps
        with clock("tune"):
            tuned = tune(1)
        repaired, curves, left = tuned.model, found.curves | tuned.curves, list[float]()
        if self.verify is not None and named is not None:
            verify = self.verify
            others = [label for label in inverted[1:] if verify.told(named, label)]
            for number in range(2, self.rounds + 1):
                stage = f"verify again {number}"
                with clock("verify again"):
                    p = {
                        label: verify.left(
                            repaired, seen, named, seed=seed, stage=stage, label=label
                        )
                        for label in [named.target_label, *others]
                    }
                left.append(min(p.values()))
                # Up to `clear` would be common of a class that clean models take much for too.
                again = [label for label, own in p.items() if own <= verify.alarm]
                if not again:
                    break
                with clock("invert again"):
                    for label in again:
                        more, _ = self.invert(repaired, seen, label, seed=seed + number)
                        triggers = [*more, *triggers]
                with clock("tune again"):
                    tuned_again = tune(number, repaired)
                repaired, steps = tuned_again.model, steps + tuning.steps
                own_curves = tuned_again.curves.items()
                curves |= {f"{name}, round {number}": curve for name, curve in own_curves}
        evidence = dataclasses.replace(
            found,
            triggers=triggers,
            findings={
                **found.findings,
                **tuned.findings,
                "divergence": tuned.divergence,
                "tuned_layers": tuned.layers,
                "neurons": tuned.neurons,
                "p_after_round": left,
            },
            curves=curves,
            seconds=found.seconds | clock.seconds,
        )
        return Purified(repaired, evidence, steps)


def _work(step: object, *given: int) -> Work:
    """Return how much a step does; nothing where it does not say."""
    own = getattr(step, "work", None)
    found: Work = Work() if own is None else own(*given)
    return found
