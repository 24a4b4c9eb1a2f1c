"""The Stein kernel, whose mean against any law in its second argument vanishes at the target."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractKernel


class SteinKernel(AbstractKernel):
    """s_x.s_y k + s_x.d_y k + s_y.d_x k + tr d_x d_y k on points (x, s) in R^2d, s the score at x.

    Source: Liu, Lee and Jordan, ICML 2016; Chwialkowski, Strathmann and Gretton, ICML 2016.
    """

    kernel: AbstractKernel

    def block(self, x, y):
        d = x.shape[1] // 2
        return self.kernel.stein(x[:, :d], x[:, d:], y[:, :d], y[:, d:])

    def potential(self, x, y, weights):
        d = x.shape[1] // 2
        return self.kernel.stein_potential(x[:, :d], x[:, d:], y[:, :d], y[:, d:], weights)

    @staticmethod
    def lift(x: Float[Array, "n d"], score: Float[Array, "n d"]) -> Any:
        """The points (x, s) that the kernel compares."""
        return jnp.concatenate([x, score], axis=1)
