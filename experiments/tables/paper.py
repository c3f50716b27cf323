"""The numbers that the paper gives."""

from __future__ import annotations

from experiments.tables.columns import Measure, Runs
from experiments.tables.grid import Column, Value

# What the paper reports for its strongest attack, BadCLIP, on RN50; shares.
_PAPER = {
    "asr_after": {"none": "98.36", "invertune": "0.49", "par": "> 15"},
    "ca_loss": {"invertune": "3.07"},
    "retrieval_asr_after": {"none": "99.28", "invertune": "0.68"},
    "recall_kept": {"invertune": "69.58"},
}
_PAPER_ATTACK, _PAPER_MODEL = "badclip", "rn50"
_PAPER_GAIN = {"mushroom": "+97.23"}


def paper_rate(quantity: str, title: str, optional: bool = True) -> Measure:
    """Return a column of the paper's numbers, in percent as it prints them, in all forms."""

    def read(runs: Runs) -> Value:
        model, attack, defense = (
            str(runs[0].result[part]["name"]) for part in ("model", "attack", "defense")
        )
        if not (attack.startswith(_PAPER_ATTACK) and model.startswith(_PAPER_MODEL)):
            return None
        # invertune_paper and invertune_code are the same method.
        name = "invertune" if defense.startswith("invertune") else defense
        return _PAPER[quantity].get(name)

    return Measure(Column(f"paper_{quantity}_percent", title, optional=optional), read)


def paper_gain() -> Measure:
    def read(runs: Runs) -> Value:
        return _PAPER_GAIN.get(runs[0].result["attack"]["target_label"] or "")

    return Measure(Column("paper_gain_points", "paper: gain, points", optional=True), read)
