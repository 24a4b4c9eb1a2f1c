"""Information geometry: the tangent of a measure is mass that appears and disappears (eq. 62).

d rho/dt = -rho (psi - <psi>), psi = dF/drho. On `Categorical` it is the replicator equation, on
`Gaussian` the natural gradient, on `Density` a reaction without transport.
Source: Amari, Information Geometry and Its Applications, Springer 2016.
"""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..states import Particles
from .base import AbstractGeometry


class FisherRao(AbstractGeometry):
    """K(rho) psi = rho (psi - <psi>): the metric is Fisher's, integral v^2 / rho (eq. 62)."""

    def sharp(self, state: Any, covector: Any) -> Any:
        return state.reweight(covector)

    def full_rate(self, state, variation):
        mean = state.expect(variation)
        return state.expect(lambda x: (variation(x) - mean) ** 2)

    def check(self, state):
        if not hasattr(state, "reweight"):
            raise ArgumentError(
                "state", type(state).__name__, "FisherRao reweighs measures; try Gaussian(...)"
            )
        if isinstance(state, Particles) and state.log_weights is None:
            raise ArgumentError(
                "log_weights", "None", "reweighting needs weights: use particles.weighted()"
            )

    @property
    def noise_terms(self):
        return 0

    @property
    def on_measures(self):
        return True

    @property
    def name(self):
        return "FisherRao()"
