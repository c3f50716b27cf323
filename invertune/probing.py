"""Step 1 by random probes: to which class do changes send images that nobody optimized?

The cheapest of all candidate sources, for it needs no gradient. It sees the backdoors that answer
to any change of a kind, as those of global triggers often do, and is blind to patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from invertune.clip.models import CLIP
from invertune.data.bundle import CleanData
from invertune.evidence import Identification
from invertune.fields import check_all, check_counts, check_types
from invertune.perturb.probes import Probe
from invertune.survival import Pool, leader, probed


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
        found = probed(pool, self.probes, seed=seed, stage="probes")
        return leader(found, self.judged, pool.suspect.alike)
