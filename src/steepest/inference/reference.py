"""Where annealing starts: a normalised law that covers the target, found from its modes.

Optimisation (BFGS of SciPy) from the start and from points strewn around the mode found there;
a Gaussian of the curvature at every distinct mode, a little wider than Laplace's; their mixture,
weighted by the masses that Laplace's method gives them. A mode that no descent reaches is not in
it: what rests on the reference says so.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import linalg, optimize

from ..states import Gaussian, GaussianMixture
from .target import Target

STREWN = (3.0, 6.0, 12.0)
"""Distances, in standard deviations of the first mode, at which further descents start."""

DESCENTS = 8
"""From each of these distances, as far as the gradients last."""

MOST_MODES = 6
SEPARATION = 4.0
"""Minima this close, in squared standard deviations, are one: descents leave a difference."""

EVEN = 0.2
"""The share of the weights that is even: Laplace's masses may be wrong."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """`law`: a `Gaussian` or a `GaussianMixture`; `gradients`: what finding it cost."""

    law: Any
    gradients: int
    notes: tuple[str, ...] = ()

    @property
    def components(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(weights (k,), means (k, d), Cholesky factors (k, d, d))."""
        if isinstance(self.law, Gaussian):
            lower = np.asarray(self.law.lower, float)
            return np.ones(1), np.asarray(self.law.mean, float)[None], lower[None]
        logs = np.asarray(self.law.log_weights, float)
        weights = np.exp(logs - logs.max())
        scales = np.asarray(self.law.scales, float)
        if scales.ndim == 2:
            scales = np.stack([np.diag(s) for s in scales])
        return weights / weights.sum(), np.asarray(self.law.means, float), scales

    def sample(self, random: np.random.Generator, groups: int, n: int) -> np.ndarray:
        """n draws for each group, (groups, n, d); a component is drawn floor or ceil of n w times.

        Groups are independent.
        """
        weights, means, factors = self.components
        label = systematic(np.broadcast_to(weights, (groups, len(weights))), n, random)
        white = random.standard_normal((groups, n, means.shape[1]))
        return means[label] + np.einsum("gnij,gnj->gni", factors[label], white)

    @property
    def covariance(self) -> np.ndarray:
        """Within a component, averaged over components, (d, d): the scale of local moves."""
        weights, _, factors = self.components
        return np.einsum("k,kij,klj->il", weights, factors, factors)

    def label(self, x: np.ndarray) -> np.ndarray:
        """The component to which each point of (n, d) belongs most, (n,)."""
        weights, means, factors = self.components
        if len(weights) == 1:
            return np.zeros(len(x), int)
        logs = [
            math.log(w)
            - np.sum(np.log(np.diag(f)))
            - 0.5 * np.sum(linalg.solve_triangular(f, (x - m).T, lower=True) ** 2, axis=0)
            for w, m, f in zip(weights, means, factors, strict=True)
        ]
        return np.argmax(logs, axis=0)


def systematic(weights: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Indices (g, count) for weights (g, n): number k is at the quantile (k + u)/count, u uniform.

    Index i occurs floor or ceil of count w_i times. Kitagawa, J. Comput. Graph. Stat. 5 (1996) 1.
    """
    levels = np.cumsum(weights, axis=1)
    place = (np.arange(count) + random.uniform(size=(len(weights), 1))) / count
    asked = place * levels[:, -1:]
    rows = [np.searchsorted(a, b, side="right") for a, b in zip(levels, asked, strict=True)]
    return np.minimum(np.array(rows), weights.shape[1] - 1)


def find_reference(target: Target, seed: int, gradients: int) -> Reference:
    """The mixture of widened Laplace approximations, for at most about `gradients` gradients."""
    d = target.dimension
    random = np.random.default_rng(seed)
    search = _Search(target, gradients)
    first = search.descend(np.asarray(target.start, float))
    modes = [(first[0], *search.curvature(first[0]), first[1])]
    notes = () if first[2] else ("the descent from the start did not converge",)
    for i in range(DESCENTS * len(STREWN)):
        if search.left < 20 + d or len(modes) == MOST_MODES:
            break
        distance = STREWN[i % len(STREWN)]
        # As long as a draw of the mode's own Gaussian is; in one dimension, to both sides.
        start = modes[0][0] + distance * modes[0][1] @ random.standard_normal(d)
        try:
            x, value, converged = search.descend(start, modes)
        except _KnownMode:
            continue
        # A minimum so far up has no mass: that of a Gaussian with the same curvature is its E.
        if converged and value - min(mode[3] for mode in modes) < 20.0 + d:
            modes.append((x, *search.curvature(x), value))
    return Reference(_mixture(modes, target), search.spent, notes)


class _KnownMode(Exception):
    """A descent came close to a mode that is known: nothing more is to be learnt from it."""


class _Exhausted(Exception):
    """A descent has used up its gradients."""


class _Search:
    """Descents and curvatures, counted."""

    def __init__(self, target: Target, most: int):
        self.target, self.most, self.spent = target, most, 0

    @property
    def left(self) -> int:
        return self.most - self.spent

    def descend(self, start: np.ndarray, known: Any = ()) -> tuple[np.ndarray, float, bool]:
        """(point, E, whether it is a minimum); raises _KnownMode on the way to one of `known`."""
        dtype = self.target.start.dtype
        most = max(10, min(self.left // 2, 200))
        slopes: list[float] = []
        best = (math.inf, start)

        def fn(x: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal best
            if any(_near(x, mode) for mode in known):
                raise _KnownMode
            if len(slopes) == most:
                raise _Exhausted
            self.spent += 1
            value, slope = _value_and_slope(self.target, jnp.asarray(x, dtype))
            value, slope = float(value), np.asarray(slope, float)
            if not (math.isfinite(value) and bool(np.all(np.isfinite(slope)))):
                value, slope = 1e30, np.zeros_like(slope)
            slopes.append(float(np.max(np.abs(slope))))
            best = min(best, (value, x.copy()), key=lambda pair: pair[0])
            return value, slope

        try:
            found = optimize.minimize(fn, start, jac=True, method="BFGS", options={"gtol": 1e-3})
        except _Exhausted:
            return best[1], best[0], False
        # In single precision a search ends where values are known no better: that is a minimum too,
        # if the slope has gone.
        small = float(np.max(np.abs(found.jac))) <= max(0.05, 1e-3 * slopes[0])
        return found.x, float(found.fun), found.fun < 1e29 and small

    def curvature(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(factor, precision) of Laplace's covariance; flat or bent-down directions are cut off."""
        self.spent += len(x)
        hessian = np.asarray(_hessian(self.target, jnp.asarray(x, self.target.start.dtype)), float)
        if not np.all(np.isfinite(hessian)):
            return np.eye(len(x)), np.eye(len(x))
        values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
        values = np.abs(values)
        values = np.maximum(values, max(1e-6 * values.max(), 1e-8))
        return vectors / np.sqrt(values) @ vectors.T, (vectors * values) @ vectors.T


def _near(x: np.ndarray, mode: tuple[Any, ...]) -> bool:
    gap = x - mode[0]
    return bool(gap @ mode[2] @ gap < SEPARATION)


def _mixture(modes: list[tuple[Any, ...]], target: Target) -> Any:
    d, dtype = target.dimension, target.start.dtype
    # The weights of N(0, c^2) for N(0, 1) have relative variance ~ (c^2 - 1)^2 / 2 a dimension.
    wider = 1.0 + 0.5 / math.sqrt(d)
    factors = [np.linalg.cholesky(wider**2 * f @ f.T) for _, f, _, _ in modes]
    if len(modes) == 1:
        return Gaussian(jnp.asarray(modes[0][0], dtype), jnp.asarray(factors[0], dtype))
    logs = [
        float(np.sum(np.log(np.diag(factor)))) - mode[3]
        for mode, factor in zip(modes, factors, strict=True)
    ]
    shares = np.exp(np.array(logs) - max(logs))
    shares = (1.0 - EVEN) * shares / shares.sum() + EVEN / len(modes)
    return GaussianMixture(
        jnp.asarray(np.log(shares), dtype),
        jnp.asarray(np.stack([mode[0] for mode in modes]), dtype),
        jnp.asarray(np.stack(factors), dtype),
    )


@eqx.filter_jit
def _value_and_slope(target: Target, x: Float[Array, " d"]) -> tuple[Any, Any]:
    return jax.value_and_grad(target)(x)


@eqx.filter_jit
def _hessian(target: Target, x: Float[Array, " d"]) -> Any:
    return jax.hessian(target)(x)
