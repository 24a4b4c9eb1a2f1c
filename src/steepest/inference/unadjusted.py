"""Chains without rejection, their bias measured: kinetic Langevin and isokinetic dynamics.

BAOAB with steps h and h/2. Its bias in any mean is b h^2 (1 + o(1)), so with the means m_1 and m_2
of the two runs the bias of the second is (m_1 - m_2)/3, and

    |m_2 - truth| <= |m_1 - m_2|/3 + z sqrt((4/3)^2 e_2^2 + (1/3)^2 e_1^2)

with standard errors e; the draws of the second run are the answer.
Sources: Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34; Robnik, De Luca, Silverstein
and Seljak, JMLR 24 (2023) 311 (microcanonical sampling); Durmus, Enfroy, Moulines and Stoltz,
arXiv:2112.00843 (extrapolation).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from scipy import stats

from ..errors import ArgumentError, Diverged
from ..schemes import BAOAB
from ..trajectory import Trajectory
from .answer import Answer, Budget
from .certificate import CONFIDENCE, MEAN_TOLERANCE, Certificate, Statement
from .chains import LEAST_SAVES, MOST_DRAWS, answer_of, prepare, reserve, unfinished
from .diagnostics import diagnose
from .dynamics import Account, Ensemble
from .identities import BIASED
from .sampling_error import SamplingError, sampling_error
from .stopwatch import Stopwatch
from .target import Target
from .tuning import Tuned

COARSE = 1 / 4
"""Of the gradients, the share that runs with the longer step."""
SETTLE = 0.1
"""Of the finer run, the share that forgets the longer step."""


@dataclasses.dataclass(frozen=True)
class Unadjusted:
    """BAOAB; `target`: with what probability the longer of its steps would be accepted.

    A damped oscillator at its best friction keeps a correlation of about 0.35 over a quarter turn.
    """

    target: float = 0.45
    exponent: float = 3.0
    steps: int = 4
    lag: float | None = 0.35

    def scheme(self, step: float, length: float) -> Any:
        """`length` is in the friction."""
        del length
        return BAOAB(step)

    def friction(self, step: float, length: float) -> float:
        """Momenta are kept for about the time of a quarter turn."""
        del step
        return 0.5 * math.pi / length

    def every(self, step: float, length: float) -> int:
        """Saves a length apart, an odd number."""
        return max(1, round(length / step)) | 1

    def seen(self, run: Trajectory) -> tuple[float, float]:
        """From the energy error of the first save interval, Gaussian over chains."""
        spread = run.ledger.closure_error[1] * math.sqrt(run.chains)
        return float(2.0 * stats.norm.cdf(-0.5 * spread)), 0.0


def kinetic_langevin(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """Kinetic (underdamped) Langevin dynamics by BAOAB, unadjusted, its bias in the certificate."""
    return _unadjusted("kinetic-langevin", target, budget, key, "kinetic")


def microcanonical(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """Isokinetic dynamics with momenta turned at random, unadjusted, its bias in the certificate.

    Raises ArgumentError in one dimension, where its momentum could not turn.
    """
    if target.dimension < 2:
        raise ArgumentError("method", "'microcanonical' in one dimension", "'kinetic-langevin'")
    return _unadjusted("microcanonical", target, budget, key, "isokinetic")


def _unadjusted(name: str, target: Target, budget: Budget, key: jax.Array, kind: str) -> Answer:
    account, move = Account(budget.gradients), Unadjusted()
    ensemble, tuned, note = prepare(move, target, budget, key, kind, account)
    room = (account.left - reserve(account.limit)) // ensemble.chains
    with Stopwatch() as watch:
        coarse = _sample(ensemble, move, tuned, tuned.step, int(COARSE * room))
        room = (account.left - reserve(account.limit)) // ensemble.chains
        fine = None if coarse is None else _sample(ensemble, move, tuned, 0.5 * tuned.step, room)
    account.book("run", watch)
    if coarse is None or fine is None:
        return unfinished(name, ensemble)
    with Stopwatch() as watch:
        z = ensemble.saved(fine)
        z = z[:, int(SETTLE * z.shape[1]) :]
        draws = ensemble.energy.places(z)
        first = ensemble.energy.places(ensemble.saved(coarse))
        spreads = sampling_error(first), sampling_error(draws)
        statements, _ = diagnose(
            ensemble.energy,
            z,
            spreads[1],
            account,
            ensemble.next_key(),
            slack=BIASED,
            decisive=False,
        )
        bias, mean, sd = bounds(first, draws, *spreads)
        certificate = Certificate((*statements, bias), mean=mean, sd=sd)
    account.book("certify", watch)
    note = f"{note}; steps {tuned.step:.3g} and {0.5 * tuned.step:.3g}"
    return answer_of(name, ensemble, draws, certificate, fine.ledger, note)


def _sample(
    ensemble: Ensemble, move: Unadjusted, tuned: Tuned, step: float, steps: int
) -> Trajectory | None:
    """A run of at most `steps` steps a chain; None where that is too few, or where it blows up."""
    steps -= 1
    if steps < LEAST_SAVES:
        return None
    every = max(1, -(-steps * ensemble.chains // MOST_DRAWS)) | 1
    steps -= steps % every
    friction = move.friction(step, tuned.length)
    try:
        return ensemble.advance(
            move.scheme(step, tuned.length), steps, friction=friction, save_every=every
        )
    except Diverged:
        return None


def bounds(
    coarse: np.ndarray, fine: np.ndarray, first: SamplingError, second: SamplingError
) -> tuple[Statement, float, float]:
    """(the statement on the bias, bounds on the errors of means and sds of the finer draws)."""
    d = fine.shape[2]
    quantile = float(stats.norm.ppf(1.0 - (1.0 - CONFIDENCE) / (4.0 * d)))
    sizes = [x.std(axis=(0, 1)) for x in (coarse, fine)]
    shift = np.abs(coarse.mean(axis=(0, 1)) - fine.mean(axis=(0, 1))) / 3.0
    change = np.abs(sizes[0] - sizes[1]) / 3.0
    combined = lambda a, b: np.sqrt((4.0 / 3.0 * b) ** 2 + (a / 3.0) ** 2)  # noqa: E731
    mean = shift + quantile * combined(first.mean_error, second.mean_error)
    sd = change + quantile * combined(first.sd_error, second.sd_error)
    least = np.maximum(sizes[1] - sd, 0.0)  # that the sd can be
    worst = lambda x: float(np.max(np.where(np.isnan(x), np.inf, x)))  # noqa: E731
    largest = worst(np.maximum(shift, change) / sizes[1])
    noise = np.maximum(
        np.hypot(first.mean_error, second.mean_error), np.hypot(first.sd_error, second.sd_error)
    )
    bias = Statement.of(
        "step bias",
        largest,
        MEAN_TOLERANCE,
        floor=worst(noise / 3.0 / sizes[1]),
        assumption="the bias is of second order in the step",
        why="of means and sds, in sds, from the run with twice the step",
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return bias, worst(mean / least), worst(sd / least)
