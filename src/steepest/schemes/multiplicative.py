"""The Fisher-Rao flow of a free energy in closed form (eq. 62): laws multiply, nothing moves.

For F = <V> + T integral rho log rho the flow d rho/dt = -rho (psi - <psi>) is linear in log rho:

    rho_t ~ rho_0^a exp(-b V),   a = exp(-T t),   b = (1 - a)/T   (b = t at T = 0)

at T = 1 the geometric path from rho_0 to the Gibbs law. On `Categorical` it is exponentiated
gradient; on `Gaussian` the natural parameters interpolate, exactly where V is quadratic. Other
functionals enter with their first variation at the start of the step, to order 1.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..geometries.cone import unscaled
from ..states import Categorical, Density, Gaussian
from ..states.factors import Diagonal, LowRank, dot

KINDS = (Density, Categorical, Gaussian)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(3)


def multiplied(part: Any, state: Any, time: Any, step: Any) -> Any:
    """The law after `step` of the flow `part`, whose geometry is FisherRao() or a multiple."""
    resolved = part.functional.at(time).resolve()
    clock = step * unscaled(part.geometry.at(time))[0]
    temperature = jnp.asarray(resolved.temperature, jnp.result_type(float))
    # b = (1 - exp(-T t))/T, also at T = 0.
    warm = jnp.where(temperature > 0, temperature, 1.0)
    a = jnp.exp(-temperature * clock)
    b = jnp.where(temperature > 0, -jnp.expm1(-warm * clock) / warm, clock)
    if isinstance(state, Gaussian):
        return _gaussian(resolved, state, a, b)
    if isinstance(state, Categorical):
        potential = _summed(resolved, state, lambda fn: jax.vmap(fn)(jnp.arange(state.count)))
        p = state.probabilities
        for functional in resolved.rest:
            # The covector of logits is p (psi - <psi>).
            potential = potential + jax.grad(functional)(state).logits / p
        logits = a * state.log_probabilities - b * potential
        return state.tangent(logits - logsumexp(logits))
    potential = _summed(resolved, state, state.grid.evaluate)
    for functional in resolved.rest:
        potential = potential + jax.grad(functional)(state).values / state.grid.cell_volume
    logs = a * jnp.log(state.values) - b * potential  # -inf stays: what is not there cannot grow
    return state.tangent(jnp.exp(logs - logsumexp(logs)) / state.grid.cell_volume)


def advance(part: Any, state: Any, time: Any, step: Any) -> tuple[Any, Float[Array, ""]]:
    """The law after `step`, and what was dissipated: the integral of <dF, K dF> along the path.

    The path between is known as well as its end, so the integral is Gauss's with three nodes.
    """
    dissipated = jnp.zeros(())
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        between = multiplied(part, state, time, 0.5 * (1.0 + node) * step)
        dissipated = dissipated + 0.5 * weight * step * part.rate_per_point(between, time)
    return multiplied(part, state, time, step), dissipated


def check(part: Any, state: Any) -> None:
    """Raises ArgumentError for states and functionals without a closed step."""
    if not isinstance(state, KINDS):
        raise ArgumentError(
            "state", type(state).__name__, "Density, Categorical or Gaussian; else RungeKutta()"
        )
    if isinstance(state, Gaussian):
        if isinstance(state.scale, LowRank) or state.phase:
            raise ArgumentError(
                "state", "a low-rank or phase-space Gaussian", "no closed step; use RungeKutta()"
            )
        if part.functional.at(0.0).resolve().rest:
            raise ArgumentError("functional", part.functional.name, "use RungeKutta() on Gaussian")


def _hessian(potential: Any, x: Any) -> Any:
    return jax.hessian(lambda y: jnp.asarray(potential(y)))(x)


def _summed(resolved: Any, state: Any, evaluate: Any) -> Any:
    if resolved.potential is None:
        return jnp.zeros_like(jax.tree.leaves(state)[0])
    return evaluate(resolved.potential)


def _gaussian(resolved: Any, state: Gaussian, a: Any, b: Any) -> Gaussian:
    """Precision P and P m: P+ = a P + b H, (P m)+ = a P m + b (H m - g), g = E[V'], H = E[V''].

    So P+ = a P + b H and m+ = m - b S+ g. Where the energy is so concave that P+ is not positive,
    the numbers become NaN, which the driver reports.
    """
    d, mean = state.dimension, state.mean
    if resolved.potential is None:
        slope, curvature = jnp.zeros(d, mean.dtype), jnp.zeros((d, d), mean.dtype)
    else:
        potential = resolved.potential
        slope, curvature = state.expect(lambda x: (jax.grad(potential)(x), _hessian(potential, x)))
    if isinstance(state.factor, Diagonal):
        precision = a / state.scale**2 + b * jnp.diagonal(curvature)
        return state.tangent(mean - b * slope / precision, 1.0 / jnp.sqrt(precision))
    # In the noise of the old law, z = L^{-1}(x - m): P+ = L^{-T} (a 1 + b L^T H L) L^{-1}.
    lower = state.lower
    white = a * jnp.eye(d, dtype=mean.dtype) + b * dot(lower.T, dot(curvature, lower))
    # S+ = L white^{-1} L^T; with white = R R^T reversed, its factor stays lower triangular.
    flipped = jnp.linalg.cholesky(white[::-1, ::-1])[::-1, ::-1]  # upper, white = U U^T
    inverse = jax.scipy.linalg.solve_triangular(flipped, jnp.eye(d, dtype=mean.dtype), lower=False)
    root = dot(lower, inverse.T)
    moved = mean - b * dot(root, dot(root.T, slope))
    return state.tangent(moved, root)
