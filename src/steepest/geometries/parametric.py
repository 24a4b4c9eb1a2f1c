"""The plain gradient of a law in the numbers that its family is written in."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..states import Density, Particles
from .base import AbstractGeometry


class Parametric(AbstractGeometry):
    """K = 1 on the parameters of a family of laws, such as (mean, Cholesky factor) of a `Gaussian`.

    What most variational inference descends along: it depends on how the family is written, and
    on the units of the coordinates. For families with parameters; not for `Particles`, `Density`.
    """

    def sharp(self, state: Any, covector: Any) -> Any:
        return covector

    def full_rate(self, state: Any, variation: Any) -> None:
        return None

    def check(self, state: Any) -> None:
        if not hasattr(state, "reweight") or isinstance(state, (Density, Particles)):
            raise ArgumentError(
                "state", type(state).__name__, "a law with parameters, e.g. Gaussian(...)"
            )

    @property
    def noise_terms(self):
        return 0

    @property
    def on_measures(self):
        return True

    @property
    def name(self):
        return "Parametric()"
