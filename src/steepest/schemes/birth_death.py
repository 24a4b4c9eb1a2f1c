"""Birth and death: particles reweighted exactly, and resampled where few carry the mass (eq. 62).

    log w_i += -step (psi(x_i) - <psi>),   psi = dF/d rho

Systematic resampling when the effective number of particles falls below `threshold` n: particle i
is kept floor or ceil of n w_i times, with mean n w_i, so expectations are unbiased.
Sources: Lu, Lu and Nolen, arXiv:1905.09863 (birth-death Langevin); Kitagawa, J. Comput. Graph.
Stat. 5 (1996) 1 (systematic resampling).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..errors import ArgumentError
from ..geometries import FisherRao
from ..geometries.cone import unscaled
from ..states import Particles
from ..states.points import pairing
from .base import AbstractScheme, Entry, check_step

RESAMPLING_STREAM = 13


class BirthDeath(AbstractScheme):
    """The Fisher-Rao flow of weighted particles, with resampling; order 1.

    `threshold`: the share of n below which the effective size 1/sum w^2 calls for resampling; 0
    never, 1 at every step. Log-weights are normalised at every step and kept within e^-60 of the
    largest (e^-30 in float32), so that none underflows. What resampling changes in F is booked as
    dissipated: it is noise, not descent.
    """

    step: float
    threshold: float = 0.5

    def __check_init__(self):
        check_step(self.step)
        if isinstance(self.threshold, (int, float)) and not 0 <= self.threshold <= 1:
            raise ArgumentError("threshold", self.threshold, "a share between 0 and 1")

    def init(self, flow, state, time, randomness):
        return ()

    def advance(self, flow, state, memory, time, step, randomness):
        part = flow.parts[0]
        clock = step * unscaled(part.geometry.at(time))[0]
        covector = part.covector(state, time)
        psi = state.reweight(covector).log_weights
        lowest = -60.0 if psi.dtype == jnp.float64 else -30.0
        logs = state.log_weights - clock * psi
        logs = jnp.maximum(logs - jnp.max(logs), lowest)
        logs = logs - jax.nn.logsumexp(logs)
        heavier = Particles(state.positions, logs, state.axis)
        # The trapezoidal exchange along the step, by the covectors of both ends.
        moved = heavier.tangent(jax.tree.map(jnp.zeros_like, state.positions))
        moved = Particles(moved.positions, logs - state.log_weights, state.axis)
        before, after = part.slope(state, time)[0], part.slope(heavier, time + step)[0]
        exchanged = 0.5 * (pairing(state, before, moved) + pairing(heavier, after, moved))
        few = heavier.effective_size < self.threshold * state.count
        place = randomness.uniform((1,), psi.dtype, stream=RESAMPLING_STREAM)[0]
        new = jax.tree.map(lambda a, b: jnp.where(few, a, b), resampled(heavier, place), heavier)
        jump = part.value(new, time + step) - part.value(heavier, time + step)
        return new, (), Entry(-exchanged - jnp.where(few, jump, 0.0))

    def check(self, flow, state):
        if len(flow.parts) != 1 or flow.parts[0].geometry.terms != (flow.parts[0].geometry,):
            raise ArgumentError("flow", str(flow), "one FisherRao() term; Composition for sums")
        if not isinstance(unscaled(flow.parts[0].geometry)[1], FisherRao):
            name = flow.parts[0].geometry.name
            raise ArgumentError("geometry", name, "BirthDeath reweighs: FisherRao()")
        if not isinstance(state, Particles):
            raise ArgumentError("state", type(state).__name__, "BirthDeath reweighs Particles")
        flow.parts[0].geometry.check(state)

    @property
    def name(self):
        return f"BirthDeath({self.step:g})"


def resampled(state: Particles, place: Any) -> Particles:
    """n particles of equal weight: number k is the one at the quantile (k + place)/n."""
    n = state.count
    levels = jnp.cumsum(state.weights)
    asked = (jnp.arange(n) + place) / n * levels[-1]
    index = jnp.minimum(jnp.searchsorted(levels, asked, side="right"), n - 1)
    take = lambda x: jnp.take(x, index, axis=state.axis)  # noqa: E731
    return Particles(jax.tree.map(take, state.positions), jnp.zeros_like(levels), state.axis)
