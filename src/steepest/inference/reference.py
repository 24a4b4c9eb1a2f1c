"""Where annealing starts: a normalised law that covers the target, found from its modes.

A descent from the start, and the search for other modes around the one found there; a Gaussian of
the curvature at every mode, a little wider than Laplace's; their mixture, weighted by the masses
that Laplace's method gives them. A mode that no descent reaches is not in it: what rests on the
reference says so.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from ..states import Gaussian, GaussianMixture
from .frame import Frame
from .minima import curvature, descend, plain
from .modes import Part, search
from .target import Target

MOST_DESCENT = 200
"""Gradients of the descent from the start."""

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
    d, dtype = target.dimension, target.start.dtype
    start = plain(target)
    first = descend(start, np.zeros(d), max(10, min(gradients // 2, MOST_DESCENT)))
    # In single precision a descent ends where values are known no better: where the slope has gone,
    # that is a minimum too.
    small = np.linalg.norm(first.slope) <= max(0.05, 1e-3 * np.linalg.norm(first.first))
    notes = () if first.settled and small else ("the descent from the start did not converge",)
    precision = _precision(curvature(start, first.place))
    frame = Frame.from_precision(target, jnp.asarray(start.places(first.place), dtype), precision)
    spent = first.gradients + d
    found = search(frame, max(gradients - spent, 0), jax.random.key(seed))
    return Reference(_mixture(frame, found.parts), spent + found.gradients, notes)


def _precision(hessian: np.ndarray) -> np.ndarray:
    """|H|, where flat directions are cut off."""
    if not np.all(np.isfinite(hessian)):
        return np.eye(len(hessian))
    values, vectors = np.linalg.eigh(hessian)
    values = np.abs(values)
    values = np.maximum(values, max(1e-6 * values.max(), 1e-8))
    return (vectors * values) @ vectors.T


def _mixture(frame: Frame, parts: tuple[Part, ...]) -> Any:
    d, dtype = frame.dimension, frame.centre.dtype
    # The weights of N(0, c^2) for N(0, 1) have relative variance ~ (c^2 - 1)^2 / 2 a dimension.
    wider = 1.0 + 0.5 / math.sqrt(d)
    root = np.asarray(frame.root, float)
    factors = [wider * root @ part.lower for part in parts]
    means = [frame.places(part.mean) for part in parts]
    if len(parts) == 1:
        return Gaussian(jnp.asarray(means[0], dtype), jnp.asarray(factors[0], dtype))
    logs = np.array([part.log_mass for part in parts])
    shares = np.exp(logs - logs.max())
    shares = (1.0 - EVEN) * shares / shares.sum() + EVEN / len(parts)
    return GaussianMixture(
        jnp.asarray(np.log(shares), dtype),
        jnp.asarray(np.stack(means), dtype),
        jnp.asarray(np.stack(factors), dtype),
    )
