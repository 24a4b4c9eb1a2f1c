"""What changes as a dial is turned: how the functional falls, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from .canvas import HALF, finish, shorten, themed, thin
from .theme import Theme


@themed
def dial_figure(
    curves: Sequence[tuple[str, np.ndarray, np.ndarray]],
    late: np.ndarray,
    half_time: np.ndarray,
    turned: str,
    *,
    theme: Theme,
) -> Figure:
    """(label, times, values) of each position; `late` and `half_time` (positions,)."""
    figure = Figure(figsize=(2 * HALF[0], HALF[1]), layout="constrained")
    parts: Any = figure.subplots(1, 2)
    colours = LinearSegmentedColormap.from_list("dial", [theme.first, theme.second])
    for i, (label, times, values) in enumerate(curves):
        ends = i in (0, len(curves) - 1)
        colour = colours(i / max(1, len(curves) - 1))
        name = shorten(label) if ends else None
        parts[0].plot(*thin(times, values), color=colour, lw=1.2, label=name)
    parts[0].set_title("Functional over time")
    parts[0].set_xlabel("time")
    if curves:
        # Below both parts: inside, it would lie on a curve that falls late.
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    position = np.linspace(0.0, 1.0, len(late))
    parts[1].plot(position, late, "o-", color=theme.first, ms=4)
    parts[1].set_title("Where it ends, and how soon")
    parts[1].set_xlabel(f"position: {turned[:60]}")
    parts[1].set_ylabel("functional, last quarter", color=theme.first)
    beside = parts[1].twinx()
    beside.plot(position, half_time, "s--", color=theme.second, ms=3.5, lw=1.0)
    beside.set_ylabel("time to half of the way", color=theme.second)
    beside.spines["right"].set_visible(True)
    finish(parts[0])
    return figure
