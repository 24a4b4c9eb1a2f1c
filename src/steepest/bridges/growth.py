"""Bridges whose mass grows and dies: both ends are asked for at a price, not required.

With a, b the two laws with their masses, C = |u - v|^2/2 the cost in white coordinates and r the
geometric mean of the masses,
    min over pi >= 0 of KL(pi | a b exp(-C)/r) + price (KL(pi_1 | a) + KL(pi_2 | b))
has pi = a b exp(f + g - C)/r with pi_1 = a exp(-f/price), pi_2 = b exp(-g/price). pi joins what is
transported; its law of paths is a Schroedinger bridge between pi_1 and pi_2. A path from x to y
carries at time t = s T the mass exp(((1 - s) f(x) + s g(y))/price) relative to pi: it grows at a
constant rate, and the moving mass is a at the start and b at the end, exactly.
Sources: Chizat, Peyre, Schmitzer and Vialard, Math. Comp. 87 (2018) 2563 (scaling); Sejourne,
Vialard and Peyre, AISTATS 2022 (the shift of constants); Schiebinger et al., Cell 176 (2019) 928
(growth of cells from rows of the plan).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..states import Particles
from .base import AbstractBridge, compiled
from .sinkhorn import transform


class Scaled(NamedTuple):
    """f, g, how far pi_2 is from b exp(-g/price) (share of the mass), iterations, primal - dual."""

    f: Array
    g: Array
    error: Array
    iterations: Array
    gap: Array


class GrowthBridge(AbstractBridge):
    """`lineages`: the bridge from pi_1 to pi_2, which is what paths and drifts are of.

    `sources`, `targets`: the points with their shares; `f`, `g`: at them; `masses`: of both laws;
    `gap`: the duality gap, `error`: how far pi_2 is off, both as shares. The growth of any point
    follows from g alone.
    """

    lineages: Any
    sources: Particles
    targets: Particles
    f: Float[Array, " n"]
    g: Float[Array, " m"]
    masses: Float[Array, "2"]
    price: Float[Array, ""]
    gap: Float[Array, ""]
    error: Float[Array, ""]

    @property
    def method(self) -> str:
        """Of the lineages."""
        return self.lineages.method

    @property
    def why(self) -> str:
        """Why this."""
        return self.lineages.why

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the lineages, and what the mass did."""
        a, b = (float(mass) for mass in self.masses)
        grown = jnp.quantile(self.growth(self.sources.positions), jnp.asarray([0.05, 0.95]))
        said = (
            f"mass {a:.3g} becomes {b:.3g}, {float(self.joined()):.3g} is joined from end to end; "
            f"a unit at the start becomes {float(grown[0]):.3g} to {float(grown[1]):.3g} "
            "(5 % to 95 % of the points)"
        )
        return (*self.lineages.notes, said)

    @property
    def dimension(self):
        return self.lineages.dimension

    @property
    def horizon(self):
        return self.lineages.horizon

    def drift(self, x, time):
        return self.lineages.drift(x, time)

    def backward_drift(self, x, time):
        return self.lineages.backward_drift(x, time)

    def sample(self, x, key):
        return self.lineages.sample(x, key)

    def expected_end(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """E[X_T | X_0 = x] of lineages."""
        return self.lineages.expected_end(x)

    def sample_backward(self, y, key):
        return self.lineages.sample_backward(y, key)

    def sample_paths(self, x, times, key):
        return self.lineages.sample_paths(x, times, key)

    def marginal(self, time, key=None, n=1000):
        """Points with weights; `mass(time)` is their total."""
        if key is None:
            raise ArgumentError("key", None, "a key: this marginal is sampled")
        pick, move = jax.random.split(key)
        logs = self.sources.log_weights
        logs = jnp.zeros_like(self.f) if logs is None else logs
        joined = Particles(self.sources.positions, logs - self.f / self.price)
        x = joined.sample(pick, n)
        middle, y = self.sample_paths(x, jnp.asarray([time, self.horizon]), move)
        return Particles(middle, self.log_mass(x, y, time))

    @compiled
    def log_mass(self, x: Float[Array, "n d"], y: Float[Array, "n d"], time: Any) -> Array:
        """log of the mass at `time` of paths from x to y, relative to pi: its rate is constant."""
        share = time / self.horizon
        u, v = self._white(self.sources, True), self._white(self.targets, False)
        reference, r = self.lineages.reference, jnp.sqrt(self.masses[0] * self.masses[1])
        f = -_soft(reference.white_source(x), v, self.targets.weights, self.g, self.masses[1] / r)
        g = -_soft(reference.white_target(y), u, self.sources.weights, self.f, self.masses[0] / r)
        return ((1.0 - share) * f + share * g) * damping(self.price) / self.price

    def log_growth(self, x, y, time=None):
        time = self.horizon if time is None else time
        return self.log_mass(x, y, time) - self.log_mass(x, y, 0.0)

    @eqx.filter_jit
    def growth(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The mass at the end for each unit of mass at x: exp(-f/price) E[exp(g/price) | x]."""
        u, v = self.lineages.reference.white_source(x), self._white(self.targets, False)
        r, w = jnp.sqrt(self.masses[0] * self.masses[1]), self.targets.weights
        now = _soft(u, v, w, self.g, 1.0)
        f = -damping(self.price) * (now + jnp.log(self.masses[1] / r))
        later = _soft(u, v, w, self.g * (1.0 + 1.0 / self.price), 1.0)
        return jnp.exp(later - now - f / self.price)

    @compiled
    def mass(self, time: Any) -> Float[Array, ""]:
        """The total at `time`; between the ends it need not lie between theirs."""
        share = jnp.asarray(time / self.horizon, self.f.dtype)
        u, v, w = self._white(self.sources, True), self._white(self.targets, False), self.targets
        now = _soft(u, v, w.weights, self.g, 1.0)
        later = _soft(u, v, w.weights, self.g * (1.0 + share / self.price), 1.0)
        # pi_1 = a exp(-f/price), times exp((1 - s) f/price).
        logs = later - now - share * self.f / self.price
        return self.masses[0] * jnp.sum(self.sources.weights * jnp.exp(logs))

    def joined(self) -> Float[Array, ""]:
        """The mass of pi: what is on lineages from end to end."""
        return self.masses[0] * jnp.sum(self.sources.weights * jnp.exp(-self.f / self.price))

    def _white(self, law: Particles, ahead: bool) -> Array:
        reference = self.lineages.reference
        return (reference.white_source if ahead else reference.white_target)(law.positions)


def damping(price: Any) -> Any:
    """price/(price + 1)."""
    return price / (1.0 + price)


def _soft(x: Any, y: Any, w: Any, g: Any, mass: Any) -> Any:
    """log sum_j mass w_j exp(g_j - |x - y_j|^2/2)."""
    return jnp.log(mass) - transform(x, y, w, g)


@jax.jit
def scale(
    u: Float[Array, "n d"],
    a: Float[Array, " n"],
    v: Float[Array, "m d"],
    b: Float[Array, " m"],
    masses: Float[Array, "2"],
    price: Float[Array, ""],
    tolerance: float = 1e-6,
    most: int = 5000,
) -> Scaled:
    """Both potentials in turn, damped, with the best constant moved between them each time.

    `a`, `b`: shares that sum to one. A turn contracts by price/(price + 1), squared.
    """
    r, soft = jnp.sqrt(masses[0] * masses[1]), damping(price)

    def half(x: Any, y: Any, w: Any, g: Any, mass: Any) -> Any:
        return -soft * _soft(x, y, w, g, mass / r)

    def survive(w: Any, f: Any, mass: Any) -> Any:
        return mass * jnp.sum(w * jnp.exp(-f / price))

    def step(carry: Scaled) -> Scaled:
        f = half(u, v, b, carry.g, masses[1])
        shift = 0.5 * price * jnp.log(survive(a, f, masses[0]) / survive(b, carry.g, masses[1]))
        f, g = f + shift, carry.g - shift
        new = half(v, u, a, f, masses[0])
        ends = jnp.exp(g - new / soft)  # pi_2 / b
        error = jnp.sum(b * jnp.abs(ends - jnp.exp(-g / price))) / jnp.sum(b * ends)
        return Scaled(f, new, error, carry.iterations + 1, carry.gap)

    def going(carry: Scaled) -> Array:
        return (carry.error > tolerance) & (carry.iterations < most)

    one = jnp.asarray(jnp.inf, u.dtype)
    start = Scaled(jnp.zeros_like(a), jnp.zeros_like(b), one, jnp.asarray(0), one)
    found = jax.lax.while_loop(going, step, start)
    g = found.g
    f = half(u, v, b, g, masses[1])
    # pi_1 is a exp(-f/price) now, and pi_2 nearly b exp(-g/price): what is left is the gap.
    first = masses[0] * a * jnp.exp(-f / price)
    last = masses[1] * b * jnp.exp(g - half(v, u, a, f, masses[0]) / soft)
    mass = jnp.sum(first)
    primal = jnp.sum(first * f) + jnp.sum(last * g) - mass
    primal = primal + price * (_kl(first, masses[0] * a) + _kl(last, masses[1] * b))
    dual = price * (masses[0] - survive(a, f, masses[0]) + masses[1] - survive(b, g, masses[1]))
    return found._replace(f=f, gap=(primal - dual + mass) / mass)


def _kl(p: Any, q: Any) -> Any:
    """sum p log(p/q) - p + q."""
    return jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p / q, 1.0)), 0.0) - p + q)
