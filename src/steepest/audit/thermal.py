"""Does a thermal flow reach the equilibrium it should? (eq. 43-44, 53)

At the Gibbs law E[theta . grad E] = d T (equipartition) and E|grad E|^2 = T E[lap E]
(configurational temperature); both are integrations by parts, both see noise at a wrong
temperature. The bias that a step brings is predicted from the same samples and part of the
statement: for Euler with constant K, stationarity of theta^T K^{-1} theta gives exactly
E[theta . grad E] = d T + step/2 E<grad E, K grad E>, which on a quadratic is variance
T / (1 - step/2).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import tree
from ..states import Phase
from .context import Context, evaluate, mean_and_error
from .report import Check

SIGMAS = 4.0
LARGEST_HESSIAN = 512


def thermal_checks(context: Context) -> list[Check]:
    """Stationarity, equipartition, configurational and kinetic temperature, predicted bias."""
    reason = _not_applicable(context)
    if reason:
        return [Check.undecided("equilibrium", reason)]
    drifting = _drift(context)
    if drifting is None or not drifting.passed:
        why = "too few saves" if drifting is None else "F still drifts: run longer, or drop warm-up"
        found = [] if drifting is None else [drifting]
        return [*found, Check.undecided("equilibrium", why)]
    temperature = context.temperature(0.0)
    sample = context.positions()
    one = jax.tree.map(lambda x: x[0, 0], sample)
    dimension = tree.size(one)
    moments = _moments(context, sample, dimension)
    checks = [drifting]
    target, slack, bias = _predicted(context, moments, dimension, temperature)
    virial, error = mean_and_error(moments["virial"])
    checks.append(
        Check.compare(
            "equipartition",
            abs(virial - target),
            SIGMAS * error + slack,
            f"E[theta . grad E] = {virial:.5g} +- {error:.2g}, predicted {target:.5g} "
            f"= d T {bias / (dimension * temperature):+.2%}",
        )
    )
    if "laplacian" in moments:
        checks.append(_configurational(context, moments, temperature))
    if context.part.geometry.kinetic:
        checks.append(_kinetic(context, moments, dimension, temperature))
    if not context.exact_law:
        checks.append(
            Check.compare(
                "discretisation bias",
                abs(bias) / (dimension * temperature) + slack / (dimension * temperature),
                context.bias_tolerance,
                "predicted share of the step in E[theta . grad E]; the tolerance is a choice",
            )
        )
    return checks


def _not_applicable(context: Context) -> str | None:
    if not context.single:
        return "a sum of flows has no Gibbs law of its own"
    part = context.part
    law = part.equilibrium()
    if law.kind != "gibbs":
        return f"the flow has no Gibbs law: {law.statement}"
    if part.geometry.curved:
        return "on a manifold these identities need its curvature"
    return None


def _drift(context: Context) -> Check | None:
    """The third against the last quarter of the run, energy per chain."""
    total = len(context.trajectory)
    if total < 16:
        return None
    energy = context.energy()
    sample = context.positions()
    values = evaluate(energy, sample)
    half = len(values) // 2
    if context.ensemble and values.shape[1] >= 16:
        change = values[half:].mean(axis=0) - values[:half].mean(axis=0)
        shift, error = abs(change.mean()), change.std(ddof=1) / np.sqrt(len(change))
    else:
        (a, ea), (b, eb) = mean_and_error(values[:half]), mean_and_error(values[half:])
        shift, error = abs(b - a), float(np.hypot(ea, eb))
    why = "mean energy of the third and the last quarter, in standard errors"
    return Check.compare(
        "stationarity", shift, SIGMAS * error + context.epsilon * context.scale, why
    )


def _moments(context: Context, sample: Any, dimension: int) -> dict[str, np.ndarray]:
    """theta . grad E, |grad E|^2, <grad E, K grad E>, the curvature along K grad E, lap E."""
    energy, ground = context.energy(), context.ground()
    kinetic = context.part.geometry.kinetic
    exact = dimension <= LARGEST_HESSIAN

    def one(x: Any) -> dict[str, Any]:
        gradient = jax.grad(energy)(x)
        moved = gradient if kinetic else ground.sharp(x, gradient)
        _, curved = jax.jvp(jax.grad(energy), (x,), (moved,))
        found = {
            "virial": tree.dot(x, gradient),
            "force_sq": tree.norm_sq(gradient),
            "rate": tree.dot(gradient, moved),
            "bend": tree.dot(moved, curved),
        }
        if exact:
            found["laplacian"] = _laplacian(energy, x)
        return found

    return evaluate(one, sample)


def _laplacian(energy: Any, x: Any) -> Any:
    """tr of the Hessian, one direction at a time (memory of one gradient)."""
    flat, unravel = ravel_pytree(x)
    gradient = jax.grad(lambda y: energy(unravel(y)))

    def entry(i: Any, total: Any) -> Any:
        direction = jnp.zeros_like(flat).at[i].set(1.0)
        return total + jax.jvp(gradient, (flat,), (direction,))[1][i]

    return jax.lax.fori_loop(0, flat.size, entry, jnp.zeros((), flat.dtype))


def _predicted(
    context: Context, moments: dict[str, np.ndarray], dimension: int, temperature: float
) -> tuple[float, float, float]:
    """(target, slack, bias) of E[theta . grad E] for the scheme at its step."""
    ideal, step = dimension * temperature, context.step
    if context.exact_law:
        return ideal, 0.0, 0.0
    if context.explicit and not context.part.geometry.kinetic:
        bias = 0.5 * step * float(np.mean(moments["rate"]))
        if context.part.geometry.constant:
            return ideal + bias, 0.0, bias
        return ideal + bias, abs(bias), bias
    # A second-order splitting: on a quadratic the bias is at most step^2/4 E|grad E|^2/mass.
    force = float(np.mean(moments["force_sq"])) / _lightest(context)
    if context.explicit:
        return ideal, step * force, 0.0  # Euler-Maruyama on phase space, order 1
    return ideal, 0.25 * step**2 * force, 0.0


def _configurational(context: Context, moments: dict[str, np.ndarray], temperature: float) -> Check:
    laplacian = float(np.mean(moments["laplacian"]))
    measured = float(np.mean(moments["force_sq"])) / laplacian
    _, error = mean_and_error(moments["force_sq"] - measured * moments["laplacian"])
    share = float(np.mean(moments["bend"])) / max(float(np.mean(moments["rate"])), 1e-300)
    shift = 0.0
    if context.explicit and not context.exact_law:
        shift = 0.5 * context.step * share * temperature
    elif not context.exact_law:
        shift = 0.25 * context.step**2 * share * temperature / _lightest(context)
    centre = temperature + (shift if context.explicit else 0.0)
    return Check.compare(
        "configurational temperature",
        abs(measured - centre),
        SIGMAS * error / abs(laplacian) + abs(shift),
        f"E|grad E|^2 / E[lap E] = {measured:.5g} +- {error / abs(laplacian):.2g}, T = "
        f"{temperature:g}",
    )


def _kinetic(
    context: Context, moments: dict[str, np.ndarray], dimension: int, temperature: float
) -> Check:
    sample = context.chain_points()
    assert isinstance(sample, Phase)
    mass = context.mass()

    def twice(p: Any) -> Any:
        masses = jax.tree.map(lambda _: mass, p) if not isinstance(mass, dict | tuple) else mass
        return sum(
            jnp.sum(a * a / m)
            for a, m in zip(jax.tree.leaves(p), jax.tree.leaves(masses), strict=True)
        )

    if context.part.geometry.isothermal:
        dimension -= 1  # on a sphere
    measured, error = mean_and_error(evaluate(twice, sample.momentum))
    force = float(np.mean(moments["force_sq"])) / _lightest(context)
    slack = 0.0 if context.exact_law else 0.25 * context.step**2 * force
    if context.explicit:
        slack = context.step * force
    if context.part.geometry.isothermal:
        slack += context.roundoff  # and no sampling error
    return Check.compare(
        "kinetic temperature",
        abs(measured - dimension * temperature),
        SIGMAS * error + slack,
        f"E|p|^2/m = {measured:.5g} +- {error:.2g}, d T = {dimension * temperature:g}",
    )


def _lightest(context: Context) -> float:
    return float(min(np.min(np.asarray(leaf)) for leaf in jax.tree.leaves(context.mass())))
