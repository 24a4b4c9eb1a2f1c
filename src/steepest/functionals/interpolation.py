"""From one functional to another, along a straight line of functionals (eq. 43, 49); a protocol
held still.

(1 - s) F_0 + s F_1: for energies the Gibbs laws are the geometric path exp(-F_0)^{1-s} exp(-F_1)^s,
which annealing follows; with s a schedule of time it is a protocol that does work.
Source: Gelman and Meng, Stat. Sci. 13 (1998) 163.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractFunctional
from .energy import Hamiltonian
from .measures import ExpectedEnergy


class Interpolation(AbstractFunctional):
    """(1 - share) first + share second.

    `share`: a number in [0, 1], or a schedule: a function of flow time with such values.
    """

    first: AbstractFunctional
    second: AbstractFunctional
    share: Any

    def __call__(self, state: Any) -> Float[Array, ""]:
        share: Any = self.share(0.0) if callable(self.share) else self.share
        return (1.0 - share) * self.first(state) + share * self.second(state)

    def check(self, state: Any) -> None:
        self.first.check(state)
        self.second.check(state)

    def at(self, time: Any) -> AbstractFunctional:
        if not self.time_dependent:
            return self
        share = self.share(time) if callable(self.share) else self.share
        return Interpolation(self.first.at(time), self.second.at(time), share)

    @property
    def on_measures(self):
        return self.first.on_measures

    @property
    def time_dependent(self) -> bool:
        return callable(self.share) or self.first.time_dependent or self.second.time_dependent

    @property
    def name(self) -> str:
        return f"(1 - s) {self.first.name} + s {self.second.name}"


class InBasis(AbstractFunctional):
    """F(basis z) of coordinates z (d,): the flow of z under K = 1 is that of x under basis basis^T.

    `basis`: (d, d), of full rank.
    """

    part: AbstractFunctional
    basis: Float[Array, "d d"]

    def __call__(self, state: Float[Array, " d"]) -> Float[Array, ""]:
        return self.part(jnp.dot(self.basis, state))

    def at(self, time: Any) -> AbstractFunctional:
        return InBasis(self.part.at(time), self.basis) if self.time_dependent else self

    @property
    def time_dependent(self) -> bool:
        return self.part.time_dependent

    @property
    def name(self) -> str:
        return self.part.name


class Frozen(AbstractFunctional):
    """A functional with a protocol, held at one time: `at` another time changes nothing."""

    part: AbstractFunctional

    def __call__(self, state: Any) -> Float[Array, ""]:
        return self.part(state)

    def differential(self, state: Any) -> Any:
        return self.part.differential(state)

    def check(self, state: Any) -> None:
        self.part.check(state)

    @property
    def on_measures(self):
        return self.part.on_measures

    @property
    def name(self) -> str:
        return self.part.name


def frozen(functional: AbstractFunctional, time: Any) -> AbstractFunctional:
    """An energy, a Hamiltonian or their expectation with its protocol held at `time`."""
    if not functional.time_dependent:
        return functional
    if isinstance(functional, ExpectedEnergy):
        return ExpectedEnergy(frozen(functional.energy, time))
    if isinstance(functional, Hamiltonian):
        return Hamiltonian(frozen(functional.potential, time), functional.mass)
    return Frozen(functional.at(time))
