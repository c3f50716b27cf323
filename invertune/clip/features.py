"""Features that are numbers: one that is none would come first wherever it is compared."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def check_finite_rows(
    values: Tensor, model: str, what: str, cases: str, of: Sequence[str] | None = None
) -> Tensor:
    """Return values as they are.

    Args:
        values: (B, D).
        model: Name of the model that they are of.
        what: They are, such as ``text features``, which says of which tower.
        cases: What the rows are of, such as ``texts``.
        of: The B texts, of which the first that fails is named.

    Raises:
        ValueError: If one is not finite.
    """
    finite = values.isfinite()
    if bool(finite.all()):
        return values
    broken = (~finite.flatten(1).all(dim=1)).nonzero().flatten().tolist()
    count = f"{len(broken)} of {len(values)} {cases}"
    first = "" if of is None else f", such as {of[broken[0]]!r:.80}"
    raise ValueError(f"{model} gives {what} that are not finite, for {count}{first}")
