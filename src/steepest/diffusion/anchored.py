"""A multistep method that is exact on a Gaussian: the step is taken in an angle.

With m, c_i^2 the mean and the variances of the data along their principal directions, write
D = D_gauss + R, with D_gauss the posterior mean of the Gaussian of these moments. Along direction
i, z = (y - m)/sqrt(c^2 + r^2) and tan(theta) = r/c,

    dz/dtheta = -G/c,      G = R sqrt(c^2 + r^2)/r,

so that the Gaussian part is integrated exactly, the noise levels 0 and infinity become the angles
0 and pi/2, and what is left is a plain equation without stiffness: Adams' formulas on it. G is the
residual of the velocity ("v") prediction, which stays bounded at both ends. One evaluation of the
model a step: its value corrects the arrival at a level (Adams-Moulton) and then predicts the next
(Adams-Bashforth), as UniPC does in log r (Zhao et al., NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .. import tree
from ..errors import ArgumentError
from .solvers import AbstractSampler, History, denoised

FLOOR = 1e-3
"""Directions narrower than this share of the widest count as this wide."""


class Anchored(AbstractSampler):
    """Adams' predictor-corrector in the angle of a Gaussian with the moments of the data.

    `mean`: (d,), `scales`: (d,) standard deviations along `directions` (d, d), orthonormal columns
    (None: the axes). `solver_order` 1 to 4 of the predictor; `corrector`: correct every arrival,
    which raises the order by one. The default, order 2 with corrector on the grid that is uniform
    in the angle, is the rule for every number of evaluations: higher orders gain only where the
    steps are already small, and lose at five.
    """

    step: float = 1.0
    churn: float = 0.0
    mean: Any = None
    scales: Any = None
    directions: Any = None
    solver_order: int = eqx.field(static=True, default=2)
    corrector: bool = eqx.field(static=True, default=True)
    to_zero = True
    rule = "angle"

    def __check_init__(self):
        if self.solver_order not in (1, 2, 3, 4):
            raise ArgumentError("solver_order", self.solver_order, "1, 2, 3 or 4")

    @classmethod
    def of(cls, model: Any, step: float = 1.0, **options: Any) -> Anchored:
        """With the moments that the model knows; the standard normal's where it knows none."""
        moments = model.moments()
        size = int(np.prod(model.shape))
        if moments is None:
            return cls(step, 0.0, jnp.zeros(size), jnp.ones(size), **options)
        mean, covariance = moments
        variances, directions = jnp.linalg.eigh(covariance)
        widest = jnp.sqrt(jnp.maximum(variances[-1], jnp.finfo(variances.dtype).tiny))
        scales = jnp.maximum(jnp.sqrt(jnp.maximum(variances, 0.0)), FLOOR * widest)
        return cls(step, 0.0, mean, scales, directions, **options)

    @property
    def scale(self) -> float:
        """The root mean square of the data's standard deviations, which the grid uses."""
        return float(np.sqrt(np.mean(np.asarray(self.scales, float) ** 2)))

    def turn(self, y: Any) -> Any:
        """(d, n) coordinates along the directions, from positions (..., n)."""
        flat = y.reshape(-1, y.shape[-1]) - self.mean.astype(y.dtype)[:, None]
        return flat if self.directions is None else self.directions.T.astype(y.dtype) @ flat

    def back(self, w: Any, like: Any) -> Any:
        """Positions of the shape of `like` from (d, n) coordinates."""
        flat = w if self.directions is None else self.directions.astype(w.dtype) @ w
        return (flat + self.mean.astype(w.dtype)[:, None]).reshape(like.shape)

    def init(self, flow, state, time, randomness):
        z = self.turn(state.turned(-1).positions)
        angle = jnp.zeros((z.shape[0], 1), tree.dtype(state))
        return z, History.empty(z, angle, self.solver_order)

    def move(self, flow, y, memory, levels, noise):
        start, history = memory
        c = self.scales.astype(y.dtype)[:, None]
        r, r_end = levels.ratio
        clean = denoised(flow, y, levels.t[0], levels.alpha[0])
        w, length = self.turn(y), jnp.sqrt(c**2 + r**2)
        residual = self.turn(clean) - c**2 / length**2 * w
        value, angle = residual * length / r, jnp.arctan2(r * jnp.ones_like(c), c)
        z = w / length
        if self.corrector:
            places = (history.places[0], angle, *history.places[1:])
            values = (history.values[0], value, *history.values[1:])
            # `history.count` real values before this one: that many, and this one, can be used.
            moved = adams(places, values, angle, history.count + 1)
            z = jnp.where(history.count >= 1, start - moved / c, z)
        history = history.push(value, angle)
        end = jnp.arctan2(r_end * jnp.ones_like(c), c)
        moved = adams(history.places, history.values, end, history.count)
        new = z - moved / c
        return self.back(new * jnp.sqrt(c**2 + r_end**2), y), (z, history)

    @property
    def order(self):
        return self.solver_order + self.corrector

    @property
    def starting_order(self):
        return 1


def powers(tau: Any, count: int) -> list[Any]:
    """The integrals of 1, u, ..., u^(count - 1) from 0 to tau."""
    return [tau ** (k + 1) / (k + 1) for k in range(count)]


def adams(
    places: tuple[Any, ...],
    values: tuple[Any, ...],
    end: Any,
    count: Any,
    moments: Callable[[Any, int], list[Any]] = powers,
) -> Any:
    """The integral from places[0] to `end` of the polynomial through the first `count` values.

    Newton's form, at most five values: each further one adds a term, so that fewer are a prefix.
    `moments(tau, n)`: the integrals of 1, u, ..., u^(n-1) from 0 to tau, under a weight.
    """
    zero = places[0]
    tau = end - zero
    integrals = moments(tau, len(values))
    total = values[0] * integrals[0]
    table = list(values)
    nodes: list[Any] = [jnp.zeros_like(tau)]
    for k in range(1, min(len(values), 5)):
        # Divided differences of order k; those that use unreal values are not added.
        gap = [places[i + k] - places[i] for i in range(len(table) - 1)]
        table = [
            (b - a) / jnp.where(g == 0, 1.0, g)
            for a, b, g in zip(table, table[1:], gap, strict=False)
        ]
        term = table[0] * _integral(nodes, integrals)
        total = total + jnp.where(count > k, term, 0.0)
        nodes.append(places[k] - zero)
    return total


def _integral(nodes: list[Any], integrals: list[Any]) -> Any:
    """Of prod (u - nodes), from the integrals of 1, u, u^2, ..."""
    coefficients: list[Any] = [jnp.ones_like(nodes[0])]
    for node in nodes:
        shifted = [jnp.zeros_like(node), *coefficients]
        scaled = [-node * c for c in coefficients] + [jnp.zeros_like(node)]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return sum(c * m for c, m in zip(coefficients, integrals, strict=False))


def angle_grid(high: float, steps: int, scale: float) -> np.ndarray:
    """steps + 1 values of sigma/alpha, uniform in atan(ratio/scale), from `high` to 0.

    For a Gaussian of that scale every step turns by the same angle; the one rule for every budget.
    """
    if steps < 1 or not (high > 0 and scale > 0):
        raise ArgumentError("high, steps, scale", (high, steps, scale), "positive numbers")
    values = scale * np.tan(np.arctan2(high, scale) * (1.0 - np.linspace(0.0, 1.0, steps + 1)))
    values[0], values[-1] = high, 0.0
    return values
