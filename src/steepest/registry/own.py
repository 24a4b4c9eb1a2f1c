"""An energy of one's own in the place of the registry's small problem.

A row whose problem is its own (a simplex, matrices, other data) says nothing of that energy, and
one that needs what it does not have (rows of data, a second coordinate) cannot say anything: both
are refused with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..errors import ArgumentError
from ..flow import Flow
from ..functionals import EmpiricalRisk, Energy, NegativeLogLikelihood
from ..geometries import Euclidean
from ..schemes import Euler
from ..schemes.base import scaled
from ..stability import stiffness
from .algorithm import Algorithm, Composed, Setting

CURVATURE = 16.0
"""The largest second derivative at the start of the registry's own problem, for which its steps
are made."""
HEIGHT = 12.0
"""How far up in units of temperature the grid of a section reaches: exp(-12) of the mass is out."""
DOUBLINGS, POINTS = 24, 257
NOWHERE = (0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class OwnSetting(Setting):
    """`functional` of a pytree, on the vector of its numbers.

    `factor`: of every row's step. `used` collects what a row asked for, in words.
    """

    functional: Any = None
    unravel: Callable[[Any], Any] = lambda x: x
    factor: float = 1.0
    used: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def of(
        cls,
        functional: Any,
        start: Any,
        *,
        temperature: float = 1.0,
        spread: float = 1.0,
        factor: float | None = None,
        particles: int = 64,
        cells: int = 64,
        key: Any = None,
    ) -> OwnSetting:
        """The setting of an energy and where to start; clouds are N(start, spread^2).

        `factor` of the registry's steps: by default at most 1, and such that steps times the
        largest second derivative at the start are what they are on the registry's problem.
        """
        place, unravel = ravel_pytree(start)
        section = _section(functional, unravel, place)
        interval = _confined(section, float(place[0]), temperature)
        middle, width = 0.5 * sum(interval), (interval[1] - interval[0]) / 8.0
        key = jax.random.key(0) if key is None else key
        noise = np.asarray(jax.random.normal(key, (particles, place.size), place.dtype))
        momentum = np.asarray(jax.random.normal(jax.random.fold_in(key, 1), place.shape))
        one = np.eye(place.size, dtype=place.dtype)
        energy = lambda x: functional(unravel(x))  # noqa: E731
        found = stiffness(Flow(Energy(energy), Euclidean()), place, Euler(1.0))
        steepest = 0.0 if found is None else found.rate
        return cls(
            start=np.asarray(place),
            cloud=np.asarray(place) + spread * noise,
            cells=cells,
            temperature=temperature,
            interval=interval,
            hump=(middle, width**2),
            momentum=np.sqrt(temperature) * momentum,
            mean=np.asarray(place),
            covariance=spread**2 * one,
            scales=np.ones_like(place),
            functional=functional,
            unravel=unravel,
            factor=min(1.0, CURVATURE / max(steepest, 1e-30)) if factor is None else factor,
        )

    def compose(self, algorithm: Algorithm) -> tuple[Composed, tuple[str, ...]]:
        """The row on this energy, and in words what of the energy it moves on.

        Raises ArgumentError, with the reason, where it has nothing to do with this energy.
        """
        watched = dataclasses.replace(self, used=[])
        flow, scheme, state = algorithm.compose(watched)
        if not watched.used:
            words = flow.card(scheme, state)
            problem = f"{words['functional']} of {words['state']}"
            raise ArgumentError("problem", "an energy", f"this row has its own: {problem}")
        said = tuple(dict.fromkeys(word for word in watched.used if word))
        return Composed(flow, scaled(scheme, self.factor), state), said

    @property
    def energy(self) -> Callable[[Any], Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The energy of the vector of its parameters."""
        self.used.append("")
        functional, unravel = self.functional, self.unravel
        return lambda x: functional(unravel(x))

    bowl = energy  # pyright: ignore[reportAssignmentType]

    @property
    def line(self) -> Callable[[Any], Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The energy along the first coordinate, the others as at the start."""
        if self.interval == NOWHERE:
            raise ArgumentError("problem", "an energy", "it confines nothing along its first axis")
        self.used.append("" if self.start.size == 1 else "along the first coordinate")
        return _section(self.functional, self.unravel, self.start)

    def on_sphere(self) -> tuple[Any, Any]:
        """The start over its length, and the momentum along the sphere."""
        if self.start.size < 2:
            raise ArgumentError("problem", "one coordinate", "a sphere needs at least two")
        self.used.append("on the unit sphere")
        size = np.linalg.norm(self.start)
        place = self.start / size if size > 0 else np.eye(1, self.start.size)[0]
        return place, self.momentum - (place @ self.momentum) * place

    def risk(self, batch: int) -> Any:
        """The functional by batches, where it is a mean over rows."""
        if not isinstance(self.functional, EmpiricalRisk):
            raise ArgumentError("problem", "an energy", "no mean over rows of data to draw from")
        self.used.append("")
        loss, unravel = self.functional.loss, self.unravel
        small = min(batch, self.functional.count)
        return EmpiricalRisk(lambda x, row: loss(unravel(x), row), self.functional.data, small)

    def likelihood(self) -> Any:
        """The functional, where it knows its outputs and their family."""
        model = self.functional
        if not isinstance(model, NegativeLogLikelihood):
            raise ArgumentError("problem", "an energy", "no likelihood of a model's outputs")
        self.used.append("")
        apply, unravel = model.apply, self.unravel
        return NegativeLogLikelihood(
            lambda x, row: apply(unravel(x), row), model.data, model.family
        )


def _section(functional: Any, unravel: Any, place: Any) -> Callable[[Any], Any]:
    """x (1,) -> the functional with that first coordinate."""
    return lambda x: functional(unravel(jnp.asarray(place).at[0].set(x[0])))


def _confined(section: Callable[[Any], Any], start: float, temperature: float) -> Any:
    """Where a function of the line is less than `HEIGHT` temperatures above its least value."""
    values_at = jax.jit(jax.vmap(lambda x: section(x[None])))
    centre, reach = start, 1.0
    for _ in range(2 * DOUBLINGS):
        x = np.linspace(centre - reach, centre + reach, POINTS)
        values = np.asarray(values_at(jnp.asarray(x)), float)
        values = np.where(np.isfinite(values), values, np.inf)
        (low,) = np.nonzero(values - values.min() < HEIGHT * temperature)
        first, last = low[0], low[-1]
        if first == 0 or last == POINTS - 1:
            reach *= 2.0
            if reach > 2.0**DOUBLINGS:
                break
        elif last - first < POINTS // 4:  # a narrow valley: look closer
            centre, reach = 0.5 * (x[first] + x[last]), max(x[last + 1] - x[first - 1], 1e-12)
        else:
            return float(x[first - 1]), float(x[last + 1])
    return NOWHERE
