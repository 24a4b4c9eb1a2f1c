"""Phase-space geometries: the symplectic form conserves, friction dissipates (eq. 29, 53).

`Symplectic() + Friction(gamma)` is dq/dt = dH/dp, dp/dt = -dH/dq - gamma dH/dp, the dial between
mechanics (gamma = 0) and overdamped descent (gamma -> infinity, in the clock t / gamma).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .. import tree
from ..dials import check_dial
from ..errors import ArgumentError
from ..states import Phase
from .base import AbstractGeometry


class _Kinetic(AbstractGeometry):
    """What the geometries of a `Phase` share."""

    def check(self, state):
        if not isinstance(state, Phase):
            raise ArgumentError(
                "state",
                type(state).__name__,
                f"{self.name} acts on Phase(position, momentum); try Phase.at_rest(position)",
            )

    @property
    def kinetic(self):
        return True

    @property
    def constant(self) -> bool:
        return True


class Symplectic(_Kinetic):
    """K = J^T, antisymmetric: dq/dt = dH/dp, dp/dt = -dH/dq. Conserves H (eq. 29)."""

    def sharp(self, state, covector):
        return Phase(tree.scale(-1.0, covector.momentum), covector.position)

    def rate(self, state, covector, own, temperature=None):
        if own is covector and not self.dissipative:  # <dF, J dF> = 0, and the force is not needed
            return jnp.zeros((), tree.dtype(state))
        return super().rate(state, covector, own, temperature)

    @property
    def noise_terms(self):
        return 0

    @property
    def dissipative(self) -> bool:
        return False

    @property
    def conservative(self):
        return True


class Friction(_Kinetic):
    """K = diag(0, gamma): dp/dt = -gamma dH/dp (eq. 53).

    `gamma`: a number >= 0, or a schedule of flow time.
    """

    gamma: Any

    def __check_init__(self):
        check_dial("gamma", self.gamma, "a friction is a finite number >= 0")

    def sharp(self, state, covector):
        zero = tree.zeros_like(covector.position)
        return Phase(zero, tree.scale(self.gamma, covector.momentum))

    def sqrt(self, state, white):
        zero = tree.zeros_like(white[0].position)
        return Phase(zero, tree.scale(jnp.sqrt(self.gamma), white[0].momentum))

    def at(self, time):
        return Friction(self.gamma(time)) if callable(self.gamma) else self

    @property
    def dissipative(self):
        return not (isinstance(self.gamma, (int, float)) and self.gamma == 0)

    @property
    def name(self):
        value = "γ(t)" if callable(self.gamma) else f"{float(self.gamma):g}"
        return f"Friction({value})"
