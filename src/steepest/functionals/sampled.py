"""The free energy of a Gaussian whose differential is estimated from a few fresh draws."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..errors import ArgumentError
from ..states import Gaussian
from ..states.factors import Diagonal, LowRank, dot
from .measures import FreeEnergy

STREAM = 24


class SampledFreeEnergy(FreeEnergy):
    """F = <E> - T S on a `Gaussian`, whose `estimate` takes `count` gradients at random points.

    With x = m + L z, in pairs +-z, and r = L^T grad E(x) - T z, the differential of F is

        L^T dF/dm = E[r],   2 L^T (dF/dS) L = E[r z^T]       (Stein's identity)

    where the term T z, whose mean is known, takes out the noise: at the minimum, where the target
    is Gaussian, r = 0 and the estimate is exact. Use it with `Minibatch()`; `count` is even.
    Source: Roeder, Wu and Duvenaud, NeurIPS 2017.
    """

    count: int = eqx.field(static=True)

    def __init__(self, energy: Any, temperature: Any = 1.0, count: int = 32):
        super().__init__(energy, temperature)
        if not isinstance(count, int) or count < 2 or count % 2:
            raise ArgumentError("count", count, "an even number of draws")
        self.count = count

    def estimate(self, state: Gaussian, randomness: Any) -> Gaussian:
        if randomness is None:
            return self.differential(state)
        factor, dtype = state.factor, state.mean.dtype
        half = randomness.normal((self.count // 2, state.dimension), dtype, STREAM)
        z = jnp.concatenate([half, -half])
        x = state.mean + factor.push(z)
        slopes = jax.vmap(jax.grad(lambda y: self.energy(state.point(y))))(x)
        if isinstance(factor, Diagonal):
            r = slopes * state.scale - self.temperature * z
            return state.tangent(
                jnp.mean(r, axis=0) / state.scale, jnp.mean(r * z, axis=0) / state.scale
            )
        lower = state.lower
        r = dot(slopes, lower) - self.temperature * z
        bend = dot(r.T, z) / self.count
        back = lambda v: jax.scipy.linalg.solve_triangular(lower, v, trans=1, lower=True)  # noqa: E731
        scale = jnp.tril(back(0.5 * (bend + bend.T)))
        return state.tangent(back(jnp.mean(r, axis=0)), scale)

    def at(self, time: Any) -> SampledFreeEnergy:
        if not self.time_dependent:
            return self
        frozen = super().at(time)
        return SampledFreeEnergy(frozen.energy, frozen.temperature, self.count)

    def check(self, state: Any) -> None:
        if not isinstance(state, Gaussian) or isinstance(state.scale, LowRank):
            raise ArgumentError("state", type(state).__name__, "a full or diagonal Gaussian")

    @property
    def subsamples(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"{super().name}, {self.count} draws"
