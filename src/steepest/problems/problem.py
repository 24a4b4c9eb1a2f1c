"""What a named problem is: a functional, a point to start from, and names for its coordinates."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..functionals import AbstractFunctional


@dataclasses.dataclass(frozen=True)
class Problem:
    """A functional of parameters, ready to flow.

    `start`: the parameters to start from, a pytree of float arrays. `dims`: the names of the axes
    of a variable (named as in `Trajectory.variables`); `coords`: the names along such an axis.
    `notes`: what was done on the way, in sentences.
    """

    functional: AbstractFunctional
    start: Any
    dims: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    coords: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
