"""The law that importance weights draw from: the fitted one, and a heavy-tailed share of it.

A Gaussian's tails are thinner than those of many posteriors, and then single weights are huge. A
share of the draws therefore comes from the law with one coordinate of x at a time drawn from
Student's law instead, as far out as the others allow: in the direction u_j = L^T e_j / |L^T e_j| of
the normals z along which x_j varies,

    q_j(z) = q(z) t(u_j . z) / phi(u_j . z),   p = (1 - share) q + share (1/d) sum_j q_j,

so that no weight is beyond what Student's tails give in any one coordinate. (Student's law in all
of R^d at once does not: its draws are far out in all coordinates together.)
Source: Hesterberg, Technometrics 37 (1995) 185 (defensive mixtures).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from scipy import stats
from scipy.special import logsumexp

from ..states import GaussianMixture

SHARE, DEGREES, WIDEN = 0.3, 3.0, 1.5


def generator(key: jax.Array, stream: int) -> np.random.Generator:
    """A numpy generator that depends on the key and the number of the stream alone."""
    return np.random.default_rng([*np.asarray(jax.random.key_data(key)).tolist(), stream])


@dataclasses.dataclass(frozen=True)
class Proposal:
    """sum_i w_i N(m_i, L_i L_i^T), of which `SHARE` is exchanged for Student's tails.

    `weights` (k,), `means` (k, d), `lowers` (k, d, d), and `axes` (d, d), whose row j is the
    coordinate x_j as a linear function of y; all numpy, 64-bit.
    """

    weights: np.ndarray
    means: np.ndarray
    lowers: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, law: Any, root: Any = None) -> Proposal:
        """From a `Gaussian` or a `GaussianMixture` of y, where x = centre + root y."""
        d = law.dimension
        axes = np.eye(d) if root is None or np.ndim(root) == 1 else np.asarray(root, float)
        if isinstance(law, GaussianMixture):
            lowers = [np.asarray(law.component(i).lower, float) for i in range(law.count)]
            weights = np.asarray(law.weights, float)
            return cls(
                weights / weights.sum(), np.asarray(law.means, float), np.stack(lowers), axes
            )
        return cls(
            np.ones(1), np.asarray(law.mean, float)[None], np.asarray(law.lower, float)[None], axes
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
        mean, lower, turns = self._tails()
        which = np.arange(n - own) % self.dimension
        z = rng.standard_normal((n - own, self.dimension))
        far = WIDEN * rng.standard_t(DEGREES, n - own)
        u = turns[which]
        z = z + (far - np.sum(z * u, axis=1))[:, None] * u
        y_far = mean + z @ lower.T
        return np.concatenate([y, y_far]), np.concatenate([component, np.full(n - own, -1)])

    def log_law(self, y: np.ndarray) -> np.ndarray:
        """log density of the fitted law at (n, d)."""
        return np.asarray(logsumexp(self._log_parts(y), axis=0))

    def score(self, y: np.ndarray) -> np.ndarray:
        """Gradient of `log_law` at (n, d)."""
        logs = self._log_parts(y)
        belongs = np.exp(logs - logsumexp(logs, axis=0))
        pulls = [
            np.linalg.solve(lower.T, np.linalg.solve(lower, (y - mean).T)).T
            for mean, lower in zip(self.means, self.lowers, strict=True)
        ]
        return -np.einsum("kn,knd->nd", belongs, np.stack(pulls))

    def _log_parts(self, y: np.ndarray) -> np.ndarray:
        """log w_i N(y; m_i, L_i L_i^T) at (n, d), as (k, n)."""
        d, logs = self.dimension, []
        for w, mean, lower in zip(self.weights, self.means, self.lowers, strict=True):
            z = np.linalg.solve(lower, (y - mean).T)
            size = np.sum(np.log(np.diagonal(lower))) + 0.5 * d * np.log(2 * np.pi)
            logs.append(np.log(max(w, 1e-300)) - 0.5 * np.sum(z**2, axis=0) - size)
        return np.stack(logs)

    def log_density(self, y: np.ndarray, n: int) -> np.ndarray:
        """log density of what `draw(rng, n)` draws from."""
        mean, lower, turns = self._tails()
        z = np.linalg.solve(lower, (y - mean).T).T
        along = z @ turns.T
        ratio = stats.t.logpdf(along, DEGREES, scale=WIDEN) - stats.norm.logpdf(along)
        size = np.sum(np.log(np.diagonal(lower))) + 0.5 * self.dimension * np.log(2 * np.pi)
        base = -0.5 * np.sum(z**2, axis=1) - size
        far = base + logsumexp(ratio, axis=1) - np.log(len(turns))
        share = int(SHARE * n) / n
        return np.logaddexp(np.log1p(-share) + self.log_law(y), np.log(share) + far)

    def _tails(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and factor of the law's moments, and the directions u_j, a row each."""
        mean, covariance = self.moments()
        lower = np.linalg.cholesky(covariance)
        turns = self.axes @ lower
        return mean, lower, turns / np.linalg.norm(turns, axis=1, keepdims=True)
