"""Discrepancies to data, as functionals of a measure: what generative flows go down.

Each compares the particles with `data` (an array of points, or a measure of points).
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..kernels import AbstractKernel, GaussianKernel, check_symmetric, median_bandwidth, pairs
from ..states import Particles
from ..states.points import coordinates
from .base import AbstractFunctional
from .projection import projection


class AbstractDiscrepancy(AbstractFunctional):
    """A functional that vanishes when the particles have the law of the data."""

    data: eqx.AbstractVar[Particles]

    def per_point(self, state):
        return projection(self, state)

    def check(self, state):
        if not isinstance(state, Particles):
            raise ArgumentError("state", type(state).__name__, f"{self.name} compares Particles")
        given, wanted = coordinates(state).shape[1], coordinates(self.data).shape[1]
        if given != wanted:
            raise ArgumentError(
                "data", f"points in {wanted} dimensions", f"the particles have {given}"
            )

    @property
    def on_measures(self):
        return True

    @property
    def couples(self):
        return True

    @property
    def name(self):
        return f"{type(self).__name__}(data)"


class MMD(AbstractDiscrepancy):
    """1/2 double integral k d(rho - nu)(x) d(rho - nu)(y), half the squared MMD to the data.

    `kernel`: a Gaussian at the median distance of the data unless given. The constant of the data
    alone is kept, so that the value is zero at the data.
    Source: Arbel, Korba, Salim and Gretton, NeurIPS 2019 (its flow).
    """

    data: Particles
    kernel: AbstractKernel
    constant: Float[Array, ""]

    def __init__(self, data: Any, kernel: AbstractKernel | None = None):
        self.data = as_data(data)
        y = coordinates(self.data)
        if kernel is None:
            kernel = GaussianKernel(median_bandwidth(y) * math.sqrt(2.0 * math.log(len(y) + 1.0)))
        if not isinstance(kernel, AbstractKernel):
            raise ArgumentError("kernel", type(kernel).__name__, "e.g. GaussianKernel(1.0)")
        self.kernel = kernel
        self.constant = 0.5 * _self_energy(kernel, y, self.data.weights)

    def __call__(self, state: Particles) -> Float[Array, ""]:
        x, w, y = coordinates(state), state.weights, coordinates(self.data).astype(_dtype(state))
        v = self.data.weights.astype(y.dtype)
        own = 0.5 * pairs.energy(self.kernel, x, w)
        return own - jnp.sum(w * pairs.potential(self.kernel, x, y, v)) + self.constant

    def check(self, state):
        super().check(state)
        check_symmetric(self.kernel, coordinates(state).shape[1], _dtype(state))

    @property
    def smooth(self):
        return self.kernel.smooth


class SlicedWasserstein(AbstractDiscrepancy):
    """1/2 E_theta W2^2(theta.rho, theta.nu) over `projections` directions theta, drawn once.

    On each line W2 is exact, by sorting; weights and unequal counts are allowed. The directions are
    a function of `seed`. Source: Bonneel et al., J. Math. Imaging Vis. 51 (2015) 22.
    """

    data: Particles
    directions: Float[Array, "p d"]

    def __init__(self, data: Any, projections: int = 64, seed: int = 0):
        if not isinstance(projections, (int, np.integer)) or projections < 1:
            raise ArgumentError("projections", projections, "a positive integer")
        self.data = as_data(data)
        y = coordinates(self.data)
        drawn = jax.random.normal(jax.random.key(seed), (projections, y.shape[1]), y.dtype)
        self.directions = drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)

    def __call__(self, state: Particles) -> Float[Array, ""]:
        x, w = coordinates(state), state.weights
        y = coordinates(self.data).astype(x.dtype)
        v, equal = self.data.weights.astype(x.dtype), state.log_weights is None
        equal = equal and self.data.log_weights is None and len(x) == len(y)

        def line(theta: Any) -> Any:
            a, b = x @ theta, y @ theta
            if equal:
                return jnp.mean((jnp.sort(a) - jnp.sort(b)) ** 2)
            return _line_squared(a, w, b, v)

        return 0.5 * jnp.mean(jax.lax.map(line, self.directions.astype(x.dtype)))


class SinkhornDivergence(AbstractDiscrepancy):
    """1/2 (OT_eps(rho, nu) - OT_eps(rho, rho)/2 - OT_eps(nu, nu)/2) for the squared distance.

    `epsilon`: the entropic regularisation, in squared units of the data (default: 10 % of the mean
    squared distance to the data's mean). Solved by ott-jax (`pip install "steepest[transport]"`),
    with a dense cost matrix: up to some thousands of points. Not converged means NaN, which the
    driver reports. Source: Feydy et al., AISTATS 2019.
    """

    data: Particles
    epsilon: Any
    iterations: int = eqx.field(static=True)

    def __init__(self, data: Any, epsilon: float | None = None, iterations: int = 20_000):
        _ott()
        self.data, self.iterations = as_data(data), iterations
        y = coordinates(self.data)
        if epsilon is None:
            epsilon = 0.1 * float(jnp.mean(jnp.sum((y - jnp.mean(y, 0)) ** 2, 1)))
        if not isinstance(epsilon, Tracer) and not (math.isfinite(epsilon) and epsilon > 0):
            raise ArgumentError("epsilon", epsilon, "a positive finite number")
        self.epsilon = epsilon

    def __call__(self, state: Particles) -> Float[Array, ""]:
        divergence = _ott()
        x, y = coordinates(state), coordinates(self.data).astype(_dtype(state))
        value, out = divergence(
            x,
            y,
            epsilon=self.epsilon,
            a=state.weights,
            b=self.data.weights.astype(y.dtype),
            max_iterations=self.iterations,
        )
        return jnp.where(out, 0.5 * value, jnp.nan)


def as_data(data: Any) -> Particles:
    """Points as a measure of equal weights; raises ArgumentError for what is no finite cloud."""
    measure = data if isinstance(data, Particles) else Particles(tree.as_float(data, "data"))
    if measure.count < 1:
        raise ArgumentError("data", "no points", "at least one point is needed")
    traced = any(isinstance(x, Tracer) for x in jax.tree.leaves(measure))
    if not traced and not tree.is_finite(measure):
        raise ArgumentError("data", "NaN or infinite values", "finite points")
    return measure


@eqx.filter_jit
def _self_energy(kernel: AbstractKernel, x: Any, w: Any) -> Any:
    return pairs.energy(kernel, x, w)


def _line_squared(a: Any, w: Any, b: Any, v: Any) -> Any:
    """W2^2 of two weighted sets of points on a line: quantile functions on common levels."""
    first, second = jnp.argsort(a), jnp.argsort(b)
    a, w, b, v = a[first], w[first], b[second], v[second]
    mass_a, mass_b = jnp.cumsum(w), jnp.cumsum(v)
    mass_a, mass_b = mass_a / mass_a[-1], mass_b / mass_b[-1]
    levels = jnp.sort(jnp.concatenate([mass_a, mass_b]))
    widths = jnp.diff(levels, prepend=0.0)
    middle = jax.lax.stop_gradient(levels - 0.5 * widths)
    i = jnp.minimum(jnp.searchsorted(mass_a, middle), a.size - 1)
    j = jnp.minimum(jnp.searchsorted(mass_b, middle), b.size - 1)
    return jnp.sum(widths * (a[i] - b[j]) ** 2)


def _dtype(state: Particles) -> Any:
    return tree.dtype(state.positions)


def _ott() -> Any:
    try:
        from ott.geometry import pointcloud
        from ott.tools import sinkhorn_divergence
    except ImportError as error:
        raise ArgumentError(
            "SinkhornDivergence", "ott-jax is not installed", 'pip install "steepest[transport]"'
        ) from error

    def divergence(x: Any, y: Any, *, epsilon: Any, a: Any, b: Any, max_iterations: int) -> Any:
        value, out = sinkhorn_divergence.sinkhorn_divergence(
            pointcloud.PointCloud,
            x,
            y,
            epsilon=epsilon,
            a=a,
            b=b,
            solve_kwargs={"max_iterations": max_iterations, "threshold": 1e-4},
        )
        return value, jnp.all(jnp.asarray(out.converged))

    return divergence
