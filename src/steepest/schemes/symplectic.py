"""Explicit symplectic schemes of order 2, 4 and 6 for conservative kinetic flows (eq. 29).

Each is a splitting whose letters take given fractions of the step. Sources: Forest and Ruth,
Physica D 43 (1990) 105; Yoshida, Phys. Lett. A 150 (1990) 262; McLachlan, SIAM J. Sci. Comput. 16
(1995) 151; McLachlan and Atela, Nonlinearity 5 (1992) 541.
"""

from __future__ import annotations

from ..errors import ArgumentError
from .splitting import Splitting

CUBE = 2.0 ** (1.0 / 3.0)
TRIPLE = (1.0 / (2.0 - CUBE), -CUBE / (2.0 - CUBE), 1.0 / (2.0 - CUBE))
OUTER = (0.784513610477560, 0.235573213359357, -1.17767998417887)  # Yoshida's solution A
SEVEN = (*OUTER, 1.0 - 2.0 * sum(OUTER), *OUTER[::-1])
ROOT = (2.0 * 326.0**0.5 + 36.0) ** (1.0 / 3.0)
LEAST = 0.5 - ROOT / 12.0 + 1.0 / (6.0 * ROOT)
ATELA = (
    (0.5153528374311229364, -0.085782019412973646, 0.4415830236164665242, 0.1288461583653841854),
    (0.1344961992774310892, -0.2248198030794208058, 0.7563200005156682911, 0.3340036032863214255),
)


def Yoshida(step: float, order: int = 4) -> Splitting:  # noqa: N802
    """Leapfrog composed with itself: 3 forces a step for order 4, 7 for order 6.

    Raises ArgumentError for another order.
    """
    if order not in (4, 6):
        raise ArgumentError("order", order, "4 or 6; Leapfrog(step) has order 2")
    return _composed(step, "BA", TRIPLE if order == 4 else SEVEN, order)


def ForestRuth(step: float) -> Splitting:  # noqa: N802
    """Order 4 with 3 forces a step, the position first."""
    return _composed(step, "AB", TRIPLE, 4)


def McLachlan(step: float, order: int = 2) -> Splitting:  # noqa: N802
    """Order 2 with 2 forces a step and the least error, or order 4 with 4 forces.

    Per force the first errs about six times less than `Leapfrog`. Raises ArgumentError for another
    order.
    """
    if order == 2:
        middle = 1.0 - 2.0 * LEAST
        return Splitting(step, "ABABA", (LEAST, 0.5, middle, 0.5, LEAST), 2)
    if order != 4:
        raise ArgumentError("order", order, "its orders are 2 and 4")
    drifts, kicks = ATELA
    pairs = [x for pair in zip(kicks, drifts, strict=True) for x in pair]
    return Splitting(step, "BA" * 4, tuple(pairs), 4)


def _composed(step: float, letters: str, weights: tuple[float, ...], order: int) -> Splitting:
    """The symmetric step `first/2 second first/2` taken with every weight, neighbours merged."""
    first = [0.5 * (a + b) for a, b in zip((0.0, *weights), (*weights, 0.0), strict=True)]
    fractions = [x for pair in zip(first, weights, strict=False) for x in pair] + [first[-1]]
    word = letters * len(weights) + letters[0]
    return Splitting(step, word, tuple(fractions), order)
