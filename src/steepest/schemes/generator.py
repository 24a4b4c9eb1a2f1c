"""The Fokker-Planck operator of a flow on a grid (eq. 45, 55, 61), as jumps between cells.

Along each axis mass leaves a cell upwards at the rate (K/h^2) T B(u) and comes back down at
(K/h^2) T B(-u), with u = (V_up - V)/T and B(u) = u/(exp(u) - 1): the fluxes of Scharfetter and
Gummel (Chang and Cooper). Rates are nonnegative, their ratio is exp(-u): detailed balance with the
Gibbs law of the grid, exactly, at any cell size; order 2 in the cell size, and upwinding where the
drift dominates (T -> 0). An internal energy U(rho) adds (U'(rho_b) - U'(rho_a))/(log rho_b - log
rho_a) to the temperature at the face, which keeps the stationary law exact.
Sources: Scharfetter and Gummel, IEEE Trans. Electron Devices 16 (1969) 64; Chang and Cooper,
J. Comput. Phys. 6 (1970) 1; Bessemoulin-Chatard, Numer. Math. 121 (2012) 637.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import ArgumentError
from ..functionals import InternalEnergy
from ..functionals.base import unscaled
from ..geometries.cone import unscaled as unscaled_geometry
from ..states import Density, Grid
from ..states.fluxes import face_conductance, shifted
from .current import Current, current
from .tridiagonal import solve_lines

Cells = Float[Array, "..."]


class Generator(eqx.Module):
    """d rho/dt = A rho on a grid; columns of A sum to zero, off-diagonal entries are nonnegative.

    `up`, `down`: for each axis the rates through the face above each cell, from the cell and back
    to it, or None where nothing moves; `potential`: V at the cells; `temperature`: T;
    `current`: the conservative part of phase space, or None.
    """

    grid: Grid = eqx.field(static=True)
    up: tuple[Cells | None, ...]
    down: tuple[Cells | None, ...]
    potential: Cells
    temperature: Any
    current: Current | None = None

    def flux(self, values: Cells, axis: int) -> Cells:
        """Mass density that crosses upwards out of each cell per unit time, along an axis."""
        up, down = self.up[axis], self.down[axis]
        if up is None or down is None:
            return jnp.zeros_like(values)
        return up * values - down * jnp.roll(values, -1, axis)

    def matvec(self, values: Cells) -> Cells:
        """A rho."""
        total = jnp.zeros_like(values)
        for axis in range(self.grid.dimension):
            flux = self.flux(values, axis)
            total = total - flux + jnp.roll(flux, 1, axis)
        return total if self.current is None else total + self.current.matvec(values)

    def variation(self, values: Cells) -> Cells:
        """V + T log rho, the first variation without a constant."""
        tiny = jnp.finfo(values.dtype).tiny
        return self.potential + self.temperature * jnp.log(jnp.maximum(values, tiny))

    def dissipation_rate(
        self, values: Cells, variation: Cells, upwind: bool = True
    ) -> Float[Array, ""]:
        """-<psi, A rho> = sum over faces of flux (psi - psi_up): how fast the fluxes lower F.

        A current adds what its own order in space (`upwind` 1, else 2) costs.
        """
        total = jnp.zeros((), values.dtype)
        if self.current is not None:
            total = total - jnp.sum(variation * self.current.matvec(values, upwind))
        for axis in range(self.grid.dimension):
            if self.up[axis] is not None:
                # At a wall the flux is zero, whatever the next value is.
                drop = variation - jnp.roll(variation, -1, axis)
                total = total + jnp.sum(self.flux(values, axis) * drop)
        return total * self.grid.cell_volume

    def backward(self, values: Cells, step: Any, axis: int) -> Cells:
        """(1 - step A_axis)^{-1} rho: implicit Euler along an axis. Positive, mass-exact."""
        up, down = self.up[axis], self.down[axis]
        if up is None or down is None:
            return values
        lower, diagonal, upper = self.lines(axis)
        right = jnp.moveaxis(values, axis, 0)
        found = solve_lines(
            -step * lower,
            1.0 - step * diagonal,
            -step * upper,
            right,
            self.grid.periodic[axis],
        )
        return jnp.moveaxis(found, 0, axis)

    def lines(self, axis: int) -> tuple[Cells, Cells, Cells]:
        """The three diagonals of A_axis, the axis moved to the front."""
        up, down = self.up[axis], self.down[axis]
        assert up is not None and down is not None
        up, down = jnp.moveaxis(up, axis, 0), jnp.moveaxis(down, axis, 0)
        lower, upper = jnp.roll(up, 1, 0), down
        return lower, -(up + jnp.roll(down, 1, 0)), upper

    def stationary(self) -> Density:
        """The Gibbs law exp(-V/T)/Z of the grid, which A annihilates exactly."""
        logs = -self.potential / self.temperature
        logs = logs - jax.nn.logsumexp(logs)
        return Density(self.grid, jnp.exp(logs) / self.grid.cell_volume)

    def spectral_gap(self, count: int = 1) -> Any:
        """The slowest rates of decay, the smallest nonzero eigenvalues of -A, ascending.

        One number for `count` = 1. Of the symmetrised operator, on the host.
        """
        if self.current is not None:
            raise ArgumentError("generator", "with a conservative part", "it is not symmetric")
        from .spectrum import slowest

        rates = slowest(self, count)
        return float(rates[0]) if count == 1 else rates

    def peclet(self, values: Cells | None = None, share: float = 1e-6) -> float:
        """The largest |V_up - V|/T of faces next to a cell that holds a `share` of the mass.

        Mass of `values` or of the Gibbs law. Below 2 the scheme is in its second-order range.
        """
        return float(self.worst_peclet(values, share))

    def worst_peclet(self, values: Cells | None = None, share: float = 1e-6) -> Float[Array, ""]:
        """The number of `peclet` on the device."""
        masses = self.stationary().masses
        if values is not None:
            masses = jnp.maximum(masses, values * self.grid.cell_volume)
        worst = jnp.zeros((), masses.dtype)
        for axis in range(self.grid.dimension):
            if self.up[axis] is None:
                continue
            drop = jnp.abs(shifted(self.grid, self.potential, axis) - self.potential)
            held = jnp.maximum(masses, shifted(self.grid, masses, axis))
            worst = jnp.maximum(worst, jnp.max(jnp.where(held >= share, drop, 0.0)))
        return worst / self.temperature


def generator(flow: Any, density: Density, time: Any = 0.0) -> Generator:
    """The operator of a flow on the grid of a density: rates, stationary law, gap (eq. 45, 55).

    `flow`: of parameters with thermal noise, or of a law. Functionals that are not linear enter
    with their first variation (internal energies: with their diffusion) at `density`.
    Raises ArgumentError for a flow that does not act on a density by transport.
    """
    bound = flow.bind(density)
    if len(bound.parts) != 1:
        raise ArgumentError("flow", "a sum of flows", "the generator of each part")
    return assemble(bound.parts[0], density, density.values, time)


def assemble(part: Any, density: Density, values: Cells, time: Any) -> Generator:
    """The generator of a bound flow; what is not linear is taken at `values`."""
    grid = density.grid
    resolved = part.functional.at(time).resolve()
    factor, geometry = unscaled_geometry(part.geometry.at(time))
    ground = geometry.ground
    field = jnp.zeros(grid.shape, values.dtype)  # of terms that depend on the law
    internal = [term for term in resolved.rest if _power(term)]
    for term in resolved.rest:
        if not _power(term):
            field = field + jax.grad(term)(density.tangent(values)).values / grid.cell_volume
    potential = field
    if resolved.potential is not None:
        potential = grid.evaluate(resolved.potential).astype(values.dtype) + field
    temperature = jnp.asarray(resolved.temperature, values.dtype)
    dissipative = [term for term in ground.terms if not term.conservative]
    ups: list[Any] = []
    downs: list[Any] = []
    for axis in range(grid.dimension):
        conductance: Any = sum(
            (face_conductance(grid, term, axis) for term in dissipative), jnp.zeros(())
        )
        if ground.kinetic and axis < grid.dimension // 2:  # positions feel no friction
            ups.append(None)
            downs.append(None)
            continue
        drop = shifted(grid, potential, axis) - potential
        heat: Any = temperature
        for term in internal:
            heat = heat + _face_temperature(grid, term, values, axis, resolved.potential is None)
        scale = factor * conductance / grid.spacing[axis] ** 2
        open_ = _open_faces(grid, axis, values.dtype)
        ups.append(scale * open_ * heated_bernoulli(drop, heat))
        downs.append(scale * open_ * heated_bernoulli(-drop, heat))
    own = None
    if ground.conservative:
        speed = sum(unscaled_geometry(term)[0] for term in ground.terms if term.conservative)
        # Internal energies are functions of rho alone, which rho J grad carries nowhere.
        own = current(grid, resolved.potential, field, temperature, factor * speed)
    return Generator(grid, tuple(ups), tuple(downs), potential, temperature, own)


def heated_bernoulli(drop: Cells, temperature: Any) -> Cells:
    """T B(drop/T), B(u) = u/(exp(u) - 1); max(-drop, 0) at T = 0."""
    cold = 500.0 * temperature <= jnp.abs(drop)
    warm = jnp.where(cold, 1.0, temperature)
    u = jnp.where(cold, 1.0, drop / warm)
    near = jnp.abs(u) < 1e-4
    safe = jnp.where(near, 1.0, u)
    value = jnp.where(near, 1.0 - 0.5 * u + u * u / 12.0, safe / jnp.expm1(safe))
    return jnp.where(cold, jnp.maximum(-drop, 0.0), warm * value)


def _power(term: Any) -> float | None:
    """The exponent of an internal energy, under any factors; None for other functionals."""
    inner = unscaled(term)[1]
    return inner.power if isinstance(inner, InternalEnergy) else None


def _face_temperature(grid: Grid, term: Any, values: Cells, axis: int, free: bool) -> Cells:
    """What an internal energy adds to T at a face.

    Without a potential the difference quotient of the pressure rho^m, else that of U' over log rho,
    with which the stationary law under the potential is exact.
    """
    factor, inner = unscaled(term)
    m = inner.power
    tiny = jnp.finfo(values.dtype).tiny ** 0.25
    a, b = jnp.maximum(values, tiny), jnp.maximum(shifted(grid, values, axis), tiny)
    if free:
        above, below, slope = b**m, a**m, m * (0.5 * (a + b)) ** (m - 1.0)
        gap = b - a
    else:
        above, below = m / (m - 1.0) * b ** (m - 1.0), m / (m - 1.0) * a ** (m - 1.0)
        slope = m * (0.5 * (a + b)) ** (m - 1.0)
        gap = jnp.log(b) - jnp.log(a)
    size = (a + b) if free else 1.0
    near = jnp.abs(gap) < 1e-5 * size
    return factor * jnp.where(near, slope, (above - below) / jnp.where(near, 1.0, gap))


def _open_faces(grid: Grid, axis: int, dtype: Any) -> Cells:
    """One where mass may cross the face above a cell, zero at a wall."""
    open_ = np.ones(grid.shape)
    if not grid.periodic[axis]:
        last: list[Any] = [slice(None)] * grid.dimension
        last[axis] = -1
        open_[tuple(last)] = 0.0
    return jnp.asarray(open_, dtype)
