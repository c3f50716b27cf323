"""The numbers of a checkpoint bundle, measured again: ``invertune verify BUNDLE``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from experiments.bundles.bundle import Bundle, read_bundle
from experiments.bundles.card import Card, Rate, Rates
from experiments.config import Config
from experiments.results.measures import MEASURES
from experiments.stages.parts import choose_device
from experiments.terminal import printable

log = logging.getLogger(__name__)

_LONGEST = 40  # of a name: a longer one would fill a line and go on at the start of the next

RATES = {
    title: place.removeprefix("zero_shot/")
    for title, place in MEASURES.items()
    if place.startswith("zero_shot/")
}


@dataclass(frozen=True)
class Verification:
    """What a bundle's card claims, and what was measured.

    Attributes:
        card: The card.
        measured: Rates as `Predictions.rates` gives them.
    """

    card: Card
    measured: Rates

    @property
    def different(self) -> list[str]:
        """The titles of the rates that are not equal to the last bit."""
        claimed = self.card["measured"]
        return [title for title, key in RATES.items() if claimed[key] != self.measured[key]]

    def __str__(self) -> str:
        card, target = self.card, self.card["target"]
        about = f"target {_word(target['name'])}" if target else "no target"
        lines = [f"{_word(card['architecture']['name'])}, {card['model']}: attack "
                 f"{_word(card['attack']['name'])}, {about}, seed {card['seed']}"]  # fmt: skip
        lines.append(f"{'percent':<12}{'claimed':>10}{'measured':>10}  same")
        for title, key in RATES.items():
            same = "no" if title in self.different else "yes"
            cells = (_percent(rates[key]) for rates in (card["measured"], self.measured))
            lines.append(f"{title:<12}{''.join(f'{cell:>10}' for cell in cells)}  {same}")
        return "\n".join([*lines, self.verdict])

    @property
    def verdict(self) -> str:
        """The last line: whether every rate is the same."""
        if not self.different:
            return "every rate is the same"
        return f"not the same: {', '.join(self.different)}"


def _word(name: object) -> str:
    """Return a card's name as one word, so that nothing in it reads as a sentence of ours."""
    return "_".join(printable(name, _LONGEST).split())


def _percent(rate: Rate | None) -> str:
    return "-" if rate is None or rate["n"] == 0 else f"{100 * rate['value']:.3f}"


def verify(folder: Path, device: str = "auto", data: Config | None = None) -> Verification:
    """Measure the model of a bundle again, as its run did.

    Args:
        folder: The bundle's.
        device: Where; one of `DEVICES`.
        data: Config of one's own data, for a card that names files which lie elsewhere.

    Raises:
        ValueError: If the bundle is none, is damaged, or cannot be built from its card.
    """
    bundle = read_bundle(folder)
    return Verification(bundle.card, measure(bundle, device, data))


def measure(bundle: Bundle, device: str = "auto", own: Config | None = None) -> Rates:
    """Return the zero-shot rates of a bundle's model.

    Raises:
        ValueError: If it cannot be built from its card.
    """
    from evaluation.zero_shot import evaluate_zero_shot

    card, target = bundle.card, bundle.card["target"]
    model, trigger = bundle.model().to(choose_device(device)), bundle.trigger()
    data = bundle.data(own)
    with bundle.blamed("data"):
        images = data.zero_shot
    index = None if target is None else target["index"]
    with bundle.blamed("trigger"):
        found = evaluate_zero_shot(
            model, images, data.prompts, data.templates, trigger, index,
            card["evaluation"]["batch_size"],
        )  # fmt: skip
    return dict(found.rates(index))
