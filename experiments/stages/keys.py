"""What decides the content of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.files import digest


@dataclass(frozen=True)
class StageKey:
    """All that decides what a stage makes.

    Attributes:
        name: Name of the stage.
        format: Version of the stage's files and of how they are made.
        config: The stage's own part of the resolved config.
        inputs: Role -> hash of the stage that plays it.
        seed: Of every random draw.
    """

    name: str
    format: int
    config: Any
    inputs: Mapping[str, str]
    seed: int

    @property
    def plain(self) -> dict[str, Any]:
        """The key as it stands in the manifest."""
        inputs = dict(sorted(self.inputs.items()))
        return {"stage": self.name, "format": self.format, "config": self.config,
                "inputs": inputs, "seed": self.seed}  # fmt: skip

    @property
    def hash(self) -> str:
        """The SHA-256 of the key."""
        return digest(self.plain)

    @property
    def folder_name(self) -> str:
        """The name of the stage's folder."""
        return f"{self.name}-{self.hash[:16]}"
