"""What a named problem is: a functional, a point to start from, and names for its coordinates."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..functionals import AbstractFunctional


@dataclasses.dataclass(frozen=True)
class Problem:
    """A functional of parameters, ready to flow.

    `start`: the parameters to start from, a pytree of float arrays. `labels`: for a leaf name (as in
    `Trajectory.variables`), the names of its coordinates. `notes`: what was done on the way, in
    sentences.
    """

    functional: AbstractFunctional
    start: Any
    labels: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
