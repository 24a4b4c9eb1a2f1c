"""Mixtures of Gaussians as states: weights that reweight, components that move.

The metric is that of the joint law of (component, point): the weights carry the Fisher-Rao metric
of a categorical law, and component i its own Bures-Wasserstein metric times w_i. Both motions are
those of `Particles`, with a Gaussian in the place of each point.
Sources: Delon and Desolneux, SIAM J. Imaging Sci. 13 (2020) 936 (the distance MW2); Lambert et al.,
NeurIPS 2022 (mixtures as measures over the Bures-Wasserstein space).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError
from ..formula import formula
from . import divergences
from .divergences import Estimate
from .factors import as_array, as_flat, check_scale, dot, inverse
from .gaussian import Gaussian, refuse_stack, safe_sqrt, wasserstein_squared, weighted_sum
from .maximum_likelihood import fit_mixture
from .particles import Particles
from .phase import Phase
from .quadrature import Rule, as_rule, sobol_normal


class GaussianMixture(eqx.Module):
    """sum_i w_i N(m_i, S_i), with w = softmax(log_weights).

    `log_weights`: shape (k,), need not be normalised. `means`: (k, d). `scales`: Cholesky factors
    (k, d, d), or standard deviations (k, d). `quadrature`: the rule of each component (a name or a
    rule, as for `Gaussian`). `phase`: points of space are Phase(x[: d/2], x[d/2 :]).
    Raises ArgumentError for shapes that do not fit and for components without volume.
    """

    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    scales: Float[Array, "k d ..."]
    quadrature: Rule = eqx.field(static=True)
    phase: bool = eqx.field(static=True)

    def __init__(
        self,
        log_weights: Any,
        means: Any,
        scales: Any,
        quadrature: str | Rule = "auto",
        phase: bool = False,
    ):
        log_weights = as_array("log_weights", log_weights)
        means, scales = as_array("means", means), as_array("scales", scales)
        if means.ndim != 2 or 0 in means.shape:
            raise ArgumentError("means", f"shape {means.shape}", "expected (k, d)")
        k, d = means.shape
        if log_weights.shape != (k,):
            raise ArgumentError("log_weights", f"shape {log_weights.shape}", f"expected ({k},)")
        if scales.shape not in ((k, d), (k, d, d)):
            raise ArgumentError(
                "scales", f"shape {scales.shape}", f"expected ({k}, {d}, {d}) or ({k}, {d})"
            )
        for name, values in (("log_weights", log_weights), ("means", means)):
            if not isinstance(values, Tracer) and not bool(np.all(np.isfinite(values))):
                raise ArgumentError(name, "NaN or infinite values", "finite numbers")
        if not isinstance(scales, Tracer):
            for i, scale in enumerate(np.asarray(scales)):
                check_scale(f"scales[{i}]", scale, d)
        if phase and d % 2:
            raise ArgumentError("phase", f"dimension {d}", "phase space is even")
        self.log_weights, self.means, self.scales = log_weights, means, scales
        self.quadrature, self.phase = as_rule(quadrature), bool(phase)

    @classmethod
    def from_gaussian(
        cls, gaussian: Gaussian, components: int = 1, spread: float = 0.5
    ) -> GaussianMixture:
        """A Gaussian split into equal components, with the same mean and covariance exactly.

        The means are spread over the law, as quasi-random points that take the share `spread` in
        (0, 1) of its variance along their widest direction; the covariances make up the rest.
        """
        if not isinstance(components, int) or components < 1:
            raise ArgumentError("components", components, "an integer >= 1")
        if not 0 < spread < 1:
            raise ArgumentError("spread", spread, "a share of the variance, between 0 and 1")
        d, lower = gaussian.dimension, gaussian.lower
        u = sobol_normal(components, d)
        u = u - u.mean(axis=0)
        if components > 1:
            u *= math.sqrt(spread / np.linalg.eigvalsh(u.T @ u / components)[-1])
        rest = jnp.asarray(np.linalg.cholesky(np.eye(d) - u.T @ u / components), lower.dtype)
        means = gaussian.mean + dot(jnp.asarray(u, lower.dtype), lower.T)
        scales = jnp.tile(dot(lower, rest), (components, 1, 1))
        equal = jnp.zeros(components, lower.dtype)
        return cls(equal, means, scales, gaussian.quadrature, gaussian.phase)

    @classmethod
    def fit(
        cls,
        points: Any,
        components: int,
        key: Key[Array, ""],
        *,
        floor: float = 1e-6,
        iterations: int = 500,
        tolerance: float = 1e-8,
        **options: Any,
    ) -> GaussianMixture:
        """Maximum likelihood by expectation-maximisation, started by k-means++.

        `points`: (n, d), or Particles with their weights. No variance of a component falls below
        `floor` times the mean variance of the points: a component that collapses on one point is
        held there, and the likelihood still never falls (see `maximum_likelihood.fit_mixture`).
        Stops when the mean log-likelihood gains less than `tolerance`, or after `iterations`.
        """
        if not isinstance(points, Particles):
            points = Particles.from_positions(as_array("points", points))
        if isinstance(points.turned(0).positions, Phase):
            options.setdefault("phase", True)
        found = fit_mixture(
            points.flat(), points.weights, components, key, floor, iterations, tolerance
        )
        return cls(found.log_weights, found.means, found.scales, **options)

    @property
    def count(self) -> int:
        """k."""
        return self.means.shape[-2]

    @property
    def dimension(self) -> int:
        """d."""
        return self.means.shape[-1]

    @property
    def weights(self) -> Float[Array, " k"]:
        """w, which sums to one."""
        refuse_stack("GaussianMixture", self.means, 2)
        return jax.nn.softmax(self.log_weights)

    def component(self, i: int) -> Gaussian:
        """The i-th Gaussian."""
        return Gaussian(self.means[i], self.scales[i], self.quadrature, self.phase)

    def each(self, fn: Callable[..., Any], *others: Any) -> Any:
        """fn of each component as a Gaussian (and of further leaves (k, ...)), stacked."""

        refuse_stack("GaussianMixture", self.means, 2)

        def one(mean: Array, scale: Array, *rest: Any) -> Any:
            return fn(Gaussian(mean, scale, self.quadrature, self.phase), *rest)

        return jax.vmap(one)(self.means, self.scales, *others)

    def expect(self, fn: Callable[[Any], Any]) -> Any:
        """sum_i w_i E_i[fn], each component by the rule."""
        values = self.each(lambda gaussian: gaussian.expect(fn))
        return jax.tree.map(lambda v: weighted_sum(self.weights, v), values)

    def entropy(self) -> Float[Array, ""]:
        """-sum_i w_i E_i[log p], by the rule under each component (there is no closed form).

        Differentiable; with k = 1 exact, as the rule is for quadratics.
        """
        return -self.expect(self.log_prob)

    @formula
    def log_prob(self, x: Any) -> Float[Array, "..."]:
        """log density at points of shape (..., d)."""
        return logsumexp(self.log_joint(x), axis=-1)

    @formula
    def log_joint(self, x: Any) -> Float[Array, "... k"]:
        """log(w_i N(x | m_i, S_i)) at points of shape (..., d): softmax of it is the posterior."""
        refuse_stack("GaussianMixture", self.means, 2)
        x, (k, d) = as_flat(x), self.means.shape
        if self.scales.ndim == 2:
            diagonal = self.scales
            squared = jnp.sum(((x[..., None, :] - self.means) / diagonal) ** 2, axis=-1)
        else:
            lower = jnp.tril(self.scales)
            whiten = jax.vmap(inverse)(lower)
            # L_i^{-1} x for all i is one product, and so is the sum of squares: XLA's derivative of
            # a short reduction is several times slower.
            white = dot(x, whiten.reshape(k * d, d).T) - jax.vmap(dot)(whiten, self.means).ravel()
            squared = dot(white**2, jnp.repeat(jnp.eye(k, dtype=x.dtype), d, axis=0))
            diagonal = jnp.diagonal(lower, axis1=-2, axis2=-1)
        logs = -0.5 * squared - jnp.sum(jnp.log(diagonal), axis=-1)
        logs = logs + jax.nn.log_softmax(self.log_weights)
        return logs - 0.5 * d * math.log(2 * math.pi)

    @functools.partial(formula, static_argnames="n")
    def sample(self, key: Key[Array, ""], n: int) -> Any:
        """n independent draws, shape (n, d): a component by its weight, then a normal."""
        pick, place = jax.random.split(key)
        i = jax.random.categorical(pick, self.log_weights, shape=(n,))
        z = jax.random.normal(place, (n, self.dimension), self.means.dtype)
        if self.scales.ndim == 2:
            x = self.means[i] + self.scales[i] * z
        else:
            x = self.means[i] + jnp.einsum("nij,nj->ni", jnp.tril(self.scales)[i], z)
        half = self.dimension // 2
        return Phase(x[:, :half], x[:, half:]) if self.phase else x

    @formula
    def mean(self) -> Float[Array, " d"]:
        """sum_i w_i m_i."""
        return weighted_sum(self.weights, self.means)

    @formula
    def covariance(self) -> Float[Array, "d d"]:
        """sum_i w_i (S_i + (m_i - m)(m_i - m)^T)."""
        gaps = self.means - self.mean()
        parts = self.each(lambda g: g.covariance) + gaps[:, :, None] * gaps[:, None, :]
        return weighted_sum(self.weights, parts)

    def merged(self, loss: float = 1e-2) -> GaussianMixture:
        """Fewer components: pairs that tell the same are replaced by one with their moments.

        The cheapest pair first, until one would cost more than `loss` nats of KL(self || merged) by
        the bound 1/2 ((w_i + w_j) log|S_ij| - w_i log|S_i| - w_j log|S_j|). Mean and covariance of
        the mixture stay. On the host: it changes shapes, so it cannot be traced.
        Source: Runnalls, IEEE Trans. Aerosp. Electron. Syst. 43 (2007) 989.
        """
        if any(isinstance(x, Tracer) for x in jax.tree.leaves(self)):
            raise ArgumentError("mixture", "a traced mixture", "merging changes shapes")
        if not (isinstance(loss, (int, float)) and loss >= 0):
            raise ArgumentError("loss", loss, "a number of nats >= 0")
        parts = [
            (float(w), np.asarray(m, float), np.asarray(c, float))
            for w, m, c in zip(self.weights, self.means, self.each(_covariance), strict=True)
            if float(w) > 0
        ]
        while len(parts) > 1:
            pairs = [(a, b) for b in range(len(parts)) for a in range(b)]
            joined = [_joined(parts[a], parts[b]) for a, b in pairs]
            bound = [
                0.5 * (_weighted_log(new) - _weighted_log(parts[a]) - _weighted_log(parts[b]))
                for (a, b), new in zip(pairs, joined, strict=True)
            ]
            best = int(np.argmin(bound))
            if bound[best] > loss:
                break
            parts = [p for i, p in enumerate(parts) if i not in pairs[best]] + [joined[best]]
        w, m, c = (np.stack(column) for column in zip(*parts, strict=True))
        scales = (
            np.linalg.cholesky(c)
            if self.scales.ndim == 3
            else np.sqrt(np.diagonal(c, axis1=1, axis2=2))
        )
        logs, means, scales = (jnp.asarray(x, self.means.dtype) for x in (np.log(w), m, scales))
        return GaussianMixture(logs, means, scales, self.quadrature, self.phase)

    def transport(self, covector: GaussianMixture, ground: Any) -> GaussianMixture:
        """Each component along its own Bures geometry, (1/w_i) K_i dF/d(m_i, S_i); weights stay."""
        rates = self.per_weight(covector)

        def one(gaussian: Gaussian, mean: Array, scale: Array) -> tuple[Array, Array]:
            moved = gaussian.transport(gaussian.tangent(mean, scale), ground)
            return moved.mean, moved.scale

        means, scales = self.each(one, rates.means, rates.scales)
        return self.tangent(jnp.zeros_like(self.log_weights), means, scales)

    def reweight(self, covector: GaussianMixture) -> GaussianMixture:
        """(log w_i)' = psi_i - sum_j w_j psi_j, psi_i = dF/dw_i; the components stay.

        This is the Fisher-Rao metric of the weights alone: mass passes between components, and
        none appears where no component is.
        """
        rates = self.per_weight(covector).log_weights
        return self.tangent(rates, jnp.zeros_like(self.means), jnp.zeros_like(self.scales))

    def per_weight(self, covector: GaussianMixture) -> GaussianMixture:
        """covector_i / w_i; zero for a component whose weight is below the smallest number."""

        def one(leaf: Array) -> Array:
            w = self.weights.reshape((-1,) + (1,) * (leaf.ndim - 1))
            return jnp.where(w > 0, leaf / jnp.where(w > 0, w, 1.0), 0.0)

        return jax.tree.map(one, covector)

    def at_weights(self, log_weights: Float[Array, " k"]) -> GaussianMixture:
        """The same components with other weights."""
        return self.tangent(log_weights, self.means, self.scales)

    def tangent(
        self,
        log_weights: Float[Array, " k"],
        means: Float[Array, "k d"],
        scales: Float[Array, "k d ..."],
    ) -> GaussianMixture:
        """A rate of change (or a covector) with the structure of this mixture."""
        new = (log_weights, means, scales)
        return eqx.tree_at(lambda m: (m.log_weights, m.means, m.scales), self, new)

    def kl(self, other: Any) -> Float[Array, ""]:
        """KL(self || other) by the quadrature of self; `other` has a log_prob."""
        if not hasattr(other, "log_prob"):
            raise ArgumentError("other", type(other).__name__, "a law with log_prob")
        return self.expect(lambda x: self.log_prob(x) - other.log_prob(x))

    def kl_estimate(self, other: Any, key: Key[Array, ""], n: int = 10_000) -> Estimate:
        """KL(self || other) from n draws, with its standard error."""
        return divergences.kl(self, other, key, n)

    def symmetric_kl(self, other: Any, key: Key[Array, ""], n: int = 10_000) -> Estimate:
        """KL(self || other) + KL(other || self) from n draws of each, with its standard error."""
        return divergences.symmetric_kl(self, other, key, n)

    def total_variation(self, other: Any, key: Key[Array, ""], n: int = 10_000) -> Estimate:
        """1/2 integral |p - q| from 2 n draws, with its standard error."""
        return divergences.total_variation(self, other, key, n)

    def mixture_wasserstein_distance(self, other: GaussianMixture) -> Float[Array, ""]:
        """MW2: the optimal transport of components, at the cost W2^2 of two Gaussians.

        An upper bound of W2. A linear program on the host: it cannot be traced.
        Source: Delon and Desolneux, SIAM J. Imaging Sci. 13 (2020) 936.
        """
        from scipy.optimize import linprog  # loaded when first needed: importing it takes a while

        if not isinstance(other, GaussianMixture) or other.dimension != self.dimension:
            raise ArgumentError("other", type(other).__name__, f"a mixture in {self.dimension}-D")
        if any(isinstance(x, Tracer) for x in jax.tree.leaves((self, other))):
            raise ArgumentError("other", "a traced mixture", "MW2 is a linear program on the host")
        cost = self.each(lambda a: other.each(lambda b: wasserstein_squared(a, b)))
        k, n = cost.shape
        rows, columns = np.kron(np.eye(k), np.ones(n)), np.kron(np.ones(k), np.eye(n))
        masses = [np.asarray(m.weights, float) for m in (self, other)]
        totals = np.concatenate([m / m.sum() for m in masses])
        # One equation too many (both sides have mass one): the last is left out.
        constraints = np.concatenate([rows, columns])[:-1]
        found = linprog(np.asarray(cost, float).ravel(), A_eq=constraints, b_eq=totals[:-1])
        if not found.success:
            raise ArgumentError("other", "no optimal plan", found.message)
        return safe_sqrt(jnp.asarray(found.fun, cost.dtype))


_Part = tuple[float, np.ndarray, np.ndarray]


def _covariance(component: Gaussian) -> Array:
    return component.covariance


def _joined(a: _Part, b: _Part) -> _Part:
    """The component with the mass, mean and covariance of two."""
    w = a[0] + b[0]
    gap = a[1] - b[1]
    spread = a[0] * b[0] / w**2 * np.outer(gap, gap)
    return w, (a[0] * a[1] + b[0] * b[1]) / w, (a[0] * a[2] + b[0] * b[2]) / w + spread


def _weighted_log(part: _Part) -> float:
    return part[0] * float(np.linalg.slogdet(part[2])[1])
