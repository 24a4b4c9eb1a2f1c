"""Mechanical motion: phase portraits, what is kept, and bodies in the plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .canvas import finish, half, shorten, themed, thin
from .theme import Theme


@themed
def phase_figure(
    names: Sequence[str], positions: np.ndarray, momenta: np.ndarray, *, theme: Theme
) -> Figure:
    """Momentum over position of the two coordinates that moved most. Both (saves, coordinates)."""
    figure, axes = half(height=4.2)
    order = np.argsort(-np.ptp(positions, axis=0))[:2]
    for i, colour in zip(order, (theme.first, theme.second), strict=False):
        q, p = thin(positions[:, i], momenta[:, i])
        axes.plot(q, p, color=colour, lw=0.9, alpha=0.85, label=shorten(names[int(i)]))
        axes.scatter(q[:1], p[:1], s=30, facecolor=theme.card, edgecolor=colour, zorder=3)
    if len(order) > 1:
        axes.legend(frameon=False, fontsize=8.5)
    axes.set_xlabel("position" if len(order) > 1 else shorten(names[int(order[0])]))
    axes.set_ylabel("momentum")
    axes.set_title("Phase portrait")
    return figure


@themed
def invariants_figure(times: np.ndarray, columns: dict[str, np.ndarray], *, theme: Theme) -> Figure:
    """|J(t) - J(0)| of what should be kept, on a logarithmic scale; zeros are not drawn."""
    figure, axes = half()
    colours = (theme.first, theme.second, theme.good, theme.muted)
    for k, (name, column) in enumerate(columns.items()):
        moved = np.abs(column - column[0])
        time, moved = thin(times[1:], moved[1:])
        seen = moved > 0
        axes.plot(time[seen], moved[seen], ".", ms=2, color=colours[k % 4], label=shorten(name))
        if not seen.any():
            axes.plot([], [], ".", color=colours[k % 4], label=f"{shorten(name)}: exactly kept")
    if any((np.abs(c - c[0]) > 0).any() for c in columns.values()):
        axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8.5, markerscale=4)
    axes.set_title("Change of what is conserved")
    axes.set_xlabel("time")
    finish(axes)
    return figure


@themed
def bodies_figure(
    bodies: np.ndarray,
    index: int,
    trail: int,
    *,
    joined: bool = True,
    theme: Theme,
) -> Figure:
    """Bodies (saves, k, 2) at one save, with the way of the last one over `trail` saves before."""
    figure, axes = half(height=4.2)
    every = bodies.reshape(-1, 2)
    centre, reach = 0.5 * (every.min(0) + every.max(0)), 0.55 * max(np.ptp(every, axis=0).max(), 1)
    begin = max(0, index - trail)
    way = bodies[begin : index + 1, -1]
    axes.plot(way[:, 0], way[:, 1], color=theme.second, lw=1.0, alpha=0.6)
    now = bodies[index]
    axes.plot(
        now[:, 0], now[:, 1], "o-" if joined else "o", color=theme.first, lw=1.8, ms=6, zorder=3
    )
    axes.scatter(*now[-1], s=60, color=theme.second, zorder=4)
    axes.set_xlim(centre[0] - reach, centre[0] + reach)
    axes.set_ylim(centre[1] - reach, centre[1] + reach)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure
