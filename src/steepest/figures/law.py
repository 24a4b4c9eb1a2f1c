"""A law that moves: curves on a line, images in the plane; all frames share their scales."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from .canvas import HALF, half, shorten, themed
from .theme import Theme

Axis = tuple[np.ndarray, ...]


@themed
def law_figure(
    times: np.ndarray,
    axes: Axis,
    frames: np.ndarray,
    target: np.ndarray | None = None,
    names: Sequence[str] = ("x1", "x2"),
    *,
    theme: Theme,
) -> Figure:
    """The law at several times. `axes`: x, or x and y; `frames`: (times, x) or (times, x, y)."""
    if len(axes) == 1:
        figure = Figure(figsize=(2 * HALF[0], 3.8), layout="constrained")
        plot = figure.subplots()
        colours = _shades(theme, len(times))
        for k, (time, frame) in enumerate(zip(times, frames, strict=True)):
            plot.plot(axes[0], frame, color=colours[k], lw=1.7, label=f"t = {time:.3g}")
        _target(plot, axes[0], target, theme)
        plot.set_title("The density over time")
        _line_axes(plot, axes[0], frames, target, names)
        _beyond(plot, axes[0], frames[np.argmax(np.max(frames, axis=1))], theme)
        plot.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return figure
    columns = min(4, len(times))
    rows = -(-len(times) // columns)
    figure = Figure(figsize=(2 * HALF[0], 2.75 * rows), layout="constrained")
    panels = np.asarray(figure.subplots(rows, columns, squeeze=False)).reshape(-1)
    for panel, time, frame in zip(panels, times, frames, strict=False):
        _image(panel, axes, frame, frames, target, theme)
        panel.set_title(f"t = {time:.3g}", fontsize=9)
        panel.set_xticks([])
        panel.set_yticks([])
    for panel in panels[len(times) :]:
        panel.set_visible(False)
    return figure


@themed
def frame_figure(
    time: float,
    axes: Axis,
    frame: np.ndarray,
    frames: np.ndarray,
    target: np.ndarray | None = None,
    names: Sequence[str] = ("x1", "x2"),
    *,
    theme: Theme,
) -> Figure:
    """The law at one time, on the scale of all `frames`."""
    if len(axes) == 1:
        figure, plot = half(height=3.2)
        plot.fill_between(axes[0], frame, color=theme.first, alpha=0.25, lw=0)
        plot.plot(axes[0], frame, color=theme.first, lw=1.8)
        _target(plot, axes[0], target, theme)
        _line_axes(plot, axes[0], frames, target, names)
        _beyond(plot, axes[0], frame, theme)
    else:
        figure, plot = half(height=4.2)
        _image(plot, axes, frame, frames, target, theme)
        plot.set_xlabel(shorten(names[0]))
        plot.set_ylabel(shorten(names[1]))
    plot.set_title(f"t = {time:.4g}")
    return figure


@themed
def bars_figure(
    times: np.ndarray, frames: np.ndarray, target: np.ndarray | None = None, *, theme: Theme
) -> Figure:
    """Probabilities of a finite set at several times, side by side."""
    figure = Figure(figsize=(2 * HALF[0], 3.4), layout="constrained")
    plot = figure.subplots()
    count, width = frames.shape[1], 0.8 / len(times)
    colours = _shades(theme, len(times))
    for k, (time, frame) in enumerate(zip(times, frames, strict=True)):
        place = np.arange(count) + (k - 0.5 * (len(times) - 1)) * width
        plot.bar(place, frame, width, color=colours[k], label=f"t = {time:.3g}")
    if target is not None:
        plot.scatter(np.arange(count), target, color=theme.second, s=20, zorder=3, label="Gibbs")
    plot.set_title("Probabilities over time")
    plot.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _shades(theme: Theme, count: int) -> list[tuple[float, float, float]]:
    """From the muted colour of the past to the strong one of the present."""
    past, present = np.array(to_rgb(theme.line)), np.array(to_rgb(theme.first))
    weights = np.linspace(0.25, 1.0, count)
    return [tuple((1 - w) * past + w * present) for w in weights]  # pyright: ignore[reportReturnType]


def _colours(theme: Theme) -> LinearSegmentedColormap:
    """Nothing is the card itself; more is stronger, lightness monotone."""
    base = matplotlib.colormaps["viridis" if theme.name == "dark" else "viridis_r"]
    ramp = base(np.linspace(0.0, 0.92, 24))[:, :3]
    ground = np.array(to_rgb(theme.card))
    fade = np.linspace(1.0, 0.0, 6)[:, None]
    ramp[:6] = fade * ground + (1 - fade) * ramp[:6]
    return LinearSegmentedColormap.from_list("law", [tuple(row) for row in ramp])


def _target(plot: Axes, x: np.ndarray, target: np.ndarray | None, theme: Theme) -> None:
    if target is not None:
        plot.plot(x, target, color=theme.second, lw=1.5, ls=(0, (4, 2)), label="Gibbs law")


def _line_axes(
    plot: Axes, x: np.ndarray, frames: np.ndarray, target: np.ndarray | None, names: Sequence[str]
) -> None:
    # A first spike must not flatten all that follows.
    tops = np.max(frames, axis=1)
    top = min(float(tops.max()), 3.0 * float(np.median(tops)))
    if target is not None:
        top = max(top, float(target.max()))
    plot.set_ylim(0, 1.06 * top)
    plot.set_xlim(float(x[0]), float(x[-1]))
    plot.set_xlabel(shorten(names[0]))
    plot.set_ylabel("density")


def _beyond(plot: Axes, x: np.ndarray, frame: np.ndarray, theme: Theme) -> None:
    """Says how high a law goes that the axis cuts off."""
    peak, top = int(np.argmax(frame)), plot.get_ylim()[1]
    if frame[peak] > top:
        told = f"up to {frame[peak]:.3g}"
        plot.text(x[peak], top, told, ha="center", va="bottom", fontsize=8.5, color=theme.muted)


def _square(axes: Axis) -> bool:
    """Whether one unit may be as long on both axes."""
    spans = [float(x[-1] - x[0]) for x in axes]
    return max(spans) < 2.5 * min(spans)


def _image(
    plot: Axes,
    axes: Axis,
    frame: np.ndarray,
    frames: np.ndarray,
    target: np.ndarray | None,
    theme: Theme,
) -> None:
    x, y = axes
    top = min(float(frames.max()), 3.0 * float(np.median(frames.max(axis=(1, 2)))))
    extent = (float(x[0]), float(x[-1]), float(y[0]), float(y[-1]))
    plot.imshow(
        frame.T,
        origin="lower",
        extent=extent,
        cmap=_colours(theme),
        vmin=0,
        vmax=top,
        aspect="equal" if _square(axes) else "auto",
        interpolation="bilinear",
    )
    if target is not None and target.max() > 0:
        levels = target.max() * np.array([0.1, 0.5])
        plot.contour(x, y, target.T, levels=levels, colors=theme.second, linewidths=0.9)
