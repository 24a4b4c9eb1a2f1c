"""Internal energies int U(rho) dx: porous medium and fast diffusion (eq. 57-58 with psi = U'(rho)).

Under Wasserstein() the flow is d rho/dt = Laplacian(rho^m).
Source: Otto, Comm. PDE 26 (2001) 101.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from ..errors import ArgumentError
from .base import AbstractFunctional


class InternalEnergy(AbstractFunctional):
    """integral rho^m / (m - 1) dx, m = `power` > 0 and not 1 (that is NegativeEntropy).

    m > 1: porous medium, finite speed of propagation; m < 1: fast diffusion, heavy tails.
    Displacement convex for m >= 1 - 1/d. Needs a state with a density. Raises ArgumentError for
    other powers.
    """

    power: float

    def __check_init__(self):
        if isinstance(self.power, Tracer):
            return
        try:
            good = math.isfinite(float(self.power)) and float(self.power) > 0
        except (TypeError, ValueError):
            good = False
        if not good or float(self.power) == 1.0:
            raise ArgumentError(
                "power", self.power, "a positive number other than 1 (for 1: NegativeEntropy())"
            )

    def __call__(self, state: Any) -> Float[Array, ""]:
        integral = getattr(state, "power_integral", None)
        if integral is not None:
            return integral(self.power) / (self.power - 1.0)
        density = lambda x: jnp.exp((self.power - 1.0) * state.log_prob(x))  # noqa: E731
        return state.expect(density) / (self.power - 1.0)

    def first_variation(self, state: Any) -> Callable[[Any], Any]:
        """x -> m/(m - 1) rho(x)^(m - 1)."""
        m = self.power
        return lambda x: m / (m - 1.0) * jnp.exp((m - 1.0) * state.log_prob(x))

    @property
    def on_measures(self):
        return True

    @property
    def name(self) -> str:
        return f"∫ρ^{float(self.power):g}/({float(self.power):g}-1)"
