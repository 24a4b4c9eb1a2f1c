"""What an algorithm is once its sizes are forgotten: the shape of flow, scheme and state.

Two compositions are one algorithm when their bound flows have the same kinds of functional,
geometry and noise, their schemes the same fields but for step and accuracy, and their states the
same kind. Energies, metrics, kernels, temperatures and steps are data; a name, a norm, the word of
a splitting or its fractions are structure.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..functionals import AbstractFunctional, ExpectedEnergy
from ..functionals.base import parts as terms_of
from ..functionals.base import unscaled as unscaled_functional
from ..geometries import Wasserstein
from ..geometries.cone import unscaled
from ..kernels import AbstractKernel
from ..noise import Thermal
from ..states import Particles, Phase
from ..states.points import is_measure, points

ACCURACY = {
    "step",
    "tolerance",
    "max_iterations",
    "poles",
    "halvings",
    "threshold",
    "damping",
    "solver",
    "rows",
    "adaptive_damping",
    "known",
    "bandwidth",
}
"""Fields that say how large or how well, not what."""


def structure(flow: Any, scheme: Any, state: Any) -> tuple[Any, ...]:
    """A hashable description that is equal for compositions of one algorithm.

    Independent copies of a point count as the point itself. Raises ArgumentError where the flow
    cannot move this state.
    """
    bound = flow.bind(state)
    alone = isinstance(state, Particles) and state.log_weights is None
    alone = alone and all(_separate(part) for part in bound.parts)
    own = sorted((_part(part, alone) for part in bound.parts), key=repr)
    return type(bound).__name__, tuple(own), shape(scheme, counts=True), _state(state, alone)


def _separate(part: Any) -> bool:
    return isinstance(part.functional, ExpectedEnergy) and isinstance(part.geometry, Wasserstein)


def _part(part: Any, alone: bool) -> tuple[Any, ...]:
    functional, geometry = part.functional, part.geometry
    if alone:
        functional, geometry = functional.energy, geometry.ground
    return type(part).__name__, _functional(functional), _geometry(geometry), _noise(part.noise)


def _functional(functional: AbstractFunctional) -> tuple[Any, ...]:
    """Of a law: which of potential, entropy and further terms there are; of a point: its kind."""
    moving = "protocol" if functional.time_dependent else "fixed"
    now = functional.at(0.0)
    resolved = now.resolve()
    of_law = resolved.potential is not None or not _zero(resolved.temperature)
    rest = [type(unscaled_functional(term)[1]).__name__ for term in resolved.rest]
    if of_law or any(part.couples for part in terms_of(now)) or _measure_only(now):
        potential = resolved.potential is not None
        return moving, potential, not _zero(resolved.temperature), tuple(sorted(rest))
    return moving, "energy of a phase" if now.of_phase else "energy"


def _measure_only(functional: Any) -> bool:
    """Whether it has a first variation of its own: it is no function of a point."""
    base = AbstractFunctional.first_variation
    return any(type(term).first_variation is not base for term in terms_of(functional))


def _zero(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == 0


def _geometry(geometry: Any) -> tuple[Any, ...]:
    """Its terms in any order, without their factors and the schedules of these."""
    terms = [shape(unscaled(term)[1], counts=False) for term in geometry.terms]
    return tuple(sorted(terms, key=repr))


def _noise(noise: Any) -> tuple[Any, ...]:
    found = set()
    for term in () if noise is None else noise.terms:
        cooled = isinstance(term, Thermal) and callable(term.temperature)
        found.add((type(term).__name__, cooled))
    return tuple(sorted(found))


def shape(value: Any, counts: bool) -> Any:
    """`value` with sizes and data forgotten; `counts` tells whole numbers from others."""
    if isinstance(value, (AbstractFunctional, AbstractKernel)) or is_measure(value):
        return "data"
    if isinstance(value, eqx.Module) and dataclasses.is_dataclass(value):
        fields = [
            (field.name, _field(value, field, counts))
            for field in dataclasses.fields(value)
            if field.name not in ACCURACY
        ]
        return type(value).__name__, tuple(fields)
    if isinstance(value, (tuple, list)):
        return tuple(shape(item, counts) for item in value)
    if isinstance(value, dict):
        return tuple((name, shape(item, counts)) for name, item in sorted(value.items()))
    if value is None or isinstance(value, (str, bool)):
        return value
    if counts and isinstance(value, (int, np.integer)):
        return "count"
    return "data" if callable(value) or isinstance(value, (jax.Array, np.ndarray)) else "size"


def _field(module: Any, field: Any, counts: bool) -> Any:
    value = getattr(module, field.name)
    fixed = field.metadata.get("static", False) and not callable(value)
    return value if fixed else shape(value, counts)


def _state(state: Any, alone: bool) -> str:
    place = points(state) if alone else state
    if isinstance(state, Particles) and not alone:
        weighted = "" if state.log_weights is None else "weighted "
        return weighted + ("phases" if isinstance(state.positions, Phase) else "particles")
    if isinstance(place, Phase):
        return "phase"
    if is_measure(place) or type(place).__name__ == "Adaptive":
        return type(place).__name__
    return "point"
