"""The certificate of draws that a user brings, from any tool.

Nothing is known of how they were made, so that beside what chains show (agreement, effective size)
all rests on E: integration by parts (`identities`), the Stein discrepancy, and log Z from both
sides. The bounds are those of `control_variates`.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .answer import Answer, Budget
from .certificate import Certificate, Statement
from .control_variates import corrected, enough
from .diagnostics import diagnose
from .dynamics import Account
from .evidence import anneal
from .frame import Frame
from .given import flat_draws
from .identities import BIASED
from .sampling_error import SamplingError, sampling_error
from .stopwatch import Stopwatch
from .target import Target

MOST_POINTS = 4096
EVIDENCE = 0.5
"""The share of the budget for log Z from both sides."""


def certify(
    draws: Any,
    energy: Any,
    budget: int = 20_000,
    *,
    start: Any = None,
    independent: bool = False,
    evidence: bool = True,
    key: Any = None,
) -> Answer:
    """How far draws of any origin can be from exp(-E): an answer that holds them, certified.

    `draws`: (chain, save, d) in flat coordinates, a mapping from names to (chain, save, ...), or an
    ArviZ InferenceData. `energy`: a `Problem`, or a function of parameters, then with `start`,
    parameters like those (by default the last draw). `budget`: gradients of E. `independent`: the
    draws are, and not chains. `evidence`: whether to bracket log Z, for half of the budget. Raises
    ArgumentError for input that cannot be used.
    """
    spending = Budget(budget)
    if start is None and not hasattr(energy, "start") and np.ndim(draws) in (2, 3):
        start = jnp.asarray(np.asarray(draws, float).reshape(-1, np.shape(draws)[-1])[-1])
    target = Target.of(energy, start)
    x = flat_draws(draws, target)
    keys = jax.random.split(jax.random.key(0) if key is None else key)
    account = Account(spending.gradients)
    found: list[Statement] = []
    bracket = (math.nan, math.nan)
    if evidence:
        with Stopwatch() as watch:
            found, bracket = _bracket(target, x, account, keys[0])
        account.book("evidence", watch)
    with Stopwatch() as watch:
        certificate = judged(target, x, account, keys[1], independent, found)
    account.book("certify", watch)
    return Answer(
        "given",
        target,
        x,
        certificate,
        account.spent,
        account.seconds,
        log_evidence=bracket,
        independent=independent,
        phases=account.phases,
    )


def judged(
    target: Target,
    x: np.ndarray,
    account: Account,
    key: Any,
    independent: bool,
    found: list[Statement],
) -> Certificate:
    """The certificate of draws x (chain, save, d), from the gradients that the account has left."""
    spread = sampling_error(x, independent)
    if not np.isfinite(spread.mean):
        return Certificate(tuple(found))
    frame = frame_of(target, x, spread)
    z = frame.seen_from(x.reshape(-1, x.shape[-1])).reshape(x.shape)
    statements, look = diagnose(
        frame,
        z,
        spread,
        account,
        key,
        independent=independent,
        slack=BIASED,
        most=MOST_POINTS,
    )
    if look is None:
        return Certificate((*statements, *found))
    mean, sd = corrected(x, look, independent=independent)
    return Certificate((*statements, *found), mean, sd)


def frame_of(target: Target, x: np.ndarray, spread: SamplingError) -> Frame:
    """Coordinates in which the draws have mean zero and, where they are enough, covariance one."""
    d = x.shape[-1]
    flat = x.reshape(-1, d)
    frame = Frame.of_scales(target, flat.mean(axis=0), flat.std(axis=0))
    if not enough(spread):
        return frame
    lower = np.linalg.cholesky(np.corrcoef(flat.T).reshape(d, d) + 1e-12 * np.eye(d))
    root = jnp.asarray(flat.std(axis=0)[:, None] * lower, target.start.dtype)
    return Frame(target, frame.centre, root)


def _bracket(
    target: Target, x: np.ndarray, account: Account, key: Any
) -> tuple[list[Statement], tuple[float, float]]:
    """log Z from both sides, down from the draws; nothing where the way up does not reach."""
    found = anneal(target, int(EVIDENCE * account.limit), key, draws=x)
    if found is None:
        return [], (math.nan, math.nan)
    evidence = found.evidence
    account.spend(evidence.gradients)
    way, *others = sorted(evidence.statements, key=lambda s: s.name != "estimates apart")
    if not all(s.held for s in others if s.name != "order of the bounds"):
        return [], (math.nan, math.nan)
    return [way], (evidence.lower, evidence.upper)
