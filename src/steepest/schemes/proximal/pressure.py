"""What a functional is to a density on a grid: V, the law U of its internal energy, and the rest.

F(rho) = <V> + integral U(rho) dx + (interactions ...), with first variation V + psi(rho) + ... and
psi = U' = T log rho + sum_i a_i m_i/(m_i - 1) rho^(m_i - 1) (eq. 46, 57).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...functionals import InternalEnergy
from ...functionals.base import unscaled
from ...states import Density


class Pressure:
    """The parts of `functional` at the grid of `state`: `internal`, `others`, `heat`, `base`.

    `base`: V at the cell centres; `heat`: the temperature of the entropy; `internal`: powers with
    their factors; `others`: what is neither linear nor local, seen through its first variation.
    """

    def __init__(self, functional: Any, state: Density):
        resolved = functional.resolve()
        split: tuple[list[Any], list[Any]] = ([], [])
        for term in resolved.rest:
            split[not isinstance(unscaled(term)[1], InternalEnergy)].append(term)
        self.state = state
        self.internal, self.others = split
        self.potential, temperature = resolved.potential, resolved.temperature
        self.heat = jnp.asarray(temperature, state.values.dtype)
        self.warm = not (isinstance(temperature, (int, float)) and temperature == 0)
        self.base = jnp.zeros(state.grid.shape, state.values.dtype)
        if self.potential is not None:
            self.base = self.base + state.grid.evaluate(self.potential).astype(self.base.dtype)

    def linear(self, values: Any) -> Any:
        """V and the first variations of `others` at a density, which an outer loop renews."""
        total = self.base
        for term in self.others:
            gradient = jax.grad(term)(self.state.tangent(values)).values
            total = total + gradient / self.state.grid.cell_volume
        return total

    def psi(self, rho: Any) -> tuple[Any, Any]:
        """(psi, d psi/d rho) at positive values."""
        psi, bend = jnp.zeros_like(rho), jnp.zeros_like(rho)
        if self.warm:
            psi, bend = self.heat * jnp.log(rho), self.heat / rho
        for term in self.internal:
            factor, inner = unscaled(term)
            m = inner.power
            psi = psi + factor * m / (m - 1.0) * rho ** (m - 1.0)
            bend = bend + factor * m * rho ** (m - 2.0)
        return psi, bend
