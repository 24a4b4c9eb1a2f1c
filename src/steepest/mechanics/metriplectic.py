"""GENERIC: an energy that is kept and an entropy that is made, in one flow (eq. 29, 40; sec. 4.5).

    dx/dt = L(x) dE + M(x) dS,    L dS = 0,  M dE = 0:    dE/dt = 0,  dS/dt = <dS, M dS> >= 0

It is the flow of E - S under K = M - L, so that schemes, ledger and audit are those of every flow:
what is dissipated is the entropy made. With `DiscreteGradient` both laws hold at every step.
Source: Öttinger and Grmela, Phys. Rev. E 56 (1997) 6633; for the steps Gonzalez (1996) as in
`DiscreteGradient`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..flow import Flow
from ..functionals import AbstractFunctional, Energy
from ..geometries import Onsager, Poisson


class Metriplectic(Flow):
    """The flow of `energy` through `poisson` and of `entropy` through `friction`.

    `energy`, `entropy`: state -> number. `poisson`, `friction`: state -> matrix (d, d) over the
    raveled state, antisymmetric and symmetric positive semi-definite, with poisson dS = 0 and
    friction dE = 0. Either may be None, for zero. The conditions are checked at the start of a run
    (ArgumentError) and at its saves by the audit.
    """

    energy: AbstractFunctional
    entropy: AbstractFunctional

    def __init__(
        self,
        energy: Callable[[Any], Any],
        entropy: Callable[[Any], Any],
        poisson: Callable[[Any], Any] | None,
        friction: Callable[[Any], Any] | None,
    ):
        self.energy = energy if isinstance(energy, AbstractFunctional) else Energy(energy)
        self.entropy = entropy if isinstance(entropy, AbstractFunctional) else Energy(entropy)
        terms = []
        if poisson is not None:
            terms.append(Poisson(poisson, (self.entropy,)))
        if friction is not None:
            terms.append(Onsager(friction, (self.energy,)))
        if not terms:
            raise ArgumentError("poisson, friction", None, "at least one of them")
        geometry = terms[0] if len(terms) == 1 else terms[0] + terms[1]
        super().__init__(self.energy + (-1.0) * self.entropy, geometry)
        self.kept = {"energy": self.energy.__call__}

    def row(self):
        return super().row() | {
            "conserves": self.energy.name,
            "dissipates": "nothing" if not self.geometry.dissipative else "makes entropy",
        }
