"""What textbooks take for granted: the root of an equation, and the exact bath of a momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def newton(equation: Callable[[Any], Any], slope: Callable[[Any], Any], guess: Any) -> Any:
    """The y with equation(y) = 0, by Newton's method with the given matrix of derivatives."""
    y = np.array(guess, float)
    for _ in range(50):
        y = y - np.linalg.solve(slope(y), equation(y))
    return y
