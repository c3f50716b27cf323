"""Which activation a CLIP has, which no tensor tells: GELU, or OpenAI's QuickGELU.

The wrong one is no error but a worse model, so the evidence is named, and where there is none the
answer is that there is none.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import open_clip
from open_clip.transformer import QuickGELU
from torch import nn

_OPENAI_NAME = re.compile(r"ViT-[BL]/(32|16|14)")
_QUICK = re.compile(r"quick[-_ ]?gelu", re.IGNORECASE)
_NOT_QUICK = re.compile(rf"(?<![a-z])(no|not|non|without)[-_ ]?{_QUICK.pattern}", re.IGNORECASE)
_OPEN_CLIP_RUN = re.compile(r"model_(?P<model>.+?)-(lr|b|j|p)_")  # how open_clip names its runs


@dataclass(frozen=True)
class Activation:
    """An activation, and what says that it is this one.

    Attributes:
        quick_gelu: Whether it is QuickGELU.
        because: The evidence; None if there is none, and GELU, open_clip's default, is taken.
    """

    quick_gelu: bool
    because: str | None

    @property
    def decided(self) -> bool:
        """Whether there is evidence."""
        return self.because is not None

    @property
    def name(self) -> str:
        """GELU or QuickGELU."""
        return "QuickGELU" if self.quick_gelu else "GELU"


def decide(user: bool | None, beside: bool | None, run: str | None, openai: bool) -> Activation:
    """Return the activation that the best evidence speaks for.

    Args:
        user: Whether whoever asks says that it is QuickGELU; counts most.
        beside: What a config or a card beside the weights says.
        run: Name of the run that trained the model, which may name the model.
        openai: Whether the file has a form that only OpenAI's models have; counts least.
    """
    if user is not None:
        return Activation(user, "as asked for")
    if beside is not None:
        return Activation(beside, "says a file beside the weights")
    named = None if run is None else of_run(run)
    if named is not None:
        return Activation(named, f"says the run's name, {run!r:.80}")
    return Activation(openai, "OpenAI's models have it" if openai else None)


def of_run(run: str) -> bool | None:
    """Return whether a run's name names a model with QuickGELU; None if it names none.

    ``-quickgelu`` is open_clip's own mark. Its run names hold the name of one of its models, whose
    config says which activation it has. A slash, as in ``ViT-B/32``, is how OpenAI's code, and
    CleanCLIP's after it, names models. ``RN50`` is no evidence outside open_clip's own run names:
    OpenAI's model with QuickGELU and open_clip's with GELU are both called so.
    """
    if _NOT_QUICK.search(run):
        return False
    if _QUICK.search(run):
        return True
    found = _OPEN_CLIP_RUN.search(run)
    config = open_clip.get_model_config(found["model"]) if found else None
    if config is not None:
        return bool(config.get("quick_gelu", False))
    return True if _OPENAI_NAME.search(run) else None


@contextlib.contextmanager
def other_activation(model: nn.Module) -> Iterator[None]:
    """Give a model, inside the block, GELU in place of QuickGELU and the reverse."""
    _swap(model)
    try:
        yield
    finally:
        _swap(model)


def _swap(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GELU | QuickGELU):
                module._modules[name] = nn.GELU() if isinstance(child, QuickGELU) else QuickGELU()
