"""Does a law known as a whole stay a law, and is its free energy the right one? (eq. 47-49)"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..states import Density, Gaussian, GaussianMixture
from .context import Context
from .report import Check


def law_checks(context: Context) -> list[Check]:
    """On a grid mass, positivity and F - F_inf = T KL(rho || Gibbs); what a family misses."""
    if isinstance(context.trajectory.states, Density):
        return [_mass(context), _positivity(context), *_gibbs(context)]
    if isinstance(context.trajectory.states, (Gaussian, GaussianMixture)) and context.single:
        return _projection(context)
    return []


def projection_residual(flow: Any, state: Any, time: Any = 0.0) -> float | None:
    """The share of the dissipation that a family of laws cannot follow, between 0 and 1.

    1 - <dF, K dF> / <psi, K psi>: the rate of the family, whose velocity is the projection of the
    law's own on its tangent space, against the rate of a law free to move anywhere (eq. 56-57).
    None under a geometry that only the family has (`Parametric`).
    """
    rate, full = _rates(flow.bind(state), state, time)
    if full is None:
        return None
    return 1.0 - float(rate) / float(full) if full > 0 else 0.0


@eqx.filter_jit
def _value(functional: Any, state: Any) -> Any:
    return functional(state)


@eqx.filter_jit
def _divergence(state: Any, target: Any) -> Any:
    return state.kl(target)


@eqx.filter_jit
def _rates(flow: Any, state: Any, time: Any) -> tuple[Any, Any]:
    part = flow.parts[0]
    variation = part.functional.at(time).first_variation(state)
    full = part.geometry.at(time).full_rate(state, variation)
    return flow.rate_per_point(state, time), full


def _projection(context: Context) -> list[Check]:
    """Reported, not judged: how far the family follows is the user's choice of it."""
    last = len(context.trajectory) - 1
    shares = [
        projection_residual(
            context.flow, context.trajectory.at(i), jnp.asarray(context.trajectory.times[i])
        )
        for i in (0, last // 2, last)
    ]
    known = [f"{share:.2g}" for share in shares if share is not None]
    if not known:
        return []
    why = f"of the dissipation the family misses {', '.join(known)}"
    return [Check.undecided("projection residual", why + " at the start, half-way and the end")]


def _mass(context: Context) -> Check:
    """Round-off of sums over the cells, one for each step, added in quadrature; at least 1e-12."""
    mass = np.asarray(context.ledger.conserved["mass"], float)
    drift = float(np.max(np.abs(mass - mass[0])))
    cells = np.prod(context.trajectory.states.grid.shape)
    tolerance = 4 * context.epsilon * np.sqrt(cells * max(context.steps, 1))
    if context.epsilon < 1e-12:
        tolerance = max(tolerance, 1e-12)
    return Check.compare("mass", drift, tolerance, "largest change of the total mass")


def _positivity(context: Context) -> Check:
    """The smallest value over the run, against the round-off of the largest."""
    assert context.ledger.minimum is not None
    lowest = float(np.min(context.ledger.minimum))
    largest = float(np.max(np.asarray(context.trajectory.states.values)))
    why = f"smallest value {lowest:.3g}"
    return Check.compare("positivity", max(-lowest, 0.0), 10 * context.epsilon * largest, why)


def _gibbs(context: Context) -> list[Check]:
    """At three saves; both sides are sums over the cells, hence the round-off of their size."""
    name = "Gibbs identity"
    law = context.part.equilibrium() if context.single else None
    if law is None or law.kind != "gibbs" or law.log_density is None:
        return []
    grid = context.trajectory.states.grid
    temperature = float(law.temperature)
    target = Density.from_log(grid, law.log_density)
    least = float(_value(context.part.functional, target))
    worst, last, size = 0.0, 0.0, abs(least)
    for index in (0, len(context.trajectory) // 2, len(context.trajectory) - 1):
        above = float(context.ledger.functional[index]) - least
        last = temperature * float(_divergence(context.trajectory.at(index), target))
        worst, size = max(worst, abs(above - last)), max(size, abs(above), abs(last))
    why = f"F - F_inf = T KL(ρ‖π) on the grid; at the end {last:.3g}"
    potential = np.abs(np.log(np.maximum(np.asarray(target.values), 1e-300))).max() * temperature
    tolerance = 100 * context.epsilon * (size + float(potential))
    return [Check.compare(name, worst, tolerance, why)]
