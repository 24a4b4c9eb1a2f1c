"""Nesterov's accelerated gradient as a scheme of kinetic flows with friction.

Sources: Nesterov, Soviet Math. Dokl. 27 (1983) 372; Su, Boyd and Candes, J. Mach. Learn. Res. 17
(2016) 153, for the equation that it follows.
"""

from __future__ import annotations

from typing import Any

from .. import tree
from ..errors import ArgumentError
from ..states import Phase
from .pointwise import Pointwise
from .splitting import check_kinetic, friction_of, hamiltonian


class Nesterov(Pointwise):
    """Slow down, look ahead, kick by the gradient there, drift.

        v = (1 - gamma(t) h) p,   p+ = v - h grad E(q + h v),   q+ = q + h p+

    In positions alone that is y = x_k + c (x_k - x_{k-1}), x_{k+1} = y - h^2 grad E(y), with
    c = 1 - gamma h. Friction 3/(t + 3h) is Nesterov's c = (k - 1)/(k + 2), k = 1, 2, ...; a
    constant one is the variant for strongly convex energies. First order; mass 1, no noise.
    """

    def one(self, flow: Any, x: Phase, time: Any, step: Any) -> tuple[Phase, Any]:
        part, q, p = flow.parts[0], x.position, x.momentum
        kept = 1.0 - step * friction_of(part.geometry.at(time))
        slowed = tree.scale(kept, p)
        potential = hamiltonian(part.functional.at(time)).potential
        ahead = potential.differential(tree.axpy(step, slowed, q))
        new = tree.axpy(-step, ahead, slowed)
        lost = 0.5 * (1.0 - kept**2) * tree.norm_sq(p)
        return Phase(tree.axpy(step, new, q), new), lost

    def check(self, flow, state):
        super().check(flow, state)
        check_kinetic(self, flow, state)
        part = flow.parts[0]
        if friction_of(part.geometry.at(0.0)) is None:
            raise ArgumentError("geometry", part.geometry.name, "Symplectic() + Friction(gamma)")
        mass = hamiltonian(part.functional).mass
        if not (isinstance(mass, (int, float)) and mass == 1):
            raise ArgumentError("mass", mass, "1: scale the coordinates")

    @property
    def order(self):
        return 1
