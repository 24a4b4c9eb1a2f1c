"""The ledger as figures: the functional, the balance, the free energy."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .canvas import HALF, finish, half, themed, thin
from .theme import Theme

Columns = dict[str, np.ndarray]


@themed
def ledger_figure(trajectory: Any, *, theme: Theme) -> Figure:
    """A run's functional over time, and its balance beside it."""
    columns = {name: np.asarray(c, float) for name, c in trajectory.ledger.columns().items()}
    figure = Figure(figsize=(2 * HALF[0], HALF[1]), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_functional(left, columns, None, theme)
    _draw_balance(right, columns, theme)
    return figure


@themed
def functional_figure(
    ledger: Columns,
    warmup: Columns | None = None,
    *,
    theme: Theme,
) -> Figure:
    """The functional over time with two standard errors, the warm-up in grey before it."""
    figure, axes = half()
    _draw_functional(axes, ledger, warmup, theme)
    return figure


def _draw_functional(axes: Axes, ledger: Columns, warmup: Columns | None, theme: Theme) -> None:
    time, value, error = thin(ledger["time"], ledger["functional"], ledger["functional_error"])
    lowest, highest = value.min(), value.max()
    if warmup is not None:
        early, before = thin(warmup["time"], warmup["functional"])
        axes.plot(early, before, color=theme.muted, lw=1.1)
        axes.axvspan(early[0], early[-1], color=theme.soft, lw=0)
        lowest, highest = min(lowest, before.min()), max(highest, before.max())
    noisy = _rough(value, error)
    if noisy:
        axes.fill_between(
            time, value - 2 * error, value + 2 * error, color=theme.first, alpha=0.25, lw=0
        )
    axes.plot(time, value, color=theme.first, lw=1.1 if noisy else 1.8)
    if lowest > 0 and highest > 3 * lowest and not (noisy and warmup is None):
        axes.set_yscale("log")
        if highest < 30 * lowest:
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: _power(x)))
    axes.set_title("Functional")
    axes.set_xlabel("flow time")
    finish(axes)


@themed
def balance_figure(ledger: Columns, *, theme: Theme) -> Figure:
    """What the functional lost against what was dissipated, and the gap between them."""
    figure, axes = half()
    _draw_balance(axes, ledger, theme)
    return figure


def _draw_balance(axes: Axes, ledger: Columns, theme: Theme) -> None:
    lost = ledger["functional"][0] - ledger["functional"] + ledger["work"]
    time, lost, given, gap, error = thin(
        ledger["time"], lost, ledger["dissipated"], ledger["closure"], ledger["closure_error"]
    )
    noisy = _rough(lost, error)
    axes.axhline(0, color=theme.line, lw=0.8)
    if noisy:
        axes.plot(time, lost, color=theme.first, lw=0.8, alpha=0.8)
        axes.plot(time, given, color=theme.second, lw=0.8, alpha=0.8)
        axes.fill_between(time, gap - 2 * error, gap + 2 * error, color=theme.ink, alpha=0.15, lw=0)
        axes.plot(time, gap, color=theme.ink, lw=1.6)
    else:
        axes.plot(time, lost, color=theme.first, lw=5, alpha=0.35)
        axes.plot(time, given, color=theme.second, lw=1.3)
        axes.plot(time, gap, color=theme.ink, lw=1.0, ls=(0, (4, 2)))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.28 * (high - low))
    texts = {"lost: F(0) - F(t) + work": theme.first, "dissipated": theme.second, "gap": theme.ink}
    for i, (text, colour) in enumerate(texts.items()):
        axes.annotate(
            text, (0.02, 0.97 - 0.08 * i), xycoords="axes fraction", color=colour, va="top"
        )
    axes.set_title("Balance")
    axes.set_xlabel("flow time")
    finish(axes)


@themed
def free_energy_figure(
    times: np.ndarray, value: np.ndarray, error: np.ndarray, *, theme: Theme
) -> Figure:
    """The free energy of an ensemble over time, with two standard errors."""
    figure, axes = half()
    axes.errorbar(
        times, value, 2 * error, color=theme.first, fmt="o-", ms=4, lw=1.4, elinewidth=1.0
    )
    axes.set_title("Free energy ⟨E⟩ - T S: it may only fall")
    axes.set_xlabel("flow time")
    finish(axes)
    return figure


def _rough(values: np.ndarray, error: np.ndarray) -> bool:
    """Whether a curve is drawn thin: an average with errors, or one that turns at every corner."""
    turns = np.sum(np.diff(np.sign(np.diff(values))) != 0)
    return bool(np.any(error > 0)) or turns > 0.2 * len(values)


def _power(x: float) -> str:
    """A tick of a logarithmic axis."""
    return f"{x:g}" if 1e-3 <= x < 1e5 else f"{x:.0e}"
