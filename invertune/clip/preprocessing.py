"""How pixels become a model's input."""

from __future__ import annotations

from dataclasses import dataclass

import open_clip

from invertune.fields import check_choices, is_number

RESIZE_MODES = ("shortest", "longest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Preprocessing:
    """What an image goes through on its way into a model.

    Attributes:
        mean, std: Of each channel, of pixels in [0, 1]: the model sees (pixels - mean) / std.
        resize_mode: How an image of another size is brought to the model's: its ``shortest`` side,
            with the middle cut out, its ``longest``, with a border, or both (``squash``).
        interpolation: How it is resized.
    """

    mean: tuple[float, float, float] = open_clip.OPENAI_DATASET_MEAN
    std: tuple[float, float, float] = open_clip.OPENAI_DATASET_STD
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            listed = isinstance(values, list | tuple) and len(values) == 3
            if not listed or not all(is_number(value) and abs(value) < 1e3 for value in values):
                raise ValueError(f"{name} is three numbers, one a channel, got {values!r:.80}")
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if min(self.std) <= 0:
            raise ValueError(f"std is three positive numbers, got {self.std}")
        check_choices(self, resize_mode=RESIZE_MODES, interpolation=INTERPOLATIONS)
