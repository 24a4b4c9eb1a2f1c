"""JKO on Gaussians: argmin F(q) + W2^2(q, q_k)/(2 step), Bures-Wasserstein (eq. 50, 59).

The optimal map from q+ back to q_k is x + step (g + (H - T P+)(x - m+)), with g = E[V'], H = E[V'']
and P+ the precision at the end of the step. With B = 1 + step H it gives m+ + step g = m_k and

    B S+ B - 2 step T B + step^2 T^2 S+^{-1} = S_k,

whose solution is S+ = B^{-1/2} X B^{-1/2}: X has the eigenvectors of C = B^{-1/2} S_k B^{-1/2} and
the eigenvalues x = a + (a^2 - step^2 T^2)^(1/2), a = step T + c/2: a closed form where V is
quadratic, whether or not anything commutes; else a fixed point in (g, H).
Sources: Wibisono, COLT 2018 (the commuting case); Diao et al., ICML 2023 (forward-backward).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...states import Gaussian
from ...states.factors import Diagonal, triangular_root
from ...states.gaussian import wasserstein_squared
from .problem import Movement, Problem
from .smooth import derivatives, product


def minimise(problem: Problem) -> Movement:
    """For full and diagonal scales, Euclidean ground (or a multiple of it)."""
    state: Gaussian = problem.state
    clock, tolerance = problem.clock(), problem.accuracy()
    heat = problem.functional.resolve().temperature

    def defect(law: Gaussian) -> Any:
        """How much the optimality conditions miss at `law`, and g, H there."""
        slope, curvature = derivatives(problem.functional, law)
        return mismatch(state, law, slope, curvature, clock, heat), (slope, curvature)

    def unfinished(carry: Any) -> Any:
        _, gap, _, count = carry
        return (gap > 0.1 * tolerance * size) & (count < problem.max_iterations)

    def again(carry: Any) -> Any:
        law, _, found, count = carry
        slope, curvature = found
        law = closed_step(state, law, slope, curvature, clock, heat)
        return law, *defect(law), count + 1

    gap, found = defect(state)
    size = 1.0 + gap
    law, gap, _, _ = jax.lax.while_loop(unfinished, again, (state, gap + jnp.inf, found, 0))
    cost = 0.5 * wasserstein_squared(law, state) / clock
    increase = problem.functional(law) - problem.functional(state) + cost
    return Movement(law, increase, gap / (tolerance * size))


def mismatch(
    state: Gaussian, law: Gaussian, slope: Any, curvature: Any, clock: Any, heat: Any
) -> Float[Array, ""]:
    """The gap of both optimality conditions at `law`, as a velocity (step: `clock`, T: `heat`)."""
    move = (law.mean - state.mean) / clock + slope
    unit = jnp.eye(state.dimension, dtype=state.mean.dtype)
    inverse = jnp.linalg.inv(law.lower)
    back = unit + clock * (curvature - heat * product(inverse.T, inverse))
    # The map takes L+ to a root of S_k: measured by the covariance it misses.
    root = product(back, law.lower)
    gap = (product(root, root.T) - state.covariance) / clock
    gap = jnp.diagonal(gap) if isinstance(state.factor, Diagonal) else gap
    return jnp.sqrt(jnp.sum(move**2) + jnp.sum(gap**2))


def closed_step(
    state: Gaussian, law: Gaussian, slope: Any, curvature: Any, clock: Any, heat: Any
) -> Gaussian:
    """The step from `state` in the quadratic with slope g and curvature H at the mean of `law`."""
    bend = jnp.eye(state.dimension, dtype=state.mean.dtype) + clock * curvature
    moved = law.mean - jnp.linalg.solve(bend, law.mean - state.mean + clock * slope)
    if isinstance(state.factor, Diagonal):
        b = jnp.diagonal(bend)
        s = 0.5 * (state.scale + jnp.sqrt(state.scale**2 + 4.0 * b * clock * heat)) / b
        return state.tangent(moved, s)
    values, vectors = jnp.linalg.eigh(bend)
    root = product(vectors / jnp.sqrt(values), vectors.T)  # B^{-1/2}; NaN unless B > 0
    c, turn = jnp.linalg.eigh(product(root, state.covariance, root))
    c = jnp.maximum(c, 0.0)
    x = clock * heat + 0.5 * c + jnp.sqrt(c * (clock * heat + 0.25 * c))
    return state.tangent(moved, triangular_root(product(root, turn * jnp.sqrt(x))))


def extrapolated(problem: Problem) -> Movement:
    """Order 2: half a step, then as far again along the geodesic, the implicit midpoint rule.

    In maps X+ = X_k - step grad psi at the law half-way. De Giorgi's inequality is that of the half
    step. The extended map must stay monotone, else the residual is infinite.
    """
    half = minimise(problem._replace(step=0.5 * problem.step))
    state: Gaussian = problem.state
    if isinstance(state.factor, Diagonal):
        moved = state.tangent(
            2.0 * half.state.mean - state.mean, 2.0 * half.state.scale - state.scale
        )
        good = jnp.all(moved.scale > 0)
    else:
        there = state.optimal_map(half.state)
        extended = 2.0 * there - jnp.eye(state.dimension, dtype=there.dtype)
        good = jnp.linalg.eigvalsh(extended)[0] > 0
        root = triangular_root(product(extended, state.lower))
        moved = state.tangent(2.0 * half.state.mean - state.mean, root)
    residual = jnp.where(good, half.residual, jnp.inf)
    return Movement(moved, half.increase, residual)
