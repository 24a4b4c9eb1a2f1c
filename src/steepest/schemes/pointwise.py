"""One point of a flow: what implicit schemes solve for, particle by particle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from ..functionals import ExpectedEnergy
from ..geometries import Wasserstein
from ..states.points import each, is_ensemble, is_law, points, with_points
from .base import Entry


def advance_points(flow: Any, state: Any, one: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
    """(state, None, entry) after `one(flow of a point, point) -> (point, dissipated)` for each."""
    own = _of_a_point(flow) if is_ensemble(state) else flow
    new, dissipated = each(lambda x: one(own, x), state)(points(state))
    return with_points(state, new), None, Entry(jnp.asarray(dissipated, tree.dtype(new)))


def _of_a_point(flow: Any) -> Any:
    """The flow of one particle of an ensemble of independent copies."""
    from ..flow import Flow

    part = flow.parts[0]
    return Flow(part.functional.energy, part.geometry.ground)


def check_points(scheme: Any, flow: Any, state: Any) -> None:
    """Raises ArgumentError unless the flow moves independent points of a flat space, unkicked."""
    if flow.noisy:
        raise ArgumentError("scheme", scheme.name, "this flow is noisy: use BAOAB(step)")
    geometries = [part.geometry.at(0.0) for part in flow.parts]
    if any(geometry.curved or geometry.adaptive for geometry in geometries):
        raise ArgumentError("scheme", scheme.name, "the state must be a flat space; use RungeKutta")
    if is_law(state):
        raise ArgumentError("scheme", scheme.name, "it moves points, not a law; use RungeKutta")
    if not is_ensemble(state):
        return
    part = flow.parts[0]
    apart = isinstance(part.functional, ExpectedEnergy) and isinstance(part.geometry, Wasserstein)
    if len(flow.parts) > 1 or not apart or state.log_weights is not None:
        raise ArgumentError("scheme", scheme.name, "it moves independent particles only")
