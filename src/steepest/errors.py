"""What can go wrong, in words: the argument, what was given, what would do."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trajectory import Trajectory


class SteepestError(Exception):
    """The root of every error that steepest raises on purpose."""


class ArgumentError(SteepestError, ValueError):
    """An argument that cannot be used; the message names it, what was given and what would do."""

    def __init__(self, argument: str, given: Any, remedy: str):
        self.argument, self.given, self.remedy = argument, given, remedy
        super().__init__(f"{argument}: got {given}; {remedy}")


def refuse_hidden_methods(cls: type) -> None:
    """Raises ArgumentError where a new field of a class has the name of a method of its parents.

    The field would take the method's place, and what calls it would fail far from here.
    """
    for name in inspect.get_annotations(cls):
        for parent in cls.__mro__[1:]:
            if name in inspect.get_annotations(parent):
                break
            if callable(parent.__dict__.get(name)):
                raise ArgumentError(
                    f"{cls.__name__}.{name}",
                    "a field",
                    f"{parent.__name__} has a method of this name: take another for the field",
                )


class Diverged(SteepestError):
    """A run that left the finite numbers.

    Attributes: `time` and `step` of the last good save, `quantity` that failed, and
    `trajectory`, everything up to there (None if nothing could be kept).
    """

    def __init__(
        self,
        quantity: str,
        time: float,
        step: int,
        remedy: str,
        trajectory: Trajectory | None = None,
    ):
        self.quantity, self.time, self.step = quantity, time, step
        self.trajectory = trajectory
        super().__init__(
            f"the run diverged: {quantity} after time {time:.6g} (step {step}); {remedy}"
        )


class NotConverged(SteepestError):
    """An inner solve that missed its tolerance; the message says by how much."""


class ProcessLost(SteepestError):
    """A run of several processes of which one has ended; the others cannot go on without it."""


class Terminated(SteepestError):
    """A run that was asked to end (SIGTERM); its checkpoint is written."""
