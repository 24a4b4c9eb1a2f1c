"""Generated points and images beside the data, and where a model loses, by noise level."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .canvas import HALF, half, themed, thin
from .theme import Theme

MOST = 4000


@themed
def generated_points_figure(data: np.ndarray, samples: np.ndarray, *, theme: Theme) -> Figure:
    """Data and samples, (n, 2) each, in two panels on one scale."""
    low, high = np.quantile(data, [0.001, 0.999], axis=0)
    room = 0.08 * (high - low)
    # As high as equal scales ask for, with room for the title, so that no margin stays empty.
    shape = (high[1] - low[1]) / (high[0] - low[0])
    height = float(np.clip(0.88 * HALF[0] * shape + 0.6, 2.0, 7.0))
    figure = Figure(figsize=(2 * HALF[0], height), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, points, colour, title in zip(
        panels, (data, samples), (theme.second, theme.first), ("data", "samples"), strict=True
    ):
        panel.scatter(*points[:MOST].T, s=3, lw=0, color=colour, alpha=0.6)
        panel.set_title(title)
        panel.set_xlim(low[0] - room[0], high[0] + room[0])
        panel.set_ylim(low[1] - room[1], high[1] + room[1])
        panel.set_aspect("equal", adjustable="box")
    return figure


@themed
def image_grid_figure(images: np.ndarray, columns: int = 10, *, theme: Theme) -> Figure:
    """(n, height, width) images in rows, on one grey scale."""
    n, height, width = images.shape[:3]
    images = images.reshape(n, height, width, -1).mean(axis=-1)
    rows = -(-n // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for k, image in enumerate(images):
        i, j = divmod(k, columns)
        sheet[i * (height + 1) :, j * (width + 1) :][:height, :width] = image
    figure = Figure(figsize=(2 * HALF[0], max(2.0, 1.05 * rows)), layout="constrained")
    axes = figure.subplots()
    grey = "gray" if theme.name == "dark" else "gray_r"
    low, high = np.quantile(images, [0.005, 0.995])
    axes.imshow(sheet, cmap=grey, vmin=low, vmax=high, interpolation="nearest")
    axes.set_axis_off()
    return figure


@themed
def training_figure(steps: np.ndarray, losses: np.ndarray, *, theme: Theme) -> Figure:
    """The loss of training, as it was and smoothed."""
    figure, axes = half()
    steps, losses = thin(steps, losses)
    axes.plot(steps, losses, color=theme.line, lw=1.0)
    width = max(1, len(losses) // 25)
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    axes.plot(steps[width - 1 :], smooth, color=theme.first)
    axes.set_xlabel("steps")
    axes.set_ylabel("loss")
    axes.set_title("Training")
    low, high = np.quantile(losses[len(losses) // 20 :], [0.0, 1.0])
    axes.set_ylim(low - 0.05 * (high - low) - 1e-9, high + 0.05 * (high - low) + 1e-9)
    return figure


@themed
def bound_figure(books: Any, *, theme: Theme) -> Figure:
    """The integrand of the KL bound by noise level; without a truth, the denoising error."""
    figure, axes = half()
    noise = np.exp(books.log_ratios)
    known = not np.isnan(books.gap).all()
    values = books.gap if known else books.curve() / max(books.curve().max(), 1e-300)
    axes.fill_between(noise, 0.0, values, color=theme.first, alpha=0.25, lw=0)
    axes.plot(noise, values, color=theme.first)
    axes.set_xscale("log")
    axes.set_xlabel("noise, σ/α")
    axes.set_ylabel("nats per unit of log noise" if known else "denoising error, relative")
    axes.set_title("Where the model loses" if known else "What noise hides")
    axes.set_ylim(bottom=0.0)
    return figure


@themed
def forward_figure(books: Any, *, theme: Theme) -> Figure:
    """Entropy and KL to the stationary law along the forward flow."""
    figure, axes = half()
    axes.plot(books.times, books.entropy, color=theme.second, label="entropy")
    if np.isfinite(books.free_energy).all():
        axes.plot(books.times, books.free_energy, color=theme.first, label="KL to the noise")
    axes.set_xscale("log")
    axes.set_xlabel("time")
    axes.set_ylabel("nats")
    axes.set_title("The forward flow")
    axes.legend(frameon=False, fontsize=8.5)
    return figure
