"""The colors of figures and charts."""

from __future__ import annotations

INK, FAINT, GRID = "#1f2933", "#5b6673", "#e3e7ec"
PLAIN, ALARM, REPAIRED, RECALLED = "#8a97a8", "#c8433f", "#2a7f6f", "#3a6ea5"
COLORS = {"CA after": REPAIRED, "ASR after": ALARM, "R@1 after": RECALLED}
