"""Bridges whose mass grows and dies: both ends are asked for at a price, not required.

With a, b the two laws with their masses, C = |u - v|^2/2 the cost in white coordinates and r the
geometric mean of the masses,
    min over pi >= 0 of KL(pi | a b exp(-C)/r) + price (KL(pi_1 | a) + KL(pi_2 | b))
has pi = a b exp(f + g - C)/r with pi_1 = a exp(-f/price), pi_2 = b exp(-g/price). pi joins what is
transported; its law of paths is a Schroedinger bridge between pi_1 and pi_2. A path from x to y
carries at time t = s T the mass exp(((1 - s) f(x) + s g(y))/price) relative to pi: it grows at a
constant rate, and the moving mass is a at the start and b at the end, exactly.
Sources: Chizat, Peyre, Schmitzer and Vialard, Math. Comp. 87 (2018) 2563; Schiebinger et al., Cell
176 (2019) 928 (growth of cells from rows of the plan). The potentials are Sinkhorn's, at a price.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..states import Particles
from .base import AbstractBridge, compiled, of
from .sinkhorn import Potentials, transform


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

    method = of("lineages")
    why = of("lineages")
    drift = of("lineages")
    backward_drift = of("lineages")
    reference_drift = of("lineages")
    sample = of("lineages")
    sample_backward = of("lineages")
    sample_paths = of("lineages")
    expected_end = of("lineages")

    @property
    def dimension(self):
        return self.lineages.dimension

    @property
    def horizon(self):
        return self.lineages.horizon

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
def duality_gap(
    a: Float[Array, " n"],
    b: Float[Array, " m"],
    masses: Float[Array, "2"],
    price: Float[Array, ""],
    found: Potentials,
) -> Float[Array, ""]:
    """Primal - dual for each unit joined, of potentials whose rows are exact."""
    first = masses[0] * a * jnp.exp(-found.f / price)
    last, survived = masses[1] * found.columns, masses[1] * b * jnp.exp(-found.g / price)
    mass = jnp.sum(first)
    primal = jnp.sum(first * found.f) + jnp.sum(last * found.g) - mass
    primal = primal + price * (_kl(first, masses[0] * a) + _kl(last, masses[1] * b))
    dual = price * (masses[0] - mass + masses[1] - jnp.sum(survived))
    return (primal - dual + mass) / mass


def _kl(p: Any, q: Any) -> Any:
    """sum p log(p/q) - p + q."""
    return jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p / q, 1.0)), 0.0) - p + q)
