"""What is turned: a temperature, a friction, a factor, as a number or as a schedule of time."""

from __future__ import annotations

import math
from typing import Any

from jax.core import Tracer

from .errors import ArgumentError


def check_dial(argument: str, value: Any, remedy: str) -> None:
    """Raises ArgumentError unless a number is finite and >= 0; schedules and tracers pass."""
    if not (callable(value) or isinstance(value, Tracer)):
        check_number(argument, value, remedy)


def check_number(argument: str, value: Any, remedy: str) -> None:
    """Raises ArgumentError unless `value` is a finite number >= 0."""
    try:
        good = math.isfinite(float(value)) and float(value) >= 0
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ArgumentError(argument, value, remedy)
