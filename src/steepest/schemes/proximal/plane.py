"""JKO in the plane and in space."""

from __future__ import annotations

from .problem import Movement, Problem


def minimise(problem: Problem, kind: str) -> Movement:
    raise NotImplementedError
