"""Step 1 by random probes: to which class do changes send images that nobody optimized?

The cheapest of all candidate sources, for it needs no gradient. It sees the backdoors that answer
to any change of a kind, as those of global triggers often do, and is blind to patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData, to_float
from invertune.evidence import Identification, Survival
from invertune.fields import check_all, check_counts, check_types
from invertune.perturb.probes import Probe
from invertune.progress import progress
from invertune.seeds import seeded
from invertune.survival import Pool, leader


@dataclass(frozen=True)
class RandomProbes:
    """Count what a model takes randomly changed images for.

    Attributes:
        probes: The kinds of changes, each with its budgets.
        held: Clean images.
        judged: How many of the smallest budgets decide.
    """

    probes: Sequence[Probe]
    held: int
    judged: int

    def __post_init__(self) -> None:
        check_types(self)
        check_all(self, "probes", Probe)
        check_counts(self, "held", "judged")
        if not self.probes:
            raise ValueError("random probes are of at least one kind")

    @property
    def samples(self) -> int:
        """Number of clean images that it uses."""
        return self.held

    def __call__(self, model: CLIP, clean: CleanData, *, seed: int) -> Identification:
        """Return the class that leads furthest under any kind of change.

        Raises:
            ValueError: If there are fewer clean images than `samples`.
        """
        pool = Pool.of(model, clean, 0, self.held, 1.0, seed, "probes")
        with pool.suspect.ready(), torch.no_grad():
            found = [
                _reached(pool, probe, seeded(seed, "probes", probe.name))
                for probe in progress(self.probes, "probes")
            ]
        return leader(found, self.judged)


def _reached(pool: Pool, probe: Probe, generator: torch.Generator) -> Survival:
    """Return the share of images that the probes of each budget send to each class."""
    suspect, own = pool.suspect, pool.own
    images, count = to_float(pool.held).to(suspect.model.device), suspect.classifier.shape[1]
    labels, success = list(range(count)), []
    others = len(own) - torch.bincount(own, minlength=count)  # images of all other classes
    for budget in probe.budgets:
        drawn, hits = probe.draw(suspect.side, budget, generator), torch.zeros(count)
        for row in range(probe.draws):
            predicted = suspect.similarities(drawn.one(row)(images)).argmax(dim=1).cpu()
            hits += torch.bincount(predicted[predicted != own], minlength=count)
        success.append((hits / (probe.draws * others).clamp_min(1)).tolist())
    return Survival(probe.name, list(probe.budgets), [labels] * len(success), success)
