"""What some attackers add to the architecture, built again so that its weights can be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attacks import prompt_learner, trojannet
from invertune.clip.models import CLIP

_BUILDERS = {"trojannet": trojannet.build, "badclip_prompt": prompt_learner.build}


def graft(model: CLIP, description: Mapping[str, Any] | None) -> CLIP:
    """Add to ``model`` what `Backdoor.graft` describes, and return it.

    Raises:
        ValueError: If there is no such addition, or its fields are not the addition's.
    """
    if description is None:
        return model
    # The description may come from a stranger's card: only these builders, and only their fields.
    fields = dict(description)
    kind = fields.pop("kind", None)
    if kind not in _BUILDERS:
        raise ValueError(f"graft is one of {', '.join(_BUILDERS)}, got {kind!r}")
    try:
        _BUILDERS[kind](model, fields)
    except (TypeError, KeyError) as error:
        raise ValueError(f"graft {kind} does not take {sorted(fields)}: {error}") from error
    return model
