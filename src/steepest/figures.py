"""The ledger as a figure."""

from __future__ import annotations

from typing import Any

import numpy as np

INK, BLUE, ORANGE, GREY = "#22303c", "#2f6f9f", "#c8663a", "#9aa5ad"


def ledger_figure(trajectory: Any) -> Any:
    """Functional, what was dissipated, and the residual of the balance, over time."""
    from matplotlib.figure import Figure

    book, times = trajectory.ledger, np.asarray(trajectory.times, float)
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _band(left, times, book.functional, book.functional_error, BLUE)
    _band(middle, times, book.dissipated, book.dissipated_error, ORANGE)
    if np.any(book.work):
        middle.plot(times, book.work, color=GREY, lw=1.2, ls="--", label="work")
        middle.legend(frameon=False)
    _band(right, times, book.closure, book.closure_error, INK)
    right.axhline(0.0, color=GREY, lw=0.8)
    noisy = trajectory.flow is None or trajectory.flow.noisy
    titles = ("functional", "heat given" if noisy else "dissipated", "residual of the balance")
    for axis, title in zip((left, middle, right), titles, strict=True):
        axis.set_title(title, loc="left", fontsize=10, color=INK)
        axis.set_xlabel("time", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _band(axis: Any, times: Any, values: Any, error: Any, color: str) -> None:
    """A curve with two standard errors around it."""
    values, error = np.asarray(values, float), np.asarray(error, float)
    axis.plot(times, values, color=color, lw=1.5)
    if np.any(error > 0):
        axis.fill_between(
            times, values - 2 * error, values + 2 * error, color=color, alpha=0.2, lw=0
        )
