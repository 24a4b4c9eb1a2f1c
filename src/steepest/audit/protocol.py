"""Does a run under a protocol obey Jarzynski's equality? (eq. 43-44)

Started from the Gibbs law of the initial functional, particles weighted by exp(-W/T), W being the
work done on each so far, have the Gibbs law of the present functional. Free energies are not known,
but under that law E[theta . grad F] = d T, whatever they are: the weighted mean is held against it.
Sources: Jarzynski, Phys. Rev. Lett. 78 (1997) 2690; Hummer and Szabo, PNAS 98 (2001) 3658.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .. import tree
from ..functionals import frozen
from ..states import Phase
from ..states.points import points
from .context import Context, evaluate
from .report import Check

SIGMAS = 4.0
LEAST = 50.0
"""Effective particles below which the weighted mean has no standard error to speak of."""


def protocol_checks(context: Context) -> list[Check]:
    """The identity above at the last save, where the run started in equilibrium."""
    if not context.flow.time_dependent:
        return []
    name = "Jarzynski's equality"
    reason = _not_applicable(context)
    if reason:
        return [Check.undecided(name, reason)]
    temperature = context.temperature(0.0)
    begin, last = _virial(context, 0), _virial(context, -1)
    n, one = len(begin), jax.tree.map(lambda x: x[0, 0], context.positions(0.0))
    ideal = tree.size(one) * temperature
    start = abs(float(begin.mean()) - ideal)
    if start > SIGMAS * float(begin.std(ddof=1)) / np.sqrt(n):
        why = f"the start is not in equilibrium: E[theta . grad F] = {begin.mean():.4g}, not"
        return [Check.undecided(name, f"{why} {ideal:g}")]
    works = np.asarray(context.ledger.works, float)[-1]
    weights = np.exp(-(works - works.min()) / temperature)
    weights /= weights.sum()
    size = 1.0 / float(np.sum(weights**2))
    if size < LEAST:
        why = f"only {size:.3g} of {n} particles carry exp(-W/T): run slower, or more of them"
        return [Check.undecided(name, why)]
    mean = float(weights @ last)
    error = float(np.sqrt(np.sum((weights * (last - mean)) ** 2)))
    change = float(context.ledger.free_energy_change(temperature)[-1])
    why = (
        f"weighted E[theta . grad F] = {mean:.5g} +- {error:.2g}, d T = {ideal:g}; "
        f"free energy changes by {change:.4g}"
    )
    return [Check.compare(name, abs(mean - ideal), SIGMAS * error, why)]


def _not_applicable(context: Context) -> str | None:
    if not (context.ensemble and context.single and context.part.thermal is not None):
        return "it is about an ensemble in one bath"
    if callable(context.part.thermal.temperature):
        return "the temperature follows a schedule"
    if context.ledger.works is None or not context.trajectory.balanced:
        return "the run kept no work of each particle"
    if not context.exact_law:
        return "the step has a bias of its own: use Metropolis"
    return None


def _virial(context: Context, save: int) -> np.ndarray:
    """theta . grad F of every particle, F as it was at that save."""
    functional: Any = context.part.functional
    functional = frozen(functional, float(context.trajectory.times[save]))
    energy = functional.energy
    energy = getattr(energy, "potential", energy)
    sample = points(context.trajectory.at(save))
    sample = sample.position if isinstance(sample, Phase) else sample
    sample = jax.tree.map(lambda x: np.asarray(x)[None], sample)
    return evaluate(lambda x: tree.dot(x, jax.grad(energy)(x)), sample)[0]
