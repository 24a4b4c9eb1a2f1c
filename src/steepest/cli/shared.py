"""What the reports of every kind of run share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import figures
from ..report import Picture
from .execute import Outcome


def check_rows(audit: Any) -> tuple[dict[str, Any], ...]:
    """The checks of an audit as plain data."""
    return tuple(
        {
            "name": check.name,
            "residual": check.residual,
            "tolerance": check.tolerance,
            "verdict": check.verdict,
            "why": check.why,
        }
        for check in audit.checks
    )


def balanced(outcome: Outcome) -> bool:
    """Whether the audit could judge the balance of the ledger."""
    names = ("balance", "heat balance", "energy-dissipation balance", "energy conservation")
    return any(c.name in names and c.passed is not None for c in outcome.audit.checks)


def ledger_pictures(outcome: Outcome) -> Iterator[Picture]:
    ledger, warmup = columns_of(outcome.trajectory), None
    if outcome.warmup is not None:
        warmup = columns_of(outcome.warmup)
    first, last = ledger["functional"][0], ledger["functional"][-1]
    yield Picture(
        "functional",
        f"The functional over time, from {first:.4g} to {last:.4g}.",
        "The functional over time"
        + (", two standard errors over the chains" if ledger["functional_error"].any() else "")
        + (", after a warm-up in grey." if warmup else "."),
        lambda theme: figures.functional_figure(ledger, warmup, theme=theme),
    )
    if not balanced(outcome):
        return
    yield Picture(
        "balance",
        "What the functional lost and what was dissipated; "
        f"the largest gap is {np.abs(ledger['closure']).max():.2g}.",
        "Accumulated at every step, both must be the same; the gap is the scheme's error.",
        lambda theme: figures.balance_figure(ledger, theme=theme),
    )


def columns_of(trajectory: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(c, float) for name, c in trajectory.ledger.columns().items()}
