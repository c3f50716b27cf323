"""Texts that a model has to tell apart: none is cut off, and no two are the same to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from invertune.data.names import check_list, check_templates, check_text


class Tokenizer(Protocol):
    """What turns texts into token ids, (B, L); it cuts off silently what is longer."""

    def __call__(self, texts: list[str], context_length: int | None = None) -> Tensor:
        """Return the token ids; ``context_length`` is another L than the tokenizer's own."""


def check_classes(
    tokenizer: Tokenizer,
    class_names: Sequence[str],
    prompts: Sequence[str],
    templates: Sequence[str],
) -> None:
    """Look for classes that a model of this tokenizer cannot tell apart, or not read to the end.

    Raises:
        ValueError: If there are some; names two of them, or the text that is cut off.
    """
    check_apart(tokenizer, class_names, "class names")
    check_prompts(tokenizer, prompts, templates)


def check_prompts(tokenizer: Tokenizer, prompts: Sequence[str], templates: Sequence[str]) -> None:
    """Look for prompts that a model of this tokenizer cannot tell apart, or not read to the end.

    Raises:
        ValueError: If there are some, or a template takes a prompt not exactly once.
    """
    check_templates(templates)
    check_list(prompts, "prompts", "texts")
    for prompt in prompts:
        check_text(prompt, "prompts: a class name in a sentence")
    for template in templates:
        check_apart(tokenizer, [template.format(prompt) for prompt in prompts], "prompts")


def check_apart(tokenizer: Tokenizer, texts: Sequence[str], kind: str) -> None:
    """Compare texts that have to differ, as the model reads them.

    Args:
        tokenizer: The model's.
        texts: The texts; there may be none.
        kind: They are, in messages, such as ``prompts``.

    Raises:
        ValueError: If two have the same tokens, or one is cut off.
    """
    if not texts:
        return
    tokens = tokenizer(list(texts))
    cut, same, length = _cut(tokenizer, texts, tokens), _same(tokens), tokens.shape[1]
    rule = f"the model's context holds {length} tokens"
    if same is not None:
        first, second = (texts[i] for i in same)
        why = f", cut off where {rule}" if {*same} <= {*cut} else ""
        raise ValueError(
            f"{kind} differ in their tokens, but {first!r} and {second!r} have the same{why}"
        )
    if cut:
        raise ValueError(f"{kind} are read to their end, but {texts[cut[0]]!r} is cut off: {rule}")


def _same(tokens: Tensor) -> tuple[int, int] | None:
    """Return the positions of the first two equal rows."""
    if len(torch.unique(tokens, dim=0)) == len(tokens):
        return None
    seen: dict[tuple[int, ...], int] = {}
    for i, row in enumerate(map(tuple, tokens.tolist())):
        if row in seen:
            return seen[row], i
        seen[row] = i
    return None


def _cut(tokenizer: Tokenizer, texts: Sequence[str], tokens: Tensor) -> list[int]:
    """Return the positions of the texts that have more tokens than the context holds."""
    length = tokens.shape[1]
    # The end token has the largest number; where it stands before the last place, there was room.
    full = (tokens.argmax(dim=1) == length - 1).nonzero().flatten()
    if len(full) == 0:
        return []
    longer = tokenizer([texts[i] for i in full.tolist()], context_length=length + 1)
    return [int(i) for i in full[(longer[:, :length] != tokens[full]).any(dim=1)]]
