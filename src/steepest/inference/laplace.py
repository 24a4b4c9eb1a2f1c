"""The simplest methods: the mode, and the Gaussian that the curvature at it gives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ..states import Gaussian
from .answer import Answer, Budget
from .certificate import Statement, uncertified
from .fitted import weighted_answer
from .modes import SHARE, search
from .newton import Mode, find_mode
from .stopwatch import Stopwatch
from .target import Target


def mode_statement(mode: Mode, tolerance: float, needed: bool = True) -> Statement:
    """Whether the mode was reached."""
    return Statement.of(
        "distance from the mode",
        mode.remaining if mode.found else np.inf,
        tolerance,
        assumption="E is quadratic over the last Newton step",
        why=f"half the squared Newton step, in nats; the search ended because: {mode.why}"
        if mode.found
        else f"no strict minimum of E was found ({mode.why})",
        needed=needed,
    )


def point(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """The mode alone: no spread, so no certificate."""
    del key
    with Stopwatch() as watch:
        mode = find_mode(target, budget.gradients, 1e-2 * budget.tolerance)
    draws = np.broadcast_to(np.asarray(mode.point, float), (1, 2, target.dimension)).copy()
    certificate = uncertified(
        "a point has no spread", [mode_statement(mode, budget.tolerance, needed=False)]
    )
    return Answer(
        "point",
        target,
        draws,
        certificate,
        mode.gradients,
        {"compile": watch.compile, "run": watch.run},
        ledger=mode.ledger,
        independent=True,
    )


def laplace(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """N(mode, H^{-1}), with importance weights."""
    with Stopwatch() as watch:
        mode = find_mode(target, budget.gradients, 1e-2 * budget.tolerance)
        others = search(
            mode.frame, min(int(SHARE * budget.gradients), budget.gradients - mode.gradients), key
        )
    d, dtype = target.dimension, target.start.dtype
    law = Gaussian(jnp.asarray(np.zeros(d), dtype), jnp.asarray(np.eye(d), dtype))
    return weighted_answer(
        "laplace",
        mode.frame,
        law,
        budget,
        key,
        spent=mode.gradients + others.gradients,
        seconds={"compile": watch.compile, "tune": watch.run},
        ledger=mode.ledger,
        statements=(
            mode_statement(mode, budget.tolerance, needed=False),
            others.statement(),
        ),
        optimum=None,
    )
