"""Pairs of laws whose bridge is known, and how far another bridge is from it.

Choose the source, a Brownian reference and the end potential log sum_k a_k exp(quadratic_k): the
target is then the end of that bridge, whatever it looks like, and every conditional law is known.
`known_pair` has a mixture as potential, which mixture solvers can find exactly; `tabled_pair` any
function of the end, by quadrature over cells, with which no solver is aligned.
Source of the construction: Gushchin et al., NeurIPS 2023 (the benchmark of entropic transport).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError
from ..states import Gaussian, GaussianMixture, Grid, Particles
from ..states.divergences import Estimate
from .linear import LinearBridge
from .reference import brownian, linear_reference


class Tabled(eqx.Module):
    """The ends of Brownian motion in unit time, weighed by a potential at the cells of a grid.

    y | x has the density proportional to exp(-|y - x|^2/(4 T)) g(y). `cells`: (m, d), `width` of
    them: (d,); `logs`: log g.
    """

    cells: Float[Array, "m d"]
    width: Float[Array, " d"]
    logs: Float[Array, " m"]
    temperature: Float[Array, ""]

    @property
    def dimension(self) -> int:
        """d."""
        return self.cells.shape[1]

    @eqx.filter_jit
    def sample(self, x: Float[Array, "n d"], key: Key[Array, ""]) -> Float[Array, "n d"]:
        """An end for each start: a cell, and anywhere in it."""
        pick, move = jax.random.split(key)
        keys = jax.random.split(pick, len(x))
        one = lambda a: jax.random.categorical(a[1], self._logits(a[0]))  # noqa: E731
        chosen = jax.lax.map(one, (x, keys), batch_size=64)
        jitter = jax.random.uniform(move, x.shape, x.dtype) - 0.5
        return self.cells[chosen] + self.width * jitter

    @eqx.filter_jit
    def conditional_moments(
        self, x: Float[Array, "n d"]
    ) -> tuple[Float[Array, "n d"], Float[Array, "n d d"]]:
        """Mean and covariance of the end given the start."""

        def one(x: Array) -> tuple[Array, Array]:
            share = jax.nn.softmax(self._logits(x))
            mean = share @ self.cells
            gaps = self.cells - mean
            return mean, (share * gaps.T) @ gaps

        return jax.lax.map(one, x)

    def _logits(self, x: Array) -> Array:
        return self.logs - jnp.sum((self.cells - x) ** 2, 1) / (4.0 * self.temperature)


class End(eqx.Module):
    """The law of the end of a bridge whose source can be sampled."""

    bridge: Any
    source: Gaussian

    @property
    def dimension(self) -> int:
        """d."""
        return self.bridge.dimension

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "n d"]:
        """n draws."""
        one, two = jax.random.split(key)
        return self.bridge.sample(self.source.sample(one, n), two)


class KnownPair(eqx.Module):
    """`source`, `target` and the `bridge` between them; `temperature` of the Brownian reference."""

    source: Gaussian
    target: End
    bridge: Any
    temperature: float = eqx.field(static=True)


def known_pair(
    dimension: int,
    temperature: float,
    key: Key[Array, ""],
    components: int = 5,
    radius: float = 5.0,
) -> KnownPair:
    """A standard normal, and what `components` quadratics with poles on a sphere make of it.

    y | x is a mixture of N(r_k + S_k x, 2 T S_k), with r_k uniform on the sphere and S_k diagonal,
    entries uniform in [0.5, 1.5], scaled to the mean one: no component wins by its volume.
    """
    if not isinstance(components, int) or components < 1:
        raise ArgumentError("components", components, "an integer >= 1")
    one, two, three = jax.random.split(key, 3)
    source = Gaussian(jnp.zeros(dimension), jnp.ones(dimension))
    r = jax.random.normal(one, (components, dimension))
    r = radius * r / jnp.linalg.norm(r, axis=1, keepdims=True)
    S = jax.random.uniform(two, (components, dimension), minval=0.5, maxval=1.5)
    S = S / jnp.mean(S, axis=1, keepdims=True)
    reference = linear_reference(brownian(temperature), jnp.zeros(dimension), 1.0)
    w = GaussianMixture(jnp.zeros(components), r / math.sqrt(2.0 * temperature), jnp.sqrt(S))
    starts = Particles(source.sample(three, 1000))
    bridge = LinearBridge(reference, w, starts, method="given", why="chosen first")
    return KnownPair(source, End(bridge, source), bridge, float(temperature))


def tabled_pair(
    log_potential: Callable[[Array], Array], temperature: float, grid: Grid
) -> KnownPair:
    """A standard normal, and what the potential exp(log_potential(y)) at the cells makes of it."""
    cells = grid.points().reshape(-1, grid.dimension)
    logs = jax.vmap(log_potential)(cells)
    source = Gaussian(jnp.zeros(grid.dimension), jnp.ones(grid.dimension))
    scalar = jnp.asarray(temperature, cells.dtype)
    ends = Tabled(cells, jnp.asarray(grid.spacing, cells.dtype), logs, scalar)
    return KnownPair(source, End(ends, source), ends, float(temperature))


def unexplained(found: Any, truth: Any, x: Float[Array, "n d"], variance: Any) -> Estimate:
    """cBW2-UVP in percent: 100 E_x BW2^2(found(. | x), truth(. | x)) / (variance/2).

    From the moments of the conditional laws in closed form; the error is that of the mean over x.
    `variance`: of the target, the trace of its covariance.
    """
    terms = jnp.concatenate(
        [_bures(found.conditional_moments(p), truth.conditional_moments(p)) for p in _parts(x)]
    )
    terms = 200.0 * terms / variance
    return Estimate(jnp.mean(terms), jnp.std(terms) / math.sqrt(len(x)))


def sampling_floor(
    truth: Any,
    x: Float[Array, "n d"],
    variance: Any,
    key: Key[Array, ""],
    draws: int = 1000,
) -> Float[Array, ""]:
    """The same of the truth against itself where its moments are taken from `draws` samples.

    That is how the metric is published: no method can be seen to go below.
    """

    def one(x: Array, key: Array) -> Any:
        y = truth.sample(jnp.broadcast_to(x, (draws, x.shape[0])), key)
        return jnp.mean(y, axis=0), jnp.cov(y.T, bias=True).reshape(x.shape[0], -1)

    keys = jax.random.split(key, len(x))
    sampled = jax.jit(lambda x, k: jax.lax.map(lambda a: one(*a), (x, k)))(x, keys)
    return 200.0 * jnp.mean(_bures(sampled, truth.conditional_moments(x))) / variance


def _parts(x: Any, rows: int = 100) -> Any:
    return (x[i : i + rows] for i in range(0, len(x), rows))


@jax.jit
def _bures(first: Any, second: Any) -> Array:
    """|m - n|^2 + tr(A + B - 2 (A^{1/2} B A^{1/2})^{1/2}), for stacks."""
    (m, A), (n, B) = first, second
    values, vectors = jnp.linalg.eigh(A)
    root = (vectors * jnp.sqrt(jnp.maximum(values, 0.0))[:, None]) @ jnp.swapaxes(vectors, 1, 2)
    inner = jnp.linalg.eigvalsh(root @ B @ root)
    trace = lambda M: jnp.trace(M, axis1=1, axis2=2)  # noqa: E731
    cross = jnp.sum(jnp.sqrt(jnp.maximum(inner, 0.0)), axis=1)
    return jnp.sum((m - n) ** 2, 1) + jnp.maximum(trace(A) + trace(B) - 2.0 * cross, 0.0)
