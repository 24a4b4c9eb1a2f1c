"""Explicit steps of the longest length that lowers F enough: step, step/2, step/4, ...

A step of length t ends where the geometry's own explicit step goes (see `explicit`), and is taken
when F falls by a tenth of what the model of that step promises. So F never rises, from any start,
and near a minimum the full step is taken. Source: Armijo, Pacific J. Math. 16 (1966) 1.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from ..states import Density
from ..states.points import is_ensemble
from .base import AbstractScheme, Entry, check_step
from .explicit import explicit

SUFFICIENT = 0.1


class Backtracking(AbstractScheme):
    """The explicit step of a flow without noise, halved until F falls enough (eq. 33, 39, 62).

    `step`: the longest step. On parameters, and for geometries without a step of their own, Euler's
    step; under FisherRao() on a `Gaussian` Euler's in the natural parameters, which with step 1 is
    exact where V is quadratic; under Wasserstein() on a `Gaussian` forward-backward. A state whose
    rate <dF, K dF> is at most `tolerance` stays where it is, and so does one from which `halvings`
    halvings do not lower F. The first length tried is twice the last one taken. The ledger's
    `acceptance` is the share of `step` that was taken, zero where nothing moved. Raises
    ArgumentError for noise, sums of flows and particles.
    """

    step: float
    tolerance: float = 0.0
    halvings: int = eqx.field(static=True, default=20)

    def __check_init__(self):
        check_step(self.step)
        if not isinstance(self.halvings, int) or self.halvings < 0:
            raise ArgumentError("halvings", self.halvings, "an integer >= 0")

    def init(self, flow, state, time, randomness):
        part = flow.parts[0]
        value, covector = jax.value_and_grad(part.functional.at(time))(state)
        return value, covector, flow.velocity_along(state, covector, time), jnp.ones_like(value)

    def advance(self, flow, state, memory, time, step, randomness):
        value, covector, velocity, first = memory
        part = flow.parts[0]
        functional = part.functional.at(time)
        rate = -tree.dot(covector, velocity)
        slack = 10.0 * jnp.finfo(value.dtype).eps * (1.0 + jnp.abs(value))

        def unfinished(carry: Any) -> Any:
            count, taken, *_ = carry
            return (rate > self.tolerance) & (taken == 0) & (count <= self.halvings)

        def halve(carry: Any) -> Any:
            count, _, *found = carry
            share = first * 0.5 ** count.astype(value.dtype)
            length = jnp.asarray(step, value.dtype) * share
            new, promised = explicit(part, state, covector, velocity, time, length, step)
            new = jax.tree.map(lambda a, b: a.astype(b.dtype), new, state)
            trial, slope = jax.value_and_grad(functional)(new)
            good = trial <= value - SUFFICIENT * promised + slack
            good = good & jnp.isfinite(trial) & tree.all_finite(slope)
            if isinstance(new, Density):  # a straight step may leave the laws
                good = good & jnp.all(new.values >= 0)
            chosen = jax.tree.map(
                lambda a, b: jnp.where(good, a, b), (new, trial, slope), tuple(found)
            )
            return count + 1, jnp.where(good, share, 0.0), *chosen

        start = (jnp.zeros((), jnp.int32), jnp.zeros_like(value), state, value, covector)
        _, taken, state, value, covector = jax.lax.while_loop(unfinished, halve, start)
        velocity = flow.velocity_along(state, covector, time)
        after = -tree.dot(covector, velocity)
        dissipated = 0.5 * taken * step * (rate + after)
        first = jnp.where(taken > 0, jnp.minimum(2.0 * taken, 1.0), 1.0)
        return state, (value, covector, velocity, first), Entry(dissipated, accepted=taken)

    def check(self, flow, state):
        if flow.noisy or len(flow.parts) != 1:
            raise ArgumentError("scheme", self.name, "it descends: a single flow without noise")
        if is_ensemble(state) or not flow.parts[0].functional.exact:
            raise ArgumentError("scheme", self.name, "F needs a differential; particles: Euler")
        if not flow.parts[0].geometry.dissipative or flow.warm:
            name = flow.parts[0].geometry.name
            raise ArgumentError("geometry", name, "it lowers nothing; Leapfrog or Variational")
        if flow.time_dependent:
            raise ArgumentError("scheme", self.name, "a protocol does work: use Euler")

    @property
    def proposes(self):
        return True

    def monotone(self, flow):
        return True
