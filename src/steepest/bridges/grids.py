"""Bridges on a grid by iterative proportional fitting with the reference's own semigroup.

With the jump generator A of the reference and its Gibbs law m, functions evolve by
    (P h)(x) = E[h(X_T) | X_0 = x] = exp(T A)(m h)/m      (detailed balance),
and the bridge has rho_t = phi_t phihat_t with phi_T = g, phihat_0 = f and f P g = rho_0,
g exp(T A) f = rho_1: each is solved in turn. Any potential may be the reference.
Sources: Fortet, J. Math. Pures Appl. 19 (1940) 83; Chen, Georgiou and Pavon, SIAM J. Appl. Math. 76
(2016) 2375.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..geometries import Euclidean
from ..schemes.generator import Generator, generator
from ..schemes.semigroup import propagate_positive
from ..states import Density, Grid
from .base import AbstractBridge
from .reference import temperature_of


class Halves(NamedTuple):
    """f and g on the grid, the total variation by which the target is missed, iterations."""

    f: Array
    g: Array
    error: Array
    iterations: Array


LEAST = 0.5
"""The power of the smallest number below which nothing is divided by."""
LOST = 1e-6
"""The mass that may stand where that was so."""


class GridBridge(AbstractBridge):
    """A bridge between two densities of one grid.

    `gibbs`: m, largest value one; `halves`: f and g; `own`: the reference's drift at the cells.
    Between grid points drifts are interpolated linearly; paths are Euler's, with `substeps` steps
    over the horizon.
    """

    generator: Generator
    gibbs: Float[Array, "..."]
    halves: Halves
    own: Float[Array, "d ..."]
    temperature: Float[Array, ""]
    span: Float[Array, ""]
    source: Density
    target: Density
    method: str = eqx.field(static=True, default="grid")
    why: str = eqx.field(static=True, default="")
    notes: tuple[str, ...] = eqx.field(static=True, default=())
    substeps: int = eqx.field(static=True, default=200)

    @property
    def grid(self) -> Grid:
        """The cells."""
        return self.generator.grid

    @property
    def dimension(self):
        return self.grid.dimension

    @property
    def horizon(self):
        return self.span

    def potentials(self, time: Any) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """(phi_t, phihat_t) on the grid."""
        ahead = _evolve(self.generator, self.gibbs * self.halves.g, self.span - time) / self.gibbs
        return ahead, _evolve(self.generator, self.halves.f, jnp.asarray(time, self.span.dtype))

    def marginal(self, time, key=None, n=1000):
        ahead, behind = self.potentials(time)
        return Density.normalised(self.grid, ahead * behind)

    def drift(self, x, time):
        logs = _log(self.potentials(time)[0])
        return self.reference_drift(x) + 2.0 * self.temperature * _slope(self.grid, logs, x)

    def backward_drift(self, x, time):
        logs = _log(self.potentials(time)[1])
        return self.reference_drift(x) - 2.0 * self.temperature * _slope(self.grid, logs, x)

    def sample(self, x, key):
        return self.sample_paths(x, self.span[None], key)[0]

    def sample_backward(self, y, key):
        step = self.span / self.substeps
        times = self.span - step * jnp.arange(self.substeps)
        return _walk(self, y, times, -step, self._table(times, 1), key)[-1]

    def sample_paths(self, x, times, key):
        step = self.span / self.substeps
        grid = step * jnp.arange(self.substeps)
        path = _walk(self, x, grid, step, self._table(grid, 0), key)
        index = jnp.clip(jnp.round(jnp.asarray(times) / step).astype(int) - 1, 0, None)
        return path[index]

    def reference_drift(self, x):
        return _between(self.grid, self.own, x)

    def _table(self, times: Any, side: int) -> Any:
        """log phi (0) or log phihat (1) at each time."""
        return jax.lax.map(lambda t: _log(self.potentials(t)[side]), times)


def fit_grid(
    flow: Any,
    source: Density,
    target: Density,
    horizon: float,
    *,
    tolerance: float = 1e-8,
    most: int = 2000,
    why: str = "",
    notes: tuple[str, ...] = (),
) -> GridBridge:
    """Iterate until the target is met within `tolerance` in total variation, at most `most` times.

    Raises ArgumentError for grids that differ and for a target that the reference cannot reach.
    """
    if not (isinstance(source, Density) and isinstance(target, Density)):
        raise ArgumentError("method", "grid", "source and target as Density on one grid")
    if source.grid != target.grid:
        raise ArgumentError(
            "target", f"a grid {target.grid}", f"the source's: {source.grid} (see Density.to_grid)"
        )
    temperature = temperature_of(flow)
    if type(flow.parts[0].geometry) is not Euclidean:
        raise ArgumentError("reference", flow.parts[0].geometry.name, "Euclidean()")
    operator = generator(flow, source)
    if operator.current is not None or any(up is None for up in operator.up):
        raise ArgumentError("reference", "phase space", "a flow that is reversible on the grid")
    dtype = source.values.dtype
    gibbs = gibbs_law(operator)
    tiny = jnp.finfo(dtype).eps ** 1.5
    if float(jnp.min(gibbs)) < tiny:
        raise ArgumentError(
            "grid",
            f"{source.grid}, where the reference's Gibbs law falls to {float(jnp.min(gibbs)):.1g} "
            "of its peak",
            "a smaller box or a higher temperature",
        )
    span = jnp.asarray(horizon, dtype)
    halves = _fit(operator, gibbs, source.values, target.values, span, tolerance, most)
    lost = _lost(operator, gibbs, halves, source.values, target.values, span)
    if not tree.is_finite(halves.g) or not float(lost) < LOST:
        raise ArgumentError(
            "target",
            "out of reach",
            f"the reference carries less mass there than {dtype} has numbers for: a higher "
            "temperature" + (", or float64" if dtype == jnp.float32 else ""),
        )
    own = jnp.moveaxis(source.grid.evaluate(flow.velocity), -1, 0).astype(dtype)
    said = notes
    if float(halves.error) > tolerance:
        said = (*notes, f"stopped after {most} iterations, {float(halves.error):.2g} from the end")
    return GridBridge(
        operator, gibbs, halves, own, jnp.asarray(temperature, dtype), span, source, target,
        "grid", why, said,
    )  # fmt: skip


def gibbs_law(operator: Generator) -> Float[Array, "..."]:
    """m on the grid, largest value one."""
    logs = -operator.potential / operator.temperature
    return jnp.exp(logs - jnp.max(logs))


@eqx.filter_jit
def _fit(
    operator: Generator, gibbs: Any, first: Any, last: Any, span: Any, tolerance: Any, most: int
) -> Halves:
    tiny = jnp.finfo(first.dtype).tiny ** LEAST
    volume = operator.grid.cell_volume

    def step(carry: Halves) -> Halves:
        ahead = _evolve(operator, gibbs * carry.g, span) / gibbs
        f = first / jnp.maximum(ahead, tiny)
        behind = jnp.maximum(_evolve(operator, f, span), tiny)
        error = 0.5 * jnp.sum(jnp.abs(carry.g * behind - last)) * volume
        return Halves(f, last / behind, error, carry.iterations + 1)

    def going(carry: Halves) -> Array:
        return (carry.error > tolerance) & (carry.iterations < most)

    zero = jnp.zeros_like(first)
    start = Halves(zero, jnp.ones_like(last), jnp.asarray(jnp.inf, first.dtype), jnp.asarray(0))
    return jax.lax.while_loop(going, step, start)


@eqx.filter_jit
def _lost(operator: Generator, gibbs: Any, halves: Halves, first: Any, last: Any, span: Any) -> Any:
    """The mass of both laws where a half was divided by more than it should."""
    tiny = jnp.finfo(gibbs.dtype).tiny ** LEAST
    ahead = _evolve(operator, gibbs * halves.g, span) / gibbs
    behind = _evolve(operator, halves.f, span)
    missed = jnp.where(ahead > tiny, 0.0, first) + jnp.where(behind > tiny, 0.0, last)
    return jnp.sum(missed) * operator.grid.cell_volume


@eqx.filter_jit
def _evolve(operator: Generator, values: Any, time: Any) -> Any:
    return propagate_positive(operator, values, jnp.asarray(time, values.dtype))


def _log(values: Any) -> Any:
    return jnp.log(jnp.maximum(values, jnp.finfo(values.dtype).tiny))


def _slope(grid: Grid, logs: Any, x: Any) -> Any:
    """The gradient of a function of the cells by central differences, linear between centres."""
    found = []
    for axis in range(grid.dimension):
        if grid.periodic[axis]:
            slope = (jnp.roll(logs, -1, axis) - jnp.roll(logs, 1, axis)) / 2.0
        else:
            slope = jnp.asarray(jnp.gradient(logs, axis=axis))
        found.append(slope / grid.spacing[axis])
    return _between(grid, found, x)


def _between(grid: Grid, tables: Any, x: Any) -> Any:
    """Functions of the cells at points x, linear between centres: (n, functions)."""
    place = [(x[:, i] - grid.lower[i]) / grid.spacing[i] - 0.5 for i in range(grid.dimension)]
    look = jax.scipy.ndimage.map_coordinates
    return jnp.stack([look(table, place, 1, mode="nearest") for table in tables], axis=-1)


@eqx.filter_jit
def _walk(bridge: GridBridge, x: Any, times: Any, step: Any, table: Any, key: Any) -> Any:
    """Euler's paths; against time where step < 0."""
    low = jnp.asarray(bridge.grid.lower, x.dtype)
    high = jnp.asarray(bridge.grid.upper, x.dtype)
    sign = jnp.sign(step)

    def move(x: Any, now: Any) -> Any:
        logs, k = now
        pull = sign * 2.0 * bridge.temperature * _slope(bridge.grid, logs, x)
        drift = bridge.reference_drift(x) + pull
        kick = jnp.sqrt(2.0 * bridge.temperature * jnp.abs(step))
        x = x + step * drift + kick * jax.random.normal(k, x.shape, x.dtype)
        x = jnp.where(x < low, 2.0 * low - x, jnp.where(x > high, 2.0 * high - x, x))
        return x, x

    return jax.lax.scan(move, x, (table, jax.random.split(key, len(times))))[1]
