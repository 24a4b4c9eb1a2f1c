"""What every inner solver of a minimizing movement takes and gives back."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Array, Float

from ... import tree
from ...geometries.cone import unscaled


class Movement(NamedTuple):
    """The end of one step x+ = argmin F(x) + cost(x, x_k)/step.

    `increase`: F(x+) + cost/step - F(x_k), which De Giorgi's inequality wants at most zero;
    `residual`: of the optimality condition, in units of its tolerance. `dissipated`: F lowered
    along the step by the solver's own mobility; None for the trapezoid of the flow's rates.
    """

    state: Any
    increase: Float[Array, ""]
    residual: Float[Array, ""]
    dissipated: Float[Array, ""] | None = None


class Problem(NamedTuple):
    """One step from `state`: the functional, the geometry, the step and how well to solve."""

    functional: Any
    geometry: Any
    state: Any
    covector: Any
    step: Any
    tolerance: float | None
    max_iterations: int

    def clock(self) -> Any:
        """The step times the factors in front of the geometry and of its ground, if it has one."""
        factor, geometry = unscaled(self.geometry)
        return self.step * factor * unscaled(getattr(geometry, "ground", None))[0]

    def accuracy(self, double: float = 1e-8) -> float:
        """The tolerance, by default `double` in float64 and 2e-4 in float32."""
        return self.tolerance or (double if tree.dtype(self.state).itemsize == 8 else 2e-4)
