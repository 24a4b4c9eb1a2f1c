"""Small multiples: one little panel for each algorithm of an atlas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .canvas import HALF, shorten, themed, thin
from .theme import Theme

COLUMNS = 5
HEIGHT = 1.35


@themed
def multiples_figure(
    panels: Sequence[tuple[str, np.ndarray, np.ndarray, str]], *, theme: Theme
) -> Figure:
    """The functional over time for (name, times, values, verdict); its fall above the last value.

    Each panel has its own axes; a panel without values shows its verdict.
    """
    rows = math.ceil(len(panels) / COLUMNS)
    figure = Figure(figsize=(2 * HALF[0], HEIGHT * rows), layout="constrained")
    axes: Any = np.ravel(figure.subplots(rows, COLUMNS, squeeze=False))
    for place, (name, times, values, verdict) in zip(axes, panels, strict=False):
        failed = verdict not in ("passed", "not judged")
        place.set_title(shorten(name), fontsize=7, color=theme.second if failed else theme.ink)
        if len(values):
            place.plot(*thin(times, values), color=theme.second if failed else theme.first, lw=1.2)
        else:
            place.text(0.5, 0.5, verdict, ha="center", va="center", transform=place.transAxes)
        place.tick_params(labelsize=6)
        place.locator_params(nbins=3)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    return figure
