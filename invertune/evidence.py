"""What a defense found on its way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch

from invertune.perturb.triggers import InvertedTrigger


@dataclass(frozen=True)
class Vote:
    """What one generator of universal perturbations did to the class frequencies.

    Attributes:
        generator: Its name.
        clean_frequency, perturbed_frequency: Share of images predicted as each class, C values.
        weight: Factor on its gains when the generators are compared.
    """

    generator: str
    clean_frequency: list[float]
    perturbed_frequency: list[float]
    weight: float

    @property
    def gain(self) -> list[float]:
        """Return P_adv - P_clean, C values."""
        pairs = zip(self.perturbed_frequency, self.clean_frequency, strict=True)
        return [perturbed - clean for perturbed, clean in pairs]


@dataclass(frozen=True)
class Identification:
    """Step 1: which class is the backdoor's target.

    Attributes:
        target_label: Index of the class.
        gain: Its gain in frequency, the mean over the generators by weight.
        runner_up: Index of the next class.
        runner_up_gain: That one's.
        votes: What every generator did.
    """

    target_label: int
    gain: float
    runner_up: int
    runner_up_gain: float
    votes: list[Vote]


@dataclass(frozen=True)
class Evidence:
    """What a defense found on its way, for the report.

    Attributes:
        identification: Step 1, where there is one.
        triggers: The inverted triggers.
        divergence: Normalized activation divergence per layer, before tuning.
        tuned_layers: Layers that were chosen.
        neurons: Size of the backdoor cluster per chosen layer, and of the layer.
        curves: Named loss curves.
        seconds: Time per step.
    """

    identification: Identification | None = None
    triggers: list[InvertedTrigger] = field(default_factory=list)
    divergence: dict[str, float] = field(default_factory=dict)
    tuned_layers: list[str] = field(default_factory=list)
    neurons: dict[str, list[int]] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``evidence.json`` and ``triggers.safetensors``."""
        plain = {
            "identification": asdict(self.identification) if self.identification else None,
            "triggers": [trigger.form for trigger in self.triggers],
            "divergence": self.divergence,
            "tuned_layers": self.tuned_layers,
            "neurons": self.neurons,
            "curves": self.curves,
            "seconds": self.seconds,
        }
        (folder / "evidence.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
        tensors = {
            f"{i}.{name}": tensor.contiguous()
            for i, trigger in enumerate(self.triggers)
            for name, tensor in trigger.tensors().items()
        }
        # Written even without triggers, so that every folder of evidence has the same files.
        safetensors.torch.save_file(tensors, folder / "triggers.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Evidence:
        """Read what `save` wrote."""
        plain: dict[str, Any] = json.loads((folder / "evidence.json").read_text(encoding="utf-8"))
        tensors = safetensors.torch.load_file(folder / "triggers.safetensors")
        found = plain.pop("identification")
        if found is not None:
            found["votes"] = [Vote(**vote) for vote in found["votes"]]
        triggers = [
            InvertedTrigger(form, **{n: tensors[f"{i}.{n}"] for n in ("mask", "pattern", "offset")})
            for i, form in enumerate(plain.pop("triggers"))
        ]
        return cls(
            identification=Identification(**found) if found else None, triggers=triggers, **plain
        )
