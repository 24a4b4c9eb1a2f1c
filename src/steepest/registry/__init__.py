"""Known algorithms as compositions of the four ingredients, and the name of a composition.

    >>> flow, scheme, state = by_name("BAOAB").compose(Setting.small())
    >>> recognise(flow, scheme, state)
    ('BAOAB',)

Each row has a source and its textbook update; the tests hold the two against each other.
"""

from __future__ import annotations

import difflib
import functools
from typing import Any

from ..errors import ArgumentError
from . import chains, clouds, diffusions, laws, motions, points
from .algorithm import Algorithm as Algorithm
from .algorithm import Composed as Composed
from .algorithm import Setting as Setting
from .design import Design as Design
from .design import from_card as from_card
from .structure import structure

ALGORITHMS: tuple[Algorithm, ...] = (
    *points.ALGORITHMS,
    *motions.ALGORITHMS,
    *chains.ALGORITHMS,
    *laws.ALGORITHMS,
    *clouds.ALGORITHMS,
    *diffusions.ALGORITHMS,
)


def by_name(name: str) -> Algorithm:
    """The row of that name; raises ArgumentError, with the nearest one, if there is none."""
    found = {algorithm.name: algorithm for algorithm in ALGORITHMS}
    if name not in found:
        close = difflib.get_close_matches(name, found, n=3, cutoff=0.3)
        raise ArgumentError("name", repr(name), f"did you mean {', '.join(close)}?")
    return found[name]


@functools.cache
def _named() -> dict[Any, tuple[str, ...]]:
    """The names of every structure that the rows have."""
    setting, found = Setting.small(), {}
    for algorithm in ALGORITHMS:
        key = structure(*algorithm.compose(setting))
        found[key] = (*found.get(key, ()), algorithm.name)
    return found


def recognise(flow: Any, scheme: Any, state: Any) -> tuple[str, ...]:
    """The known algorithms that this composition is; () for one without a name.

    Compared is the structure alone: an energy, a step or a temperature of one's own changes
    nothing. Raises ArgumentError where the flow cannot move the state.
    """
    return _named().get(structure(flow, scheme, state), ())


def card(flow: Any, scheme: Any, state: Any) -> dict[str, str]:
    """The structure card with its scheme and its known names (section 7.6)."""
    names = recognise(flow, scheme, state)
    return flow.card(scheme, state) | {"known as": "; ".join(names) or "new"}
