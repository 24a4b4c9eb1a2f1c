"""The KL-proximal (mirror) step of FisherRao(): argmin F(rho) + KL(rho || rho_k)/step (eq. 62).

With F = <V> + T integral rho log rho + G the minimum is

    rho+ ~ (rho_k exp(-step (V + psi_G(rho+))))^(1/(1 + step T))

in closed form where G is absent, by fixed point otherwise. On `Gaussian` precision and mean solve
P+ = (P_k + step H)/(1 + step T) and P_k (m+ - m_k) = -step g, with g = E[V'] and H = E[V''] at the
end of the step: one iteration where V is quadratic.
Source: Beck and Teboulle, Oper. Res. Lett. 31 (2003) 167.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from ...states import Categorical, Density, Gaussian
from ...states.factors import Diagonal, dot
from .problem import Movement, Problem
from .smooth import derivatives, root_of_precision


def minimise(problem: Problem) -> Movement:
    """On `Density`, `Categorical` or `Gaussian`."""
    if isinstance(problem.state, Gaussian):
        return _gaussian(problem)
    return _weights(problem)


def _weights(problem: Problem) -> Movement:
    state, functional = problem.state, problem.functional
    clock = problem.clock()
    resolved = functional.resolve()
    if isinstance(state, Density):
        volume = state.grid.cell_volume
        old = jnp.log(state.masses)
        evaluate = state.grid.evaluate
        rebuild = lambda logs: state.tangent(jnp.exp(logs) / volume)  # noqa: E731
        entropy_shift = -jnp.log(volume)  # log rho = log mass - log volume
    else:
        assert isinstance(state, Categorical)
        old = state.log_probabilities
        evaluate = lambda fn: jax.vmap(fn)(jnp.arange(state.count))  # noqa: E731
        rebuild = lambda logs: state.tangent(logs)  # noqa: E731
        entropy_shift = 0.0
    potential = jnp.zeros_like(old)
    if resolved.potential is not None:
        potential = evaluate(resolved.potential).astype(old.dtype)

    def bent(logs: Any) -> Any:
        """psi of what is neither linear nor entropic, up to a constant."""
        total = jnp.zeros_like(old)
        law = rebuild(logs)
        for term in resolved.rest:
            gradient = jax.grad(term)(law)
            if isinstance(state, Density):
                total = total + gradient.values / state.grid.cell_volume
            else:
                total = total + gradient.logits / jnp.maximum(jnp.exp(logs), 1e-300)
        return total

    heat = resolved.temperature

    def update(logs: Any) -> Any:
        new = (old - clock * (potential + bent(logs))) / (1.0 + clock * heat)
        return new - logsumexp(new)

    def slack(logs: Any) -> Any:
        """Spread of psi + log(rho/rho_k)/clock under rho: zero at the minimum."""
        there = jnp.exp(logs) > 0
        psi = potential + bent(logs) + heat * (logs + entropy_shift)
        psi = jnp.where(there, psi + (logs - old) / clock, 0.0)
        p = jnp.exp(logs)
        mean = jnp.sum(p * psi)
        return jnp.sqrt(jnp.sum(p * (psi - mean) ** 2))

    new, tolerance = update(old), problem.accuracy()
    if resolved.rest:
        size = 1.0 + slack_scale(old, potential + bent(old))

        def unfinished(carry: Any) -> Any:
            logs, count = carry
            return (slack(logs) > 0.1 * tolerance * size) & (count < problem.max_iterations)

        new, _ = jax.lax.while_loop(
            unfinished, lambda carry: (update(carry[0]), carry[1] + 1), (new, 1)
        )
    size = 1.0 + slack_scale(old, potential)
    law = rebuild(new)
    ratio = jnp.where(jnp.exp(new) > 0, new - old, 0.0)
    cost = jnp.sum(jnp.exp(new) * ratio) / clock
    increase = functional(law) + cost - functional(state)
    return Movement(law, increase, slack(new) / (tolerance * size))


def slack_scale(logs: Any, psi: Any) -> Any:
    """The spread of psi under a law, the size of the force of the step."""
    p = jnp.exp(logs)
    psi = jnp.where(p > 0, psi, 0.0)
    return jnp.sqrt(jnp.sum(p * (psi - jnp.sum(p * psi)) ** 2))


def _gaussian(problem: Problem) -> Movement:
    state: Gaussian = problem.state
    clock = problem.clock()
    heat = problem.functional.resolve().temperature
    tolerance = problem.accuracy()
    diagonal = isinstance(state.factor, Diagonal)
    mean, lower = state.mean, state.lower
    old = _precision(lower)

    def defect(law: Gaussian) -> Any:
        """The two optimality conditions, relative to the old law, and g, H at `law`."""
        slope, curvature = derivatives(problem.functional, law)
        move = dot(lower.T, slope) + dot(jnp.linalg.inv(lower), law.mean - mean) / clock
        new = _precision(law.lower)
        gap = curvature - heat * new + (old - new) / clock
        gap = dot(lower.T, dot(gap, lower))
        gap = jnp.diagonal(gap) if diagonal else gap
        return jnp.sqrt(jnp.sum(move**2) + 0.5 * jnp.sum(gap**2)), (slope, curvature)

    def improve(law: Gaussian, slope: Any, curvature: Any) -> Gaussian:
        if diagonal:
            bend = jnp.diagonal(curvature)
            precision = (jnp.diagonal(old) + clock * bend) / (1.0 + clock * heat)
            force = jnp.diagonal(old) * (law.mean - mean) + clock * slope
            moved = law.mean - force / (jnp.diagonal(old) + clock * bend)
            return state.tangent(moved, 1.0 / jnp.sqrt(precision))
        matrix = old + clock * curvature
        force = dot(old, law.mean - mean) + clock * slope
        moved = law.mean - jnp.linalg.solve(matrix, force)
        return state.tangent(moved, root_of_precision(matrix / (1.0 + clock * heat)))

    def unfinished(carry: Any) -> Any:
        _, gap, _, count = carry
        return (gap > 0.1 * tolerance * size) & (count < problem.max_iterations)

    def again(carry: Any) -> Any:
        law, _, found, count = carry
        law = improve(law, *found)
        return law, *defect(law), count + 1

    gap, found = defect(state)
    size = 1.0 + gap
    law, gap, _, _ = jax.lax.while_loop(unfinished, again, (state, gap + jnp.inf, found, 0))
    increase = problem.functional(law) - problem.functional(state) + law.kl(state) / clock
    return Movement(law, increase, gap / (tolerance * size))


def _precision(lower: Any) -> Any:
    inverse = jnp.linalg.inv(lower)
    return dot(inverse.T, inverse)
