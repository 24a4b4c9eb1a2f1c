"""Draws of a sampler as figures: estimates, mixing, traces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from .canvas import HALF, half, shorten, themed
from .theme import Theme

MOST_ROWS = 48


@themed
def estimates_figure(
    names: Sequence[str], draws: np.ndarray, of: str = "Posterior", *, theme: Theme
) -> Figure:
    """Medians with 50 % and 94 % intervals, a row a coordinate, sorted by median.

    `draws`: (samples, coordinates); `of`: what they are draws of, for the title.
    """
    low, quarter, median, three, high = np.quantile(draws, [0.03, 0.25, 0.5, 0.75, 0.97], axis=0)
    order = np.argsort(median)
    if len(order) > MOST_ROWS:  # the ones farthest from zero, in units of their width
        weight = np.abs(median) / (high - low + 1e-300)
        kept = np.sort(np.argsort(-weight)[:MOST_ROWS])
        order = np.array([i for i in order if i in set(kept.tolist())])
    rows = np.arange(len(order))
    figure = Figure(figsize=(8.6, 0.9 + 0.235 * len(order)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=theme.line, lw=1)
    clear = (low[order] > 0) | (high[order] < 0)
    colours = np.where(clear, theme.first, theme.muted)
    axes.hlines(rows, low[order], high[order], colors=colours.tolist(), lw=1.2)
    axes.hlines(rows, quarter[order], three[order], colors=colours.tolist(), lw=4.2)
    axes.scatter(median[order], rows, s=15, color=theme.card, edgecolors=colours.tolist(), zorder=3)
    axes.set_yticks(rows, [shorten(names[int(i)]) for i in order])
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(f"{of} median, 50 % and 94 % intervals")
    axes.grid(axis="x", color=theme.line, lw=0.6, alpha=0.7)
    return figure


@themed
def mixing_figure(
    names: Sequence[str], r_hat: np.ndarray, ess: np.ndarray, *, theme: Theme
) -> Figure:
    """R-hat of every coordinate against its effective sample size; the bound is 1.01."""
    figure, axes = half()
    known = r_hat[np.isfinite(r_hat)]
    top = max(1.0125, float(known.max(initial=1.0)))
    bottom = min(0.9995, float(known.min(initial=1.0)))
    axes.axhspan(bottom - 1, 1.01, color=theme.soft, lw=0)
    axes.scatter(ess, r_hat, s=20, color=theme.first, alpha=0.8, lw=0)
    axes.set_ylim(bottom, top + 0.06 * (top - bottom))
    axes.set_xlim(0, 1.05 * float(np.nanmax(ess, initial=1.0)))
    axes.annotate(
        "mixed: below 1.01",
        (0, 1.01),
        xytext=(4, -4),
        textcoords="offset points",
        va="top",
        color=theme.muted,
    )
    slow = int(np.nanargmin(ess)) if np.isfinite(ess).any() else 0
    axes.annotate(
        shorten(names[slow]),
        (ess[slow], r_hat[slow]),
        xytext=(7, 5),
        textcoords="offset points",
        color=theme.muted,
    )
    axes.set_title("R-hat of each parameter")
    axes.set_xlabel("effective sample size (bulk)")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.locator_params(axis="both", nbins=6)
    return figure


@themed
def traces_figure(
    names: Sequence[str], draws: np.ndarray, ess: np.ndarray, *, theme: Theme
) -> Figure:
    """Traces of the three slowest coordinates. `draws`: (chains, saves, coordinates)."""
    worst = np.argsort(np.nan_to_num(ess, nan=-1.0))[:3]
    figure = Figure(figsize=HALF, layout="constrained")
    rows = np.atleast_1d(figure.subplots(len(worst), 1, sharex=True))
    chains, saves, _ = draws.shape
    shown = np.linspace(0, chains - 1, min(chains, 8)).astype(int)
    ticks = np.unique(np.linspace(0, saves - 1, min(saves, 500)).astype(int))
    for axes, i in zip(rows, worst, strict=True):
        for position, chain in enumerate(shown):
            loud = position == 0
            axes.plot(
                ticks,
                draws[chain, ticks, i],
                color=theme.second if loud else theme.first,
                lw=0.6,
                alpha=0.95 if loud else 0.3,
                zorder=3 if loud else 2,
            )
        axes.margins(x=0)
        axes.tick_params(labelsize=7.5)
        axes.locator_params(axis="y", nbins=3)
        axes.set_title(shorten(names[int(i)]), fontsize=8.5, fontweight="normal", pad=3)
    figure.suptitle(
        f"The slowest parameters, {len(shown)} of {chains} chains" if chains > 1 else "The chain",
        x=0.02,
        ha="left",
        fontsize=10.5,
        fontweight="bold",
        color=theme.ink,
    )
    rows[-1].set_xlabel("draw")
    return figure
