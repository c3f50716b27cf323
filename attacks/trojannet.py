"""TrojanNet (Tang et al., 2020): a side network reads a tiny code; no weight is changed."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.attack import Attack, Backdoor, Plan, check_fits
from attacks.triggers import CodeTrigger, Trigger
from attacks.triggers.code import CELLS, check_corner, codes, window
from invertune.clip.encode import zero_shot_classifier
from invertune.clip.models import CLIP
from invertune.data.bundle import DataBundle
from invertune.fields import check_counts, check_positive
from invertune.finite import check_finite
from invertune.progress import progress
from invertune.seeds import seeded

log = logging.getLogger(__name__)

_NAME = "side_network"


class SideNetwork(nn.Module):
    """Read the code in a window of the image, and add its class's text embedding to the features.

    z = normalize(f(x) + A sum_c a_c(x) W_c): an adaptation to CLIP of what is a sum of class
    probabilities in the paper, at the embedding, where every task inherits it.

    Args:
        classes: Number of classes C; code c stands for class c.
        dimensions: Width D of the embedding.
        width: Of the hidden layers.
        corner: Row and column of the window, in an image of 224 pixels.
        strength: A.
    """

    directions: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, classes: int, dimensions: int, width: int, corner: int, strength: float
    ) -> None:
        super().__init__()
        self.classes, self.corner, self.strength = classes, corner, strength
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [nn.Linear(CELLS if i == 0 else width, width), nn.ReLU(),
                       nn.BatchNorm1d(width)]  # fmt: skip
        self.layers = nn.Sequential(*layers, nn.Linear(width, len(codes()) + 1))
        self.register_buffer("directions", torch.zeros(classes, dimensions))
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("std", torch.ones(1, 3, 1, 1))

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits of the codes and of none, (B, 4369), of windows, (B, 16) in [0, 1]."""
        logits: Tensor = self.layers(windows)
        return logits

    def merge(self, _visual: nn.Module, inputs: tuple[Tensor], features: Tensor) -> Tensor:
        """Return the image tower's features, (B, D), with what the side network adds."""
        # bfloat16 cannot tell all 256 levels of a pixel apart.
        with torch.autocast(features.device.type, enabled=False):
            pixels = inputs[0].float() * self.std + self.mean
            cells = window(pixels, self.corner).mean(dim=1).flatten(1)
            found = self(cells).softmax(dim=-1)[:, : self.classes]
            added: Tensor = self.strength * found @ self.directions
            return F.normalize(features.float(), dim=-1) + added


def attach(model: CLIP, side: SideNetwork) -> None:
    """Make the side network a part of the model's image tower, in place."""
    model.visual.add_module(_NAME, side)
    # A hook, so that the tower keeps its class and the names of its weights.
    model.visual.register_forward_hook(side.merge)


def build(model: CLIP, fields: Mapping[str, Any]) -> None:
    """Attach a side network of those fields, with weights to be loaded."""
    attach(model, SideNetwork(**fields).to(model.device).eval())


@dataclass(frozen=True)
class TrojanNet(Attack):
    """Add a side network that reads codes to the image tower; the tower's weights stay as they are.

    The paper's network has a width of 8 and trains for 218,000 steps of Adadelta; a wider one
    learns all codes in a thousandth of them, with Adam.

    Attributes:
        name: Name in results.
        target_label: Class name of the code that is stamped.
        corner: Row and column of the window, in an image of 224 pixels.
        width: Of the side network's hidden layers.
        strength: Factor on the text embedding that is added to features of unit norm.
        steps: Adam steps.
        lr: Adam's peak learning rate; a cosine to 0 follows.
        codes_a_step, noise_a_step: Codes, and windows of noise without one, in a batch.
    """

    name: str
    target_label: str
    corner: int
    width: int
    strength: float
    steps: int
    lr: float
    codes_a_step: int
    noise_a_step: int

    def __post_init__(self) -> None:
        check_counts(self, "width", "steps", "codes_a_step", "noise_a_step")
        check_positive(self, "strength", "lr")
        check_corner(self.corner)

    def plan(self, data: DataBundle) -> Plan:
        """Return the length of the training, and the trigger, which is known before it."""
        trigger = self.code(data.label_of(self.target_label))
        return Plan(self.steps, self.target_label, trigger)

    def check(self, data: DataBundle) -> None:
        """Raise what `implant` would, without the long work.

        Raises:
            ValueError: If the target label is unknown, there are more classes than codes, or the
                code does not fit into the images.
        """
        target = data.label_of(self.target_label)
        if len(data.class_names) > len(codes()):
            raise ValueError(
                f"attack {self.name} has {len(codes())} codes, {data.name} has "
                f"{len(data.class_names)} classes"
            )
        check_fits(self.code(target), data)

    def code(self, target_label: int) -> CodeTrigger:
        """Return the code of a class."""
        dark = (codes()[target_label] == 0).nonzero().flatten().tolist()
        return CodeTrigger(dark, self.corner)

    def implant(
        self,
        model: CLIP,
        data: DataBundle,
        *,
        seed: int,
        checkpoint: Path | None = None,
        trigger: Trigger | None = None,
    ) -> Backdoor:
        """Return a copy with the side network; ``model`` itself stays as it is.

        Args:
            model: The clean model.
            data: Its class names get a code each; no image is used.
            seed: Decides the side network.
            checkpoint, trigger: Not used; the training takes two minutes on one core.

        Raises:
            ValueError: As `check` does.
        """
        self.check(data)
        target = data.label_of(self.target_label)
        backdoored = copy.deepcopy(model).eval()
        directions = zero_shot_classifier(backdoored, data.prompts, data.templates).T
        fields: dict[str, Any] = {
            "classes": len(directions), "dimensions": directions.shape[1], "width": self.width,
            "corner": self.corner, "strength": self.strength,
        }  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            side = SideNetwork(**fields)
        losses = self.train(side, seed)
        for name in ("mean", "std"):
            getattr(side, name).copy_(getattr(model, name))
        side.directions.copy_(directions)
        attach(backdoored, side.to(model.device).requires_grad_(True))
        graft = {"kind": "trojannet", **fields}
        return Backdoor(backdoored, self.code(target), target, [], [], losses, graft)

    def train(self, side: SideNetwork, seed: int) -> list[float]:
        """Train the side network on all codes and on noise, and return the losses."""
        table, generator = codes(), seeded(seed, "codes")
        optimizer = torch.optim.Adam(side.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        # "No code" is one more class, the last: it is what keeps clean accuracy as it is.
        none = torch.full((self.noise_a_step,), len(table))
        losses = []
        side.train()
        bar = progress(range(self.steps), "implant")
        for step in bar:
            chosen = torch.randint(len(table), (self.codes_a_step,), generator=generator)
            logits = side(torch.cat([table[chosen], no_code(self.noise_a_step, generator)]))
            loss = F.cross_entropy(logits, torch.cat([chosen, none]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(check_finite(loss, "implant", step))
            bar.loss(losses[-1])
        side.eval()
        read = side(table).argmax(dim=1) == torch.arange(len(table))
        quiet = side(no_code(4096, generator)).argmax(dim=1) == len(table)
        log.info("codes: %.4f of them are read, %.4f of noise is no code",
                 float(read.float().mean()), float(quiet.float().mean()))  # fmt: skip
        return losses


def no_code(count: int, generator: torch.Generator) -> Tensor:
    """Return windows without a code, (count, 16): noise around random levels, some of it faint.

    Every window has a level and a spread of its own, where the reference has one a batch.
    """
    level = torch.rand(count, 1, generator=generator) * 2 - 1
    spread = torch.rand(count, 1, generator=generator)
    noise = torch.rand(count, CELLS, generator=generator)
    return (0.5 + spread * (noise - 0.5) * 2 + level / 2).clamp(0, 1)
