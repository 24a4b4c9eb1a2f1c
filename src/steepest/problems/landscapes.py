"""Energies in closed form: a bowl, a valley, and two wells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..functionals import Energy
from .problem import Problem


class Quadratic(eqx.Module):
    """E(x) = 1/2 sum_i curvature_i x_i^2."""

    curvatures: Float[Array, " d"]

    def __call__(self, theta: Any) -> Float[Array, ""]:
        return 0.5 * jnp.sum(self.curvatures * theta["x"] ** 2)


class DoubleWell(eqx.Module):
    """E(x) = barrier (x_1^2 - 1)^2 + 1/2 stiffness sum_{i > 1} x_i^2: wells at x_1 = -1 and 1."""

    barrier: Float[Array, ""]
    stiffness: Float[Array, ""]

    def __call__(self, theta: Any) -> Float[Array, ""]:
        first, rest = theta["x"][0], theta["x"][1:]
        return self.barrier * (first**2 - 1.0) ** 2 + 0.5 * self.stiffness * jnp.sum(rest**2)


class Rosenbrock(eqx.Module):
    """E(x) = sum_i valley (x_{i+1} - x_i^2)^2 + (1 - x_i)^2, least at (1, ..., 1).

    Source: Rosenbrock, Comput. J. 3 (1960) 175, with valley = 100.
    """

    valley: Float[Array, ""]

    def __call__(self, theta: Any) -> Float[Array, ""]:
        x = theta["x"]
        return jnp.sum(self.valley * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def quadratic(curvatures: Sequence[float] = (1.0, 10.0), *, dtype: Any = jnp.float32) -> Problem:
    """The quadratic bowl with the given positive curvatures, from (1, ..., 1)."""
    if not curvatures or min(curvatures) <= 0:
        raise ArgumentError("curvatures", list(curvatures), "a list of positive numbers")
    energy = Energy(Quadratic(jnp.asarray(curvatures, dtype)))
    return _problem(energy, jnp.ones(len(curvatures), dtype))


def double_well(
    dimension: int = 2, barrier: float = 4.0, stiffness: float = 4.0, *, dtype: Any = jnp.float32
) -> Problem:
    """Two wells a distance 2 apart, from the well at x_1 = -1."""
    if dimension < 1:
        raise ArgumentError("dimension", dimension, "an integer >= 1")
    energy = Energy(DoubleWell(jnp.asarray(barrier, dtype), jnp.asarray(stiffness, dtype)))
    return _problem(energy, jnp.zeros(dimension, dtype).at[0].set(-1.0))


def rosenbrock(dimension: int = 2, valley: float = 100.0, *, dtype: Any = jnp.float32) -> Problem:
    """The curved valley, from the customary (-1.2, 1, -1.2, ...)."""
    if dimension < 2:
        raise ArgumentError("dimension", dimension, "an integer >= 2")
    start = jnp.where(jnp.arange(dimension) % 2 == 0, -1.2, 1.0).astype(dtype)
    return _problem(Energy(Rosenbrock(jnp.asarray(valley, dtype))), start)


class Mixture(eqx.Module):
    """E(x) = -log sum_k weight_k N(x; mean_k, deviation^2)."""

    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    deviation: Float[Array, ""]

    def __call__(self, theta: Any) -> Float[Array, ""]:
        square = jnp.sum(((theta["x"] - self.means) / self.deviation) ** 2, axis=-1)
        size = self.means.shape[1] * jnp.log(self.deviation * jnp.sqrt(2.0 * jnp.pi))
        return size - logsumexp(self.log_weights - 0.5 * square)


def gaussian_mixture(
    means: Sequence[Sequence[float]],
    deviation: float = 1.0,
    weights: Sequence[float] | None = None,
    *,
    dtype: Any = jnp.float32,
) -> Problem:
    """-log density of a mixture of isotropic Gaussians, from the mean of the means."""
    if not means or len({len(mean) for mean in means}) != 1 or not means[0]:
        raise ArgumentError("means", means, "a list of points of one dimension")
    shares = [1.0] * len(means) if weights is None else list(weights)
    if len(shares) != len(means) or min(shares) <= 0:
        raise ArgumentError("weights", shares, f"{len(means)} positive numbers")
    log_weights = jnp.log(jnp.asarray(shares, dtype) / sum(shares))
    centres = jnp.asarray(means, dtype)
    energy = Energy(Mixture(log_weights, centres, jnp.asarray(deviation, dtype)))
    return _problem(energy, jnp.mean(centres, axis=0))


def _problem(energy: Energy, start: Float[Array, " d"]) -> Problem:
    names = tuple(f"x{i + 1}" for i in range(start.shape[0]))
    return Problem(energy, {"x": start}, {"x": ("coordinate",)}, {"coordinate": names})
