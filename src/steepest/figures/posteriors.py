"""Several answers to one posterior: where they disagree, and what their error bounds cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .canvas import HALF, half, shorten, themed
from .theme import Theme


@themed
def disagreement_figure(
    methods: Sequence[str],
    gaps: Sequence[np.ndarray],
    floors: Sequence[float],
    certified: Sequence[bool],
    reference: str,
    *,
    theme: Theme,
) -> Figure:
    """Of each method a row: how far each mean lies from the reference's, in sds.

    `gaps`: (d,) for each method. `floors`: what sampling alone explains, drawn as a band.
    """
    figure = Figure(figsize=(2 * HALF[0], 1.3 + 0.42 * len(methods)), layout="constrained")
    axes = figure.subplots()
    reach = max(0.12, *(1.15 * float(np.max(np.abs(g))) for g in gaps), *(1.15 * f for f in floors))
    reach = min(reach, 3.0)
    axes.axvline(0, color=theme.line, lw=1)
    rows = np.arange(len(methods))[::-1]
    for row, gap, floor, good in zip(rows, gaps, floors, certified, strict=True):
        colour = theme.first if good else theme.muted
        axes.fill_between(
            [-min(floor, reach), min(floor, reach)], row - 0.36, row + 0.36, color=theme.soft, lw=0
        )
        inside = np.clip(gap, -reach, reach)
        axes.scatter(inside, np.full(len(gap), row), s=90, marker="|", color=colour, lw=1.1)
        beyond = np.abs(gap) > reach
        if beyond.any():
            axes.annotate(
                f"{int(beyond.sum())} beyond",
                (reach, row),
                color=theme.bad,
                va="center",
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                annotation_clip=False,
            )
    axes.set_yticks(rows, [shorten(name) for name in methods])
    axes.set_ylim(-0.6, len(methods) - 0.4)
    axes.set_xlim(-reach, reach)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"mean less that of {reference}, in posterior sds")
    axes.set_title("Where the methods disagree")
    return figure


@themed
def cost_figure(
    methods: Sequence[str],
    gradients: Sequence[float],
    bounds: Sequence[float],
    certified: Sequence[bool],
    tolerance: float,
    *,
    theme: Theme,
) -> Figure:
    """The bound on the error against the gradients that were spent; the line is what is asked."""
    figure, axes = half()
    known = [b for b in bounds if math.isfinite(b)]
    top = 2.0 * max([tolerance, *known])
    for name, cost, bound, good in zip(methods, gradients, bounds, certified, strict=True):
        colour = theme.first if good else theme.muted
        height = bound if math.isfinite(bound) else top
        axes.scatter(
            cost,
            height,
            s=34,
            color=colour if math.isfinite(bound) else "none",
            edgecolors=colour,
            lw=1.2,
        )
        above = height > tolerance  # names stand on the side of the line that their points are on
        axes.annotate(
            shorten(name),
            (cost, height),
            xytext=(5, 4 if above else -4),
            va="bottom" if above else "top",
            textcoords="offset points",
            color=theme.muted,
            fontsize=8,
        )
    axes.axhline(tolerance, color=theme.second, lw=1, ls="--")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    if max(gradients) < 3 * min(gradients):
        axes.set_xscale("linear")
        axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_xlabel("gradients")
    axes.set_ylabel("bound on the error, sds")
    axes.set_title("What certainty cost")
    axes.margins(x=0.3, y=0.18)
    return figure
