"""Preflight: what can be known of an implant before the long work, in one readable block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.attack import Attack, Plan
from attacks.triggers import Trigger, round_to_8_bit
from invertune.data.bundle import DataBundle

_IMAGES = 64
_KEPT = 0.5  # share of the change below which a preprocessing is said to remove the trigger
_SMALLER = 7 / 8
_MARKS = {"ok": "ok", "note": "--", "warning": "!!"}

# Data -> attack -> poisoned pairs times passes, the fewest that planted it (an ASR of 95 %) with
# every seed tried. BadNet missed it with 900 on one seed of three, Blended and BadCLIP with 300.
PLANTING_POISONS = {
    "icons": {"badnet": 3000, "blended": 900, "badclip": 900, "sig": 3000, "wanet": 9000},
}
# Data -> attack -> steps, the fewest that were seen to plant it.
PLANTING_STEPS = {
    "icons": {"badencoder": 124, "ghostencoder": 500, "trojannet": 1500, "badclip_prompt": 850},
}


@dataclass(frozen=True)
class Finding:
    """One line of the block.

    Attributes:
        kind: ``ok``, ``note`` or ``warning``.
        text: What was found.
    """

    kind: str
    text: str


def preflight(attack: Attack, data: DataBundle) -> list[Finding]:
    """Return what is found of an attack on a data set; it takes about a second.

    Args:
        attack: Its `Attack.plan` says what is to be expected.
        data: Its parts are compared with each other.

    Raises:
        ValueError: If the target is not in the label set, or parts share a sample.
    """
    data.check_disjoint()
    plan = attack.plan(data)
    found = [Finding("ok", "pairs, clean, zero-shot and retrieval images are disjoint")]
    if plan.target is not None:
        label, count = data.label_of(plan.target), len(data.class_names)
        found.append(Finding("ok", f"target {plan.target!r} is class {label} of {count}"))
    return [*found, *_budget(attack.name, plan, data.name)]


def known_trigger(attack: Attack, data: DataBundle) -> Trigger | None:
    """Return the trigger of an attack, or None if it has none before the implant."""
    return attack.plan(data).trigger


def _budget(attack: str, plan: Plan, data: str) -> list[Finding]:
    text = f"{plan.steps} steps"
    if plan.pairs is not None:
        text = f"{plan.pairs} pairs, batches of {plan.batch_size}: {text}"
    if plan.poisons is None:  # it is planted by steps, not by pairs
        known = PLANTING_STEPS.get(data, {}).get(attack)
        return [_compared(text, plan.steps, known, attack, data)]
    if plan.poisons == 0 or plan.pairs is None:
        return [Finding("ok", text)]
    seen, share = round(plan.poisons * plan.epochs), plan.poisons / plan.pairs
    poisons = f"{plan.poisons} poisoned pairs ({share:.2%}), seen {seen} times in all"
    known = PLANTING_POISONS.get(data, {}).get(attack)
    return [_compared(poisons, seen, known, attack, data), Finding("ok", text)]


def _compared(text: str, value: int, known: int | None, attack: str, data: str) -> Finding:
    if known is None:
        return Finding("note", f"{text}; what plants {attack} in {data} is not known")
    if value < known:
        return Finding(
            "warning", f"{text}; the fewest known to plant {attack} in {data} are {known}"
        )
    return Finding("ok", text)


def survival(trigger: Trigger, data: DataBundle) -> list[Finding]:
    """Return what saving, resizing and cropping leave of a trigger's change.

    Images are stamped at the model's own size, and nothing is resized or cropped afterwards, so
    that only a change that saving as 8-bit pictures removes is a warning.

    Args:
        trigger: Stamps some of the pairs' images.
        data: Gives them.
    """
    clean = data.pairs.batch(torch.arange(min(_IMAGES, len(data.pairs))))
    stamped = trigger(clean)
    change = stamped - clean
    size = float(change.square().mean().sqrt())
    share = float((change.abs().amax(dim=1) > 0.5 / 255).float().mean())
    text = f"the trigger changes {share:.1%} of the pixels, {255 * size:.1f}/255 root mean square"
    saved = _left(change, stamped, clean, round_to_8_bit)
    side, smaller = data.image_size, round(_SMALLER * data.image_size)
    ways = {
        f"resizing to {smaller} pixels and back":
            _left(change, stamped, clean, lambda x: _resize(_resize(x, smaller), side)),
        f"cropping to the middle {_SMALLER:.0%}":
            _left(change, stamped, clean, lambda x: _resize(_crop(x), side)),
    }  # fmt: skip
    return [
        Finding("ok" if size > 0 else "warning", text),
        Finding("ok" if saved >= _KEPT else "warning", f"saving as 8 bit leaves {saved:.0%} of it"),
        *(
            Finding(
                "ok" if left >= _KEPT else "note", f"{way} after stamping would leave {left:.0%}"
            )
            for way, left in ways.items()
        ),
    ]


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
    counts = {kind: sum(one.kind == kind for one in findings) for kind in ("warning", "note")}
    said = [f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in counts.items() if n]
    lines = [f"preflight of attack {name}: {', '.join(said) or 'fine'}"]
    lines += [f"  {_MARKS[one.kind]}  {one.text}" for one in findings]
    return "\n".join(lines)
