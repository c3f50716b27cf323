"""InverTune (Sun et al., NDSS 2026): identify the target, invert the trigger, tune it away."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.defense import Purified
from invertune.evidence import Evidence
from invertune.fields import check_calls
from invertune.identify import TargetIdentification
from invertune.invert import TriggerInversion
from invertune.tune import ActivationTuning


@dataclass(frozen=True)
class InverTune:
    """Remove a backdoor by inverting its trigger and tuning away what it fires.

    Attributes:
        name: Name in results.
        identify, invert, tune: The three steps.
        knows: What it is given beyond the model and the images.
        needs: Clean images, without captions.
    """

    name: str
    identify: TargetIdentification
    invert: TriggerInversion
    tune: ActivationTuning
    knows: str = "class names"
    needs: str = "images"

    def __post_init__(self) -> None:
        check_calls(self, "identify", "invert", "tune")

    @property
    def clean_samples(self) -> int:
        """Number of clean images of the largest step."""
        # The steps look at the same images again; they do not add up.
        return max(self.identify.images, self.invert.images, self.tune.samples)

    def purify(
        self, model: CLIP, clean: CleanData, *, seed: int, checkpoint: Path | None = None
    ) -> Purified:
        """Return a repaired copy and the evidence of every step; ``model`` stays as it is.

        Raises:
            ValueError: If there are fewer clean images than ``clean_samples``.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        found = self.search(model, clean, seed=seed)
        return self.repair(model, clean, found, seed=seed, checkpoint=checkpoint)

    def search(self, model: CLIP, clean: CleanData, *, seed: int) -> Evidence:
        """Return what steps 1 and 2 find: the target and the inverted triggers.

        Raises:
            ValueError: If there are fewer clean images than ``clean_samples``.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        self._check(clean)
        start = time.perf_counter()
        found = self.identify(model, clean, seed=seed)
        identified = time.perf_counter()
        triggers, curves = self.invert(model, clean, found.target_label, seed=seed)
        seconds = {"identify": identified - start, "invert": time.perf_counter() - identified}
        return Evidence(identification=found, triggers=triggers, curves=curves, seconds=seconds)

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

        An interrupted tuning goes on from the file ``checkpoint``.

        Raises:
            ValueError: If there are fewer clean images than ``clean_samples``.
            NonFiniteLossError: If a loss becomes NaN or infinite.
        """
        self._check(clean)
        start = time.perf_counter()
        tuned = self.tune(model, clean, found.triggers, seed=seed, checkpoint=checkpoint)
        evidence = dataclasses.replace(
            found,
            findings={
                **found.findings,
                "divergence": tuned.divergence,
                "tuned_layers": tuned.layers,
                "neurons": tuned.neurons,
            },
            curves=found.curves | tuned.curves,
            seconds=found.seconds | {"tune": time.perf_counter() - start},
        )
        return Purified(tuned.model, evidence)

    def _check(self, clean: CleanData) -> None:
        if len(clean.images) < self.clean_samples:
            raise ValueError(
                f"{self.name} needs {self.clean_samples} clean images, got {len(clean.images)}"
            )
