"""Figures of a run, from plain arrays: the ledger, the estimates, the chains, the plane.

Each function takes arrays and a theme and returns a matplotlib Figure; nothing here knows a flow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from .theme import LIGHT, Theme, rc

MOST_POINTS = 2_000
MOST_ROWS = 48
MOST_LABEL = 28
Draw = TypeVar("Draw", bound=Callable[..., Figure])


def themed(draw: Draw) -> Draw:
    """Run a drawing function under its theme's settings."""

    @functools.wraps(draw)
    def wrapped(*args: Any, theme: Theme = LIGHT, **options: Any) -> Figure:
        with rc_context(rc(theme)):
            return draw(*args, theme=theme, **options)

    return wrapped  # type: ignore[return-value]


@themed
def ledger_figure(
    ledger: dict[str, np.ndarray],
    warmup: dict[str, np.ndarray] | None = None,
    *,
    theme: Theme,
) -> Figure:
    """Left: the functional over time. Right: what it lost against what was dissipated."""
    figure = Figure(figsize=(9.2, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    _functional(left, ledger, warmup, theme)
    _balance(right, ledger, theme)
    return figure


def _functional(
    axes: Axes,
    ledger: dict[str, np.ndarray],
    warmup: dict[str, np.ndarray] | None,
    theme: Theme,
) -> None:
    time, value, error = _thin(ledger["time"], ledger["functional"], ledger["functional_error"])
    if warmup is not None:
        early, before = _thin(warmup["time"], warmup["functional"])
        axes.plot(early, before, color=theme.muted, lw=1.2)
        axes.axvline(time[0], color=theme.line, lw=0.8)
    if np.any(error > 0):
        axes.fill_between(
            time, value - 2 * error, value + 2 * error, color=theme.first, alpha=0.2, lw=0
        )
    axes.plot(time, value, color=theme.first)
    everything = value if warmup is None else np.concatenate([before, value])
    title = "Functional, with two standard errors" if np.any(error > 0) else "Functional"
    lowest, highest = everything.min(), everything.max()
    if lowest > 0 and highest > 50 * lowest:
        axes.set_yscale("log")
    axes.set_title(title)
    axes.set_xlabel("flow time")
    if warmup is not None:
        total = time[-1] - warmup["time"][0]
        if time[0] - warmup["time"][0] > 0.08 * total:
            axes.annotate(
                "warm-up",
                ((warmup["time"][0] + time[0]) / 2, 0.97),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="top",
                color=theme.muted,
                fontsize=8.5,
            )
    _finish(axes)


def _balance(axes: Axes, ledger: dict[str, np.ndarray], theme: Theme) -> None:
    lost = ledger["functional"][0] - ledger["functional"] + ledger["work"]
    time, lost, given, gap = _thin(
        ledger["time"], lost, ledger["dissipated"], ledger["closure"]
    )
    axes.axhline(0, color=theme.line, lw=0.8)
    axes.plot(time, lost, color=theme.first, lw=4.5, alpha=0.35)
    axes.plot(time, given, color=theme.second, lw=1.2)
    axes.plot(time, gap, color=theme.muted, lw=0.9, ls=(0, (4, 2)))
    axes.set_title("The balance: lost, dissipated, and the gap")
    axes.set_xlabel("flow time")
    handles = ((theme.first, "F(0) - F(t) + work"), (theme.second, "dissipated"), (theme.muted, "gap"))
    _legend(axes, handles)
    _finish(axes)


@themed
def free_energy_figure(
    times: np.ndarray, value: np.ndarray, error: np.ndarray, *, theme: Theme
) -> Figure:
    """The free energy of an ensemble over time, with two standard errors."""
    figure = Figure(figsize=(6.2, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(
        times, value, 2 * error, color=theme.first, fmt="o-", ms=4, lw=1.4, elinewidth=1.0
    )
    axes.set_title("Free energy ⟨E⟩ - T S: it may only fall")
    axes.set_xlabel("flow time")
    _finish(axes)
    return figure


@themed
def estimates_figure(
    names: Sequence[str], draws: np.ndarray, *, theme: Theme
) -> Figure:
    """Posterior medians with 50 % and 94 % intervals, a row a coordinate, sorted by median.

    `draws`: (samples, coordinates).
    """
    low, quarter, median, three, high = np.quantile(draws, [0.03, 0.25, 0.5, 0.75, 0.97], axis=0)
    order = np.argsort(median)
    if len(order) > MOST_ROWS:  # the ones farthest from zero, in units of their width
        weight = np.abs(median) / (high - low + 1e-300)
        kept = np.sort(np.argsort(-weight)[:MOST_ROWS])
        order = np.array([i for i in order if i in set(kept.tolist())])
    rows = np.arange(len(order))
    figure = Figure(figsize=(7.4, 0.9 + 0.235 * len(order)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=theme.line, lw=1)
    clear = (low[order] > 0) | (high[order] < 0)
    colours = np.where(clear, theme.first, theme.muted)
    axes.hlines(rows, low[order], high[order], colors=colours.tolist(), lw=1.2)
    axes.hlines(rows, quarter[order], three[order], colors=colours.tolist(), lw=4.2)
    axes.scatter(median[order], rows, s=15, color=theme.card, edgecolors=colours.tolist(), zorder=3)
    axes.set_yticks(rows, [shorten(names[i]) for i in order])
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title("Posterior median, 50 % and 94 % intervals")
    axes.grid(axis="x", color=theme.line, lw=0.6, alpha=0.7)
    return figure


@themed
def chains_figure(
    names: Sequence[str], draws: np.ndarray, r_hat: np.ndarray, ess: np.ndarray, *, theme: Theme
) -> Figure:
    """Left: R-hat and effective size of every coordinate. Right: traces of the slowest ones.

    `draws`: (chains, saves, coordinates).
    """
    worst = np.argsort(np.nan_to_num(ess, nan=-1.0))[:3]
    figure = Figure(figsize=(9.2, 3.9), layout="constrained")
    grid = figure.add_gridspec(len(worst), 2, width_ratios=[1, 1.5])
    axes = figure.add_subplot(grid[:, 0])
    axes.axhline(1.01, color=theme.bad, lw=0.9, ls=(0, (4, 2)))
    axes.scatter(ess, r_hat, s=18, color=theme.first, alpha=0.8, lw=0)
    top = max(1.013, float(np.nanmax(r_hat)) * 1.0005 if np.isfinite(r_hat).any() else 1.013)
    bottom = min(0.9995, float(np.nanmin(r_hat)) if np.isfinite(r_hat).any() else 1.0)
    axes.set_ylim(bottom, top + 0.1 * (top - bottom))
    axes.set_xlim(left=0)
    axes.annotate(
        "1.01", (1, 1.01), xycoords=("axes fraction", "data"), ha="right", va="bottom",
        color=theme.bad, fontsize=8.5,
    )
    for i in worst[:1]:
        axes.annotate(
            shorten(names[i]), (ess[i], r_hat[i]), xytext=(6, 6), textcoords="offset points",
            fontsize=8.5, color=theme.muted,
        )
    axes.set_title("R-hat of each parameter")
    axes.set_xlabel("effective sample size (bulk)")
    axes.ticklabel_format(useOffset=False)
    _finish(axes)
    chains, saves, _ = draws.shape
    shown = np.linspace(0, chains - 1, min(chains, 8)).astype(int)
    ticks = np.unique(np.linspace(0, saves - 1, min(saves, 600)).astype(int))
    for row, i in enumerate(worst):
        axes = figure.add_subplot(grid[row, 1])
        for position, chain in enumerate(shown):
            colour = theme.second if position == 0 else theme.first
            strength = 0.9 if position == 0 else 0.28
            axes.plot(ticks, draws[chain, ticks, i], color=colour, lw=0.6, alpha=strength)
        axes.set_ylabel(shorten(names[i]), rotation=0, ha="right", va="center")
        axes.margins(x=0)
        axes.tick_params(labelsize=7.5)
        axes.locator_params(axis="y", nbins=3)
        if row < len(worst) - 1:
            axes.tick_params(labelbottom=False)
        if row == 0:
            axes.set_title(f"The slowest parameters, {len(shown)} of {chains} chains")
    axes.set_xlabel("draw")
    return figure


@themed
def paths_figure(
    times: np.ndarray, names: Sequence[str], paths: np.ndarray, *, theme: Theme
) -> Figure:
    """Coordinates over time, the six that moved most named. `paths`: (saves, coordinates)."""
    figure = Figure(figsize=(7.4, 3.6), layout="constrained")
    axes = figure.subplots()
    keep = np.unique(np.linspace(0, len(times) - 1, min(len(times), MOST_POINTS)).astype(int))
    moved = np.ptp(paths, axis=0)
    order = np.argsort(-moved)[:200]
    named = order[:6]
    for i in order[::-1]:
        loud = i in named
        colour = theme.first if loud else theme.muted
        axes.plot(times[keep], paths[keep, i], color=colour, lw=1.5 if loud else 0.7,
                  alpha=1 if loud else 0.45)
    for i, height in zip(named, _spread(paths[-1, named], paths[:, order]), strict=True):
        axes.annotate(
            shorten(names[i]), (1.01, height), xycoords=("axes fraction", "data"),
            va="center", color=theme.first, fontsize=8.5, annotation_clip=False,
        )
    axes.set_title("Parameters over time")
    axes.set_xlabel("flow time")
    axes.margins(x=0)
    _finish(axes)
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
    figure = Figure(figsize=(6.0, 4.6), layout="constrained")
    axes = figure.subplots()
    height = np.log1p(energy - np.nanmin(energy))
    colours = LinearSegmentedColormap.from_list("energy", [theme.soft, theme.card])
    axes.contourf(x, y, height, levels=14, cmap=colours)
    axes.contour(x, y, height, levels=14, colors=theme.line, linewidths=0.6)
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
    axes.set_title("The path over the energy" if path is not None else "The last state over the energy")
    return figure


def shorten(name: str) -> str:
    """A label that fits, without control characters."""
    name = "".join(c if c.isprintable() else " " for c in name)
    return name if len(name) <= MOST_LABEL else name[: MOST_LABEL - 1] + "…"


def _thin(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """At most MOST_POINTS rows, the first and the last among them."""
    rows = len(columns[0])
    keep = np.unique(np.linspace(0, rows - 1, min(rows, MOST_POINTS)).astype(int))
    return tuple(np.asarray(column)[keep] for column in columns)


def _spread(heights: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """Label heights moved apart, so that no two overlap."""
    room = 0.062 * max(float(np.ptp(everything)), 1e-12)
    order = np.argsort(heights)
    placed = np.array(heights, float)
    for before, after in zip(order[:-1], order[1:], strict=True):
        placed[after] = max(placed[after], placed[before] + room)
    return placed - (placed - heights).mean()


def _legend(axes: Axes, handles: Sequence[tuple[str, str]]) -> None:
    for i, (colour, text) in enumerate(handles):
        axes.annotate(
            text, (0.03, 0.96 - 0.085 * i), xycoords="axes fraction", color=colour, va="top",
            fontsize=8.5,
        )


def _finish(axes: Axes) -> None:
    axes.margins(x=0.01)
    axes.locator_params(axis="x", nbins=6)
