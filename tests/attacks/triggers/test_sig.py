from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from attacks.triggers import SinusoidalTrigger

Configured = Callable[[str], Any]
GRAY = 0.5
LEVEL = 1.01 / 255  # 0.5 is no 8-bit value, so all values are rounded


@pytest.mark.parametrize(
    ("name", "first", "highest", "lowest"),
    [
        ("sig", 0.5, 0.5 + 25 / 255, 0.5 - 25 / 255),
        ("sig_backdoorbench", 0.5, 0.5 + 40 / 255, 0.5 - 40 / 255),
        ("sig_badclip", 0.5, 0.735, 0.265),
        ("sig_cleanclip", 0.4, 0.447, 0.353),  # 0.8 of the image
    ],
)
def test_sig_has_six_bands(
    configured: Configured, name: str, first: float, highest: float, lowest: float
) -> None:
    stamped = configured(name).trigger(torch.full((1, 3, 224, 224), GRAY))
    row = stamped[0, 0, 0]
    assert (stamped == row).all()  # rows and channels are identical
    assert row[0] == pytest.approx(first, abs=LEVEL)
    assert row[84] == row.max() == pytest.approx(highest, abs=LEVEL)  # 2 1/4 periods
    assert row[28] == row.min() == pytest.approx(lowest, abs=LEVEL)  # 3/4 of a period
    assert torch.fft.rfft(row - row.mean()).abs().argmax() == 6


@pytest.mark.parametrize("name", ["sig", "sig_badclip"])
def test_sig_leaves_the_first_column(configured: Configured, name: str) -> None:
    images = torch.randint(256, (2, 3, 224, 224), generator=torch.Generator().manual_seed(0)) / 255
    stamped = configured(name).trigger(images)
    assert torch.equal(stamped[..., 0], images[..., 0])
    assert not torch.equal(stamped[..., 1], images[..., 1])


def test_periods_do_not_depend_on_the_size() -> None:
    row = SinusoidalTrigger(0.2, 6)(torch.full((1, 3, 8, 64), GRAY))[0, 0, 0]
    assert torch.fft.rfft(row - row.mean()).abs().argmax() == 6


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ((2.0, 6), r"delta is a share in \(0, 1\], got 2\.0"),
        ((0, 6), r"delta is a share in \(0, 1\], got 0"),
        (("x", 6), r"delta is a share in \(0, 1\], got 'x'"),
        ((0.1, 0), "frequency is positive, got 0"),
        ((0.1, float("nan")), "frequency is positive, got nan"),
        ((0.1, 6, 0.0), r"alpha is a share in \(0, 1\), got 0\.0"),
        ((0.1, 6, 1.0), r"alpha is a share in \(0, 1\), got 1\.0"),
    ],
)
def test_a_wrong_value_is_named(fields: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SinusoidalTrigger(*fields)
