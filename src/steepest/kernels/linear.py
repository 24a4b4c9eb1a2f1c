"""The linear kernel, whose Stein geometry moves means and covariances exactly."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .base import AbstractKernel, dot


class LinearKernel(AbstractKernel):
    """x.y + offset: velocities are affine, so the flow of a Gaussian stays Gaussian.

    Source: Liu and Wang, NeurIPS 2018, "Stein variational gradient descent as moment matching".
    """

    offset: Any = 1.0

    def block(self, x, y):
        return dot(x, y.T) + self.offset

    def rows(self, x, y, values, weights):
        applied = dot(x, dot(y.T, values)) + self.offset * jnp.sum(values, axis=0)
        return applied, x * jnp.sum(weights)

    def stein(self, x, score_x, y, score_y):
        own = jnp.sum(x * score_x, 1)[:, None] + jnp.sum(y * score_y, 1)[None, :]
        return self.block(x, y) * dot(score_x, score_y.T) + own + x.shape[1]

    def potential(self, x, y, weights):
        return dot(x, dot(weights, y)) + self.offset * jnp.sum(weights)
