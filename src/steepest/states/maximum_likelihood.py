"""Maximum likelihood of a Gaussian mixture: k-means++, then expectation-maximisation."""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from .. import tree
from ..errors import ArgumentError
from .factors import dot, inverse, triangular_root


class Fitted(NamedTuple):
    """A mixture, and the mean log-likelihood of the points one update before it."""

    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    scales: Float[Array, "k d d"]
    likelihood: Float[Array, ""]
    iterations: int | Array = 0


def fit_mixture(
    x: Float[Array, "n d"],
    w: Float[Array, " n"],
    components: int,
    key: Key[Array, ""],
    floor: float = 1e-6,
    iterations: int = 500,
    tolerance: float = 1e-8,
) -> Fitted:
    """EM from k-means++ centres, with every variance at least `floor` tr(C)/d.

    C is the covariance of the points. Eigenvalues below the bound are raised to it, which is the
    exact maximiser under that bound: the likelihood rises at each iteration all the same, and a
    component on a single point keeps a volume. A component that no point belongs to keeps its
    place with a vanishing weight.
    Sources: Arthur and Vassilvitskii, SODA 2007; Dempster, Laird and Rubin, J. R. Stat. Soc. B 39
    (1977) 1; the bound: Hathaway, Ann. Stat. 13 (1985) 795.
    """
    n = x.shape[0]
    if not isinstance(components, int) or not 1 <= components <= n:
        raise ArgumentError("components", components, f"an integer between 1 and n = {n}")
    if not (isinstance(floor, float) and 0 < floor < 1):
        raise ArgumentError("floor", floor, "a share of the mean variance, between 0 and 1")
    if not isinstance(x, Tracer):
        if not tree.is_finite(x):
            raise ArgumentError("points", "NaN or infinite values", "finite points")
        if not bool(jnp.any(x != x[0])):
            raise ArgumentError("points", f"{n} equal points", "points that span a volume")
    # Traced, so that another floor or tolerance does not compile again.
    return _fit(x, w, components, key, *map(jnp.asarray, (floor, iterations, tolerance)))


@eqx.filter_jit
def _fit(
    x: Float[Array, "n d"],
    w: Float[Array, " n"],
    components: int,
    key: Key[Array, ""],
    floor: Float[Array, ""],
    iterations: Array,
    tolerance: Float[Array, ""],
) -> Fitted:
    bound = floor.astype(x.dtype) * jnp.mean(w @ (x - w @ x) ** 2)
    centres = plus_plus(x, w, components, key)
    nearest = jnp.argmin(jnp.sum((x[:, None] - centres) ** 2, axis=-1), axis=1)
    start = maximised(x, w, jax.nn.one_hot(nearest, components, dtype=x.dtype), centres, bound)

    def advance(carry: tuple[Fitted, Array]) -> tuple[Fitted, Array]:
        old, _ = carry
        logs = joint(x, old)
        likelihood = w @ logsumexp(logs, axis=1)
        new = maximised(x, w, jax.nn.softmax(logs, axis=1), old.means, bound)
        new = new._replace(likelihood=likelihood, iterations=old.iterations + 1)
        return new, likelihood - old.likelihood

    def going(carry: tuple[Fitted, Array]) -> Array:
        fitted, gain = carry
        return (fitted.iterations < iterations) & (gain > tolerance)

    return jax.lax.while_loop(going, advance, (start, jnp.asarray(jnp.inf, x.dtype)))[0]


def plus_plus(
    x: Float[Array, "n d"], w: Float[Array, " n"], count: int, key: Key[Array, ""]
) -> Float[Array, "k d"]:
    """Centres drawn from the points, each with probability proportional to w distance^2."""

    def draw(nearest: Array, key: Array) -> tuple[Array, Array]:
        # Where all distances vanish (fewer different points than centres) any point will do.
        share = jnp.where(jnp.any(w * nearest > 0), w * nearest, w)
        centre = x[jax.random.categorical(key, jnp.log(share))]
        return jnp.minimum(nearest, jnp.sum((x - centre) ** 2, axis=1)), centre

    far = jnp.full(x.shape[0], 1.0 / jnp.finfo(x.dtype).eps, x.dtype)
    return jax.lax.scan(draw, far, jax.random.split(key, count))[1]


def joint(x: Float[Array, "n d"], fitted: Fitted) -> Float[Array, "n k"]:
    """log(w_i N(x | m_i, S_i))."""
    d = x.shape[1]

    def one(component: tuple[Array, Array, Array]) -> Array:
        log_weight, mean, lower = component
        white = dot(x - mean, inverse(lower).T)
        volume = jnp.sum(jnp.log(jnp.diagonal(lower))) + 0.5 * d * math.log(2 * math.pi)
        return log_weight - 0.5 * jnp.sum(white**2, axis=1) - volume

    # One component after another: the products are then plain ones, several times as fast.
    return jax.lax.map(one, (fitted.log_weights, fitted.means, fitted.scales)).T


def maximised(
    x: Float[Array, "n d"],
    w: Float[Array, " n"],
    shares: Float[Array, "n k"],
    means: Float[Array, "k d"],
    bound: Float[Array, ""],
) -> Fitted:
    """The most likely mixture for given shares of the points, with variances above `bound`."""
    mass = w @ shares
    smallest = jnp.finfo(x.dtype).tiny ** 0.5

    def one(component: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        mass, share, mean = component
        held = mass <= smallest
        portion = w * share / jnp.where(held, 1.0, mass)
        mean = jnp.where(held, mean, dot(portion, x))
        centred = x - mean
        values, vectors = jnp.linalg.eigh(dot((centred * portion[:, None]).T, centred))
        return mean, triangular_root(vectors * jnp.sqrt(jnp.maximum(values, bound)))

    means, scales = jax.lax.map(one, (mass, shares.T, means))
    log_weights = jnp.log(jnp.maximum(mass, smallest))
    return Fitted(log_weights, means, scales, jnp.asarray(-jnp.inf, x.dtype))
