from __future__ import annotations

import torch

from invertune.seeds import seeded


def test_every_list_of_names_has_its_own_generator() -> None:
    first = torch.rand(3, generator=seeded(0, "a", 1))
    assert torch.equal(first, torch.rand(3, generator=seeded(0, "a", 1)))
    for other in (seeded(1, "a", 1), seeded(0, "b", 1), seeded(0, "a", 2)):
        assert not torch.equal(first, torch.rand(3, generator=other))


def test_the_global_generator_does_not_matter() -> None:
    first = torch.rand(3, generator=seeded(3, "order"))
    torch.manual_seed(9)
    torch.rand(5)
    assert torch.equal(first, torch.rand(3, generator=seeded(3, "order")))
