"""Laws on a finite set {0, ..., k - 1}: the simplex, its replicator flow and its distances.

The covector of logits, jax.grad, is p_i (psi_i - <psi>) with psi = dF/dp. The Fisher-Rao motion is
the replicator equation p_i' = p_i (psi_i - <psi>): in logits simply psi_i - <psi>, so that an Euler
step on logits is exponentiated gradient (eq. 62 on the simplex).
Sources: Shahshahani, Mem. AMS 211 (1979); on a graph Maas, J. Funct. Anal. 261 (2011) 2250.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from .. import tree
from ..errors import ArgumentError
from .factors import as_array
from .fluxes import log_mean
from .gaussian import weighted_sum


class Categorical(eqx.Module):
    """p = softmax(logits) on {0, ..., k - 1}.

    `logits`: shape (k,), need not be normalised. `graph`: symmetric nonnegative conductances (k, k)
    between the elements, which `transport` needs; None for a bare set.
    Raises ArgumentError for another shape, NaN, or a graph that is not symmetric.
    """

    logits: Float[Array, " k"]
    graph: tuple[tuple[float, ...], ...] | None = eqx.field(static=True)

    def __init__(self, logits: Any, graph: Any = None):
        logits = as_array("logits", logits)
        if logits.ndim != 1 or logits.shape[0] == 0:
            raise ArgumentError("logits", f"shape {logits.shape}", "expected (k,)")
        if not isinstance(logits, Tracer) and not tree.is_finite(logits):
            raise ArgumentError("logits", "NaN or infinite values", "finite numbers")
        self.logits = logits
        self.graph = None if graph is None else _conductances(graph, logits.shape[0])

    @classmethod
    def from_probabilities(cls, probabilities: Any, graph: Any = None) -> Categorical:
        """The law with the given probabilities, positive and of sum one (within 1e-6)."""
        p = as_array("probabilities", probabilities)
        if not isinstance(p, Tracer):
            if not bool(jnp.all(p > 0)):
                low = float(jnp.min(p))
                raise ArgumentError("probabilities", f"smallest {low:.3g}", "positive numbers")
            if abs(float(jnp.sum(p)) - 1.0) > 1e-6:
                raise ArgumentError("probabilities", f"sum {float(jnp.sum(p)):.8g}", "a sum of one")
        return cls(jnp.log(p), graph)

    @classmethod
    def uniform(cls, count: int, graph: Any = None) -> Categorical:
        """The same probability for each of `count` elements."""
        return cls(jnp.zeros(count), graph)

    @property
    def count(self) -> int:
        """k."""
        return self.logits.shape[-1]

    @property
    def log_probabilities(self) -> Float[Array, " k"]:
        """log p, normalised."""
        return jax.nn.log_softmax(self.logits)

    @property
    def probabilities(self) -> Float[Array, " k"]:
        """p, which sums to one."""
        return jax.nn.softmax(self.logits)

    def expect(self, fn: Callable[[Any], Any]) -> Any:
        """sum_i p_i fn(i), for fn of an integer index with any pytree of arrays as value."""
        values = jax.vmap(fn)(jnp.arange(self.count))
        return jax.tree.map(lambda v: weighted_sum(self.probabilities, v), values)

    def entropy(self) -> Float[Array, ""]:
        """-sum p log p."""
        return -jnp.sum(self.probabilities * self.log_probabilities)

    def log_prob(self, i: Int[Array, "..."]) -> Float[Array, "..."]:
        """log p_i."""
        return self.log_probabilities[i]

    def sample(self, key: Key[Array, ""], n: int) -> Int[Array, " n"]:
        """n independent draws."""
        return jax.random.categorical(key, self.logits, shape=(n,))

    def mean(self) -> Float[Array, ""]:
        """E[i], of the index as a number."""
        return self.expect(lambda i: i.astype(self.logits.dtype))

    def covariance(self) -> Float[Array, ""]:
        """Var[i], of the index as a number."""
        mean = self.mean()
        return self.expect(lambda i: (i - mean) ** 2)

    def transport(self, covector: Categorical, ground: Any = None) -> Categorical:
        """p_i' = sum_j c_ij Lambda(p_i, p_j) (psi_i - psi_j) along the graph, c its conductances.

        Lambda is the logarithmic mean, for which the flow of entropy is the heat flow of the graph.
        Raises ArgumentError without a graph: a bare set has no metric to move mass along; and for a
        ground of other than the graph's own metric.
        """
        if ground is not None and type(ground).__name__ != "Euclidean":
            raise ArgumentError("ground", ground.name, "the metric of a graph is its conductances")
        if self.graph is None:
            raise ArgumentError(
                "graph", None, "a set has no metric: pass Categorical(logits, graph=conductances)"
            )
        psi, p = self._per_probability(covector.logits), self.probabilities
        across = jnp.asarray(self.graph, p.dtype) * log_mean(p[:, None], p[None, :])
        rates = jnp.sum(across * (psi[:, None] - psi[None, :]), axis=1)
        return self.tangent(self._per_probability(rates))

    def reweight(self, covector: Categorical) -> Categorical:
        """The replicator p_i' = p_i (psi_i - <psi>), in logits psi_i - <psi>."""
        return self.tangent(self._per_probability(covector.logits))

    def _per_probability(self, values: Float[Array, " k"]) -> Float[Array, " k"]:
        """values_i / p_i; zero where p_i is below the smallest number."""
        p = self.probabilities
        return jnp.where(p > 0, values / jnp.where(p > 0, p, 1.0), 0.0)

    def tangent(self, logits: Float[Array, " k"]) -> Categorical:
        """A rate of change (or a covector) with the structure of this law."""
        return eqx.tree_at(lambda law: law.logits, self, logits)

    def kl(self, other: Categorical) -> Float[Array, ""]:
        """KL(self || other) = sum p log(p / q)."""
        self._same_set(other)
        return jnp.sum(self.probabilities * (self.log_probabilities - other.log_probabilities))

    def symmetric_kl(self, other: Categorical) -> Float[Array, ""]:
        """KL(self || other) + KL(other || self)."""
        return self.kl(other) + other.kl(self)

    def total_variation(self, other: Categorical) -> Float[Array, ""]:
        """1/2 sum |p - q|."""
        self._same_set(other)
        return 0.5 * jnp.sum(jnp.abs(self.probabilities - other.probabilities))

    def hellinger_distance(self, other: Categorical) -> Float[Array, ""]:
        """(1/2 sum (sqrt p - sqrt q)^2)^(1/2), between 0 and 1."""
        return jnp.sqrt(0.5) * self._chord(other)

    def fisher_rao_distance(self, other: Categorical) -> Float[Array, ""]:
        """2 arccos(sum sqrt(p q)), the geodesic distance of FisherRao(), by the chord's arcsine."""
        return 4.0 * jnp.arcsin(jnp.minimum(0.5 * self._chord(other), 1.0))

    def _chord(self, other: Categorical) -> Float[Array, ""]:
        """|sqrt p - sqrt q|, whose gap is exact where the two laws are close."""
        self._same_set(other)
        a, b = jnp.exp(0.5 * self.log_probabilities), jnp.exp(0.5 * other.log_probabilities)
        return jnp.linalg.norm(a - b)

    def _same_set(self, other: Any) -> None:
        if not isinstance(other, Categorical) or other.count != self.count:
            raise ArgumentError(
                "other", getattr(other, "count", type(other).__name__), f"{self.count} elements"
            )


def _conductances(graph: Any, count: int) -> tuple[tuple[float, ...], ...]:
    if isinstance(graph, Tracer):
        raise ArgumentError("graph", "a traced array", "the graph is part of the structure")
    matrix = np.asarray(graph, float)
    if matrix.shape != (count, count):
        raise ArgumentError("graph", f"shape {matrix.shape}", f"expected ({count}, {count})")
    if not np.all(np.isfinite(matrix)) or matrix.min() < 0 or np.any(matrix != matrix.T):
        raise ArgumentError("graph", "not symmetric and nonnegative", "conductances c_ij = c_ji")
    return tuple(tuple(float(c) for c in row) for row in matrix)
