"""Paths of a bridge through clouds, in a plane or over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .canvas import half, shorten, themed, thin
from .theme import Theme

MOST_PATHS = 60


@themed
def bridge_figure(
    times: np.ndarray,
    paths: np.ndarray,
    given: Sequence[float],
    clouds: Sequence[np.ndarray],
    names: Sequence[str],
    *,
    theme: Theme,
) -> Figure:
    """`paths`: (times, n, 2) or, drawn over time, (times, n, 1); `clouds` at the times `given`."""
    figure, axes = half(height=4.2)
    # Evenly among the rows: files are often sorted by what the points are.
    shown = paths[:, np.linspace(0, paths.shape[1] - 1, MOST_PATHS).astype(int)]
    # What lies between the first and the last is grey.
    colours = [theme.first, *[theme.muted] * (len(clouds) - 2), theme.second]
    if paths.shape[2] == 1:
        axes.plot(times, shown[:, :, 0], color=theme.muted, lw=0.7, alpha=0.6)
        for time, cloud, colour in zip(given, clouds, colours, strict=True):
            (points,) = thin(cloud[:, 0])
            axes.scatter(np.full(len(points), time), points, s=6, color=colour, alpha=0.5, lw=0)
        axes.set_xlabel("time")
        axes.set_ylabel(shorten(names[0]))
    else:
        axes.plot(shown[:, :, 0], shown[:, :, 1], color=theme.muted, lw=0.7, alpha=0.6)
        labels = ["source", *[f"t = {time:g}" for time in given[1:-1]], "target"]
        for label, cloud, colour in zip(labels, clouds, colours, strict=True):
            axes.scatter(*thin(*cloud.T), s=7, color=colour, alpha=0.6, lw=0, label=label, zorder=3)
        axes.legend(loc="best", fontsize=8)
        axes.set_xlabel(shorten(names[0]))
        axes.set_ylabel(shorten(names[1]))
    axes.set_title("Paths of the bridge")
    return figure
