"""Schemes that move one point: what implicit steps solve for, particle by particle."""

from __future__ import annotations

import abc
from typing import Any

import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from ..functionals import ExpectedEnergy
from ..geometries import Wasserstein
from ..states.points import each, is_ensemble, is_law, points, with_points
from .base import AbstractScheme, Entry, check_step


class Pointwise(AbstractScheme):
    """A scheme that moves every point by itself and remembers nothing: `one` is all of its own.

    It takes flows that move independent points of a flat space, unkicked.
    """

    step: float

    def __check_init__(self):
        check_step(self.step)

    @abc.abstractmethod
    def one(self, flow: Any, x: Any, time: Any, step: Any) -> tuple[Any, Any]:
        """(point after a step from x, what it dissipated), under the flow of a point."""

    def init(self, flow, state, time, randomness):
        return None

    def advance(self, flow, state, memory, time, step, randomness):
        own = _of_a_point(flow) if is_ensemble(state) else flow
        moved = each(lambda x: self.one(own, x, time, step), state)
        new, dissipated = moved(points(state))
        return with_points(state, new), None, Entry(jnp.asarray(dissipated, tree.dtype(new)))

    def check(self, flow, state):
        if flow.noisy:
            raise ArgumentError("scheme", self.name, "this flow is noisy: use BAOAB(step)")
        geometries = [part.geometry.at(0.0) for part in flow.parts]
        if any(geometry.curved or geometry.adaptive for geometry in geometries):
            remedy = "the state must be a flat space; use RungeKutta"
            raise ArgumentError("scheme", self.name, remedy)
        if is_law(state):
            raise ArgumentError("scheme", self.name, "it moves points, not a law; use RungeKutta")
        if not is_ensemble(state):
            return
        part = flow.parts[0]
        energies = isinstance(part.functional, ExpectedEnergy)
        apart = energies and isinstance(part.geometry, Wasserstein)
        if len(flow.parts) > 1 or not apart or state.log_weights is not None:
            raise ArgumentError("scheme", self.name, "it moves independent particles only")


def _of_a_point(flow: Any) -> Any:
    """The flow of one particle of an ensemble of independent copies."""
    from ..flow import Flow

    part = flow.parts[0]
    return Flow(part.functional.energy, part.geometry.ground)
