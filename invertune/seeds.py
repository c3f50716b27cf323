"""Generators of random numbers, one for each purpose."""

from __future__ import annotations

import hashlib

import torch


def seeded(seed: int, *names: object) -> torch.Generator:
    """Return a generator of its own for each seed and list of names."""
    # Not torch's own mixing of seeds: neighboring seeds, and names that share a start, must give
    # streams that have nothing in common.
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
