"""Preflight: what can be known of an implant before the long work, in one readable block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.triggers import Trigger, round_to_8_bit
from invertune.data.bundle import DataBundle

_IMAGES = 64
_KEPT = 0.5  # share of the change below which saving is said to remove the trigger
_SMALLER = 7 / 8


@dataclass(frozen=True)
class Finding:
    """One line of the block.

    Attributes:
        fine: False for a warning.
        text: What was found.
    """

    fine: bool
    text: str


def preflight(attack: Any, data: DataBundle, trigger: Trigger | None) -> list[Finding]:
    """Return what is found of an attack on a data set; it takes about a second.

    Args:
        attack: Any attack; what it does not have (a poison rate, a recipe) is left out.
        data: Its parts are compared with each other.
        trigger: The trigger, if it is known before the implant.

    Raises:
        ValueError: If the target is not in the label set, or parts share a sample.
    """
    data.check_disjoint()
    found = [Finding(True, "pairs, clean, zero-shot and retrieval images are disjoint")]
    if hasattr(attack, "target_label"):
        label = data.label_of(attack.target_label)
        count = len(data.class_names)
        found.append(Finding(True, f"target {attack.target_label!r} is class {label} of {count}"))
    found += _budget(attack)
    if trigger is not None:
        found += _survival(trigger, data)
    return found


def _budget(attack: Any) -> list[Finding]:
    recipe, pairs = getattr(attack, "recipe", None), getattr(attack, "pairs", 0)
    if recipe is None:
        return []
    steps = max(1, round(recipe.epochs * (pairs // recipe.batch_size)))
    found = [Finding(True, f"{pairs} pairs, batches of {recipe.batch_size}: {steps} steps")]
    rate = getattr(attack, "poison_rate", None)
    if rate is not None:
        count = round(rate * pairs)
        seen, least = round(count * recipe.epochs), getattr(attack, "plants", 0)
        text = f"{count} poisoned pairs ({rate:.2%}), seen {seen} times in all"
        if seen < least:
            text += f": fewer than {least} are not known to plant this trigger"
        found.insert(0, Finding(seen >= least, text))
    return found


def _survival(trigger: Trigger, data: DataBundle) -> list[Finding]:
    clean = data.pairs.batch(torch.arange(min(_IMAGES, len(data.pairs))))
    stamped = trigger(clean)
    change = stamped - clean
    size = float(change.square().mean().sqrt())
    share = float((change.abs().amax(dim=1) > 0.5 / 255).float().mean())
    text = f"the trigger changes {share:.1%} of the pixels, {255 * size:.1f}/255 root mean square"
    kept = _left(change, stamped, clean, round_to_8_bit)
    side, smaller = data.image_size, round(_SMALLER * data.image_size)
    resized = _left(change, stamped, clean, lambda x: _resize(_resize(x, smaller), side))
    cropped = _left(change, stamped, clean, lambda x: _resize(_crop(x), side))
    return [
        Finding(size > 0, text),
        Finding(kept >= _KEPT, f"saving as 8-bit pictures leaves {kept:.0%} of that"),
        # Images are stamped at the model's own size; what comes later is up to others.
        Finding(True, f"where images are resized after stamping, to {smaller} pixels and back, "
                      f"{resized:.0%} is left; where cropped to the middle {_SMALLER:.0%}, "
                      f"{cropped:.0%}"),
    ]  # fmt: skip


def _left(change: Tensor, stamped: Tensor, clean: Tensor, way: Callable[[Tensor], Tensor]) -> float:
    """Return the share of the trigger's change, at its place, that a preprocessing leaves."""
    after = way(stamped) - way(clean)
    energy = float(change.square().sum())
    return max(0.0, float((after * change).sum()) / max(energy, 1e-12))


def _resize(images: Tensor, side: int) -> Tensor:
    size = (side, side)
    return F.interpolate(images, size, mode="bicubic", align_corners=False, antialias=True)


def _crop(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    rows, columns = round(height * (1 - _SMALLER) / 2), round(width * (1 - _SMALLER) / 2)
    return images[..., rows : height - rows, columns : width - columns]


def block(name: str, findings: list[Finding]) -> str:
    """Return the findings as one block of text."""
    warnings = sum(not finding.fine for finding in findings)
    verdict = f"{warnings} warning{'s' if warnings > 1 else ''}" if warnings else "fine"
    lines = [f"preflight of attack {name}: {verdict}"]
    lines += [f"  {'ok' if finding.fine else '!!'}  {finding.text}" for finding in findings]
    return "\n".join(lines)
