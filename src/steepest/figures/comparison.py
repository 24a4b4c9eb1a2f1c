"""Losses of several optimizers against what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .canvas import HALF, shorten, themed
from .theme import Theme


@themed
def comparison_figure(curves: Sequence[Any], *, theme: Theme) -> Figure:
    """Loss over gradients and over seconds. A curve has name, gradients, seconds, loss."""
    figure = Figure(figsize=(2 * HALF[0], 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    ramp = matplotlib.colormaps["viridis" if theme.name == "dark" else "viridis_r"]
    shown = [curve for curve in curves if np.isfinite(curve.loss).all()]
    positive = all(np.min(curve.loss) >= 0 for curve in shown)
    for k, curve in enumerate(shown):
        colour = theme.second if k == 0 else ramp(0.15 + 0.75 * k / max(len(shown) - 1, 1))
        width = 2.0 if k == 0 else 1.3
        label = shorten(curve.name)
        # A loss that rounding made zero has no place on a logarithmic axis: the line ends there.
        loss = np.where(curve.loss > 0, curve.loss, np.nan) if positive else curve.loss
        left.plot(curve.gradients, loss, color=colour, lw=width, label=label)
        right.plot(curve.seconds, loss, color=colour, lw=width, label=label)
    for axes, what in ((left, "gradients"), (right, "seconds, without compilation")):
        axes.set_xlabel(what)
        if positive and shown:
            axes.set_yscale("log")
    left.set_ylabel("loss")
    left.set_title("Loss against cost")
    if shown:
        right.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
