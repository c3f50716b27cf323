"""Random probes: triggers that nobody optimized.

A backdoor whose trigger changes the whole image, a warp or noise, often answers to any change of
that kind, while a model without one takes such images for what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from invertune.fields import check_counts, check_is, check_types
from invertune.perturb.families import Family, check_budgets
from invertune.perturb.triggers import InvertedTrigger


@dataclass(frozen=True)
class Probe:
    """A family of triggers at random starts.

    Attributes:
        family: What they are made of; its name is that of the probe.
        budgets: Ever smaller, in the family's own unit.
        draws: How many at each budget.
    """

    family: Family
    budgets: Sequence[float]
    draws: int

    def __post_init__(self) -> None:
        check_types(self)
        check_is(self, "family", Family)
        check_counts(self, "draws")
        check_budgets(self.budgets)

    @property
    def name(self) -> str:
        """The family's."""
        return self.family.name

    def draw(self, side: int, budget: float, generator: torch.Generator) -> InvertedTrigger:
        """Return ``draws`` triggers with a leading dimension.

        Args:
            side: Of the images, in pixels.
            budget: Of the family.
            generator: Source of every random number.
        """
        return self.family.build(self.family.start(self.draws, side, generator), side, budget)
