"""Posteriors that meet the data through one linear predictor: generalised linear models.

E(theta) = sum_i loss(a_i . theta, y_i) + sum_j theta_j^2 / (2 s_j^2) with rows a_i of a design.
Under a Gaussian q the predictor of every row is a number with law N(a_i . m, a_i . S a_i), so
expectations under q are one-dimensional.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float


@jax.custom_jvp
def softplus(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + exp(z)), without overflow; its derivative is computed without the logarithm."""
    return jnp.maximum(z, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(z)))


@softplus.defjvp
def _softplus_jvp(primals: Any, tangents: Any) -> Any:
    (z,), (dz,) = primals, tangents
    return softplus(z), jax.nn.sigmoid(z) * dz


class GeneralisedLinear(eqx.Module):
    """E(theta) = sum_i loss(eta_i, y_i) + sum_j theta_j^2 / (2 s_j^2), eta = design theta.

    `design` (n, d), in the order in which the parameters are flattened; `response` (n,);
    `prior_scale` (d,), infinite for a flat prior; `loss`: (eta, y) -> -log p(y | eta), one row.
    -log posterior up to a constant, so the posterior is the Gibbs law at temperature 1.
    """

    design: Float[Array, "n d"]
    response: Float[Array, " n"]
    prior_scale: Float[Array, " d"]
    loss: Callable[[Any, Any], Any] = eqx.field(static=True)

    def __call__(self, theta: Any) -> Float[Array, ""]:
        flat = ravel_pytree(theta)[0]
        rows = self.loss(self.design @ flat, self.response)
        return jnp.sum(rows) + self.penalty(flat)

    def expect_gaussian(
        self, mean: Float[Array, " d"], covariance: Float[Array, "d d"], count: int = 20
    ) -> tuple[Float[Array, ""], Float[Array, " d"], Float[Array, "d d"]]:
        """E[E], E[grad E] and E[Hessian of E] under N(mean, covariance), at `count` gradients.

        Gauss-Hermite of `count` nodes in the predictor of each row (exact for losses of degree
        2 count - 1): E[grad] = A^T E[loss'] + mean/s^2, E[Hessian] = A^T diag(E[loss'']) A + 1/s^2.
        """
        z, w = np.polynomial.hermite_e.hermegauss(count)
        z, w = jnp.asarray(z, mean.dtype), jnp.asarray(w / w.sum(), mean.dtype)
        centre = self.design @ mean
        spread = jnp.sqrt(jnp.maximum(jnp.sum((self.design @ covariance) * self.design, 1), 0.0))
        predictor = centre + z[:, None] * spread
        slope, bend = jax.grad(self.loss), jax.grad(jax.grad(self.loss))
        each = lambda fn: jax.vmap(jax.vmap(fn), (0, None))  # noqa: E731
        value, a, b = (w @ each(fn)(predictor, self.response) for fn in (self.loss, slope, bend))
        prior = 1.0 / self.prior_scale**2
        value = jnp.sum(value) + self.penalty(mean) + 0.5 * jnp.sum(prior * jnp.diag(covariance))
        gradient = self.design.T @ a + prior * mean
        return value, gradient, (self.design.T * b) @ self.design + jnp.diag(prior)

    def penalty(self, flat: Float[Array, " d"]) -> Float[Array, ""]:
        """-log prior."""
        return 0.5 * jnp.sum((flat / self.prior_scale) ** 2)


def logistic_loss(eta: Any, y: Any) -> Any:
    """-log p(y | eta) of a coin with log odds eta, y = -1 or 1."""
    return softplus(-y * eta)


def poisson_loss(eta: Any, y: Any) -> Any:
    """-log p(y | eta) of a count with log rate eta, without the log factorial."""
    return jnp.exp(eta) - y * eta


def gaussian_loss(eta: Any, y: Any) -> Any:
    """-log p(y | eta) of N(eta, 1), without the constant."""
    return 0.5 * (y - eta) ** 2
