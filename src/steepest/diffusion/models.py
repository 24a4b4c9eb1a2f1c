"""What a reverse process needs of the data: E[x_0 | x_t] and the score, exact or learned.

    score = (alpha E[x_0 | x_t] - x_t) / sigma^2        (Tweedie's formula)

A model is made for points x of any shape with x_t = alpha x_0 + sigma noise; it sees (alpha, sigma)
and not the time, so that it serves every process and every grid.
"""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..states import GaussianMixture


class AbstractModel(eqx.Module):
    """E[x_0 | alpha x_0 + sigma noise = x] of one point, and what follows from it."""

    @abc.abstractmethod
    def denoise(self, x: Any, alpha: Any, sigma: Any, label: Any = None) -> Float[Array, "..."]:
        """E[x_0 | x], of the shape of x."""

    def score(self, x: Any, alpha: Any, sigma: Any, label: Any = None) -> Float[Array, "..."]:
        """grad log p(x), p the law of alpha x_0 + sigma noise."""
        return (alpha * self.denoise(x, alpha, sigma, label) - x) / sigma**2

    def log_prob(self, x: Any, alpha: Any, sigma: Any) -> Float[Array, ""] | None:
        """log p(x) where the model knows it; None otherwise."""
        return None

    @property
    def exact(self) -> bool:
        """Whether `log_prob` is known, and the score its gradient."""
        return False

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one point."""

    def moments(self) -> tuple[Float[Array, " d"], Float[Array, "d d"]] | None:
        """Mean and covariance of the data, raveled; None where they are not known."""
        return None


class ExactMixture(AbstractModel):
    """The exact score when the data are a Gaussian mixture: p is the mixture of
    N(alpha m_i, alpha^2 S_i + sigma^2 I).

    The components' covariances are diagonalised once.
    """

    mixture: GaussianMixture
    directions: Float[Array, "k d d"] | None
    variances: Float[Array, "k d"]

    def __init__(self, mixture: GaussianMixture):
        if not isinstance(mixture, GaussianMixture):
            raise ArgumentError("mixture", type(mixture).__name__, "a GaussianMixture")
        self.mixture = mixture
        if mixture.scales.ndim == 2:
            self.directions, self.variances = None, mixture.scales**2
        else:
            covariances = mixture.each(lambda component: component.covariance)
            self.variances, self.directions = jnp.linalg.eigh(covariances)

    def _residuals(self, x: Any, alpha: Any, sigma: Any) -> tuple[Any, Any, Any]:
        """Along the directions of each component: x - alpha m, the variances, log(w_i p_i)."""
        gap = x - alpha * self.mixture.means
        if self.directions is not None:
            gap = jnp.einsum("kij,ki->kj", self.directions, gap)
        spread = alpha**2 * self.variances + sigma**2
        logs = -0.5 * jnp.sum(gap**2 / spread + jnp.log(2.0 * np.pi * spread), axis=-1)
        return gap, spread, logs + jax.nn.log_softmax(self.mixture.log_weights)

    def _back(self, parts: Any) -> Any:
        """From the directions of each component to coordinates."""
        if self.directions is None:
            return parts
        return jnp.einsum("kij,kj->ki", self.directions, parts)

    def denoise(self, x, alpha, sigma, label=None):
        gap, spread, logs = self._residuals(x, alpha, sigma)
        means = self.mixture.means + self._back(alpha * self.variances / spread * gap)
        return jax.nn.softmax(logs) @ means

    def score(self, x, alpha, sigma, label=None):
        gap, spread, logs = self._residuals(x, alpha, sigma)
        return jax.nn.softmax(logs) @ self._back(-gap / spread)

    def log_prob(self, x, alpha, sigma):
        return jax.nn.logsumexp(self._residuals(x, alpha, sigma)[2])

    @property
    def exact(self):
        return True

    @property
    def shape(self):
        return (self.mixture.dimension,)

    def moments(self):
        w, means = self.mixture.weights, self.mixture.means
        mean = w @ means
        inner = self.mixture.each(lambda component: component.covariance)
        centred = means - mean
        return mean, jnp.einsum("k,kij->ij", w, inner) + (w[:, None] * centred).T @ centred


class ExactEmpirical(AbstractModel):
    """The exact minimiser of denoising score matching on finitely many points: they are the law.

    E[x_0 | x] = sum_i softmax_i(-|x - alpha x_i|^2 / (2 sigma^2)) x_i. Its reverse process gives
    the points back: what a network that had learned its training set perfectly would do.
    `data`: (n, ...).
    """

    data: Float[Array, "n ..."]

    def __check_init__(self):
        if isinstance(self.data, Tracer) or not hasattr(self.data, "shape"):
            return
        if self.data.ndim < 2 or 0 in self.data.shape:
            raise ArgumentError(
                "data", f"shape {self.data.shape}", "(n, ...), a row for each point"
            )
        if not tree.is_finite(self.data):
            raise ArgumentError("data", "NaN or infinite values", "finite numbers")

    def _logs(self, x: Any, alpha: Any, sigma: Any) -> Any:
        flat = self.data.reshape(self.data.shape[0], -1)
        return -0.5 * jnp.sum((x.ravel() - alpha * flat) ** 2, axis=1) / sigma**2

    def denoise(self, x, alpha, sigma, label=None):
        weights = jax.nn.softmax(self._logs(x, alpha, sigma))
        return jnp.tensordot(weights, self.data, 1)

    def log_prob(self, x, alpha, sigma):
        n, d = self.data.shape[0], x.size
        constant = -0.5 * d * jnp.log(2.0 * np.pi * sigma**2) - np.log(n)
        return jax.nn.logsumexp(self._logs(x, alpha, sigma)) + constant

    @property
    def exact(self):
        return True

    @property
    def shape(self):
        return self.data.shape[1:]

    def moments(self):
        flat = self.data.reshape(self.data.shape[0], -1)
        mean = jnp.mean(flat, axis=0)
        return mean, (flat - mean).T @ (flat - mean) / flat.shape[0]


class Guided(AbstractModel):
    """Classifier-free guidance: denoise(x, label) + weight (denoise(x, label) - denoise(x)).

    weight 0 is the conditional model; larger ones sharpen, and no longer sample p(x | label).
    Source: Ho and Salimans, 2022 (arXiv 2207.12598).
    """

    model: AbstractModel
    weight: float = 0.0

    def denoise(self, x, alpha, sigma, label=None):
        with_label = self.model.denoise(x, alpha, sigma, label)
        if label is None or (isinstance(self.weight, (int, float)) and self.weight == 0):
            return with_label
        return with_label + self.weight * (with_label - self.model.denoise(x, alpha, sigma))

    @property
    def shape(self):
        return self.model.shape

    def moments(self):
        return self.model.moments()
