"""One explicit step of a flow, in the coordinates in which its geometry is straight.

FisherRao() on a `Gaussian` with precision P: Euler in the natural parameters (P, P m),

    P+ = P + 2 t dF/dS,   m+ = m - t S+ dF/dm,

for F = <V> - T S the step P+ = (1 - t T) P + t H, m+ = m - t S+ g with g = E[V'], H = E[V''], which
is exact at t = 1/T where V is quadratic. Wasserstein() on a `Gaussian`: forward-backward, the
gradient step x -> x - t (g + H (x - m)) of the potential and then the JKO step of the entropy,

    S' = M S M,  M = 1 - t H;   S+ = (S' + 2 t T + (S' (S' + 4 t T))^(1/2)) / 2.

Everything else: Euler and the geometry's retraction.
Sources: Khan and Rue, J. Mach. Learn. Res. 24 (2023) 281; Diao et al., ICML 2023.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .. import tree
from ..geometries import FisherRao, Wasserstein
from ..geometries.cone import unscaled
from ..states import Gaussian
from ..states.factors import Diagonal, LowRank, dot, half_lower, triangular_root
from ..states.gaussian import wasserstein_squared


def explicit(
    part: Any, state: Any, covector: Any, velocity: Any, time: Any, length: Any, longest: Any
) -> tuple[Any, Any]:
    """The state after a step of `length` (<= `longest`), and by how much F should fall.

    Promised is what F falls by in the quadratic model of V (FisherRao), W2^2/length (Wasserstein),
    or length times the rate of dissipation.
    """
    factor, geometry = unscaled(part.geometry.at(time))
    if isinstance(state, Gaussian) and not isinstance(state.scale, LowRank):
        heat = part.functional.at(time).resolve().temperature
        if isinstance(geometry, FisherRao):
            return _natural(state, covector, heat, length * factor, longest * factor)
        if isinstance(geometry, Wasserstein) and _euclidean(geometry):
            clock = length * factor * unscaled(geometry.ground)[0]
            return _forward_backward(state, covector, heat, clock)
    moved = part.geometry.at(time).retract(state, tree.scale(length, velocity))
    return moved, -length * tree.dot(covector, velocity)


def _euclidean(geometry: Wasserstein) -> bool:
    return type(unscaled(geometry.ground)[1]).__name__ == "Euclidean"


def _natural(state: Gaussian, covector: Gaussian, heat: Any, t: Any, longest: Any) -> Any:
    """In the eigenvectors of W = 2 L^T (dF/dS) L, where P+ = L^{-T} (1 + t W) L^{-1}."""
    diagonal = isinstance(state.factor, Diagonal)
    turn = state.mean  # of no use to a diagonal law
    if diagonal:
        w, slope = state.scale * covector.scale, state.scale * covector.mean
    else:
        half = half_lower(dot(state.lower.T, covector.scale))
        w, turn = jnp.linalg.eigh(half + half.T)
        slope = dot(turn.T, dot(state.lower.T, covector.mean))
    # Where V is so concave that the longest step has no precision left, variances grow fourfold.
    safe = jnp.where(1.0 + longest * w > 0, w, -0.75 / longest)
    nu = 1.0 + t * safe
    move = -t * slope / nu
    bend = w + heat  # V'' in these coordinates
    promised = -jnp.sum(
        slope * move
        + 0.5 * jnp.maximum(bend, 0.0) * move**2
        + 0.5 * bend * (1.0 / nu - 1.0)
        + 0.5 * heat * jnp.log(nu)
    )
    if diagonal:
        return state.tangent(state.mean + state.scale * move, state.scale / jnp.sqrt(nu)), promised
    mean = state.mean + dot(state.lower, dot(turn, move))
    root = triangular_root(dot(state.lower, turn / jnp.sqrt(nu)))
    return state.tangent(mean, root), promised


def _forward_backward(state: Gaussian, covector: Gaussian, heat: Any, t: Any) -> Any:
    mean = state.mean - t * covector.mean
    if isinstance(state.factor, Diagonal):
        s = state.scale
        # 1 - t H with H = 2 dF/dS + T P, on the deviation itself; it may turn the line over.
        pushed = (s - t * (covector.scale + heat / s)) ** 2
        grown = 0.5 * (pushed + 2 * t * heat + jnp.sqrt(pushed * (pushed + 4 * t * heat)))
        new = state.tangent(mean, jnp.sqrt(grown))
        squared = jnp.sum((new.mean - state.mean) ** 2) + jnp.sum((new.scale - s) ** 2)
        return new, squared / t
    lower = state.lower
    inverse = jnp.linalg.inv(lower)
    # M L = L - t (2 dF/dS L + T L^{-T}).
    pushed = lower - t * (state.factor.slopes(covector.scale) + heat * inverse.T)
    u, s, _ = jnp.linalg.svd(pushed)
    grown = 0.5 * (s**2 + 2 * t * heat + s * jnp.sqrt(s**2 + 4 * t * heat))
    new = state.tangent(mean, triangular_root(u * jnp.sqrt(grown)))
    return new, wasserstein_squared(new, state) / t
