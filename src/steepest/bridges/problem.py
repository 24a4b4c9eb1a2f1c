"""The Schroedinger problem (eq. 71) and its solvers.

min KL(P | P_0) over laws P of paths with P_0-start replaced by source and P-end by target
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from .. import tree
from ..errors import ArgumentError
from ..flow import Flow
from ..states import Density, Gaussian, Particles
from .base import AbstractBridge
from .gaussians import gaussian_potential
from .grids import fit_grid
from .growth import GrowthBridge, duality_gap
from .linear import LinearBridge
from .mixtures import draw, fit_mixture
from .networks import fit_networks
from .reference import LinearReference, brownian, linear_reference, temperature_of
from .sinkhorn import sinkhorn

METHODS = ("auto", "gaussian", "mixture", "sinkhorn", "grid", "network")
FEW = 200
"""Points below which a mixture is not worth its parameters."""
STARTS = 2000


class SchrodingerBridge:
    """The most likely way from `source` to `target` under `reference` in time `horizon` (eq. 71).

    `reference`: a Flow with thermal noise (`brownian(T)`, `ornstein_uhlenbeck(T)`, any linear
    drift; on grids any reversible flow). `source`, `target`: points (n, d), or a measure:
    Particles, Gaussian, GaussianMixture, Density, or whatever has sample(key, n).
    `growth`: the price of mass that grows or dies, in nats for each nat of KL between what is
    transported and the law given (`growth.py`), None if mass is kept. Two points further apart than
    about sqrt(8 growth T horizon) are not joined. `masses`: of the two laws, with growth alone.
    Raises ArgumentError for laws that do not fit together and temperatures that cannot work.
    """

    def __init__(self, reference: Any = None, source: Any = None, target: Any = None,
                 horizon: float = 1.0, *, growth: float | None = None,
                 masses: tuple[float, float] = (1.0, 1.0)):  # fmt: skip
        self.reference: Flow = brownian() if reference is None else reference
        self.temperature = temperature_of(self.reference)
        if not (isinstance(horizon, (int, float)) and 0 < horizon < math.inf):
            raise ArgumentError("horizon", horizon, "a finite time > 0")
        self.horizon = float(horizon)
        self.source, self.target = _law("source", source), _law("target", target)
        first, last = _dimension(self.source), _dimension(self.target)
        if first != last:
            raise ArgumentError("target", f"dimension {last}", f"the source's: {first}")
        self.dimension = first
        if growth is not None and not (isinstance(growth, (int, float)) and 0 < growth < math.inf):
            raise ArgumentError("growth", growth, "a finite price > 0, or None: mass is kept")
        if len(masses) != 2 or not all(0 < mass < math.inf for mass in masses):
            raise ArgumentError("masses", masses, "two finite numbers > 0")
        if growth is None and masses[0] != masses[1]:
            raise ArgumentError("masses", masses, "equal ones, or the price of growth")
        self.growth, self.masses = growth, (float(masses[0]), float(masses[1]))
        self.notes = tuple(_notes("source", self.source)) + tuple(_notes("target", self.target))

    def choose(self) -> tuple[str, str]:
        """(method, why) that "auto" takes."""
        source, target = self.source, self.target
        if isinstance(source, Density) and isinstance(target, Density):
            return "grid", "both laws are densities on a grid"
        if isinstance(source, Gaussian) and isinstance(target, Gaussian):
            return "gaussian", "both laws are Gaussian: the closed form"
        counts = [x.count for x in (source, target) if isinstance(x, Particles)]
        if len(counts) == 2 and min(counts) < FEW:
            return "sinkhorn", f"{min(counts)} points are fewer than the {FEW} a mixture needs"
        return "mixture", "a closed-form drift that also maps unseen points"

    def solve(self, method: str = "auto", key: Key[Array, ""] | None = None, **options: Any) -> Any:
        """The bridge, by one of `METHODS`; `key` for what draws, `options` of the method.

        gaussian: none (points are replaced by their moments, and a note says so). mixture:
        components, covariance, steps, batch, rate. sinkhorn: tolerance, most, n (draws of a law
        without points). grid: tolerance, most (with 1 the bridge is what a diffusion model of
        finite time is; each more narrows the gap at its end). network: network, width, depth,
        rounds, steps, pairs, batch, learning_rate, and mixture, the options of what it starts from.
        With growth the method is that of the lineages (by default sinkhorn), and the result a
        GrowthBridge.
        """
        if method not in METHODS:
            raise ArgumentError("method", repr(method), f"one of {METHODS}")
        key = jax.random.key(0) if key is None else key
        if self.growth is not None:
            return self._growing(method, key, **options)
        chosen, why = self.choose() if method == "auto" else (method, "asked for")
        solver = {
            "gaussian": self._gaussian,
            "mixture": self._mixture,
            "sinkhorn": self._sinkhorn,
            "grid": self._grid,
            "network": self._network,
        }[chosen]
        return solver(why, key, **options)

    def _gaussian(self, why: str, key: Any) -> AbstractBridge:
        notes, laws = [], []
        for name, law in (("source", self.source), ("target", self.target)):
            if not isinstance(law, Gaussian):
                law = Gaussian.fit(law)
                notes.append(f"the {name} is replaced by the Gaussian with its moments")
            laws.append(law)
        reference = self._linear(0.5 * (laws[0].mean + laws[1].mean))
        potential = gaussian_potential(reference, *laws)
        starts = Particles(laws[0].sample(key, STARTS))
        return LinearBridge(
            reference, potential, starts, laws[0], laws[1], "gaussian", why, (*self.notes, *notes)
        )

    def _mixture(self, why: str, key: Any, **options: Any) -> AbstractBridge:
        first, fit = jax.random.split(key)
        starts = _starts(self.source, first, STARTS)
        stops = _starts(self.target, first, STARTS)
        reference = self._linear(_middle(starts, stops))
        self._check_precision(reference, starts, stops)
        found = fit_mixture(reference, self.source, self.target, fit, **options)
        if not tree.is_finite(found.potential):
            raise ArgumentError("rate", options.get("rate", 0.03), "the fit diverged: a lower rate")
        return LinearBridge(
            reference, found.potential, starts, method="mixture", why=why, notes=self.notes
        )

    def _network(self, why: str, key: Any, **options: Any) -> AbstractBridge:
        first, fit = jax.random.split(key)
        starts = _starts(self.source, first, STARTS)
        reference = self._linear(_middle(starts, _starts(self.target, first, STARTS)))
        return fit_networks(
            reference, self.source, self.target, starts, fit, why=why, notes=self.notes, **options
        )

    def _sinkhorn(
        self, why: str, key: Any, *, tolerance: float = 1e-4, most: int = 5000, n: int = STARTS
    ) -> AbstractBridge:
        one, two = jax.random.split(key)
        starts, stops = _starts(self.source, one, n), _starts(self.target, two, n)
        reference = self._linear(_middle(starts, stops))
        self._check_precision(reference, starts, stops)
        u, v = reference.white_source(starts.positions), reference.white_target(stops.positions)
        b = stops.weights
        found = sinkhorn(u, starts.weights, v, b, tolerance, most)
        notes = [*self.notes, "it ends on points of the target only"]
        if not float(found.error) <= tolerance:
            notes.append(
                f"Sinkhorn stopped after {int(found.iterations)} iterations with the end marginal "
                f"{float(found.error):.2g} off (L1): a higher temperature, or a larger `most`"
            )
        return _atoms(reference, starts, v, found.g + jnp.log(b), why, notes)

    def _growing(
        self,
        method: str,
        key: Any,
        *,
        tolerance: float = 1e-6,
        most: int = 5000,
        n: int = STARTS,
        **options: Any,
    ) -> GrowthBridge:
        """The masses first; then the bridge between what is joined, by any method."""
        one, two, solve = jax.random.split(key, 3)
        starts, stops = _starts(self.source, one, n), _starts(self.target, two, n)
        reference = self._linear(_middle(starts, stops))
        self._check_precision(reference, starts, stops)
        u, v = reference.white_source(starts.positions), reference.white_target(stops.positions)
        masses, price = jnp.asarray(self.masses, u.dtype), jnp.asarray(self.growth, u.dtype)
        a, b = starts.weights, stops.weights
        found = sinkhorn(u, a, v, b, tolerance, most, masses, 1.0 / price)
        gap = duality_gap(a, b, masses, price, found)
        logs = jnp.log(a) - found.f / price, jnp.log(b) + found.g
        why = "lineages of a plan with growth" if method == "auto" else "asked for"
        first = Particles(starts.positions, logs[0])
        if method in ("auto", "sinkhorn"):
            notes = [*self.notes, "it ends on points of the target only"]
            lineages: Any = _atoms(reference, first, v, logs[1], why, notes)
        else:
            last = Particles(stops.positions, jnp.log(b) - found.g / price)
            joined = SchrodingerBridge(self.reference, first, last, self.horizon)
            lineages = joined.solve(method, solve, **options)
        if not float(found.error) <= tolerance:
            lineages = dataclasses.replace(
                lineages,
                notes=(
                    *lineages.notes,
                    f"the masses stopped after {int(found.iterations)} iterations, "
                    f"{float(found.error):.2g} off: a lower price, or a larger `most`",
                ),
            )
        return GrowthBridge(
            lineages, starts, stops, found.f, found.g, masses, price, gap, found.error
        )

    def _grid(self, why: str, key: Any, **options: Any) -> AbstractBridge:
        return fit_grid(
            self.reference, self.source, self.target, self.horizon, why=why, notes=self.notes,
            **options,
        )  # fmt: skip

    def _linear(self, origin: Array) -> LinearReference:
        return linear_reference(self.reference, origin, self.horizon)

    def _check_precision(self, reference: Any, starts: Particles, stops: Particles) -> None:
        """The exponents are differences of squares: they need some digits after the point."""
        u, v = reference.white_source(starts.positions), reference.white_target(stops.positions)
        centre = np.mean(v, axis=0)
        largest = sum(float(np.max(np.sum((x - centre) ** 2, 1))) for x in map(np.asarray, (u, v)))
        lost = largest * float(jnp.finfo(v.dtype).eps)
        if not lost < 0.05:
            raise ArgumentError(
                "temperature",
                f"{self.temperature:.3g}, where the exponents reach {largest:.2g} and "
                f"{v.dtype} rounds them to {lost:.2g}",
                "a higher temperature" + (", or float64" if v.dtype == jnp.float32 else ""),
            )


def _atoms(
    reference: LinearReference, starts: Particles, v: Any, logs: Any, why: str, notes: Any
) -> LinearBridge:
    """The bridge that ends on the points v with pi = phi^{-1} exp(-|u - v|^2/2) exp(logs)."""
    logs = logs - 0.5 * jnp.sum(v**2, axis=1)  # atoms carry exp(-|v|^2/2), see `potential`
    potential = Particles(v, logs - jnp.max(logs))
    return LinearBridge(
        reference, potential, starts, method="sinkhorn", why=why, notes=tuple(notes)
    )


def _law(name: str, given: Any) -> Any:
    """A measure; an array becomes its points."""
    if given is None:
        raise ArgumentError(name, None, "points (n, d) or a measure")
    if hasattr(given, "sample") and not hasattr(given, "ndim"):
        law = given
    else:
        points = tree.as_float(jnp.asarray(given), name)
        if points.ndim != 2 or 0 in points.shape:
            raise ArgumentError(name, f"shape {points.shape}", "points (n, d)")
        law = Particles.from_positions(points)
    if isinstance(law, Particles):
        if not hasattr(law.positions, "ndim") or law.positions.ndim != 2:
            raise ArgumentError(name, "particles that are no points", "positions of shape (n, d)")
        if not tree.is_finite(law):
            raise ArgumentError(name, "NaN or infinite values", "finite points")
    return law


def _dimension(law: Any) -> int:
    if isinstance(law, Particles):
        return law.positions.shape[1]
    return law.grid.dimension if isinstance(law, Density) else law.dimension


def _notes(name: str, law: Any) -> Any:
    if not isinstance(law, Particles):
        return
    n, d = law.positions.shape
    if n < d:
        yield f"the {name} has {n} points in {d} dimensions: no full covariance can be told"
    repeated = n - len(np.unique(np.asarray(law.positions), axis=0))
    if repeated:
        yield f"{repeated} rows of the {name} repeat others; each counts as often as it stands"


@jax.jit
def _middle(starts: Particles, stops: Particles) -> Array:
    return 0.5 * (starts.weights @ starts.positions + stops.weights @ stops.positions)


def _starts(law: Any, key: Any, n: int) -> Particles:
    """The points of a law, or draws of it."""
    return law if isinstance(law, Particles) else Particles(draw(law, key, n))
