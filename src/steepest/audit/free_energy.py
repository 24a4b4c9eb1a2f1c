"""The second law on an ensemble: F(rho_t) = <E> - T S does not rise (eq. 46, 48)."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from .. import tree
from ..errors import ArgumentError
from ..states import Particles
from .context import Context
from .report import Check

SIGMAS = 5.0


class FreeEnergySeries(NamedTuple):
    """Free energy at some saves, with standard errors; `dissipated` is its drop so far."""

    times: np.ndarray
    value: np.ndarray
    standard_error: np.ndarray

    @property
    def dissipated(self) -> np.ndarray:
        """F(0) - F(t) = heat + T (S(t) - S(0)): T times the entropy production."""
        return self.value[0] - self.value


def free_energy(trajectory: Any, saves: int = 16, estimator: str = "auto") -> FreeEnergySeries:
    """<E> - T S(rho), the entropy by `Particles.entropy` from the points (eq. 46, 48).

    Up to `saves` evenly spaced saves; the standard error is the spread of E(x_i) + T log rho(x_i)
    over particles. Raises ArgumentError for a run that is not a thermal ensemble.
    """
    context = Context(trajectory)
    if not context.ensemble or context.part.thermal is None:
        raise ArgumentError(
            "trajectory", "not a thermal ensemble", "run Particles under Thermal(T)"
        )
    index = np.unique(np.linspace(0, len(trajectory) - 1, saves).astype(int))
    times = np.asarray(trajectory.times)[index]
    value, error = [], []
    for i, time in zip(index, times, strict=True):
        state = trajectory.at(int(i))
        temperature = context.temperature(float(time))
        found = _terms(context.flow, state, jax.numpy.asarray(float(time)), estimator)
        energies, entropies, weights = (np.asarray(x, float) for x in found)
        terms = energies - temperature * entropies
        mean = float(np.sum(weights * terms))
        value.append(mean)
        error.append(float(np.sqrt(np.sum((weights * (terms - mean)) ** 2))))
    return FreeEnergySeries(times, np.array(value), np.array(error))


@eqx.filter_jit
def _terms(flow: Any, state: Particles, time: Any, estimator: str) -> Any:
    """(energies, terms of the entropy, weights) of the particles."""
    return flow.per_point(state, time), state.entropy_terms(estimator), state.weights


def second_law_checks(context: Context) -> list[Check]:
    """No rise of the free energy between 16 saves beyond five standard errors."""
    part = context.part
    if not (context.ensemble and context.single and part.thermal is not None):
        return []
    name = "free energy descent"
    one = jax.tree.map(lambda x: x[0, 0], context.chain_points(0.0))
    count, dimension = context.trajectory.chains, tree.size(one)
    if callable(part.thermal.temperature) or context.flow.time_dependent:
        return [Check.undecided(name, "the temperature or the energy follows a schedule")]
    if part.equilibrium().kind not in ("gibbs", "self-consistent"):
        return [Check.undecided(name, "with other noise than the bath's no free energy need fall")]
    if dimension > 4 or count < 100 or part.geometry.curved:
        why = f"the entropy of {count} points in {dimension} dimensions is not estimated reliably"
        return [Check.undecided(name, why)]
    if len(context.trajectory) < 3:
        return [Check.undecided(name, "fewer than three saves")]
    series = free_energy(context.trajectory)
    rise = np.diff(series.value)
    error = np.hypot(series.standard_error[1:], series.standard_error[:-1])
    worst = int(np.argmax(rise - SIGMAS * error))
    why = f"largest rise of <E> - T S, from {series.value[0]:.4g} to {series.value[-1]:.4g}"
    return [Check.compare(name, max(rise[worst], 0.0), SIGMAS * error[worst], why)]
