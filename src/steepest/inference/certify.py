"""The certificate of draws that a user brings, from any tool.

Nothing is known of how they were made, so that beside what chains show (agreement, effective size)
all rests on E: integration by parts (`identities`), the Stein discrepancy, and log Z from both
sides. The bounds correct the draws to first order. With m and S the draws' mean and covariance and
g = grad E,

    a(x) = S g,   b_j(x) = ((x - m)_j (S g)_j / S_jj - 1) / 2

both have mean zero under exp(-E). For draws of the law tilted by a linear or quadratic function
<a> is the error of their mean, and <b_j> the relative error of the sd of x_j, to first order in the
tilt (for a Gaussian law <a> is the error whatever the draws are). What is left,
x - a and ((x - m)_j^2 / S_jj - 1)/2 - b_j, are control variates of known mean, whose Monte-Carlo
error is what the bounds have besides.
Sources: Assaraf and Caffarel, Phys. Rev. Lett. 83 (1999) 4682; Mira, Solgi and Imparato, Stat.
Comput. 23 (2013) 653 (control variates by the score).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from .answer import Answer, Budget
from .certificate import CONFIDENCE, Certificate, Statement
from .diagnostics import diagnose
from .dynamics import Account
from .evidence import anneal
from .frame import Frame
from .given import flat_draws
from .identities import BIASED, Look
from .sampling_error import SamplingError, sampling_error
from .stopwatch import Stopwatch
from .tails import allowance
from .target import Target

MOST_POINTS = 4096
EVIDENCE = 0.5
"""The share of the budget for log Z from both sides."""
DRAWS_OF_A_COORDINATE = 4
"""Effective draws for every dimension that a dense change of coordinates takes."""


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
    mean, sd = corrected(x, look, len(look.z) // len(x), independent)
    return Certificate((*statements, *found), mean, sd)


def frame_of(target: Target, x: np.ndarray, spread: SamplingError) -> Frame:
    """Coordinates in which the draws have mean zero and, where they are enough, covariance one."""
    d = x.shape[-1]
    flat = x.reshape(-1, d)
    frame = Frame.of_scales(target, flat.mean(axis=0), flat.std(axis=0))
    if float(np.min(spread.ess)) < DRAWS_OF_A_COORDINATE * d:
        return frame
    lower = np.linalg.cholesky(np.corrcoef(flat.T).reshape(d, d) + 1e-12 * np.eye(d))
    root = jnp.asarray(flat.std(axis=0)[:, None] * lower, target.start.dtype)
    return Frame(target, frame.centre, root)


def corrected(x: np.ndarray, look: Look, cuts: int, independent: bool) -> tuple[float, float]:
    """Bounds at 95 % on the two errors of the draws x (chain, save, d), over all coordinates.

    `cuts`: into how many pieces the look took each chain.
    """
    d = x.shape[-1]
    root = np.asarray(look.frame.root, float)
    root = np.diag(root) if root.ndim == 1 else root
    # Of the whole chains again, so that correlations across the cuts are seen; in sds.
    sds = x.std(axis=(0, 1))
    whole = lambda v: (v @ root.T / sds).reshape(len(x), cuts * v.shape[1], d)  # noqa: E731
    gap, pull = whole(look.z), whole(look.slope)
    first = gap - pull
    second = 0.5 * (gap**2 - 1.0) - 0.5 * (gap * pull - 1.0)
    quantile = float(stats.norm.ppf(1.0 - (1.0 - CONFIDENCE) / (4.0 * d)))
    errors = [sampling_error(v, independent) for v in (first, second)]
    # Their expectations are m - mean, and half of (sd / sd of the draws)^2 - 1.
    off = np.abs(first.mean(axis=(0, 1))) + quantile * errors[0].mean_error
    stretch = np.abs(second.mean(axis=(0, 1)))
    stretch += quantile * errors[1].mean_error * allowance(errors[0].shapes)
    with np.errstate(invalid="ignore", divide="ignore"):
        least = np.sqrt(1.0 - 2.0 * stretch)  # that the sd can be, in those of the draws
        mean, sd = off / least, 1.0 / least - 1.0
    worst = lambda v: float(np.max(np.where(np.isfinite(v), v, np.inf)))  # noqa: E731
    return worst(mean), worst(sd)


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
