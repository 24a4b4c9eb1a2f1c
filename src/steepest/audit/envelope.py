"""Do the errors of a symplectic scheme stay where they were early in the run?

Such a scheme keeps an energy near by, so that the error of H swings within bounds that do not grow
(Hairer, Lubich and Wanner, Geometric Numerical Integration, IX.8); one that is only accurate adds
its errors up.
"""

from __future__ import annotations

import jax
import numpy as np

from .context import Context

GROWTH = 8**0.5
"""Of the largest change from a quarter of a run to the whole: a bounded error grows by 1, a random
walk by 2, a drift by 4; this is halfway between the last two."""

TURNS = 8
"""Four times back and forth."""


def envelope(context: Context, column: np.ndarray) -> float | None:
    """The largest change in the first quarter of a run, where the rest should not go beyond it.

    None unless the scheme is symplectic, the flow conservative and unforced, and the motion has
    turned round `TURNS` times in the quarter (in the median over coordinates): a shorter one may
    not have met its worst place yet.
    """
    quarter = len(column) // 4
    flow = context.flow
    if not (conservative(context) and context.scheme.symplectic) or quarter < TURNS:
        return None
    if flow.time_dependent:
        return None
    leaves = jax.tree.leaves(context.trajectory.states)
    path = np.concatenate([np.asarray(x)[:quarter].reshape(quarter, -1) for x in leaves], axis=1)
    turns = np.sum(np.diff(np.sign(np.diff(path, axis=0)), axis=0) != 0, axis=0)
    if np.median(turns) < TURNS:
        return None
    return float(np.max(np.abs(column[:quarter] - column[0])))


def conservative(context: Context) -> bool:
    """Whether the flow is of mechanics alone, without friction and noise."""
    flow = context.flow
    kinetic = all(p.geometry.kinetic and not p.geometry.dissipative for p in flow.parts)
    return len(flow.parts) == 1 and not flow.noisy and kinetic
