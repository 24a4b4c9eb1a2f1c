"""Particles that make up one law: points of a plane over time, all panels on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .canvas import HALF, half, shorten, themed
from .theme import Theme

MOST = 3000


@themed
def cloud_figure(
    times: np.ndarray,
    clouds: np.ndarray,
    weights: np.ndarray | None = None,
    data: np.ndarray | None = None,
    names: Sequence[str] = ("x1", "x2"),
    *,
    theme: Theme,
) -> Figure:
    """Points at several times. `clouds`: (times, n, 2); `weights`: (times, n); `data`: (m, 2)."""
    columns = min(4, len(times))
    rows = -(-len(times) // columns)
    box = _box(clouds, data)
    (left, bottom), (right, top) = box
    # Panels as tall as the box asks for, within reason: no room is left beside them.
    ratio = np.clip((top - bottom) / (right - left), 0.6, 1.5)
    width = 2 * HALF[0] / columns
    figure = Figure(figsize=(2 * HALF[0], rows * (width * ratio + 0.3) + 0.3), layout="constrained")
    panels = np.asarray(figure.subplots(rows, columns, squeeze=False)).reshape(-1)
    for k, panel in enumerate(panels):
        if k >= len(times):
            panel.set_visible(False)
            continue
        _scatter(panel, clouds[k], None if weights is None else weights[k], data, box, theme)
        panel.set_title(f"t = {times[k]:.3g}", fontsize=9)
        panel.locator_params(axis="both", nbins=4)
        if k % columns:
            panel.tick_params(labelleft=False)
        else:
            panel.set_ylabel(shorten(names[1]))
        if k + columns < len(times):
            panel.tick_params(labelbottom=False)
        else:
            panel.set_xlabel(shorten(names[0]))
    return figure


@themed
def cloud_frame_figure(
    time: float,
    cloud: np.ndarray,
    clouds: np.ndarray,
    weights: np.ndarray | None = None,
    data: np.ndarray | None = None,
    names: Sequence[str] = ("x1", "x2"),
    *,
    theme: Theme,
) -> Figure:
    """Points at one time, on the scale of all `clouds`."""
    figure, plot = half(height=4.2)
    _scatter(plot, cloud, weights, data, _box(clouds, data), theme)
    plot.set_xlabel(shorten(names[0]))
    plot.set_ylabel(shorten(names[1]))
    plot.set_title(f"t = {time:.4g}")
    return figure


def _box(clouds: np.ndarray, data: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The middle of all points, a few strays left out, with room."""
    points = clouds.reshape(-1, 2)
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    if data is not None:
        low, high = np.minimum(low, data.min(axis=0)), np.maximum(high, data.max(axis=0))
    room = 0.06 * np.maximum(high - low, 1e-9 + 1e-3 * np.abs(high))
    return low - room, high + room


def _scatter(
    plot: Axes,
    cloud: np.ndarray,
    weights: np.ndarray | None,
    data: np.ndarray | None,
    box: tuple[np.ndarray, np.ndarray],
    theme: Theme,
) -> None:
    if data is not None:
        shown = data[:: -(-len(data) // MOST)]
        plot.scatter(*shown.T, s=16, color=theme.second, alpha=0.35, lw=0, label="data")
    size = np.full(len(cloud), max(3.0, min(12.0, 4000.0 / len(cloud))))
    if weights is not None:
        size = size * np.clip(weights * len(cloud), 0.0, 12.0)
    every = -(-len(cloud) // MOST)
    plot.scatter(*cloud[::every].T, s=size[::every], color=theme.first, alpha=0.6, lw=0)
    (left, bottom), (right, top) = box
    plot.set_xlim(left, right)
    plot.set_ylim(bottom, top)
    wide, tall = right - left, top - bottom
    if max(wide, tall) < 2.5 * min(wide, tall):
        plot.set_aspect("equal", adjustable="box")
