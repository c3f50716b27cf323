"""Generators of random numbers, one for each purpose."""

from __future__ import annotations

import hashlib

import torch


def seeded(seed: int, *names: object) -> torch.Generator:
    """Return a generator of its own for each seed and list of names."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
