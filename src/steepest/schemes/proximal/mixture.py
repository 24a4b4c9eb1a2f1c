"""Minimizing movements of a Gaussian mixture: components by JKO, weights by the mirror step.

Under Wasserstein() the components move and the weights stay, at the cost of the joint law of
(component, point), sum_i w_i W2^2(N_i, N_i^k)/(2 step): each component takes the Bures step of
`bures` in its own potential, whose slope and curvature are those of

    F + T sum_i w_i S(N_i),

the functional without the entropies of the components, which the closed form treats exactly. Under
FisherRao() the weights move at the cost KL(w || w^k)/step, by the fixed point

    log w+ = (log w^k - step (psi(w+) - T log w+))/(1 + step T),   psi_i = dF/dw_i.

Sources: Lambert et al., NeurIPS 2022; Diao et al., ICML 2023 (one Gaussian).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from ...states import GaussianMixture
from ...states.gaussian import wasserstein_squared
from .bures import closed_step, mismatch
from .mirror import slack_scale
from .problem import Movement, Problem
from .smooth import of_covector


def components(problem: Problem) -> Movement:
    """The step of the components under Wasserstein(); weights stay."""
    state: GaussianMixture = problem.state
    clock, tolerance = problem.clock(), problem.accuracy()
    heat, weights = problem.functional.resolve().temperature, state.weights

    def smooth(law: GaussianMixture) -> Any:
        entropies = law.each(lambda component: component.entropy())
        return problem.functional(law) + heat * jnp.sum(weights * entropies)

    def pairs(fn: Any, law: GaussianMixture, *others: Any) -> Any:
        """fn(component before, component at `law`, ...), stacked."""
        rebuild = law.component(0).tangent
        moved = lambda old, m, s, *rest: fn(old, rebuild(m, s), *rest)  # noqa: E731
        return state.each(moved, law.means, law.scales, *others)

    def defect(law: GaussianMixture) -> Any:
        """The mean mismatch of the components, and each one's slope and curvature at `law`."""
        tangent = law.per_weight(jax.grad(smooth)(law))
        of_one = lambda g, m, s: of_covector(g, g.tangent(m, s))  # noqa: E731
        forces = law.each(of_one, tangent.means, tangent.scales)
        each = lambda old, new, g, h: mismatch(old, new, g, h, clock, heat)  # noqa: E731
        gaps = pairs(each, law, *forces)
        return jnp.sqrt(jnp.sum(weights * gaps**2)), forces

    def again(carry: Any) -> Any:
        law, gap, forces, count, share = carry
        each = lambda old, new, g, h: closed_step(old, new, g, h, clock, heat)  # noqa: E731
        moved = pairs(each, law, *forces)
        toward = lambda old, new: old + share * (new - old)  # noqa: E731
        means, scales = toward(law.means, moved.mean), toward(law.scales, moved.scale)
        law = law.tangent(law.log_weights, means, scales)
        missed, forces = defect(law)
        # Components on top of one another pull at each other: then smaller shares of the way.
        share = jnp.where(missed < 0.9 * gap, share, jnp.maximum(0.5 * share, 1.0 / 32.0))
        return law, missed, forces, count + 1, share

    gap, forces = defect(state)
    size = 1.0 + gap
    law, gap, *_ = jax.lax.while_loop(
        lambda c: (c[1] > 0.1 * tolerance * size) & (c[3] < problem.max_iterations),
        again,
        (state, gap + jnp.inf, forces, 0, jnp.ones_like(gap)),
    )
    squares = pairs(wasserstein_squared, law)
    cost = 0.5 * jnp.sum(weights * squares) / clock
    increase = problem.functional(law) - problem.functional(state) + cost
    return Movement(law, increase, gap / (tolerance * size))


def weights(problem: Problem) -> Movement:
    """The step of the weights under FisherRao(); components stay."""
    state: GaussianMixture = problem.state
    clock, tolerance = problem.clock(), problem.accuracy()
    resolved = problem.functional.resolve()
    heat, old = resolved.temperature, jax.nn.log_softmax(state.log_weights)
    fixed = jnp.zeros_like(old)
    if resolved.potential is not None:
        fixed = state.each(lambda component: component.expect(resolved.potential))
    # log N_j at the nodes of component i, once: the components do not move.
    _, share = state.component(0).nodes()

    def at_nodes(component: Any) -> Any:
        z, _ = component.nodes()
        return state.log_joint(component.mean + component.factor.push(z)) - old

    logs_at = state.each(at_nodes)

    def psi(logs: Any) -> Any:
        """dF/dw_i, up to a constant."""
        logs_of_law = logsumexp(logs_at + logs, axis=-1)
        # <N_i / q>, one but for the rule's error: with it psi is the differential of the rule.
        ratio = jnp.exp(logs_at - logs_of_law[..., None])
        ones = jnp.einsum("j,n,jni->i", jnp.exp(logs), share, ratio)
        total = fixed + heat * (jnp.tensordot(logs_of_law, share, axes=1) + ones)
        for term in resolved.rest:
            covector = jax.grad(term)(state.at_weights(logs))
            total = total + state.at_weights(logs).per_weight(covector).log_weights
        return total

    def update(logs: Any, slope: Any) -> Any:
        new = (old - clock * (slope - heat * logs)) / (1.0 + clock * heat)
        return new - logsumexp(new)

    def slack(logs: Any, slope: Any) -> Any:
        return slack_scale(logs, slope + (logs - old) / clock)

    def again(carry: Any) -> Any:
        logs, slope, _, count = carry
        logs = update(logs, slope)
        slope = psi(logs)
        return logs, slope, slack(logs, slope), count + 1

    slope = psi(old)
    size = 1.0 + slack_scale(old, slope)
    logs, _, gap, _ = jax.lax.while_loop(
        lambda c: (c[2] > 0.1 * tolerance * size) & (c[3] < problem.max_iterations),
        again,
        (old, slope, size + jnp.inf, 0),
    )
    law = state.at_weights(logs)
    cost = jnp.sum(jnp.exp(logs) * (logs - old)) / clock
    increase = problem.functional(law) - problem.functional(state) + cost
    return Movement(law, increase, gap / (tolerance * size))
