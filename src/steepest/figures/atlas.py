"""Small multiples: one little panel for each algorithm of an atlas."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .canvas import HALF, themed, thin
from .theme import Theme

COLUMNS = 4
HEIGHT = 1.55
TITLE = 34  # letters in a line


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
        title = "\n".join(textwrap.wrap(name, TITLE, max_lines=2, placeholder="..."))
        place.set_title(title, fontsize=7, color=theme.second if failed else theme.ink)
        if len(values):
            place.plot(*thin(times, values), color=theme.second if failed else theme.first, lw=1.2)
        else:
            place.text(0.5, 0.5, verdict, ha="center", va="center", transform=place.transAxes)
        size = np.max(np.abs(values), initial=0.0)
        if len(values) and np.ptp(values) < 1e-6 * size:  # constant: no magnified round-off
            place.set_ylim(values[0] - 0.5 * size, values[0] + 0.5 * size)
        place.tick_params(labelsize=6)
        place.locator_params(nbins=3)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    return figure
