"""What a named problem is: a functional, a point to start from, and names for its coordinates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ..flow import Flow
from ..functionals import AbstractFunctional


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A functional of parameters, ready to flow; two problems are equal if they are one object.

    `start`: the parameters to start from, a pytree of float arrays. `dims`: the names of the axes
    of a variable (named as in `Trajectory.variables`); `coords`: the names along such an axis.
    `notes`: what was done on the way, in sentences. `constrain`: from the parameters, which range
    over the whole space, to the quantities that the model speaks of, by name; None: they are the
    same. `unconstrain`: back, where there is a way. `constant`: functional + constant = -log of the
    joint density of data and parameters, so that log evidence = log Z - constant; None where that
    is not known (no posterior, a flat prior).
    Of a mechanical system: `momentum`, to start with; `invariants`, functions of a `Phase` that the
    motion keeps, by name; `look`: position -> (k, 2), its bodies in the plane, in order. `flow`: of
    a problem that brings its geometry along (the brackets of a closed system, a constraint), whole.
    """

    functional: AbstractFunctional
    start: Any
    dims: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    coords: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    constrain: Callable[[Any], dict[str, Any]] | None = None
    constant: float | None = None
    momentum: Any = None
    invariants: dict[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)
    look: Callable[[Any], Any] | None = None
    unconstrain: Callable[[dict[str, Any]], Any] | None = None
    flow: Flow | None = None
