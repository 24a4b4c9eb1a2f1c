"""Stochastic entropy production along the forward process, path by path (section 6).

A path of dx = f x dt + g dW makes, in units of k_B,

    Sigma = log p_0(x_0) - log p_t(x_t) + integral 2 f/g^2 x o dx,

the change of its own surprise and the heat that it gives the bath over the temperature. Its mean
rises at the rate g^2/2 E|2 f/g^2 x - grad log p|^2, and E exp(-Sigma) = 1 at all times. Where the
process has a stationary law pi, the mean is KL(p_0||pi) - KL(p_t||pi).
Source: Seifert, Phys. Rev. Lett. 95 (2005) 040602.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Key

from ..errors import ArgumentError
from .models import AbstractModel
from .processes import AbstractProcess


@dataclasses.dataclass(frozen=True)
class EntropyProduction:
    """`times` (k,); `system` and `medium` (k, n): the two parts of Sigma of each path so far."""

    times: np.ndarray
    system: np.ndarray
    medium: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Sigma (k, n)."""
        return self.system + self.medium

    @property
    def mean(self) -> np.ndarray:
        """E Sigma (k,), which rises."""
        return self.total.mean(axis=1)

    @property
    def error(self) -> np.ndarray:
        """The standard error of the mean (k,)."""
        return self.total.std(axis=1, ddof=1) / math.sqrt(self.total.shape[1])

    @property
    def fluctuation(self) -> tuple[float, float]:
        """(mean, standard error) of exp(-Sigma) at the end: 1 by the fluctuation theorem.

        Rare paths carry the mean where Sigma is large: beyond a few units the error says too
        little.
        """
        values = np.exp(-self.total[-1])
        return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def entropy_production(
    process: AbstractProcess,
    truth: AbstractModel,
    points: Any,
    key: Key[Any, ""],
    *,
    levels: int = 64,
) -> EntropyProduction:
    """Sigma along exact paths of the process, from data `points` (n, ...) whose law is `truth`.

    The levels are uniform in log(sigma/alpha); between them the path is exact and the heat is the
    trapezoidal rule in 2 f/g^2, which is exact where that is constant (a bath of constant
    temperature). Raises ArgumentError for a model that does not know log p.
    """
    if not getattr(truth, "exact", False):
        raise ArgumentError("truth", type(truth).__name__, "a model that knows log p")
    if not isinstance(levels, (int, np.integer)) or levels < 2:
        raise ArgumentError("levels", levels, "an integer >= 2")
    x0 = jnp.asarray(points)
    low, high = (math.log(float(process.ratio(jnp.asarray(t)))) for t in
                 (process.start, process.end))  # fmt: skip
    times = np.array(process.time_of(jnp.exp(jnp.linspace(low, high, levels))), float)
    times[0], times[-1] = process.start, process.end

    @eqx.filter_jit
    def paths(key: Any) -> Any:
        t = jnp.asarray(times)
        alpha, ratio = (f(t).astype(x0.dtype) for f in (process.alpha, process.ratio))
        # In y = x/alpha noising is a random walk: a path is a sum of independent kicks.
        squares = jnp.diff(ratio**2, prepend=0.0)
        kicks = jax.random.normal(key, (levels, *x0.shape), x0.dtype)
        wide = (levels,) + (1,) * x0.ndim
        x = (x0 + jnp.cumsum(jnp.sqrt(squares).reshape(wide) * kicks, axis=0)) * alpha.reshape(wide)
        logs = jax.lax.map(
            lambda k: jax.vmap(lambda z: truth.log_prob(z, alpha[k], alpha[k] * ratio[k]))(x[k]),
            jnp.arange(levels),
        )
        force = (2.0 * process.drift(t) / process.diffusion_squared(t)).astype(x0.dtype)
        half = 0.5 * jnp.sum(x.reshape(levels, len(x0), -1) ** 2, axis=-1)
        heat = 0.5 * (force[1:] + force[:-1])[:, None] * jnp.diff(half, axis=0)
        medium = jnp.concatenate([jnp.zeros_like(half[:1]), jnp.cumsum(heat, axis=0)])
        return logs[0] - logs, medium

    system, medium = (np.asarray(a, float) for a in paths(key))
    return EntropyProduction(times, system, medium)
