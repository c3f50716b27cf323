"""Figures as small pictures: sample sheets, triggers, class frequencies, layers, curves, scores."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from evaluation.intervals import Rate
from evaluation.zero_shot import Trigger
from invertune.data.bundle import to_float
from invertune.defense import Vote

INK, FAINT, GRID = "#1f2933", "#5b6673", "#e3e7ec"
PLAIN, ALARM, REPAIRED = "#8a97a8", "#c8433f", "#2a7f6f"
_MODELS = {"clean": PLAIN, "backdoored": ALARM, "purified": REPAIRED}

_DPI = 150
_WIDTH = 4.8  # inches; 720 pixels, so that 9 points stay legible on a phone
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def png(picture: Image.Image, colors: int | None = 48) -> bytes:
    """Return the picture as a PNG file, with a palette of that many colors or None for all."""
    if colors is not None:
        method = Image.Quantize.MEDIANCUT
        picture = picture.convert("RGB").quantize(colors, method, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def to_picture(image: Tensor) -> Image.Image:
    """Return an image, (3, H, W) uint8 or float in [0, 1], as a picture."""
    if image.dtype != torch.uint8:
        image = image.clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def contact_sheet(images: Tensor, labels: Sequence[str], columns: int) -> Image.Image:
    """Return a sheet of pictures with a label below each.

    Args:
        images: (N, 3, H, W) uint8 or float in [0, 1]; small ones are enlarged.
        labels: N texts; long lines are wrapped, and several lines become a list.
        columns: Pictures in a row.

    Raises:
        ValueError: If there is no picture, no column, or not one label for each picture.
    """
    if len(images) != len(labels) or len(images) == 0 or columns < 1:
        raise ValueError(
            "a contact sheet takes at least 1 picture, 1 column and a label for each picture, "
            f"got {len(images)}, {columns} and {len(labels)}"
        )
    height, width = images.shape[-2:]
    scale = max(1, 192 // width)
    cell, gap, line = width * scale, 16, 18
    font = _font(13)
    letters = max(8, int(cell / font.getlength("n")))
    texts = [
        [part for row in _items(label) for part in textwrap.wrap(row, letters)] for label in labels
    ]
    columns = min(columns, len(images))
    rows = [range(start, min(start + columns, len(images)))
            for start in range(0, len(images), columns)]  # fmt: skip
    heights = [height * scale + 6 + line * max(len(texts[i]) for i in row) for row in rows]
    size = (columns * (cell + gap) + gap, sum(heights) + gap * (len(rows) + 1))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    top = gap
    for row, row_height in zip(rows, heights, strict=True):
        for place, i in enumerate(row):
            left = gap + place * (cell + gap)
            picture = to_picture(images[i])
            sheet.paste(
                picture.resize((cell, height * scale), Image.Resampling.NEAREST), (left, top)
            )
            for number, text in enumerate(texts[i]):
                below = top + height * scale + 6 + number * line
                draw.text((left, below), text, fill=INK, font=font)
        top += row_height + gap
    return sheet


def _items(label: str) -> list[str]:
    lines = label.splitlines()
    return [f"• {line}" for line in lines] if len(lines) > 1 else lines


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def strip(images: Tensor, side: int = 96, gap: int = 3) -> Image.Image:
    """Return images, (N, 3, H, W), side by side; larger ones are reduced to ``side`` pixels."""
    pictures = [to_picture(image) for image in images]
    for picture in pictures:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    width, height = pictures[0].size
    row = Image.new("RGB", (len(pictures) * (width + gap) - gap, height), "white")
    for place, picture in enumerate(pictures):
        row.paste(picture, (place * (width + gap), 0))
    return row


def trigger_gallery(images: Tensor, triggers: Mapping[str, Trigger]) -> dict[str, Image.Image]:
    """Return rows of pictures by their titles: clean, then each trigger and what it changes.

    Args:
        images: (N, 3, H, W) uint8, at least one.
        triggers: Title -> trigger; the row of its differences shows no change as gray.
    """
    clean = to_float(images)
    rows = {"Clean": strip(clean)}
    for title, trigger in triggers.items():
        changed = trigger(clean)
        rows[title] = strip(changed)
        change = changed - clean
        gain = _visible_gain(change)
        rows[f"{title}: change × {gain}"] = strip(0.5 + gain * change)
    return rows


def _visible_gain(change: Tensor) -> int:
    """Return the largest power of two, up to 16, that leaves nearly all of a change in range."""
    largest = float(change.abs().flatten().sort().values[int(0.995 * (change.numel() - 1))])
    return 1 << min(4, max(0, math.floor(math.log2(0.5 / max(largest, 1e-6)))))


def class_frequency_bars(
    votes: Sequence[Vote], class_names: Sequence[str], target_label: int, top: int = 6
) -> Image.Image:
    """Return step 1 as bars: how often the classes with the largest gains are predicted.

    Args:
        votes: One panel for each generator of perturbations.
        class_names: C names.
        target_label: The class that step 1 names, printed bold.
        top: Classes in a panel.
    """
    top = min(top, len(class_names))
    with mpl.rc_context(_STYLE):
        figure = _figure(0.45 + len(votes) * (0.5 + 0.29 * top))
        panels = figure.subplots(len(votes), 1, squeeze=False, sharex=True)[:, 0]
        for panel, vote in zip(panels, votes, strict=True):
            _frequency_panel(panel, vote, class_names, target_label, top)
        panels[-1].set_xlabel("share of images predicted as the class, %")
        handles = [Patch(color=PLAIN, label="clean"), Patch(color=ALARM, label="perturbed")]
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
        return _picture(figure)


def _frequency_panel(
    panel: Axes, vote: Vote, class_names: Sequence[str], target_label: int, top: int
) -> None:
    gain = vote.gain
    order = sorted(range(len(gain)), key=lambda label: -gain[label])[:top]
    rows = range(len(order))
    clean = [100 * vote.clean_frequency[label] for label in order]
    perturbed = [100 * vote.perturbed_frequency[label] for label in order]
    panel.barh([row - 0.2 for row in rows], clean, 0.38, color=PLAIN)
    panel.barh([row + 0.2 for row in rows], perturbed, 0.38, color=ALARM)
    for row, label, share in zip(rows, order, perturbed, strict=True):
        panel.text(share + 1, row + 0.2, f"{100 * gain[label]:+.1f}", va="center", fontsize=8)
    panel.set_yticks(list(rows), [_short(class_names[label]) for label in order])
    for tick, label in zip(panel.get_yticklabels(), order, strict=True):
        tick.set_fontweight("bold" if label == target_label else "normal")
    panel.set(xlim=(0, 112), title=f"{vote.generator} (weight {vote.weight:.3g})")
    panel.set_xticks([0, 25, 50, 75, 100])
    panel.invert_yaxis()
    panel.grid(axis="x")


def divergence_bars(divergence: Mapping[str, float], tuned_layers: Sequence[str]) -> Image.Image:
    """Return the activation divergence of every layer as bars; the tuned ones stand out."""
    layers = list(divergence)
    colors = [REPAIRED if layer in tuned_layers else PLAIN for layer in layers]
    with mpl.rc_context(_STYLE):
        figure = _figure(2.4)
        panel = figure.subplots()
        bars = panel.bar(range(len(layers)), list(divergence.values()), 0.7, color=colors)
        if len(layers) <= 8:
            panel.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
        crowded = len(layers) > 6
        panel.set_xticks(range(len(layers)), layers, rotation=60 if crowded else 0)
        panel.set_ylabel("normalized divergence")
        panel.margins(y=0.15)
        panel.grid(axis="y")
        handles = [Patch(color=REPAIRED, label="tuned"), Patch(color=PLAIN, label="left as it is")]
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
        return _picture(figure)


def loss_curves(curves: Mapping[str, Sequence[float]]) -> Image.Image:
    """Return loss curves, one panel each: the loss of every step, and a running mean over it."""
    shown = {name: values for name, values in curves.items() if len(values)}
    rows = max(1, math.ceil(len(shown) / 2))
    with mpl.rc_context(_STYLE):
        figure = _figure(0.3 + 1.5 * rows)
        panels = figure.subplots(rows, 2 if len(shown) > 1 else 1, squeeze=False).flatten()
        for panel, (name, values) in zip(panels, shown.items(), strict=False):
            smooth = _running_mean(values)
            panel.plot(values, color=PLAIN, linewidth=0.6, alpha=0.6)
            panel.plot(smooth, color=INK, linewidth=1.3)
            panel.set_title(_short(name, 32))
            panel.locator_params(nbins=4)
            panel.grid()
        for panel in panels[len(shown) :]:
            panel.set_axis_off()
        figure.supxlabel("step", fontsize=9)
        return _picture(figure)


def _running_mean(values: Sequence[float]) -> list[float]:
    window = max(1, len(values) // 25)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    starts = [max(0, end - window) for end in range(1, len(sums))]
    return [(sums[end] - sums[start]) / (end - start) for end, start in enumerate(starts, 1)]


def before_after_bars(rates: Mapping[str, Mapping[str, Rate | None]]) -> Image.Image:
    """Return rates as bars with intervals.

    Args:
        rates: Measure -> model (``clean``, ``backdoored``, ``purified``) -> rate, None where it
            was not measured.
    """
    with mpl.rc_context(_STYLE):
        figure = _figure(2.5)
        panel = figure.subplots()
        for place, (model, color) in enumerate(_MODELS.items()):
            for column, by_model in enumerate(rates.values()):
                rate = by_model.get(model)
                if rate is not None:
                    _bar(panel, column + 0.27 * (place - 1), rate, color)
        panel.set_xticks(range(len(rates)), [textwrap.fill(name, 10) for name in rates])
        panel.set(ylim=(0, 112), ylabel="%")
        panel.set_yticks([0, 25, 50, 75, 100])
        panel.grid(axis="y")
        handles = [Patch(color=color, label=model) for model, color in _MODELS.items()]
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
        return _picture(figure)


def _bar(panel: Axes, place: float, rate: Rate, color: str) -> None:
    value = 100 * rate["value"]
    around = [[value - 100 * rate["low"]], [100 * rate["high"] - value]]
    panel.bar(place, value, 0.25, color=color)
    panel.errorbar(place, value, yerr=around, color=INK, linewidth=0.8, capsize=1.5)
    panel.text(place, 100 * rate["high"] + 2, f"{value:.0f}", ha="center", fontsize=7)


def _short(name: str, letters: int = 22) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _figure(height: float) -> Figure:
    return Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")


def _picture(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"compress_level": 1})
    return Image.open(buffer).convert("RGB")
