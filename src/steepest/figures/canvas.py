"""What the figures share: their theme, their size, and their labels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .theme import LIGHT, Theme, rc

MOST_POINTS = 2_000
MOST_LABEL = 28
HALF = (5.4, 3.4)
Draw = TypeVar("Draw", bound=Callable[..., Figure])


def themed(draw: Draw) -> Draw:
    """Run a drawing function under its theme's settings."""

    @functools.wraps(draw)
    def wrapped(*args: Any, theme: Theme = LIGHT, **options: Any) -> Figure:
        with rc_context(rc(theme)):
            return draw(*args, theme=theme, **options)

    return wrapped  # type: ignore[return-value]


def half(height: float = 3.4) -> tuple[Figure, Axes]:
    """A figure of half the page's width."""
    figure = Figure(figsize=(HALF[0], height), layout="constrained")
    return figure, figure.subplots()


def shorten(name: str) -> str:
    """A label that fits, without control characters."""
    name = "".join(c if c.isprintable() else " " for c in name)
    return name if len(name) <= MOST_LABEL else name[: MOST_LABEL - 1] + "…"


def thin(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """At most MOST_POINTS rows, the first and the last among them."""
    rows = len(columns[0])
    keep = np.unique(np.linspace(0, rows - 1, min(rows, MOST_POINTS)).astype(int))
    return tuple(np.asarray(column)[keep] for column in columns)


def finish(axes: Axes) -> None:
    axes.margins(x=0.01)
    axes.locator_params(axis="x", nbins=6)
