"""UniPC: DPM-Solver++ corrected at every arrival by the value that the next step needs anyway.

With l = -log r, y_t = (r_t/r_s) y_s + integral of exp(l - l_t) D dl, where D is the polynomial
through its values: at s and before for the predictor of order p, at t as well for the corrector,
of order p + 1. With two values the slope has the weight h B(h)/2, B(h) = 1 - exp(-h), in place of
its exact integral: the variant that its authors call bh2.
Source: Zhao et al., NeurIPS 2023 (arXiv 2302.04867), algorithms 5 to 8 in the form that predicts D.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from .anchored import adams
from .solvers import AbstractSampler, History, denoised


class UniPC(AbstractSampler):
    """Predictor of order `solver_order` (1 to 3) and corrector: one order more, one evaluation.

    The first steps have lower order, and so does a step to r = 0.
    """

    step: float = 1.0
    churn: float = 0.0
    solver_order: int = eqx.field(static=True, default=2)
    to_zero = True
    rule = "karras"

    def __check_init__(self):
        if self.solver_order not in (1, 2, 3):
            raise ArgumentError("solver_order", self.solver_order, "1, 2 or 3")

    def init(self, flow, state, time, randomness):
        place = jnp.zeros((), tree.dtype(state))
        positions = state.turned(-1).positions
        return positions, History.empty(positions, place, self.solver_order)

    def move(self, flow, y, memory, levels, noise):
        start, history = memory
        clean = denoised(flow, y, levels.t[0], levels.alpha[0])
        place = -jnp.log(levels.ratio[0])
        places = (history.places[0], place, *history.places[1:])
        values = (history.values[0], clean, *history.values[1:])
        corrected = held(start, places, values, place, history.count + 1)
        y = jnp.where(history.count >= 1, corrected, y)
        history = history.push(clean, place)
        ends = levels.ratio[1] > 0
        # A polynomial has no value at l = infinity: the last jump is to D.
        end = jnp.where(ends, -jnp.log(jnp.where(ends, levels.ratio[1], 1.0)), jnp.inf)
        count = jnp.where(ends, history.count, 1)
        new = held(y, history.places, history.values, end, count)
        return new, (y, history)

    @property
    def order(self):
        return self.solver_order + 1

    @property
    def starting_order(self):
        return 1


def held(y: Any, places: Any, values: Any, end: Any, count: Any) -> Any:
    """y at l = `end` from y at l = places[0], with D through the first `count` values."""
    h = end - places[0]
    gain = -jnp.expm1(-h)
    exact = adams(places, values, end, count, decaying)
    if len(values) > 1:
        slope = (values[0] - values[1]) / jnp.where(count > 1, places[0] - places[1], 1.0)
        exact = jnp.where(count == 2, gain * (values[0] + 0.5 * h * slope), exact)
    return (1.0 - gain) * y + exact


def decaying(tau: Any, count: int) -> list[Any]:
    """The integrals of exp(u - tau) u^k from 0 to tau, k < count; each is tau^k - k the last."""
    found = [-jnp.expm1(-tau)]
    for k in range(1, count):
        found.append(tau**k - k * found[-1])
    return found
