"""A probability density on a grid (eq. 45, 54, 61): one number for each cell.

Its two primitive motions: `transport` moves mass between neighbouring cells along the gradient of
a potential, with the density at a face as the logarithmic mean of its neighbours; `reweight`
multiplies. The logarithmic mean makes the chain rule rho grad(log rho) = grad rho hold on the grid,
so that dissipation and the Gibbs law are exact in the discrete sense.
Source of the mean: Maas, J. Funct. Anal. 261 (2011) 2250.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import logsumexp, xlogy
from jaxtyping import Array, Float, Key

from .. import tree
from ..errors import ArgumentError
from ..formula import formula
from .fluxes import transported
from .grid import Grid
from .monotone import wasserstein_squared
from .particles import Particles
from .sinkhorn import divergence

MASS_TOLERANCE = 1e-6


class Density(eqx.Module):
    """rho: values per unit volume at the cell centres of `grid`, with total mass one (eq. 54).

    `values`: shape `grid.shape`, nonnegative, sum(values) * grid.cell_volume = 1 within 1e-6 (use
    `Density.normalised` for anything else). Its covector, dF/dvalues, is the first variation times
    the cell volume. Raises ArgumentError for a wrong shape, negative, unnormalised or NaN values.
    """

    grid: Grid = eqx.field(static=True)
    values: Float[Array, "..."]

    def __check_init__(self):
        if not isinstance(self.grid, Grid):
            raise ArgumentError("grid", type(self.grid).__name__, "Grid(lower, upper, shape)")
        values = self.values
        if not hasattr(values, "shape") or isinstance(values, Tracer):
            return
        if values.shape != self.grid.shape:
            # A stack of saves or of copies has leading axes of its own.
            if values.shape[-self.grid.dimension :] == self.grid.shape:
                return
            raise ArgumentError("values", f"shape {values.shape}", f"expected {self.grid.shape}")
        if not isinstance(values, (np.ndarray, jax.Array)):
            return
        array = np.asarray(values, float)
        if not np.all(np.isfinite(array)):
            raise ArgumentError("values", "NaN or infinite values", "a density is finite")
        if array.min() < 0:
            raise ArgumentError(
                "values", f"smallest value {array.min():.3g}", "a density is nonnegative"
            )
        mass = float(array.sum()) * self.grid.cell_volume
        if abs(mass - 1.0) > MASS_TOLERANCE:
            raise ArgumentError(
                "values", f"total mass {mass:.8g}", "use Density.normalised(grid, values)"
            )

    @classmethod
    def normalised(cls, grid: Grid, values: Any) -> Density:
        """Values divided by their total mass; raises ArgumentError where there is none."""
        values = tree.as_float(values, "values")
        if values.shape != grid.shape:
            raise ArgumentError("values", f"shape {values.shape}", f"expected {grid.shape}")
        if isinstance(values, Tracer):
            return cls(grid, values / (jnp.sum(values) * grid.cell_volume))
        array = np.asarray(values)  # what runs once is not worth compiling
        mass = array.sum() * grid.cell_volume
        if not np.isfinite(mass) or mass <= 0:
            raise ArgumentError("values", f"total mass {mass:.3g}", "a positive mass")
        if array.min() < 0:
            low = array.min()
            raise ArgumentError("values", f"smallest value {low:.3g}", "nonnegative values")
        return cls(grid, jnp.asarray(array / mass, array.dtype))

    @classmethod
    def from_log(cls, grid: Grid, log_density: Callable[[Any], Any]) -> Density:
        """exp(log_density) at the cell centres, normalised; unnormalised and -inf are allowed."""
        logs = grid.evaluate(log_density)
        if logs.shape != grid.shape:
            raise ArgumentError(
                "log_density", f"a value of shape {logs.shape[grid.dimension :]}", "a scalar"
            )
        if isinstance(logs, Tracer):
            return cls(grid, jnp.exp(logs - logsumexp(logs)) / grid.cell_volume)
        array = np.asarray(logs)  # what runs once is not worth compiling
        if np.any(np.isnan(array) | (array == np.inf)):
            raise ArgumentError("log_density", "NaN or +inf on the grid", "a log density below inf")
        if array.max() == -np.inf:
            raise ArgumentError("log_density", "-inf everywhere on the grid", "move the grid")
        values = np.exp(array - array.max())
        values = values / (values.sum() * grid.cell_volume)
        return cls(grid, jnp.asarray(values, array.dtype))

    @classmethod
    def gibbs(cls, grid: Grid, energy: Callable[[Any], Any], temperature: float = 1.0) -> Density:
        """exp(-E / temperature) / Z at the cell centres (eq. 44)."""
        return cls.from_log(grid, lambda x: -energy(x) / temperature)

    @classmethod
    def uniform(cls, grid: Grid) -> Density:
        """The same density in every cell."""
        return cls.normalised(grid, jnp.ones(grid.shape))

    @classmethod
    def from_particles(
        cls, particles: Particles | Any, grid: Grid, bandwidth: float = 0.0
    ) -> Density:
        """The histogram of particles on the grid, smoothed by a Gaussian of width `bandwidth`.

        Smoothing is the heat flow of the grid, so it keeps mass and sign. Raises ArgumentError when
        particles lie outside the box (its remedy names how many).
        """
        if not isinstance(particles, Particles):
            particles = Particles.from_positions(particles)
        x, w = particles.flat(), particles.weights
        if x.shape[1] != grid.dimension:
            raise ArgumentError(
                "particles", f"dimension {x.shape[1]}", f"the grid has {grid.dimension}"
            )
        cells, inside = grid.index(x)
        if not isinstance(x, Tracer) and not bool(jnp.all(inside)):
            lost = int(jnp.sum(~inside))
            raise ArgumentError(
                "grid", f"{lost} of {len(x)} particles outside", "take a larger box"
            )
        values = jnp.zeros(grid.shape, x.dtype).at[cells].add(w) / grid.cell_volume
        for axis in range(grid.dimension if bandwidth > 0 else 0):
            values = _smoothed(values, axis, bandwidth / grid.spacing[axis], grid.periodic[axis])
        return cls.normalised(grid, values)

    @property
    def masses(self) -> Float[Array, "..."]:
        """Probability of each cell."""
        return self.values * self.grid.cell_volume

    @property
    def mass(self) -> Float[Array, ""]:
        """Total mass, one up to round-off."""
        return jnp.sum(self.masses, axis=tuple(range(-self.grid.dimension, 0)))

    def expect(self, fn: Callable[[Any], Any]) -> Any:
        """sum over cells of rho fn, fn at the centre (midpoint rule, order 2)."""
        masses = self.masses

        def average(leaf: Array) -> Array:
            return jnp.tensordot(masses, leaf, axes=self.grid.dimension)

        return jax.tree.map(average, self.grid.evaluate(fn))

    @formula
    def entropy(self) -> Float[Array, ""]:
        """-integral rho log rho, with 0 log 0 = 0."""
        return -jnp.sum(xlogx(self.values)) * self.grid.cell_volume

    def power_integral(self, power: Any) -> Float[Array, ""]:
        """integral rho^power dx."""
        return jnp.sum(self.values**power) * self.grid.cell_volume

    def pair_expectation(self, kernel: Callable[[Any], Any]) -> Float[Array, ""]:
        """E W(x - y) of two independent points."""
        return jnp.sum(self.masses * self.convolved(kernel))

    def convolved(self, kernel: Callable[[Any], Any]) -> Float[Array, "..."]:
        """(W * rho) at the cell centres by FFT; along a periodic axis W sees the nearest image.

        Raises ArgumentError when W is not finite at zero, where a cell meets itself.
        """
        grid = self.grid
        sizes = [n if p else 2 * n for n, p in zip(grid.shape, grid.periodic, strict=True)]
        steps = [np.fft.fftfreq(m, 1.0 / m) * h for m, h in zip(sizes, grid.spacing, strict=True)]
        moves = jnp.asarray(np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1))
        apply = lambda z: kernel(grid.point(z))  # noqa: E731
        for _ in grid.shape:
            apply = jax.vmap(apply)
        weights = apply(moves)
        origin = weights[(0,) * grid.dimension]
        if not isinstance(origin, Tracer) and not bool(jnp.isfinite(origin)):
            raise ArgumentError(
                "kernel", f"{float(origin)} at zero displacement", "smooth it at the cell size"
            )
        product = jnp.fft.rfftn(weights) * jnp.fft.rfftn(self.masses, sizes)
        found = jnp.fft.irfftn(product, sizes)
        return found[tuple(slice(n) for n in grid.shape)].astype(self.values.dtype)

    @formula
    def log_prob(self, x: Any) -> Float[Array, "..."]:
        """log rho at points of shape (..., d), constant in each cell; -inf outside the box."""
        cells, inside = self.grid.index(_flat(x))
        return jnp.where(inside, jnp.log(self.values[cells]), -jnp.inf)

    @functools.partial(formula, static_argnames="n")
    def sample(self, key: Key[Array, ""], n: int) -> Any:
        """n independent draws, shape (n, d): a cell by its mass, then uniform inside."""
        pick, place = jax.random.split(key)
        cell = jax.random.categorical(pick, jnp.log(self.masses.reshape(-1)), shape=(n,))
        centres = self.grid.points().reshape(-1, self.grid.dimension)[cell]
        h = jnp.asarray(self.grid.spacing, centres.dtype)
        x = centres + h * jax.random.uniform(place, centres.shape, centres.dtype, -0.5, 0.5)
        return jax.vmap(self.grid.point)(x)

    @formula
    def mean(self) -> Float[Array, " d"]:
        """E[x]; for a periodic axis of the coordinate as it stands."""
        return self.expect(_flat)

    @formula
    def covariance(self) -> Float[Array, "d d"]:
        """E[(x - m)(x - m)^T] of the cell centres."""
        mean = self.mean()
        return self.expect(lambda x: jnp.outer(_flat(x) - mean, _flat(x) - mean))

    def marginal(self, *axes: int) -> Density:
        """The law of some of the coordinates."""
        grid, rest = self.grid, tuple(a for a in range(self.grid.dimension) if a not in axes)
        if tuple(sorted(set(axes))) != axes or not axes or axes[-1] >= grid.dimension:
            raise ArgumentError("axes", axes, f"increasing axes below {grid.dimension}")
        values = jnp.sum(self.values, axis=rest)
        for axis in rest:
            values = values * grid.spacing[axis]
        pick = lambda values: [values[a] for a in axes]  # noqa: E731
        smaller = Grid(pick(grid.lower), pick(grid.upper), pick(grid.shape), pick(grid.boundary))
        return Density(smaller, values)

    def to_grid(self, grid: Grid) -> Density:
        """The same law on another grid, by averages over cells (exact where grids nest)."""
        values = self.values
        for axis in range(grid.dimension):
            values = _regridded(values, axis, self.grid, grid)
        return Density.normalised(grid, values)

    def transport(self, covector: Density, ground: Any) -> Density:
        """-div(rho K grad psi), psi the first variation (eq. 57-58); `ground` gives K."""
        psi = covector.values / self.grid.cell_volume
        return self.tangent(transported(self.grid, self.values, psi, ground))

    def reweight(self, covector: Density) -> Density:
        """rho (psi - <psi>), psi the first variation: mass appears and disappears."""
        psi = covector.values / self.grid.cell_volume
        return self.tangent(self.values * (psi - jnp.sum(self.masses * psi)))

    def tangent(self, values: Float[Array, "..."]) -> Density:
        """A rate of change (or a covector) with the structure of this density."""
        return eqx.tree_at(lambda density: density.values, self, values)

    def kl(self, other: Density) -> Float[Array, ""]:
        """integral rho log(rho / sigma); inf where sigma is zero and rho is not."""
        self._same_grid(other)
        ratio = xlogy(self.values, self.values) - xlogy(self.values, other.values)
        return jnp.sum(ratio) * self.grid.cell_volume

    def wasserstein_distance(self, other: Density, blur: float | None = None) -> Float[Array, ""]:
        """W2: exact on a line, for the two piecewise constant densities; else by ott-jax.

        In two and three dimensions the root of the Sinkhorn divergence at entropy 2 `blur`^2, a
        length, by default the largest spacing: exact for translations, of order blur^4 in W2^2 for
        smooth laws. Raises ArgumentError for an axis that closes, NotConverged.
        """
        self._same_grid(other)
        grid = self.grid
        if any(grid.periodic):
            raise ArgumentError("grid", grid, "W2 needs reflecting walls along every axis")
        if grid.dimension == 1:
            square = wasserstein_squared(self.masses, other.masses, grid.lower[0], grid.spacing[0])
        else:
            width = max(grid.spacing) if blur is None else blur
            square = divergence(grid, self.masses, other.masses, width)
        return jnp.sqrt(jnp.maximum(square, 0.0))

    def total_variation(self, other: Density) -> Float[Array, ""]:
        """1/2 integral |rho - sigma|."""
        self._same_grid(other)
        return 0.5 * jnp.sum(jnp.abs(self.values - other.values)) * self.grid.cell_volume

    def fisher_rao_distance(self, other: Density) -> Float[Array, ""]:
        """2 arccos(integral sqrt(rho sigma)), the geodesic distance of FisherRao()."""
        self._same_grid(other)
        overlap = jnp.sum(jnp.sqrt(self.values * other.values)) * self.grid.cell_volume
        return 2.0 * jnp.arccos(jnp.minimum(overlap, 1.0))

    def _same_grid(self, other: Any) -> None:
        if not isinstance(other, Density) or other.grid != self.grid:
            raise ArgumentError(
                "other", getattr(other, "grid", type(other).__name__), f"a Density on {self.grid}"
            )


def xlogx(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """v log v, zero at zero; its derivative there is that of the smallest positive number."""
    tiny = jnp.finfo(values.dtype).tiny
    return values * jnp.log(jnp.maximum(values, tiny))


def _flat(x: Any) -> Array:
    leaves = jax.tree.leaves(x)
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves, axis=-1)


def _smoothed(values: Array, axis: int, width: float, periodic: bool) -> Array:
    """Convolved along an axis with a Gaussian of `width` cells; mirrored at reflecting walls."""
    n = values.shape[axis]
    distance = np.abs(np.arange(n)[:, None] - np.arange(n)[None, :])
    kernel = lambda d: np.exp(-0.5 * (d / width) ** 2)  # noqa: E731
    if periodic:
        matrix = kernel(np.minimum(distance, n - distance))
    else:
        mirror = np.arange(n)[:, None] + np.arange(n)[None, :] + 1
        matrix = kernel(distance) + kernel(mirror) + kernel(2 * n - mirror)
    matrix = matrix / matrix.sum(axis=0)  # columns sum to one: mass is kept
    moved = jnp.tensordot(jnp.asarray(matrix, values.dtype), values, axes=(1, axis))
    return jnp.moveaxis(moved, 0, axis)


def _regridded(values: Array, axis: int, old: Grid, new: Grid) -> Array:
    """Cell averages along one axis, by differences of the cumulative mass."""
    edges = np.linspace(old.lower[axis], old.upper[axis], old.shape[axis] + 1)
    wanted = np.linspace(new.lower[axis], new.upper[axis], new.shape[axis] + 1)
    moved = jnp.moveaxis(values, axis, -1)
    total = jnp.cumsum(moved, axis=-1) * old.spacing[axis]
    total = jnp.concatenate([jnp.zeros_like(total[..., :1]), total], axis=-1)
    flat = total.reshape(-1, total.shape[-1])
    at = jax.vmap(lambda row: jnp.interp(jnp.asarray(wanted), jnp.asarray(edges), row))(flat)
    # Interpolation rounds: without the bound an empty cell may come out at -1e-16.
    averages = jnp.maximum(jnp.diff(at, axis=-1), 0.0) / new.spacing[axis]
    return jnp.moveaxis(averages.reshape(*moved.shape[:-1], -1), -1, axis)
