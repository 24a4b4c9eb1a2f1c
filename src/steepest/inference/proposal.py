"""The law that importance weights draw from: the fitted one, and a heavier-tailed share of it.

A Gaussian's tails are thinner than those of many posteriors, and then single weights are huge. With
a share of multivariate Student's law of the same centre and shape in the proposal no weight is
beyond what Student's tails give, at the cost of that share of the draws.
Source: Hesterberg, Technometrics 37 (1995) 185 (defensive mixtures).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from scipy.special import gammaln, logsumexp

from ..states import GaussianMixture

SHARE, DEGREES, WIDEN = 0.2, 5.0, 1.25


def generator(key: jax.Array, stream: int) -> np.random.Generator:
    """A numpy generator that depends on the key and the number of the stream alone."""
    return np.random.default_rng([*np.asarray(jax.random.key_data(key)).tolist(), stream])


@dataclasses.dataclass(frozen=True)
class Proposal:
    """sum_i w_i N(m_i, L_i L_i^T), of which `SHARE` is exchanged for Student's law.

    `weights` (k,), `means` (k, d), `lowers` (k, d, d); all numpy, 64-bit.
    """

    weights: np.ndarray
    means: np.ndarray
    lowers: np.ndarray

    @classmethod
    def of(cls, law: Any) -> Proposal:
        """From a `Gaussian` or a `GaussianMixture`."""
        if isinstance(law, GaussianMixture):
            lowers = [np.asarray(law.component(i).lower, float) for i in range(law.count)]
            weights = np.asarray(law.weights, float)
            return cls(weights / weights.sum(), np.asarray(law.means, float), np.stack(lowers))
        return cls(
            np.ones(1), np.asarray(law.mean, float)[None], np.asarray(law.lower, float)[None]
        )

    @property
    def dimension(self) -> int:
        """d."""
        return self.means.shape[1]

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the law."""
        mean = self.weights @ self.means
        gaps = self.means - mean
        spread = self.lowers @ self.lowers.transpose(0, 2, 1)
        return mean, np.einsum("i,ijk->jk", self.weights, spread) + (gaps.T * self.weights) @ gaps

    def draw(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(y (n, d), component (n,)); the first of them, (1 - SHARE) n, from the law itself."""
        own = n - int(SHARE * n)
        # Stratified over the components: as many of each as its weight says, to within one.
        edges = np.cumsum(self.weights) * own
        component = np.searchsorted(edges, np.arange(own) + rng.uniform(), side="right")
        component = np.minimum(component, len(self.weights) - 1)
        z = rng.standard_normal((own, self.dimension))
        y = self.means[component] + np.einsum("nij,nj->ni", self.lowers[component], z)
        mean, lower = self._wide()
        radius = np.sqrt(DEGREES / rng.chisquare(DEGREES, n - own))
        t = mean + (rng.standard_normal((n - own, self.dimension)) * radius[:, None]) @ lower.T
        return np.concatenate([y, t]), np.concatenate([component, np.full(n - own, -1)])

    def log_law(self, y: np.ndarray) -> np.ndarray:
        """log density of the fitted law at (n, d)."""
        d, logs = self.dimension, []
        for w, mean, lower in zip(self.weights, self.means, self.lowers, strict=True):
            z = np.linalg.solve(lower, (y - mean).T)
            size = np.sum(np.log(np.diagonal(lower))) + 0.5 * d * np.log(2 * np.pi)
            logs.append(np.log(max(w, 1e-300)) - 0.5 * np.sum(z**2, axis=0) - size)
        return logsumexp(logs, axis=0)

    def log_density(self, y: np.ndarray, n: int) -> np.ndarray:
        """log density of what `draw(rng, n)` draws from."""
        d, nu = self.dimension, DEGREES
        mean, lower = self._wide()
        z = np.linalg.solve(lower, (y - mean).T)
        student = (
            gammaln(0.5 * (nu + d))
            - gammaln(0.5 * nu)
            - 0.5 * d * np.log(nu * np.pi)
            - np.sum(np.log(np.diagonal(lower)))
            - 0.5 * (nu + d) * np.log1p(np.sum(z**2, axis=0) / nu)
        )
        share = int(SHARE * n) / n
        return np.logaddexp(np.log1p(-share) + self.log_law(y), np.log(share) + student)

    def _wide(self) -> tuple[np.ndarray, np.ndarray]:
        mean, covariance = self.moments()
        return mean, WIDEN * np.linalg.cholesky(covariance)
