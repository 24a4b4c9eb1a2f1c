"""A kernel is a symmetric function of two points, k(x, y) = k(y, x), evaluated block by block.

A new one is one file: `block` (b rows against n columns at once); `rows` and `stein` where a
closed form is better than differentiating pair by pair.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError


class AbstractKernel(eqx.Module):
    """k(x, y) of points in R^d; `block` gives the matrix k(x_i, y_j)."""

    @abc.abstractmethod
    def block(self, x: Float[Array, "b d"], y: Float[Array, "n d"]) -> Float[Array, "b n"]:
        """k(x_i, y_j) for every pair."""

    def pair(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        """k(x, y)."""
        return self.block(x[None], y[None])[0, 0]

    def potential(
        self, x: Float[Array, "b d"], y: Float[Array, "n d"], weights: Float[Array, " n"]
    ) -> Float[Array, " b"]:
        """U_i = sum_j weights_j k(x_i, y_j)."""
        return dot(self.block(x, y), weights)

    def sums(
        self, x: Float[Array, "b d"], y: Float[Array, "n d"], weights: Float[Array, " n"]
    ) -> tuple[Float[Array, " b"], Float[Array, "b d"]]:
        """U_i = sum_j weights_j k(x_i, y_j), and its gradient in x_i."""
        value, pull = jax.vjp(lambda rows: self.potential(rows, y, weights), x)
        return value, pull(jnp.ones_like(value))[0]

    def rows(
        self,
        x: Float[Array, "b d"],
        y: Float[Array, "n d"],
        values: Float[Array, "n m"],
        weights: Float[Array, " n"],
    ) -> tuple[Float[Array, "b m"], Float[Array, "b d"]]:
        """sum_j k(x_i, y_j) values_j, and sum_j weights_j d/dy_j k(x_i, y_j)."""
        slope = jax.vmap(lambda a: jax.vmap(lambda b: jax.grad(self.pair, 1)(a, b))(y))(x)
        return dot(self.block(x, y), values), jnp.einsum("bnd,n->bd", slope, weights)

    def stein(
        self,
        x: Float[Array, "b d"],
        score_x: Float[Array, "b d"],
        y: Float[Array, "n d"],
        score_y: Float[Array, "n d"],
    ) -> Float[Array, "b n"]:
        """s_x.s_y k + s_x.d_y k + s_y.d_x k + tr d_x d_y k, the Stein kernel of the score s."""

        def one(a: Any, s: Any, b: Any, t: Any) -> Any:
            value, (left, right) = jax.value_and_grad(self.pair, (0, 1))(a, b)
            mixed = jnp.trace(jax.jacfwd(jax.grad(self.pair, 0), 1)(a, b))
            return value * (s @ t) + s @ right + t @ left + mixed

        return jax.vmap(lambda a, s: jax.vmap(lambda b, t: one(a, s, b, t))(y, score_y))(x, score_x)

    def stein_potential(
        self,
        x: Float[Array, "b d"],
        score_x: Float[Array, "b d"],
        y: Float[Array, "n d"],
        score_y: Float[Array, "n d"],
        weights: Float[Array, " n"],
    ) -> Float[Array, " b"]:
        """sum_j weights_j times the Stein kernel of x_i and y_j."""
        return dot(self.stein(x, score_x, y, score_y), weights)

    def with_bandwidth(self, bandwidth: Any) -> AbstractKernel:
        """The same kernel at another bandwidth (itself if it has none)."""
        del bandwidth
        return self

    @property
    def smooth(self) -> bool:
        """Whether k is differentiable where x = y; else such pairs exert no force."""
        return True

    @property
    def name(self) -> str:
        """How the kernel appears in names of functionals and geometries."""
        return type(self).__name__

    def __add__(self, other: AbstractKernel) -> AbstractKernel:
        if not isinstance(other, AbstractKernel):
            return NotImplemented
        return KernelSum(_parts(self) + _parts(other))

    def __mul__(self, factor: float) -> AbstractKernel:
        return ScaledKernel(self, factor)

    __rmul__ = __mul__


class KernelSum(AbstractKernel):
    """k_1 + ... + k_m."""

    parts: tuple[AbstractKernel, ...]

    def block(self, x, y):
        return sum((part.block(x, y) for part in self.parts[1:]), self.parts[0].block(x, y))

    def rows(self, x, y, values, weights):
        found = [part.rows(x, y, values, weights) for part in self.parts]
        value, slope = found[0]
        for more, more_slope in found[1:]:
            value, slope = value + more, slope + more_slope
        return value, slope

    def stein(self, x, score_x, y, score_y):
        found = [part.stein(x, score_x, y, score_y) for part in self.parts]
        return sum(found[1:], found[0])

    def stein_potential(self, x, score_x, y, score_y, weights):
        found = [part.stein_potential(x, score_x, y, score_y, weights) for part in self.parts]
        return sum(found[1:], found[0])

    def with_bandwidth(self, bandwidth):
        return KernelSum(tuple(part.with_bandwidth(bandwidth) for part in self.parts))

    @property
    def smooth(self):
        return all(part.smooth for part in self.parts)

    @property
    def name(self):
        return " + ".join(part.name for part in self.parts)


class ScaledKernel(AbstractKernel):
    """a k for a finite a."""

    part: AbstractKernel
    factor: Any

    def __check_init__(self):
        if isinstance(self.factor, (int, float)) and not math.isfinite(self.factor):
            raise ArgumentError("factor", self.factor, "a kernel is scaled by a finite number")

    def block(self, x, y):
        return self.factor * self.part.block(x, y)

    def rows(self, x, y, values, weights):
        applied, slope = self.part.rows(x, y, values, weights)
        return self.factor * applied, self.factor * slope

    def stein(self, x, score_x, y, score_y):
        return self.factor * self.part.stein(x, score_x, y, score_y)

    def stein_potential(self, x, score_x, y, score_y, weights):
        return self.factor * self.part.stein_potential(x, score_x, y, score_y, weights)

    def with_bandwidth(self, bandwidth):
        return ScaledKernel(self.part.with_bandwidth(bandwidth), self.factor)

    @property
    def smooth(self):
        return self.part.smooth

    @property
    def name(self):
        return f"{self.factor} {self.part.name}"


def dot(a: Any, b: Any) -> Any:
    """a @ b at full precision on every device."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _parts(kernel: AbstractKernel) -> tuple[AbstractKernel, ...]:
    return kernel.parts if isinstance(kernel, KernelSum) else (kernel,)
