"""The Gaussian family as a manifold of states (eq. 56, 62).

Its two primitive motions are the two geometries of the family. With (g_m, G) = dF/d(m, S):
`transport` is Bures-Wasserstein, (K g_m, 2 (K G S + S G K^T)), and `reweight` the natural gradient,
(S g_m, 2 S G S). Both are worked out in the factor of S at hand (see `factors`).
Sources: Takatsu, Osaka J. Math. 48 (2011) 1005; Lambert et al., NeurIPS 2022 (Bures-Wasserstein
variational inference); Amari, Neural Comput. 10 (1998) 251.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Key

from .. import tree
from ..errors import ArgumentError
from ..formula import formula
from . import divergences
from .divergences import Estimate
from .factors import LowRank as LowRank
from .factors import (
    as_array,
    as_factor,
    as_flat,
    check_scale,
    cholesky,
    dot,
    triangular_root,
)
from .particles import Particles
from .phase import Phase
from .quadrature import Rule, as_rule


class Gaussian(eqx.Module):
    """N(mean, S), with S = scale scale^T.

    `mean`: shape (d,). `scale`: the lower-triangular Cholesky factor (d, d), or standard deviations
    (d,), or `LowRank(factor, diagonal)` for S = diag(diagonal^2) + factor factor^T.
    `quadrature`: how expectations are taken, a rule or its name ("auto", "gauss-hermite",
    "cubature", "quasi-monte-carlo", "monte-carlo"; see `quadrature.Auto`).
    `phase`: points of space are Phase(x[: d/2], x[d/2 :]).
    Raises ArgumentError for shapes that do not fit, a factor that is not lower triangular, and
    deviations that are not positive.
    """

    mean: Float[Array, " d"]
    scale: Any
    quadrature: Rule = eqx.field(static=True)
    phase: bool = eqx.field(static=True)

    def __init__(self, mean: Any, scale: Any, quadrature: str | Rule = "auto", phase: bool = False):
        mean = as_array("mean", mean)
        if isinstance(scale, LowRank):
            scale = LowRank(as_array("factor", scale.factor), as_array("diagonal", scale.diagonal))
        else:
            scale = as_array("scale", scale)
        if mean.ndim != 1 or mean.shape[0] == 0:
            raise ArgumentError("mean", f"shape {mean.shape}", "expected (d,)")
        if not isinstance(mean, Tracer) and not tree.is_finite(mean):
            raise ArgumentError("mean", "NaN or infinite values", "a finite point")
        check_scale("scale", scale, mean.shape[0])
        if phase and mean.shape[0] % 2:
            raise ArgumentError("phase", f"dimension {mean.shape[0]}", "phase space is even")
        self.mean, self.scale = mean, scale
        self.quadrature, self.phase = as_rule(quadrature), bool(phase)

    @classmethod
    def standard(cls, d: int, **options: Any) -> Gaussian:
        """N(0, 1) in d dimensions."""
        return cls(jnp.zeros(d), jnp.eye(d), **options)

    @classmethod
    def from_moments(cls, mean: Any, covariance: Any, **options: Any) -> Gaussian:
        """N(mean, covariance); raises ArgumentError unless it is symmetric positive definite."""
        covariance = as_array("covariance", covariance)
        return cls(mean, cholesky("covariance", covariance), **options)

    @classmethod
    def fit(cls, measure: Any, **options: Any) -> Gaussian:
        """The Gaussian with the mean and covariance of a measure, or of points (n, d).

        Of all Gaussians that one has the least KL(measure || .). The covariance of points is the
        unbiased one. Raises ArgumentError when the points span no volume.
        """
        if hasattr(measure, "shape") or isinstance(measure, list):
            measure = Particles.from_positions(as_array("measure", measure))
        if not (hasattr(measure, "mean") and hasattr(measure, "covariance")):
            raise ArgumentError("measure", type(measure).__name__, "a measure, or points (n, d)")
        mean = measure.mean() if callable(measure.mean) else measure.mean
        spread: Any = measure.covariance
        spread = spread() if callable(spread) else spread
        if isinstance(mean, Phase) or getattr(getattr(measure, "grid", measure), "phase", False):
            options.setdefault("phase", True)
        remedy = "more points than dimensions, in general position"
        return cls(as_flat(mean), cholesky("measure", spread, remedy), **options)

    @property
    def dimension(self) -> int:
        """d."""
        return self.mean.shape[-1]

    @property
    def factor(self) -> Any:
        """The scale with what it knows of itself: Triangular, Diagonal or LowRank."""
        refuse_stack("Gaussian", self.mean, 1)
        return as_factor(self.scale)

    @property
    def lower(self) -> Float[Array, "d d"]:
        """The Cholesky factor of the covariance."""
        return self.factor.lower

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """S; of a stack of Gaussians, one for each."""
        if self.mean.ndim > 1:
            return jax.vmap(lambda gaussian: gaussian.covariance)(self)
        return self.factor.covariance

    def point(self, x: Float[Array, "... d"]) -> Any:
        """A point of space as functions see it: x itself, or Phase(q, p) on phase space."""
        half = self.dimension // 2
        return Phase(x[..., :half], x[..., half:]) if self.phase else x

    def nodes(self, rule: Rule | None = None) -> tuple[Float[Array, "n l"], Float[Array, " n"]]:
        """Nodes and weights of the quadrature, in the normals that `factor.push` takes."""
        z, w = (rule or self.quadrature).nodes(self.factor.latent)
        return jnp.asarray(z, self.mean.dtype), jnp.asarray(w, self.mean.dtype)

    def expect(self, fn: Callable[[Any], Any], rule: Rule | None = None) -> Any:
        """E[fn(x)] at x = mean + scale z, for fn of one point with any pytree as value.

        Its derivative along (mean, scale) is that of the rule, so values and differentials fit.
        A function that knows its own Gaussian expectation, by a method or property
        `expect_gaussian`: (mean, covariance) -> (E[fn], E[grad fn], E[Hessian of fn]), is asked for
        it, unless a rule is given.
        """
        own = getattr(fn, "expect_gaussian", None)
        if own is not None and rule is None and not self.phase:
            return _own_expectation(own, self.mean, self.covariance)
        factor = self.factor
        return self._average(lambda z: fn(self.point(self.mean + factor.push(z))), rule)

    def _average(self, fn: Callable[[Array], Any], rule: Rule | None = None) -> Any:
        """E[fn(z)] over the noise."""
        z, w = self.nodes(rule)
        return jax.tree.map(lambda v: weighted_sum(w, v), jax.vmap(fn)(z))

    @formula
    def entropy(self) -> Float[Array, ""]:
        """d/2 log(2 pi e) + 1/2 log det S, in closed form."""
        return 0.5 * self.dimension * math.log(2 * math.pi * math.e) + self.factor.log_determinant

    def power_integral(self, power: Any) -> Float[Array, ""]:
        """integral rho^power dx, in closed form."""
        d = self.dimension
        size = 0.5 * d * math.log(2 * math.pi) + self.factor.log_determinant
        return jnp.exp((1.0 - power) * size - 0.5 * d * jnp.log(power))

    def pair_expectation(self, kernel: Callable[[Any], Any]) -> Float[Array, ""]:
        """E W(x - y) of two independent points: an expectation under N(0, 2 S)."""
        factor = self.factor
        return self._average(lambda z: kernel(self.point(math.sqrt(2.0) * factor.push(z))))

    @formula
    def log_prob(self, x: Any) -> Float[Array, "..."]:
        """log density at points of shape (..., d)."""
        gap = as_flat(x) - self.mean
        constant = 0.5 * self.dimension * math.log(2 * math.pi) + self.factor.log_determinant
        return -0.5 * self.factor.squared(gap) - constant

    @functools.partial(formula, static_argnames="n")
    def sample(self, key: Key[Array, ""], n: int) -> Any:
        """n independent draws, shape (n, d)."""
        z = jax.random.normal(key, (n, self.factor.latent), self.mean.dtype)
        return self.point(self.mean + self.factor.push(z))

    def transport(self, covector: Gaussian, ground: Any) -> Gaussian:
        """m' = E[K ell], S' = E[K ell (x - m)^T] + transpose, with ell(x) = g_m + 2 G (x - m).

        For a constant K this is (K g_m, 2 (K G S + S G K^T)). Where K varies the field K ell is
        projected on affine fields by the quadrature: <dF, K dF> = E[ell^T K ell] stays exact.
        A diagonal or low-rank factor follows its own L2 metric (see `factors`).
        """
        if getattr(ground, "curved", False):
            raise ArgumentError("ground", ground.name, "a Gaussian lives on flat space")
        if getattr(ground, "kinetic", False) and not self.phase:
            raise ArgumentError("ground", ground.name, "a Gaussian(..., phase=True) of (q, p)")
        factor, slope = self.factor, covector.mean
        if ground.constant:

            def apply(v: Array) -> Array:
                return as_flat(ground.sharp(self.point(self.mean), self.point(v)))

            return self.tangent(apply(slope), factor.transported(covector.scale, apply))
        slopes = factor.slopes(covector.scale)

        def moved(z: Array) -> tuple[Array, Any]:
            x, ell = self.mean + factor.push(z), slope + factor.field(slopes, z)
            v = as_flat(ground.sharp(self.point(x), self.point(ell)))
            return v, factor.adjoint(v, z)

        mean, scale = self._average(moved)
        return self.tangent(mean, factor.restricted(scale))

    def reweight(self, covector: Gaussian) -> Gaussian:
        """The natural gradient (S g_m, 2 S G S) of eq. 62, in the numbers of the factor."""
        factor = self.factor
        return self.tangent(factor.times(covector.mean), factor.reweighted(covector.scale))

    def tangent(self, mean: Float[Array, " d"], scale: Any) -> Gaussian:
        """A rate of change (or a covector) with the structure of this Gaussian."""
        return eqx.tree_at(lambda g: (g.mean, g.scale), self, (mean, scale))

    def pushforward(self, matrix: Float[Array, "d d"], shift: Float[Array, " d"]) -> Gaussian:
        """The law of matrix x + shift, with a triangular factor."""
        root = triangular_root(dot(matrix, self.lower))
        return Gaussian(dot(matrix, self.mean) + shift, root, self.quadrature, self.phase)

    def optimal_map(self, other: Gaussian) -> Float[Array, "d d"]:
        """A, symmetric positive definite: x -> m' + A (x - m) is the optimal map to `other`."""
        _check_pair(self, other)
        lower = self.lower
        moved = dot(other.lower, _rotation(lower, other.lower))  # A L
        matrix = solve_triangular(lower, moved.T, trans=1, lower=True)  # L^{-T} (A L)^T = A^T
        return 0.5 * (matrix + matrix.T)

    def geodesic(self, other: Gaussian, time: Any) -> Gaussian:
        """The displacement interpolation at `time` in [0, 1]: the Bures-Wasserstein geodesic."""
        _check_pair(self, other)
        lower = self.lower
        moved = dot(other.lower, _rotation(lower, other.lower))
        mean = (1 - time) * self.mean + time * other.mean
        root = triangular_root((1 - time) * lower + time * moved)
        return Gaussian(mean, root, self.quadrature, self.phase)

    def wasserstein_distance(self, other: Gaussian) -> Float[Array, ""]:
        """W2 in closed form: |m - m'|^2 + min over rotations Q of |L - L' Q|^2, square root."""
        return safe_sqrt(wasserstein_squared(self, other))

    def kl(self, other: Any) -> Float[Array, ""]:
        """KL(self || other): in closed form for a Gaussian, else by quadrature of log other."""
        if not isinstance(other, Gaussian):
            if not hasattr(other, "log_prob"):
                raise ArgumentError("other", type(other).__name__, "a law with log_prob")
            return -self.entropy() - self.expect(other.log_prob)
        _check_pair(self, other)
        ratio = solve_triangular(other.lower, self.lower, lower=True)
        gap = other.factor.squared(self.mean - other.mean)
        log_ratio = other.factor.log_determinant - self.factor.log_determinant
        return 0.5 * (jnp.sum(ratio**2) - self.dimension + gap) + log_ratio

    def symmetric_kl(self, other: Gaussian) -> Float[Array, ""]:
        """KL(self || other) + KL(other || self), in closed form."""
        _check_pair(self, other)
        return self.kl(other) + other.kl(self)

    def fisher_rao_distance(self, other: Gaussian) -> Float[Array, ""]:
        """The geodesic distance of FisherRao() on the family, where it has a closed form.

        One dimension or two diagonal scales: hyperbolic planes. Equal means:
        (1/2 sum log^2 of the eigenvalues of S^{-1} S')^(1/2). Raises ArgumentError otherwise.
        Source: Pinele, Strapasson and Costa, Entropy 22 (2020) 404.
        """
        _check_pair(self, other)
        if self.dimension == 1 or (jnp.ndim(self.scale) == 1 and jnp.ndim(other.scale) == 1):
            a, b = (jnp.diagonal(g.lower) for g in (self, other))
            half = (0.5 * (self.mean - other.mean) ** 2 + (a - b) ** 2) / (4 * a * b)
            return safe_sqrt(jnp.sum(8 * jnp.arcsinh(safe_sqrt(half)) ** 2))
        if isinstance(self.mean, Tracer) or isinstance(other.mean, Tracer):
            raise ArgumentError("other", "a traced mean", "closed forms need diagonal scales here")
        if not bool(jnp.all(self.mean == other.mean)):
            raise ArgumentError(
                "other",
                "a law with another mean and correlations",
                "no closed form is known; it exists in one dimension, for diagonal scales, and for "
                "equal means",
            )
        ratio = solve_triangular(self.lower, other.lower, lower=True)
        values = jnp.linalg.svd(ratio, compute_uv=False)
        return safe_sqrt(2.0 * jnp.sum(jnp.log(values) ** 2))

    def total_variation(
        self, other: Any, key: Key[Array, ""] | None = None, n: int = 10_000
    ) -> Estimate:
        """1/2 integral |p - q|: exact for two Gaussians on the line, else from 2 n draws."""
        if isinstance(other, Gaussian):
            _check_pair(self, other)
            if self.dimension == 1:
                value = _line_total_variation(self, other)
                return Estimate(value, jnp.zeros_like(value))
        return divergences.total_variation(self, other, key, n)


def bonnet_price(
    gaussian: Gaussian, fn: Callable[[Any], Float[Array, ""]], rule: Rule | None = None
) -> tuple[Float[Array, ""], Gaussian]:
    """E[f] and its covector from E[grad f] and E[Hess f]: dF/dm and dF/dS = E[Hess f] / 2.

    The same covector as differentiating `expect` where the rule is exact, at d more derivatives a
    node; it needs a degree less twice over (a single node for quadratics, `Cubature(1)`), and with
    random nodes its variance is far smaller.
    Source: Opper and Archambeau, Neural Comput. 21 (2009) 786.
    """

    def flat(x: Array) -> Array:
        return fn(gaussian.point(x))

    def terms(z: Array) -> tuple[Array, Array, Array]:
        x = gaussian.mean + gaussian.factor.push(z)
        value, slope = jax.value_and_grad(flat)(x)
        return value, slope, jax.hessian(flat)(x)

    value, slope, curvature = gaussian._average(terms, rule)
    return value, gaussian.tangent(slope, gaussian.factor.price(curvature))


@eqx.filter_custom_jvp
def _own_expectation(own: Any, mean: Array, covariance: Array) -> Array:
    return own(mean, covariance)[0]


@_own_expectation.def_jvp
def _own_expectation_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """d E[f] = <E[f'], dm> + <E[f''], dS>/2 (Price), and what f itself changes by."""
    (own, mean, covariance), (d_own, d_mean, d_covariance) = primals, tangents
    value, slope, curvature = own(mean, covariance)
    change = jnp.zeros_like(value)
    if d_mean is not None:
        change = change + jnp.vdot(slope, d_mean)
    if d_covariance is not None:
        change = change + 0.5 * jnp.vdot(curvature, d_covariance)
    if any(leaf is not None for leaf in jax.tree.leaves(d_own)):
        at_law = lambda f: f(mean, covariance)[0]  # noqa: E731
        change = change + eqx.filter_jvp(at_law, (own,), (d_own,))[1]
    return value, change


def wasserstein_squared(first: Gaussian, second: Gaussian) -> Float[Array, ""]:
    """W2^2 of two Gaussians, without cancellation.

    The rotation is held fixed under differentiation: by the envelope theorem the first derivative
    is exact (a second is not offered).
    """
    _check_pair(first, second)
    a, b = first.lower, second.lower
    gap = a - dot(b, jax.lax.stop_gradient(_rotation(a, b)))
    return jnp.sum((first.mean - second.mean) ** 2) + jnp.sum(gap**2)


def weighted_sum(w: Float[Array, " n"], values: Float[Array, "n ..."]) -> Float[Array, "..."]:
    """sum_n w_n values_n, in full precision on every device."""
    return jnp.tensordot(w, values, axes=1, precision=jax.lax.Precision.HIGHEST)


def refuse_stack(name: str, mean: Array, ndim: int) -> None:
    """Raises ArgumentError for a stack of laws, whose shapes would be read as those of one."""
    if mean.ndim != ndim:
        raise ArgumentError("state", f"a stack of shape {mean.shape}", f"jax.vmap over {name}s")


def safe_sqrt(value: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square root, with derivative zero at zero (where there is none)."""
    positive = value > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, value, 1.0)), 0.0)


def _rotation(a: Float[Array, "d d"], b: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The orthogonal Q that makes b Q nearest to a: the polar factor of b^T a."""
    u, _, vt = jnp.linalg.svd(dot(b.T, a))
    return dot(u, vt)


def _line_total_variation(first: Gaussian, second: Gaussian) -> Float[Array, ""]:
    """|P - Q| of the interval between the two points where the densities cross."""
    s, t = first.lower[0, 0], second.lower[0, 0]
    shift, ratio = (second.mean[0] - first.mean[0]) / s, t / s
    # (1 - ratio^2) x^2 - 2 shift x + shift^2 + 2 ratio^2 log ratio = 0 in units of the first law.
    a, c = 1.0 - ratio**2, shift**2 + 2.0 * ratio**2 * jnp.log(ratio)
    root = ratio * safe_sqrt(shift**2 - 2.0 * a * jnp.log(ratio))
    far = shift + jnp.where(shift < 0, -1.0, 1.0) * root
    equal = far == 0
    near = c / jnp.where(equal, 1.0, far)
    far = jnp.where(a == 0, jnp.inf, far / jnp.where(a == 0, 1.0, a))

    def mass(x: Array) -> Array:
        return norm.cdf(x) - norm.cdf((x - shift) / ratio)

    return jnp.where(equal, 0.0, jnp.abs(mass(near) - mass(far)))


def _check_pair(first: Gaussian, second: Any) -> None:
    if not isinstance(second, Gaussian):
        raise ArgumentError("other", type(second).__name__, "a Gaussian")
    if first.dimension != second.dimension:
        raise ArgumentError("other", f"dimension {second.dimension}", f"expected {first.dimension}")
