"""The image of a density under the inverse of S = id + step grad p, by what crosses each face.

Along S_s = id + s step grad p, s in [0, 1], the density rho_s = (mu o S_s) det DS_s obeys

    d rho_s / ds = div f_s,    f_s = (mu o S_s) cof(DS_s) step grad p,

so that rho_1 = mu + div(integral f_s ds): mass is kept to round-off, and S = id changes nothing.
With B(s) = <f_s, grad p> the cost of the map is W2^2(rho_1, mu)/(2 step) = integral s B ds, and the
linearisation of rho_1 in p is div((mu o S) cof(DS) step grad dp), symmetric. In 1-D the integral of
f is the mass of mu between x and S(x).
Source: the derivative of a pull-back, e.g. Villani, Topics in Optimal Transportation, section 5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...states import Grid

NODES, WEIGHTS = (0.5 * np.array(np.polynomial.legendre.leggauss(3)) + [[0.5], [0.0]]).tolist()
"""Gauss-Legendre on [0, 1]: the cofactors are polynomials in s of degree d - 1 <= 2."""

PASSES = 8
"""How far in cells a lack of mass is told on along a path."""

Field = Float[Array, "..."]


class Swept(NamedTuple):
    """`gain` = rho_1 - mu; `cost` = integral s B ds; `shares`: what is kept of each flux."""

    gain: Field
    cost: Float[Array, ""]
    shares: list[Field]


class Sweep:
    """What leaves and enters the cells of `grid`, reflecting walls, when `density` is pulled back.

    `trust`: for each cell a share in [0, 1] of f as above; the rest of it is still step grad p, the
    flux of an implicit finite volume with the density `still`.
    """

    def __init__(self, grid: Grid, density: Field, step: Any, trust: Any = None, still: Any = None):
        self.grid, self.step, self.h = grid, step, grid.spacing
        self.density, self.trust, self.still = density, trust, still
        self.axes = range(grid.dimension)

    def __call__(self, p: Field) -> Swept:
        """The new law less the old one, and the cost, at the potential p."""
        fluxes, costs = [], []
        for a in self.axes:
            slope, bend = self._jet(p, a)

            def along(
                sums: Any, node: Any, a: int = a, slope: Any = slope, bend: Any = bend
            ) -> Any:
                s, weight = node
                row = _cofactors(bend, a, self.grid.dimension, s * self.step)
                speed = sum(row[b] * slope[b] for b in self.axes)
                flux = self._beside(a, self._at_image(slope, s, a) * speed, slope[a])
                flux = weight * self.step * flux
                return (sums[0] + flux, sums[1] + s * flux * slope[a]), None

            nodes = jnp.asarray(NODES, p.dtype), jnp.asarray(WEIGHTS, p.dtype)
            none = jnp.zeros_like(slope[a])
            # A loop over the nodes, not a repetition: it is compiled once.
            (total, cost), _ = jax.lax.scan(along, (none, none), nodes)
            fluxes.append(total)
            costs.append(cost * self.grid.cell_volume)
        shares = self._afforded(fluxes)
        fluxes = [share * flux for share, flux in zip(shares, fluxes, strict=True)]
        cost = sum(jnp.sum(share * x) for share, x in zip(shares, costs, strict=True))
        return Swept(self._divergence(fluxes), jnp.asarray(cost), shares)

    def _afforded(self, fluxes: Any) -> list[Field]:
        """For each face the share of its flux that leaves no cell with less than nothing.

        Multilinear interpolation sees mass up to a cell away from where it is: where a front
        recedes, a cell would lose what it never had. The cell that gives up mass scales it down.
        """
        shares = [jnp.ones_like(flux) for flux in fluxes]

        def again(_: Any, shares: Any) -> Any:
            into, out = jnp.zeros_like(self.density), jnp.zeros_like(self.density)
            for a, (share, flux) in enumerate(zip(shares, fluxes, strict=True)):
                # A flux is positive where mass goes down the axis.
                down = _walled(share * jnp.maximum(flux, 0.0), a) / self.h[a]
                up = _walled(share * jnp.maximum(-flux, 0.0), a) / self.h[a]
                (down_in, down_out), (up_out, up_in) = _sides(down, a), _sides(up, a)
                into, out = into + down_in + up_in, out + down_out + up_out
            tiny = jnp.finfo(out.dtype).tiny
            left = jnp.minimum(1.0, (self.density + into) / jnp.maximum(out, tiny))
            return [
                share * jnp.where(flux > 0, *_sides(left, a))
                for a, (share, flux) in enumerate(zip(shares, fluxes, strict=True))
            ]

        return jax.lax.fori_loop(0, PASSES, again, shares)

    def linearised(self, p: Field, shares: Any) -> Any:
        """(dp -> -d rho_1, its diagonal): symmetric, nonnegative where S is monotone."""
        along, across = [], []
        dimension = self.grid.dimension
        for a in self.axes:
            slope, bend = self._jet(p, a)
            minor = jnp.maximum(_cofactors(bend, a, dimension, self.step)[a], 0.0)
            here = self._beside(a, self._at_image(slope, 1.0, a) * minor, 1.0)
            along.append(shares[a] * self.step * here / self.h[a] ** 2)
        if dimension > 1:
            slope, bend = self._jet(p, None)
            here = self.step * self._at_image(slope, 1.0, None)
            here = here if self.trust is None else self.trust * here
            rows = [_cofactors(bend, a, dimension, self.step) for a in self.axes]
            # Bounded by its neighbours on the diagonal the form is nonnegative, folded or not.
            least = [_least(_walled(along[a], a) * self.h[a] ** 2, a) for a in self.axes]
            for a in self.axes:
                for b in self.axes[:a]:
                    bound = jnp.sqrt(least[a] * least[b]) / (dimension - 1)
                    weight = jnp.clip(here * rows[a][b], -bound, bound)
                    across += [(a, b, weight), (b, a, weight)]

        def apply(x: Field) -> Field:
            fluxes = [self.h[a] * along[a] * jnp.diff(x, axis=a) for a in self.axes]
            for a, b, weight in across:
                fluxes[a] = fluxes[a] + _mean(weight * _central(x, b, self.h[b]), a)
            return -self._divergence(fluxes)

        diagonal = jnp.zeros_like(p)
        for a in self.axes:
            above, below = _sides(_walled(along[a], a), a)
            diagonal = diagonal + above + below
        return apply, diagonal

    def least_stretch(self, p: Field) -> Field:
        """The smallest eigenvalue of DS at the cells: |x|^2/2 + step p is convex where positive."""
        bend = self._jet(p, None)[1]
        one = [[bend[a, b] * self.step + (a == b) for b in self.axes] for a in self.axes]
        if len(one) == 1:
            return one[0][0]
        if len(one) == 2:
            half, gap = 0.5 * (one[0][0] + one[1][1]), 0.5 * (one[0][0] - one[1][1])
            return half - jnp.sqrt(gap**2 + one[0][1] ** 2)
        matrix = jnp.stack([jnp.stack(row, -1) for row in one], -2)
        return jnp.linalg.eigvalsh(matrix)[..., 0]

    def _jet(self, p: Field, face: int | None) -> tuple[list[Any], dict[Any, Any]]:
        """grad p and D^2 p at the inner faces across an axis, or at the cells.

        The second derivative along the axis itself is in no flux through its faces: left out.
        """
        at = (lambda v: v) if face is None else (lambda v: _mean(v, face))
        slopes = [_central(p, a, self.h[a]) for a in self.axes]
        grad, bend = [at(v) for v in slopes], {}
        for a in self.axes:
            if a == face:
                grad[a] = jnp.diff(p, axis=a) / self.h[a]
                continue
            padded = _edges(p, a)
            bend[a, a] = at(jnp.diff(padded, 2, axis=a) / self.h[a] ** 2)
            for b in self.axes:
                if b > a or b == face:
                    mixed = (
                        jnp.diff(slopes[a], axis=b) / self.h[b]
                        if b == face
                        else at(_central(slopes[a], b, self.h[b]))
                    )
                    bend[a, b] = bend[b, a] = mixed
        return grad, bend

    def _beside(self, axis: int, moving: Field, slope: Any) -> Field:
        """`moving` as far as it is trusted, for the rest still * slope."""
        if self.trust is None:
            return moving
        share = _least(self.trust, axis)
        return share * moving + (1.0 - share) * _mean(self.still, axis) * slope

    def resolution(self, p: Field) -> Field:
        """The largest change of log density across a cell, or along a path through cells."""
        logs = jnp.log(jnp.maximum(self.density, jnp.finfo(p.dtype).tiny))
        change, cells = jnp.zeros_like(p), jnp.ones_like(p)
        for a in self.axes:
            step = _walled(jnp.abs(jnp.diff(logs, axis=a)), a)
            change = jnp.maximum(change, jnp.maximum(*_sides(step, a)))
            crossed = self.step / self.h[a] ** 2 * _walled(jnp.abs(jnp.diff(p, axis=a)), a)
            cells = jnp.maximum(cells, jnp.maximum(*_sides(crossed, a)))
        return change * cells

    def _at_image(self, slope: Any, s: Any, face: int | None) -> Field:
        """mu at S_s of the faces (or cells), by multilinear interpolation between cell centres."""
        shape = slope[0].shape
        base, shares = jnp.zeros(shape, jnp.int32), []
        strides = [int(np.prod(self.grid.shape[a + 1 :])) for a in self.axes]
        for a in self.axes:
            place = jax.lax.broadcasted_iota(slope[a].dtype, shape, a)
            place = place + (0.5 if a == face else 0.0) + (s * self.step / self.h[a]) * slope[a]
            place = jnp.clip(place, 0.0, self.grid.shape[a] - 1.0)
            cell = jnp.minimum(place.astype(jnp.int32), self.grid.shape[a] - 2)
            base = base + strides[a] * cell
            shares.append(place - cell)
        flat, total = self.density.reshape(-1), jnp.zeros(shape, slope[0].dtype)
        for corner in np.ndindex(*(2,) * len(shares)):
            offset = int(np.dot(corner, strides))
            weight = flat.at[base + offset].get(mode="promise_in_bounds")
            for up, share in zip(corner, shares, strict=True):
                weight = weight * (share if up else 1.0 - share)
            total = total + weight
        return total

    def _divergence(self, fluxes: Any) -> Field:
        total = jnp.zeros(self.grid.shape, fluxes[0].dtype)
        for a, flux in enumerate(fluxes):
            total = total + jnp.diff(_walled(flux, a), axis=a) / self.h[a]
        return total


def _cofactors(bend: Any, a: int, dimension: int, step: Any) -> dict[int, Any]:
    """Row a of the cofactors of 1 + step D^2 p; entry (a, a) of the Hessian does not occur."""
    one = lambda i, j: step * bend[i, j] + (1.0 if i == j else 0.0)  # noqa: E731
    others = [b for b in range(dimension) if b != a]
    if dimension == 1:
        return {a: 1.0}
    if dimension == 2:
        (b,) = others
        return {a: one(b, b), b: -one(a, b)}
    b, c = others
    return {
        a: one(b, b) * one(c, c) - one(b, c) ** 2,
        b: one(a, c) * one(b, c) - one(a, b) * one(c, c),
        c: one(a, b) * one(b, c) - one(a, c) * one(b, b),
    }


def _cut(x: Field, axis: int, start: int | None, stop: int | None) -> Field:
    return x[(slice(None),) * axis + (slice(start, stop),)]


def _sides(x: Field, axis: int) -> tuple[Field, Field]:
    """What is above and what is below, from faces to cells or from cells to faces."""
    return _cut(x, axis, 1, None), _cut(x, axis, None, -1)


def _mean(x: Field, axis: int) -> Field:
    above, below = _sides(x, axis)
    return 0.5 * (above + below)


def _least(x: Field, axis: int) -> Field:
    return jnp.minimum(*_sides(x, axis))


def _edges(x: Field, axis: int) -> Field:
    """x with its first and last layer repeated: no slope at a wall."""
    return jnp.pad(x, [(int(a == axis),) * 2 for a in range(x.ndim)], mode="edge")


def _walled(flux: Field, axis: int) -> Field:
    """A flux through inner faces with the zeros of the walls."""
    return jnp.pad(flux, [(int(a == axis),) * 2 for a in range(flux.ndim)])


def _central(x: Field, axis: int, h: float) -> Field:
    padded = _edges(x, axis)
    return (_cut(padded, axis, 2, None) - _cut(padded, axis, None, -2)) / (2.0 * h)
