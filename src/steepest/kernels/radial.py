"""Kernels of the distance alone, k(x, y) = profile(|x - y|^2).

With s = |x - y|^2: d_x k = 2 profile'(s)(x - y), tr d_x d_y k = -2 d profile' - 4 s profile''.
In few dimensions s is summed from differences; in many it is |x|^2 + |y|^2 - 2 x.y, one matrix
product, about the mean of the columns (a cloud far from the origin would lose digits otherwise).
"""

from __future__ import annotations

import abc
import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from ..errors import ArgumentError
from .base import AbstractKernel, dot

FEW = 3
"""Up to this dimension differences are as fast as a matrix product, and exact."""


class AbstractRadial(AbstractKernel):
    """k(x, y) = profile(|x - y|^2); called with a displacement z it is profile(|z|^2)."""

    @abc.abstractmethod
    def profile(self, square: Any) -> Any:
        """k as a function of the squared distance, elementwise."""

    def __call__(self, displacement: Any) -> Any:
        leaves = jax.tree.leaves(displacement)
        return self._at(sum(jnp.sum(leaf**2) for leaf in leaves))

    def _at(self, square: Any) -> Any:
        if self.smooth:
            return self.profile(square)
        # A pair at distance 0, a particle with itself too, counts with its value where that is
        # finite, and never with a force.
        apart = square > 0
        value = self.profile(jnp.where(apart, square, 1.0))
        here = self.profile(jnp.zeros_like(square))
        here = jax.lax.stop_gradient(jnp.where(jnp.isfinite(here), here, 0.0))
        return jnp.where(apart, value, here)

    def block(self, x, y):
        return self._at(squared_distances(x, y, exact=not self.smooth))

    def rows(self, x, y, values, weights):
        kernel, pull = jax.vjp(lambda rows: self.block(rows, y), x)
        # k depends on x - y, so d_y k = -d_x k.
        (slope,) = pull(jnp.broadcast_to(weights, kernel.shape))
        return dot(kernel, values), -slope

    def stein(self, x, score_x, y, score_y):
        value, first, trace = self._slopes(x, y)
        # (x - y).(s_y - s_x), by products of matrices.
        crossed = dot(x, score_y.T) + dot(score_x, y.T)
        crossed = crossed - jnp.sum(x * score_x, 1)[:, None] - jnp.sum(y * score_y, 1)[None, :]
        return value * dot(score_x, score_y.T) + 2.0 * first * crossed + trace

    def stein_potential(self, x, score_x, y, score_y, weights):
        value, first, trace = self._slopes(x, y)
        x, y = _about_the_mean(x, y)
        s, w = score_y, weights[:, None]
        pulled = dot(value, w * s)
        columns = [w, w * s, w * y, w * jnp.sum(y * s, 1, keepdims=True)]
        mass, scores, places, own = _split(dot(first, jnp.concatenate(columns, axis=1)), x.shape[1])
        crossed = jnp.sum(x * scores + score_x * places - x * score_x * mass, 1) - own[:, 0]
        return jnp.sum(score_x * pulled, 1) + 2.0 * crossed + dot(trace, weights)

    def _slopes(self, x: Any, y: Any) -> tuple[Any, Any, Any]:
        """profile, profile' and tr d_x d_y k of every pair."""
        square = squared_distances(x, y, exact=not self.smooth)
        one = jnp.ones_like(square)

        def slope(s: Any) -> Any:
            return jax.jvp(self._at, (s,), (one,))

        (value, first), (_, second) = jax.jvp(slope, (square,), (one,))
        return value, first, -2.0 * x.shape[1] * first - 4.0 * square * second


class GaussianKernel(AbstractRadial):
    """exp(-|x - y|^2 / (2 bandwidth^2))."""

    bandwidth: Any = 1.0

    def __check_init__(self):
        check_bandwidth(self.bandwidth)

    def profile(self, square):
        return jnp.exp(square * (-0.5 / self.bandwidth**2))

    def sums(self, x, y, weights):
        columns = jnp.concatenate([weights[:, None] * y, weights[:, None]], axis=1)
        found = dot(self.block(x, y), columns)
        value = found[:, -1]
        return value, (found[:, :-1] - x * value[:, None]) / self.bandwidth**2

    def rows(self, x, y, values, weights):
        # d_y k = k (x - y)/bandwidth^2: one product of the same matrix gives everything.
        kernel, m = self.block(x, y), values.shape[1]
        columns = jnp.concatenate([values, weights[:, None] * y, weights[:, None]], axis=1)
        found = dot(kernel, columns)
        slope = (x * found[:, -1:] - found[:, m:-1]) / self.bandwidth**2
        return found[:, :m], slope

    def stein_potential(self, x, score_x, y, score_y, weights):
        # profile' and profile'' are multiples of the profile: one product gives every sum.
        kernel, d, per = self.block(x, y), x.shape[1], 1.0 / self.bandwidth**2
        x, y = _about_the_mean(x, y)
        s, w = score_y, weights[:, None]
        columns = [w, w * s, w * y, w * jnp.sum(per * (y * s - per * y**2), 1, keepdims=True)]
        mass, scores, places, own = _split(dot(kernel, jnp.concatenate(columns, axis=1)), d)
        total = per * (x * score_x + 1.0 - per * x**2) * mass + (score_x - per * x) * scores
        return jnp.sum(total + per * (2.0 * per * x - score_x) * places, 1) + own[:, 0]

    def with_bandwidth(self, bandwidth):
        return eqx.tree_at(lambda k: k.bandwidth, self, bandwidth)

    @property
    def name(self):
        return _named("GaussianKernel", self.bandwidth)


class InverseMultiquadric(AbstractRadial):
    """(1 + |x - y|^2 / bandwidth^2)^(-exponent), 0 < exponent < 1.

    Its Stein discrepancy controls weak convergence, which the Gaussian's does not in many
    dimensions. Source: Gorham and Mackey, ICML 2017, theorem 8.
    """

    bandwidth: Any = 1.0
    exponent: Any = 0.5

    def __check_init__(self):
        check_bandwidth(self.bandwidth)
        if not isinstance(self.exponent, Tracer) and not 0 < float(self.exponent) < 1:
            raise ArgumentError("exponent", self.exponent, "a number between 0 and 1")

    def profile(self, square):
        base = 1.0 + square / self.bandwidth**2
        if isinstance(self.exponent, float) and self.exponent == 0.5:
            return jax.lax.rsqrt(base)
        return base ** (-jnp.asarray(self.exponent, base.dtype))

    def with_bandwidth(self, bandwidth):
        return eqx.tree_at(lambda k: k.bandwidth, self, bandwidth)

    @property
    def name(self):
        return _named("InverseMultiquadric", self.bandwidth)


class Logarithmic(AbstractRadial):
    """log |x - y|: in the plane 2 pi times the Green function, the attraction of Keller and Segel.

    Infinite at distance 0: coinciding points count nothing and exert no force on each other.
    """

    def profile(self, square):
        return 0.5 * jnp.log(square)

    @property
    def smooth(self):
        return False


class EnergyDistance(AbstractRadial):
    """-|x - y|, conditionally positive definite: its MMD is the energy distance.

    Not differentiable at distance 0: coinciding points exert no force on each other.
    Source: Szekely and Rizzo, J. Stat. Plan. Inference 143 (2013) 1249.
    """

    def profile(self, square):
        return -jnp.sqrt(square)

    @property
    def smooth(self):
        return False


def squared_distances(x: Any, y: Any, exact: bool = False) -> Any:
    """|x_i - y_j|^2, never negative."""
    if x.shape[1] <= FEW or exact:
        columns = (x[:, None, i] - y[None, :, i] for i in range(x.shape[1]))
        squares = [column**2 for column in columns]
        return sum(squares[1:], squares[0])
    x, y = _about_the_mean(x, y)
    square = jnp.sum(x**2, 1)[:, None] + jnp.sum(y**2, 1)[None, :] - 2.0 * dot(x, y.T)
    return jnp.maximum(square, 0.0)


def _about_the_mean(x: Any, y: Any) -> tuple[Any, Any]:
    centre = jax.lax.stop_gradient(jnp.mean(y, axis=0))
    return x - centre, y - centre


def _split(columns: Any, d: int) -> tuple[Any, ...]:
    """1, d, d and 1 columns."""
    return columns[:, :1], columns[:, 1 : d + 1], columns[:, d + 1 : -1], columns[:, -1:]


@functools.partial(jax.jit, static_argnames="sample")
def median_bandwidth(x: Float[Array, "n d"], sample: int = 256) -> Float[Array, ""]:
    """median |x_i - x_j| / sqrt(2 log(n + 1)), so that a kernel sees about one neighbour's worth.

    The median is that of `sample` evenly spaced points (all, where there are no more), to 1e-4
    relative by bisection; it errs by a few percent, which no result depends on.
    Source: Liu and Wang, NeurIPS 2016, section 5.
    """
    n = x.shape[0]
    if n < 2:
        return jnp.ones((), x.dtype)
    few = x[jnp.linspace(0, n - 1, min(n, sample)).astype(int)]
    square = squared_distances(few, few)
    m = few.shape[0]
    # The diagonal is zero: half of the other entries lie below the median.
    rank = m + (m * m - m) // 2

    def halve(_: Any, bracket: Any) -> Any:
        low, high = bracket
        middle = 0.5 * (low + high)
        below = jnp.sum(square <= middle) >= rank
        return jnp.where(below, low, middle), jnp.where(below, middle, high)

    top = jnp.max(square)
    _, median = jax.lax.fori_loop(0, 20, halve, (jnp.zeros_like(top), top))
    width = jnp.sqrt(median / (2.0 * math.log(n + 1.0)))
    return jax.lax.stop_gradient(jnp.where(width > 0, width, 1.0))


def check_bandwidth(bandwidth: Any, argument: str = "bandwidth") -> None:
    """Raises ArgumentError unless the bandwidth is a positive finite number."""
    if isinstance(bandwidth, Tracer) or not isinstance(bandwidth, (int, float)):
        return
    if not (math.isfinite(bandwidth) and bandwidth > 0):
        raise ArgumentError(argument, bandwidth, "a positive finite number")


def _named(kind: str, bandwidth: Any) -> str:
    shown = f"{bandwidth:g}" if isinstance(bandwidth, (int, float)) else ""
    return f"{kind}({shown})"
