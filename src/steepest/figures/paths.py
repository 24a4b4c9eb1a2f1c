"""Where the parameters went: over time, and over the energy of a plane."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from .canvas import MOST_POINTS, finish, half, shorten, themed
from .theme import Theme


@themed
def paths_figure(
    times: np.ndarray, names: Sequence[str], paths: np.ndarray, *, theme: Theme
) -> Figure:
    """Coordinates over time, the six that moved most named. `paths`: (saves, coordinates)."""
    figure, axes = half()
    keep = np.unique(np.linspace(0, len(times) - 1, min(len(times), MOST_POINTS)).astype(int))
    moved = np.ptp(paths, axis=0)
    order = np.argsort(-moved)[:200]
    named = order[:6]
    for i in order[::-1]:
        loud = i in named
        colour = theme.first if loud else theme.muted
        axes.plot(
            times[keep],
            paths[keep, i],
            color=colour,
            lw=1.5 if loud else 0.7,
            alpha=1 if loud else 0.45,
        )
    for i, height in zip(named, _spread(paths[-1, named], paths[:, order]), strict=True):
        axes.annotate(
            shorten(names[int(i)]),
            (1.01, height),
            xycoords=("axes fraction", "data"),
            va="center",
            color=theme.first,
            fontsize=8.5,
            annotation_clip=False,
        )
    axes.set_title("Parameters over time")
    axes.set_xlabel("flow time")
    axes.margins(x=0)
    finish(axes)
    return figure


@themed
def plane_figure(
    names: Sequence[str],
    grid: tuple[np.ndarray, np.ndarray, np.ndarray],
    points: np.ndarray,
    path: np.ndarray | None = None,
    *,
    theme: Theme,
) -> Figure:
    """Contours of an energy of two coordinates, with the final points or one path over it.

    `grid`: x (m,), y (k,), energy (k, m). `points`: (n, 2). `path`: (saves, 2).
    """
    x, y, energy = grid
    figure, axes = half(height=4.2)
    height = np.log1p(energy - np.nanmin(energy))
    colours = LinearSegmentedColormap.from_list("energy", [theme.soft, theme.card])
    axes.contourf(x, y, height, levels=14, cmap=colours)
    axes.contour(x, y, height, levels=14, colors=theme.muted, linewidths=0.5, alpha=0.5)
    if path is not None:
        axes.plot(path[:, 0], path[:, 1], color=theme.first, lw=1.4)
        axes.scatter(*path[0], s=34, facecolor=theme.card, edgecolor=theme.first, zorder=3)
        axes.scatter(*path[-1], s=34, color=theme.second, zorder=3)
        for point, label in ((path[0], "start"), (path[-1], "end")):
            axes.annotate(label, point, xytext=(7, 5), textcoords="offset points", fontsize=8.5)
    else:
        axes.scatter(points[:, 0], points[:, 1], s=5, color=theme.second, alpha=0.55, lw=0)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.set_xlabel(shorten(names[0]))
    axes.set_ylabel(shorten(names[1]))
    axes.set_title(f"The {'path' if path is not None else 'particles'} over the energy")
    return figure


def _spread(heights: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """Label heights moved apart, so that no two overlap."""
    room = 0.062 * max(float(np.ptp(everything)), 1e-12)
    order = np.argsort(heights)
    placed = np.array(heights, float)
    for before, after in itertools.pairwise(order):
        placed[after] = max(placed[after], placed[before] + room)
    return placed - (placed - heights).mean()
