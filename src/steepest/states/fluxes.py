"""Mass that crosses the faces of a grid: rho -> -div(rho K grad psi), finite volumes.

Along each axis the flux through a face is Lambda(rho_a, rho_b) K (psi_b - psi_a)/h, Lambda being
the logarithmic mean: K(rho) is symmetric, positive semi-definite and mass-exact, and with
psi = V + T log rho the flux vanishes exactly on the Gibbs law of the grid.
A conservative ground (`Symplectic`) is the Poisson bracket {rho, psi} of phase space in Arakawa's
form: antisymmetric in psi, so that F is exactly conserved, and mass-exact.
Sources: Maas, J. Funct. Anal. 261 (2011) 2250; Arakawa, J. Comput. Phys. 1 (1966) 119.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .grid import Grid


def transported(
    grid: Grid, rho: Float[Array, "..."], psi: Float[Array, "..."], ground: Any
) -> Float[Array, "..."]:
    """-div(rho K grad psi) on the grid, for a ground geometry with K(x) diagonal or symplectic."""
    total = jnp.zeros_like(rho)
    dissipative = [term for term in ground.terms if not term.conservative]
    for term in ground.terms:
        if term.conservative:
            total = total + bracket(grid, rho, psi)
    if dissipative:
        for axis in range(grid.dimension):
            conductance = sum(face_conductance(grid, term, axis) for term in dissipative)
            flux = conductance * log_mean(rho, shifted(grid, rho, axis))
            flux = flux * (shifted(grid, psi, axis) - psi) / grid.spacing[axis]
            total = total - outflow(grid, flux, axis)
    return total


def face_conductance(grid: Grid, ground: Any, axis: int) -> Float[Array, "..."]:
    """K_aa at the faces above each cell along `axis`; zero at a reflecting wall.

    Entries of K off the diagonal are refused by `Wasserstein.check`: two points do not see them.
    """

    def entry(point: Any) -> Array:
        flat, unravel = ravel_pytree(point)
        unit = jnp.zeros_like(flat).at[axis].set(1.0)
        return ravel_pytree(ground.sharp(point, unravel(unit)))[0][axis]

    if ground.constant:
        return entry(grid.point(jnp.asarray([axis[0] for axis in grid.axes])))
    return grid.evaluate(entry, face=axis)


def shifted(grid: Grid, values: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """The value of the next cell along `axis` (at a wall: of the cell itself)."""
    moved = jnp.roll(values, -1, axis)
    if grid.periodic[axis]:
        return moved
    last = [slice(None)] * values.ndim
    last[axis] = slice(-1, None)
    return moved.at[tuple(last)].set(values[tuple(last)])


def outflow(grid: Grid, flux: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """(flux above - flux below) / h; a wall carries no flux, so the sum telescopes to zero."""
    if not grid.periodic[axis]:
        last = [slice(None)] * flux.ndim
        last[axis] = slice(-1, None)
        flux = flux.at[tuple(last)].set(0.0)
    return (flux - jnp.roll(flux, 1, axis)) / grid.spacing[axis]


def log_mean(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """(a - b) / (log a - log b), a at a = b, zero where either is zero."""
    tiny = jnp.finfo(a.dtype).tiny
    u, v = jnp.maximum(a, tiny), jnp.maximum(b, tiny)
    # With s = (a - b)/(a + b): mean (s / artanh s), by its series where s is small.
    s = (u - v) / (u + v)
    near = jnp.abs(s) < 1e-2
    square = s * s
    series = 1.0 + square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square / 9)))
    gap = jnp.where(near, 1.0, jnp.log(u) - jnp.log(v))
    mean = jnp.where(near, 0.5 * (u + v) / series, (u - v) / gap)
    return jnp.where((a > 0) & (b > 0), mean, 0.0)


def bracket(grid: Grid, rho: Float[Array, "..."], psi: Float[Array, "..."]) -> Float[Array, "..."]:
    """The Poisson bracket {rho, psi} = rho_q psi_p - rho_p psi_q on (q, p), in Arakawa's form.

    Antisymmetric in psi and mass-exact. Beyond a wall both are zero, psi less its mean: what that
    does to mass at a wall is the price of a box that cuts the law off.
    """

    def padded(values: Array) -> Array:
        for axis, periodic in enumerate(grid.periodic):
            width = [(0, 0), (0, 0)]
            width[axis] = (1, 1)
            values = jnp.pad(values, width, mode="wrap" if periodic else "constant")
        return values

    a, b = padded(rho), padded(psi - jnp.mean(psi))
    n, m = grid.shape

    def at(values: Array, i: int, j: int) -> Array:
        return values[1 + i : 1 + i + n, 1 + j : 1 + j + m]

    plain = (at(a, 1, 0) - at(a, -1, 0)) * (at(b, 0, 1) - at(b, 0, -1))
    plain = plain - (at(a, 0, 1) - at(a, 0, -1)) * (at(b, 1, 0) - at(b, -1, 0))
    # d/dq (rho psi_p) - d/dp (rho psi_q), and d/dp (psi rho_q) - d/dq (psi rho_p).
    first = (
        at(a, 1, 0) * (at(b, 1, 1) - at(b, 1, -1))
        - at(a, -1, 0) * (at(b, -1, 1) - at(b, -1, -1))
        - at(a, 0, 1) * (at(b, 1, 1) - at(b, -1, 1))
        + at(a, 0, -1) * (at(b, 1, -1) - at(b, -1, -1))
    )
    second = (
        at(b, 0, 1) * (at(a, 1, 1) - at(a, -1, 1))
        - at(b, 0, -1) * (at(a, 1, -1) - at(a, -1, -1))
        - at(b, 1, 0) * (at(a, 1, 1) - at(a, 1, -1))
        + at(b, -1, 0) * (at(a, -1, 1) - at(a, -1, -1))
    )
    total = (plain + first + second) / (12.0 * grid.spacing[0] * grid.spacing[1])
    return total - jnp.mean(total)
