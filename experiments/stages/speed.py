"""How a run's trainings are computed, as its config has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.config import Config

if TYPE_CHECKING:
    from experiments.stages.team import Team
    from invertune.training.execution import Execution

FIELDS = ("precision", "chunk", "checkpointing", "compile")


def execution_of(config: Config, team: Team | None) -> Execution:
    """Return how trainings are computed.

    Args:
        config: The resolved config.
        team: The processes that train together; None for a single one.

    Raises:
        ValueError: If a field of ``speed`` breaks its rule.
    """
    from invertune.training.distributed import ALONE
    from invertune.training.execution import Execution

    fields = config.get("speed") or {}
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise ValueError(f"speed has the fields {', '.join(FIELDS)}, got {unknown[0]!r}")
    return Execution(**fields, ranks=ALONE if team is None else team.ranks)
