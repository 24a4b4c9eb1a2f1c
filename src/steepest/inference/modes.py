"""The search for modes that a fit has not met: Newton's flow from starts further and further out.

Importance weights cannot see a mode that no draw falls into, so a law of one mode is trusted only
where this search finds no other of any weight.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import SteepestError
from .certificate import Statement
from .frame import Frame
from .newton import hessian_cost, mode_from
from .proposal import generator

STARTS = 6
SHARE = 0.1
NEGLIGIBLE = 7.0
"""Modes whose mass is below exp(-7), a thousandth, of the largest are left out."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A mode: log of its mass by Laplace, place (d,) and factor of its covariance, in the frame."""

    log_mass: float
    mean: np.ndarray
    lower: np.ndarray


@dataclasses.dataclass(frozen=True)
class Search:
    """The modes that were found, that of the frame first; how many starts came to an end."""

    parts: tuple[Part, ...]
    starts: int
    gradients: int

    @property
    def weighty(self) -> tuple[Part, ...]:
        """Those of more than a thousandth of the largest mass."""
        top = max(part.log_mass for part in self.parts)
        return tuple(part for part in self.parts if part.log_mass > top - NEGLIGIBLE)

    def statement(self) -> Statement:
        """Whether there are modes beside that of the frame."""
        first = self.parts[0]
        others = sum(part is not first for part in self.weighty)
        why = f"modes that {self.starts} searches from further out found beside the law's own"
        if self.starts == 0:
            why = "the budget is too small to search for other modes"
            return Statement("other modes", math.nan, 0.0, math.nan, "", why, None)
        return Statement.of(
            "other modes",
            float(others),
            0.0,
            assumption="a mode of any weight attracts one of the searches",
            why=why,
        )


def search(frame: Frame, budget: int, key: jax.Array) -> Search:
    """At most `budget` gradients, shared by `STARTS` starts at 2 to 24 deviations."""
    d, dtype = frame.dimension, frame.centre.dtype
    root, centre = np.asarray(frame.root, float), np.asarray(frame.centre, float)
    root = np.diag(root) if root.ndim == 1 else root
    energy = float(_energy(frame, jnp.asarray(np.zeros(d), dtype)))
    parts = [Part(-energy, np.zeros(d), np.eye(d))]
    rng, spent, starts = generator(key, 3), 1, 0
    cost = hessian_cost(frame.target)
    for reach in np.geomspace(2.0, 24.0, STARTS):
        direction = rng.standard_normal(d) * math.sqrt(min(d, 4) / d)
        room = min(budget - spent, budget // STARTS)
        if room < 4 * cost:
            break
        start = jnp.asarray(centre + root @ (reach * direction), dtype)
        starts += 1
        try:
            found = mode_from(frame.target, start, room)
        except SteepestError:  # so far out that E or its curvature is no number
            spent += cost
            continue
        spent += found.gradients
        if found.precision is None:
            continue
        own = Frame.from_precision(frame.target, found.point, found.precision)
        mean = np.linalg.solve(root, np.asarray(found.point, float) - centre)
        lower = np.tril(np.linalg.solve(root, np.asarray(own.root, float)))
        gaps = [np.linalg.norm(np.linalg.solve(p.lower, mean - p.mean)) for p in parts]
        if min(gaps) > 1.0:
            volume = float(np.sum(np.log(np.diagonal(lower))))
            parts.append(Part(-found.value + volume, mean, lower))
    return Search(tuple(parts), starts, spent)


@eqx.filter_jit
def _energy(frame: Any, y: jax.Array) -> jax.Array:
    return frame(y)
