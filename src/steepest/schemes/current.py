"""The conservative part of phase-space transport: mass carried along the Gibbs law's own current.

Hamilton's equations carry the Gibbs law pi along j = pi (dH/dp, -dH/dq) = T curl(pi), which is free
of divergence. On the grid j is the curl of T pi at the corners of cells, so its divergence is zero
exactly and pi is stationary exactly; a face carries j f with f = rho/pi. Taking f upwind makes
every step that is short enough a Markov kernel (positive, free energy non-increasing, order 1 in
space); taking the mean of both sides conserves sum f^2 pi (order 2, signs not guaranteed).
Walls carry no current: the box must hold the law.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..states import Grid

Cells = Float[Array, "..."]


class Current(eqx.Module):
    """Through the face above each cell of the two axes: j/pi of the cell, and j/pi of the next one.

    `own`, `other`: a pair for the axes (q, p); positive is upwards.
    """

    own: tuple[Cells, Cells]
    other: tuple[Cells, Cells]

    def matvec(self, values: Cells, upwind: bool = True) -> Cells:
        """The rate of change of rho."""
        total = jnp.zeros_like(values)
        for axis in (0, 1):
            own, other = self.own[axis], self.other[axis]
            behind = (jnp.maximum(own, 0.0) if upwind else 0.5 * own) * values
            ahead = (jnp.minimum(other, 0.0) if upwind else 0.5 * other) * jnp.roll(
                values, -1, axis
            )
            flux = behind + ahead
            total = total - flux + jnp.roll(flux, 1, axis)
        return total

    @property
    def fastest(self) -> Float[Array, ""]:
        """The largest rate at which a cell is left."""
        leaving = jnp.zeros_like(self.own[0])
        for axis in (0, 1):
            leaving = leaving + jnp.maximum(self.own[axis], 0.0)
            leaving = leaving + jnp.roll(jnp.maximum(-self.other[axis], 0.0), 1, axis)
        return jnp.max(leaving)

    def advance(self, values: Cells, step: Any, upwind: bool) -> Cells:
        """rho after `step`, by as many explicit steps as the fastest rate asks for.

        Upwind: Euler steps no longer than the life of a cell, each a Markov kernel. Otherwise
        third-order Runge-Kutta (Shu and Osher), stable for an antisymmetric operator.
        """
        count = jnp.ceil(step * self.fastest * (1.0 if upwind else 0.8)).astype(jnp.int32)
        count = jnp.maximum(count, 1)
        k = step / count

        def euler(_: Any, rho: Cells) -> Cells:
            return rho + k * self.matvec(rho, True)

        def third(_: Any, rho: Cells) -> Cells:
            one = rho + k * self.matvec(rho, False)
            two = 0.75 * rho + 0.25 * (one + k * self.matvec(one, False))
            return rho / 3.0 + 2.0 / 3.0 * (two + k * self.matvec(two, False))

        return jax.lax.fori_loop(0, count, euler if upwind else third, values)


def current(grid: Grid, hamiltonian: Any, field: Cells, temperature: Any, factor: Any) -> Current:
    """The current of exp(-(H + U)/T) on a grid of (q, p); `factor` is the speed of the clock.

    `hamiltonian`: H, a function of a point, or None; `field`: U at the cells, of terms that depend
    on the law. Without heat any T carries mass along (dH/dp, -dH/dq), and one is taken at which the
    law changes little from cell to cell.
    """
    (nq, np_), (hq, hp) = grid.shape, grid.spacing
    at_corner, at_cell = _at_corners(grid, field), field
    if hamiltonian is not None:
        q = np.linspace(grid.lower[0], grid.upper[0], nq + 1)
        p = np.linspace(grid.lower[1], grid.upper[1], np_ + 1)
        corners = jnp.asarray(np.stack(np.meshgrid(q, p, indexing="ij"), axis=-1))
        at_corner = at_corner + jax.vmap(jax.vmap(lambda x: hamiltonian(grid.point(x))))(corners)
        at_cell = at_cell + grid.evaluate(hamiltonian)
    steepest = jnp.max(jnp.abs(at_corner[1:, 1:] - at_cell))
    temperature = jnp.where(temperature > 0, temperature, jnp.maximum(steepest, 1.0))
    inside = np.zeros((nq + 1, np_ + 1))
    wall_q, wall_p = (slice(None) if periodic else slice(1, -1) for periodic in grid.periodic)
    inside[wall_q, wall_p] = 1.0

    def weight(cell: Cells, shift_q: int, shift_p: int) -> Cells:
        """T pi at a corner of each cell, over pi of `cell`."""
        window = (slice(shift_q, shift_q + nq), slice(shift_p, shift_p + np_))
        within = inside[window] > 0
        gap = jnp.where(within, at_corner[window] - cell, 0.0)
        return jnp.where(within, temperature * jnp.exp(-gap / temperature), 0.0)

    def flow(axis: int, cell: Cells) -> Cells:
        if axis == 0:  # through the face above in q: -d/dp
            return -(weight(cell, 1, 1) - weight(cell, 1, 0)) / (hp * hq)
        return (weight(cell, 1, 1) - weight(cell, 0, 1)) / (hq * hp)

    own = tuple(factor * flow(axis, at_cell) for axis in (0, 1))
    other = tuple(factor * flow(axis, jnp.roll(at_cell, -1, axis)) for axis in (0, 1))
    return Current((own[0], own[1]), (other[0], other[1]))


def _at_corners(grid: Grid, field: Cells) -> Cells:
    """Cubic from four cells along each axis; a wall repeats the last cell."""
    for axis in (0, 1):
        wide = [(2, 2) if i == axis else (0, 0) for i in (0, 1)]
        padded = jnp.pad(field, wide, mode="wrap" if grid.periodic[axis] else "edge")
        corners = grid.shape[axis] + 1
        far, near, next_, beyond = (
            jax.lax.slice_in_dim(padded, i, i + corners, axis=axis) for i in range(4)
        )
        # Exact for parabolas: an offset between corners and cells would change the speed.
        field = (9.0 * (near + next_) - far - beyond) / 16.0
    return field
