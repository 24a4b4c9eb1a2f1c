"""The Hamiltonian of a Lagrangian as a functional of phase space (eq. 29)."""

from __future__ import annotations

from typing import Any

import jax

from .. import tree
from ..errors import ArgumentError
from ..flow import Flow
from ..functionals import PhaseEnergy
from ..geometries import Symplectic
from ..states import Phase
from .lagrangian import Lagrangian


class LegendreEnergy(PhaseEnergy):
    """H(q, p) = p . v - L at dL/dv = p, with dH = (-dL/dq, v) by the envelope theorem."""

    lagrangian: Lagrangian

    def __init__(self, lagrangian: Lagrangian, time: Any = None):
        super().__init__(
            lagrangian.hamiltonian, time_dependent=lagrangian.time_dependent, time=time
        )
        self.lagrangian = lagrangian

    def differential(self, state: Phase) -> Phase:
        q, t = state.position, 0.0 if self.time is None else self.time
        v = self.lagrangian.velocity(q, state.momentum, t)
        pull = jax.grad(self.lagrangian.__call__)(q, v, t)
        return Phase(tree.scale(-1.0, pull), v)

    def at(self, time: Any) -> LegendreEnergy:
        return LegendreEnergy(self.lagrangian, time) if self.time_dependent else self

    @property
    def name(self) -> str:
        return "p·v - L"


def legendre_flow(lagrangian: Lagrangian) -> Flow:
    """Flow(H, Symplectic()). Raises ArgumentError for what H alone does not hold."""
    for name in ("force", "rayleigh", "constraint"):
        if getattr(lagrangian, name) is not None:
            raise ArgumentError(
                name,
                "a Lagrangian that has one",
                "its Hamiltonian does not hold it: integrate FlowMap(lagrangian.vector_field), or "
                "say it by the geometry, Friction(gamma) or Holonomic(constraint)",
            )
    return Flow(LegendreEnergy(lagrangian), Symplectic())
