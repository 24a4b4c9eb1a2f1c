"""Accept or reject, so that the stationary law is exactly Gibbs at any step (eq. 44).

Around `Euler` it is the Metropolis-adjusted Langevin algorithm; around `OBABO` it is generalised
Hybrid Monte Carlo: the momentum turns round on rejection.
Sources: Roberts and Tweedie, Bernoulli 2 (1996) 341; Horowitz, Phys. Lett. B 268 (1991) 247; Duane,
Kennedy, Pendleton and Roweth, Phys. Lett. B 195 (1987) 216.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from .. import tree
from ..errors import ArgumentError
from ..flow import Flow
from ..functionals import ExpectedEnergy, frozen
from ..geometries import Wasserstein
from ..states import Phase
from ..states.points import batch_axis, each, is_ensemble, points, with_points
from .base import AbstractScheme, Entry
from .euler import Euler
from .splitting import Bath, Splitting, hamiltonian

ACCEPT_STREAM, LEAPS_STREAM = 14, 13
DIVERGENT = 1000.0
"""An energy error, in units of temperature, at which a proposal counts as divergent."""
JITTER = 0.2


class Metropolis(AbstractScheme):
    """`scheme` as a proposal, accepted with the probability that keeps exp(-F/T) invariant.

    Works for `Euler` on flat and Riemannian geometries with thermal noise and for `OBABO` on
    kinetic flows; each particle of an ensemble is accepted by itself. Under a protocol a step
    switches the functional to its end and then keeps the law there: annealed importance sampling
    (Neal, Stat. Comput. 11 (2001) 125), whose work is exact. Raises ArgumentError otherwise.

    `leaps`, for `OBABO(step)`: over how many leapfrogs of length step/leaps one step moves between
    two baths. A whole number 1 is exactly that; a float is the mean of a number that is drawn for
    each step, within a fifth of `leaps` and rounded at random, and may change without compiling
    again.
    """

    scheme: Any
    step: float
    leaps: Any

    def __init__(self, scheme: AbstractScheme, leaps: float = 1):
        self.scheme, self.step, self.leaps = scheme, scheme.step, leaps
        if isinstance(leaps, Tracer):
            return
        if not (math.isfinite(leaps) and leaps >= 1 and (leaps == 1 or isinstance(leaps, float))):
            raise ArgumentError("leaps", leaps, "1, or a float >= 1.0")

    def count(self, randomness: Any) -> Any:
        """How many leapfrogs the step of this randomness takes; each costs one gradient."""
        if isinstance(self.leaps, int):
            return 1
        u = randomness.uniform((2,), jnp.float32, stream=LEAPS_STREAM)
        mean = self.leaps * (1.0 + JITTER * (2.0 * u[0] - 1.0))
        return jnp.maximum(jnp.floor(mean + u[1]).astype(jnp.int32), 1)

    def init(self, flow, state, time, randomness):
        memory = self.scheme.init(flow, state, time, randomness)
        return memory, _values(flow, state, time)

    def advance(self, flow, state, memory, time, step, randomness):
        move = self._langevin if isinstance(self.scheme, Euler) else self._hybrid
        if not flow.time_dependent:
            return move(flow, state, memory, time, step, randomness)
        # The protocol is switched first, at a fixed state; then the law of the new time is kept.
        part = flow.parts[0]
        held = Flow(frozen(part.functional, time + step), part.geometry, part.noise)
        switched = self.init(held, state, time, randomness)
        new, memory, entry = move(held, state, switched, time, step, randomness)
        work = switched[1] - _values(flow, state, time)
        return new, memory, Entry(entry.dissipated, entry.accepted, work=work)

    def _langevin(self, flow, state, memory, time, step, randomness):
        slope, value = memory
        new, new_slope, _ = self.scheme.advance(flow, state, slope, time, step, randomness)
        new_value = _values(flow, new, time + step)
        temperature = flow.parts[0].temperature(time)
        ahead = self.scheme.slope(flow, state, slope, time)[1]
        back = self.scheme.slope(flow, new, new_slope, time + step)[1]
        forward = _log_density(flow, state, ahead, new, time, step)
        backward = _log_density(flow, new, back, state, time, step)
        log_ratio = (value - new_value) / temperature + backward - forward
        accept = _accept(randomness, log_ratio)
        state = _select(accept, new, state, batch_axis(state))
        slope = _select(accept, new_slope, slope, batch_axis(state))
        heat = jnp.where(accept, value - new_value, 0.0)
        entry = Entry(heat, accept.astype(value.dtype), _diverged(log_ratio))
        value = jnp.where(accept, new_value, value)
        return state, (slope, value), entry

    def _hybrid(self, flow, state, memory, time, step, randomness):
        force, value = memory
        batch = batch_axis(state)
        kinetic = hamiltonian(flow.parts[0].functional).kinetic
        bath = Bath.of(flow, time)
        state, first = bath.relax(state, step / 2, randomness, stream=0)
        before = value + kinetic(points(state).momentum, batch)
        new, new_force, given = self._leapfrogs(flow, state, force, time, step, randomness)
        new_value = _values(flow, new, time + step)
        after = new_value + kinetic(points(new).momentum, batch) + given
        log_ratio = (before - after) / flow.parts[0].temperature(time)
        accept = _accept(randomness, log_ratio)
        turned = with_points(
            state, Phase(points(state).position, tree.scale(-1.0, points(state).momentum))
        )
        state = _select(accept, new, turned, batch)
        force = _select(accept, new_force, force, batch)
        value = jnp.where(accept, new_value, value)
        heat = first + jnp.where(accept, given, 0.0)
        state, second = bath.relax(state, step / 2, randomness, stream=1)
        entry = Entry(heat + second, accept.astype(value.dtype), _diverged(log_ratio))
        return state, (force, value), entry

    def _leapfrogs(
        self, flow: Any, state: Any, force: Any, time: Any, step: Any, randomness: Any
    ) -> tuple[Any, Any, Any]:
        """The proposal: state, force, and the energy that a thermostat took on the way."""
        inner = Splitting(self.step, "BAB")
        if isinstance(self.leaps, int):
            new, force, entry = inner.advance(flow, state, force, time, step, randomness)
            return new, force, entry.dissipated

        def leap(_: Any, carry: Any) -> Any:
            state, force, given = carry
            new, new_force, entry = inner.advance(
                flow, state, force, time, step / self.leaps, randomness
            )
            same = lambda a, b: a.astype(b.dtype)  # noqa: E731
            return (
                jax.tree.map(same, new, state),
                jax.tree.map(same, new_force, force),
                given + entry.dissipated,
            )

        zero = jnp.zeros((state.count,) if is_ensemble(state) else (), tree.dtype(points(state)))
        return jax.lax.fori_loop(0, self.count(randomness), leap, (state, force, zero))

    def check(self, flow, state):
        self.scheme.check(flow, state)
        if len(flow.parts) != 1:
            raise ArgumentError("flow", str(flow), "Metropolis advances a single flow")
        part = flow.parts[0]
        if part.thermal is None or len(part.noise.terms) != 1:
            raise ArgumentError("noise", flow, "Metropolis needs Thermal noise and no other")
        if callable(part.thermal.temperature):
            raise ArgumentError("flow", str(flow), "Metropolis needs a fixed temperature")
        if is_ensemble(state) and not isinstance(part.functional, ExpectedEnergy):
            raise ArgumentError("functional", part.functional.name, "particles must not interact")
        if isinstance(self.scheme, Euler):
            if part.geometry.kinetic or part.geometry.curved:
                raise ArgumentError(
                    "scheme", self.name, "on this geometry use Metropolis(OBABO(step))"
                )
            if not isinstance(self.leaps, int):
                raise ArgumentError("leaps", self.leaps, "several leaps are for OBABO(step)")
            if part.thermal.increments != "normal":
                raise ArgumentError("increments", part.thermal.increments, "Metropolis: 'normal'")
        elif not (isinstance(self.scheme, Splitting) and self.scheme.word == "OBABO"):
            raise ArgumentError(
                "scheme", self.scheme.name, "Metropolis takes Euler(step) or OBABO(step)"
            )

    @property
    def proposes(self):
        return True

    @property
    def order(self):
        return self.scheme.order

    @property
    def name(self):
        leaps = "" if isinstance(self.leaps, int) else f", leaps={self.leaps:g}"
        return f"Metropolis({self.scheme.name}{leaps})"


def _values(flow: Any, state: Any, time: Any) -> Any:
    """The energy per point, without the kinetic part (which the bath changes)."""
    part = flow.parts[0]
    functional = part.functional.at(time)
    if part.geometry.kinetic:
        potential = hamiltonian(functional).potential
        return each(lambda x: potential(x.position), state)(points(state))
    return functional.per_point(state)


def _log_density(flow: Any, start: Any, velocity: Any, end: Any, time: Any, step: Any) -> Any:
    """log q(end | start) per point of the Euler-Maruyama kernel, up to a constant."""
    part = flow.parts[0]
    geometry = part.geometry.at(time)
    if isinstance(geometry, Wasserstein):
        geometry = geometry.ground

    def one(x: Any, v: Any, y: Any) -> Any:
        residual = tree.axpy(-step, v, tree.sub(y, x))
        spread = 4.0 * part.temperature(time) * step
        return -geometry.length_sq(x, residual) / spread - geometry.log_volume(x)

    return each(one, start)(points(start), points(velocity), points(end))


def _accept(randomness: Any, log_ratio: Any) -> Any:
    """True with probability min(1, exp(log_ratio)); a non-finite proposal is rejected."""
    uniform = randomness.uniform(jnp.shape(log_ratio), log_ratio.dtype, stream=ACCEPT_STREAM)
    return jnp.log(uniform) < jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)


def _diverged(log_ratio: Any) -> Any:
    """1 where the proposal's energy is absurd or not a number."""
    return (~(log_ratio > -DIVERGENT)).astype(log_ratio.dtype)


def _select(accept: Any, new: Any, old: Any, batch: int | None) -> Any:
    """new where accepted, old elsewhere, leaf by leaf."""

    def leaf(a: Any, b: Any) -> Any:
        mask = accept.reshape((-1,) + (1,) * (a.ndim - 1)) if batch == 0 else accept
        return jnp.where(mask, a, b)

    return jax.tree.map(leaf, new, old)
