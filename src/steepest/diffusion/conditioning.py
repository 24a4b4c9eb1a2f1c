"""Conditioning on a linear observation y = A x_0 + noise: inpainting, deblurring.

The posterior score is score(x_t) + grad_x log p(y | x_t), and

    p(y | x_t) ~ N(A D(x_t), noise^2 I + A C(x_t) A^T),   C = Cov[x_0 | x_t] = r^2 dD/d(x_t/alpha),

by matching the two moments of p(x_0 | x_t), which are exact for a Gaussian. `order` "mean" takes
C = r^2 / (1 + r^2/c^2) I, from the data's scale c alone. Source: Boys et al., TMLR 2024 (moment
projection); Song et al., ICLR 2023 (guidance by the pseudo-inverse).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..states import GaussianMixture
from .models import AbstractModel


class Observed(AbstractModel):
    """The model of x_0 given that `matrix` x_0 + noise N(0, deviation^2 I) came out as `value`.

    `matrix`: (k, d) over raveled points; `value`: (k,). `moments_used`: "covariance" (the
    Jacobian of the denoiser, k derivatives for each evaluation) or "mean".
    """

    model: AbstractModel
    matrix: Float[Array, "k d"]
    value: Float[Array, " k"]
    deviation: float
    moments_used: str = eqx.field(static=True, default="covariance")

    def __check_init__(self):
        size = int(np.prod(self.model.shape))
        if getattr(self.matrix, "ndim", 0) != 2 or self.matrix.shape[1] != size:
            given = f"shape {getattr(self.matrix, 'shape', None)}"
            raise ArgumentError("matrix", given, f"(k, {size})")
        if jnp.shape(self.value) != (self.matrix.shape[0],):
            given = f"shape {jnp.shape(self.value)}"
            raise ArgumentError("value", given, f"({self.matrix.shape[0]},)")
        if isinstance(self.deviation, (int, float)) and not self.deviation > 0:
            raise ArgumentError("deviation", self.deviation, "a positive number")
        if self.moments_used not in ("covariance", "mean"):
            raise ArgumentError("moments_used", repr(self.moments_used), "'covariance' or 'mean'")

    def denoise(self, x, alpha, sigma, label=None):
        r2 = (sigma / alpha) ** 2
        matrix, value = self.matrix.astype(x.dtype), self.value.astype(x.dtype)
        noise = self.deviation**2 * jnp.eye(matrix.shape[0], dtype=x.dtype)

        def clean(y: Any) -> Any:
            return self.model.denoise(alpha * y.reshape(x.shape), alpha, sigma, label).ravel()

        y = x.ravel() / alpha
        found, pull = jax.vjp(clean, y)
        rows = jax.vmap(lambda row: pull(row)[0])(matrix)  # A dD/dy
        if self.moments_used == "covariance":
            spread = r2 * rows @ matrix.T
            spread = 0.5 * (spread + spread.T)
        else:
            moments = self.model.moments()
            c2 = 1.0 if moments is None else jnp.trace(moments[1]) / x.size
            spread = r2 / (1.0 + r2 / c2) * matrix @ matrix.T
        wanted = jnp.linalg.solve(noise + spread, value - matrix @ found)
        # The gradient through A D alone, with C held: what moment matching prescribes.
        return (found + r2 * rows.T @ wanted).reshape(x.shape)

    @property
    def shape(self):
        return self.model.shape

    def moments(self):
        return self.model.moments()


def observed_mixture(
    mixture: GaussianMixture, matrix: Any, value: Any, deviation: float
) -> GaussianMixture:
    """The exact law of x_0 given the observation, for a mixture: again a mixture."""
    matrix, value = jnp.asarray(matrix), jnp.asarray(value)
    noise = deviation**2 * jnp.eye(matrix.shape[0])

    def one(component: Any) -> tuple[Any, Any, Any]:
        spread = matrix @ component.covariance @ matrix.T + noise
        gain = jnp.linalg.solve(spread, matrix @ component.covariance).T
        gap = value - matrix @ component.mean
        covariance = component.covariance - gain @ matrix @ component.covariance
        covariance = 0.5 * (covariance + covariance.T)
        evidence = -0.5 * (gap @ jnp.linalg.solve(spread, gap) + jnp.linalg.slogdet(spread)[1])
        return component.mean + gain @ gap, jnp.linalg.cholesky(covariance), evidence

    means, scales, evidence = mixture.each(one)
    return GaussianMixture(jnp.log(mixture.weights) + evidence, means, scales)
