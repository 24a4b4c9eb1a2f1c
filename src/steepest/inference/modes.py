"""The search for modes beside the one that is known: descents from starts strewn around it.

Neither chains nor importance weights see a mode that no draw falls into, so what one mode gives is
trusted only where this search finds no other of any weight. Starts are y = r z in the coordinates
of a frame at the first mode: z quasi-normal in antithetic pairs, and r even in its logarithm over
`REACH`. A descent that comes within two deviations of a mode that is known ends there, which costs
two or three gradients in a law near a Gaussian.

A mode as wide as the first, D deviations away, attracts what begins beyond the plane between them;
one that is narrower by w < 1 what begins in a ball of radius w D / (1 - w^2), of which the first
sees the share (1 - sqrt(1 - w^2)) / 2 of its directions in three dimensions; less in more.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import jax
import numpy as np
from scipy import stats

from .certificate import Statement
from .convexity import STRUCTURE, strong_convexity
from .frame import Frame
from .minima import descend, mode_near, slope_at
from .proposal import generator

SHARE = 0.1
"""Of the budget, the most for the search of a method that trusts the modes it finds."""
REACH = (1.5, 24.0)
MOST_STARTS, MOST_MODES = 128, 6
MOST_GRADIENTS = 60
"""Of one descent."""
SEPARATION = 4.0
"""Minima this close, in squared deviations, are one: descents leave a difference."""
NEGLIGIBLE = 7.0
"""Modes whose mass is below exp(-7), a thousandth, of the largest are left out."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A mode: log of its mass by Laplace, place (d,) and factor of its covariance, in the frame."""

    log_mass: float
    mean: np.ndarray
    lower: np.ndarray

    def near(self, y: np.ndarray) -> bool:
        """Whether y (d,) is one with this mode."""
        gap = np.linalg.solve(self.lower, y - self.mean)
        return bool(gap @ gap < SEPARATION)


@dataclasses.dataclass(frozen=True)
class Search:
    """The modes that were found, that of the frame first; how many starts came to an end.

    `convex`: E has one minimum by its structure, so that nothing was looked for.
    """

    parts: tuple[Part, ...]
    starts: int
    gradients: int
    convex: bool = False

    @property
    def weighty(self) -> tuple[Part, ...]:
        """Those of more than a thousandth of the largest mass."""
        top = max(part.log_mass for part in self.parts)
        return tuple(part for part in self.parts if part.log_mass > top - NEGLIGIBLE)

    @property
    def others(self) -> tuple[Part, ...]:
        """The weighty ones beside that of the frame."""
        return tuple(part for part in self.weighty if part is not self.parts[0])

    def statement(self) -> Statement:
        """Whether there are modes beside that of the frame."""
        why = f"modes that {self.starts} searches from further out found beside the law's own"
        if self.convex:
            why = "E is strongly convex: there is one mode"
            return Statement.of("other modes", 0.0, 0.0, assumption=STRUCTURE, why=why)
        if self.starts == 0:
            why = "the budget is too small to search for other modes"
            return Statement("other modes", math.nan, 0.0, math.nan, "", why, None)
        return Statement.of(
            "other modes",
            float(len(self.others)),
            0.0,
            assumption="a mode of any weight attracts one of the searches",
            why=why,
        )


def search(frame: Frame, budget: int, key: jax.Array) -> Search:
    """The modes, for at most about `budget` gradients; the frame's first mode is at y = 0."""
    d = frame.dimension
    parts = [Part(-slope_at(frame, np.zeros(d))[0], np.zeros(d), np.eye(d))]
    spent, starts = 1, 0
    if strong_convexity(frame.target) is not None:
        return Search(tuple(parts), 0, spent, convex=True)
    for start in strewn(d, generator(key, 3)):
        room = min(budget - spent - d, MOST_GRADIENTS)
        if room < 10 or starts == MOST_STARTS or len(parts) == MOST_MODES:
            break
        met = lambda y: any(part.near(y) for part in parts)  # noqa: E731
        # A quarter of the way to the first mode, as its curvature has it: so that what lies between
        # is not passed over.
        end = descend(frame, start, room, stride=0.25 * float(np.linalg.norm(start)), met=met)
        spent, starts = spent + end.gradients, starts + 1
        lowest = min(-part.log_mass for part in parts)
        if not end.settled or end.value > lowest + 20.0 + d:
            continue
        spent += d
        mode = mode_near(frame, end)
        if mode is None:
            continue
        mean, hessian, left = mode
        lower = np.linalg.cholesky(np.linalg.inv(hessian))
        if not met(mean):
            volume = float(np.sum(np.log(np.diagonal(lower))))
            parts.append(Part(volume - (end.value - left), mean, lower))
    return Search(tuple(parts), starts, spent)


def strewn(d: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Starts (d,), without end."""
    # SciPy has called it rng since 1.15.
    sequence = stats.qmc.Sobol(d, seed=random)  # pyright: ignore[reportCallIssue]
    least, most = np.log(REACH)
    level = random.uniform()
    while True:
        for u in sequence.random(16):
            z = stats.norm.ppf(np.clip(u, 1e-6, 1.0 - 1e-6))
            for side in (z, -z):
                level = (level + 0.5 * (math.sqrt(5.0) - 1.0)) % 1.0
                yield math.exp(least + (most - least) * level) * side
