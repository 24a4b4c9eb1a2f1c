"""Statements about chains: do they agree, stand still, and move freely?

Chains are independent of each other, so a mean over chains with the chains' own scatter is a t
statistic with (chains - 1) degrees of freedom, whatever the correlations along a chain. Each
statement is a test that a right run fails with probability ALARM; several quantities share it by
Bonferroni. Positions are in the whitened coordinates, where scales are near 1. What the gradient
of E says of draws is in `identities`.
Sources: Vehtari, Gelman, Simpson, Carpenter and Buerkner, Bayesian Analysis 16 (2021) 667
(rank-normalised split R-hat, ESS); Betancourt, arXiv:1604.00695 (energy).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from .certificate import Statement
from .dynamics import Account, in_batches, value_at
from .frame import Frame
from .identities import ALARM, MOST_POINTS, Look, identities, largest_t, look, within
from .sampling_error import SamplingError
from .tails import moments_statement

EFFECTIVE = 400.0
UNEXPLAINED = 0.05
"""The share of the variance that may lie between chains beyond what their length explains: in the
mean over m chains an error of sqrt(0.05 / m) sd, which the standard errors contain."""
DIVERGENT = 1e-3
ENERGY_SHARE = 0.3
PIECES = 32
MOST_VALUES = 16_384


def diagnose(
    frame: Frame,
    z: np.ndarray,
    spread: SamplingError,
    account: Account,
    key: Any,
    *,
    moved: tuple[Any, int] | None = None,
    independent: bool = False,
    slack: float = 0.0,
    decisive: bool = True,
    most: int = MOST_POINTS,
) -> tuple[list[Statement], Look | None]:
    """Statements about saves z (chain, save, d) of a frame, and the look at gradients they rest on.

    `spread`: the sampling error of the draws. `moved`: of Metropolis-adjusted chains, (ledger,
    steps between saves). `independent`: the draws are, and no chains. `slack`, `decisive`: see
    `identities`. `most`: of the draws, how many gradients are looked at.
    """
    found = [
        effective(spread),
        moments_statement(spread.shapes, "squared distance, in blocks as long as it is correlated"),
    ]
    if not independent:
        some = z[:, :: -(-z.shape[0] * z.shape[1] // MOST_VALUES)]
        values = in_batches(value_at, frame, some.reshape(-1, z.shape[-1])).reshape(some.shape[:2])
        found = [agreement(z, spread), *found]
        found += [stationarity(some, values)] if len(z) > 1 else []
        found += [] if moved is None else moves(moved[0], z, moved[1])
        found.append(energy_exchange(values, z.shape[-1]))
    looked = look(frame, pieces(z, spread), account, key, most)
    if looked is not None:
        found += identities(looked, account, slack=slack, decisive=decisive)
    return found, looked


def pieces(z: np.ndarray, spread: SamplingError) -> np.ndarray:
    """z (chain, save, d) in at least 32 pieces, each of ten correlation times or more, as
    (piece, save, d); in fewer where the chains are too short for that."""
    chains, saves, d = z.shape
    least = float(np.min(spread.ess))
    apart = chains * saves / least if least > 0 else saves
    cuts = max(1, min(math.ceil(PIECES / chains), int(saves / max(10.0 * apart, 8.0))))
    return z[:, saves % cuts :].reshape(chains * cuts, saves // cuts, d)


def agreement(z: np.ndarray, spread: SamplingError) -> Statement:
    """Split R-hat against what chains of this length show when all is right.

    The means of m half-chains with e effective draws each scatter by 1/e of the variance, which
    is missing from the variance W within them, so for n draws in half a chain
    R-hat^2 = 1 - 1/n + chi^2_{m-1} / ((m-1)(e-1)).
    """
    halves, n = 2 * z.shape[0], z.shape[1] // 2
    d = z.shape[2]
    freedom = halves - 1
    folded = np.abs(z - np.median(z, axis=(0, 1)))
    effective = np.minimum(within(z), within(folded)) * n
    apart = 1.0 / np.maximum(effective - 1.0, 0.2)
    null = lambda p: np.sqrt(1 - 1 / n + apart * stats.chi2.ppf(p, freedom) / freedom)  # noqa: E731
    # Bulk and tail of d coordinates.
    limits = np.sqrt(null(1.0 - ALARM / (2 * d)) ** 2 + UNEXPLAINED)
    excess = spread.r_hat - limits
    worst = int(np.argmax(np.where(np.isnan(excess), np.inf, excess)))
    statement = Statement.of(
        "split R-hat",
        float(spread.r_hat[worst]),
        float(limits[worst]),
        floor=float(null(0.5)[worst]),
        assumption="chains started beyond the reach of the law",
        why=f"between the halves of {z.shape[0]} chains of {z.shape[1]} draws",
    )
    if limits[worst] > 1.3 and statement.held:
        return Statement(
            statement.name,
            statement.value,
            statement.bound,
            statement.floor,
            statement.assumption,
            "the chains are too short to tell",
            None,
        )
    return statement


def effective(spread: SamplingError) -> Statement:
    """Enough draws for the standard errors to mean something."""
    least = float(np.min(np.minimum(spread.ess, spread.ess_tail)))
    return Statement.of(
        "effective draws",
        EFFECTIVE / max(least, 1e-9) if math.isfinite(least) else math.nan,
        1.0,
        assumption="none",
        why=f"{least:.0f} effective draws, bulk or tail, where least; {EFFECTIVE:.0f} are asked",
    )


def stationarity(z: np.ndarray, values: np.ndarray) -> Statement:
    """First against second half: means, squares and the energy."""
    n = z.shape[1]
    centre = z.mean(axis=(0, 1))
    what = np.concatenate([z - centre, (z - centre) ** 2, values[..., None]], axis=2)
    half = n // 2
    change = what[:, half:].mean(axis=1) - what[:, :half].mean(axis=1)
    largest, bound, floor = largest_t(change)
    return Statement.of(
        "stationarity",
        largest,
        bound,
        floor=floor,
        assumption="chains are independent",
        why="first against second half, of means, squares and energy, in standard errors",
    )


def moves(ledger: Any, z: np.ndarray, every: int) -> list[Statement]:
    """Acceptance, divergences, and how long a chain can stick."""
    accepted = float(np.mean(ledger.acceptance[1:]))
    diverged = float(np.mean(ledger.divergence[1:]))
    still = np.all(z[:, 1:] == z[:, :-1], axis=2)
    run = _longest(still)
    share = float(np.mean(still))
    count = still.size
    # Independent rejections: P(some run >= k) <= count share^k; twice that for uneven acceptance.
    usual = math.log(count) / -math.log(min(max(share, 1e-3), 0.999))
    bound = 2.0 * (usual + math.log(1 / ALARM) / -math.log(min(max(share, 1e-3), 0.999)))
    return [
        Statement.of(
            "rejected",
            1.0 - accepted,
            0.7,
            assumption="none",
            why=f"{100 * accepted:.0f} % of the proposals were accepted",
        ),
        Statement.of(
            "divergent",
            diverged,
            DIVERGENT,
            assumption="none",
            why="share of proposals whose energy was off by over 1000, or not finite",
        ),
        Statement.of(
            "sticking",
            run * every,
            bound * every,
            floor=usual * every,
            assumption="acceptance is about the same everywhere",
            why="the most steps for which a chain stood still",
        ),
    ]


def energy_exchange(values: np.ndarray, d: int) -> Statement:
    """Var E of the draws against what a fresh momentum can move: heavy tails and funnels.

    The momenta of two moves differ in energy by d on average (squared), of a total variance
    Var E + d/2: their ratio is the energy Bayesian fraction of missing information.
    """
    variance = float(np.var(values))
    fraction = d / (variance + 0.5 * d) if math.isfinite(variance) else math.nan
    return Statement.of(
        "energy",
        ENERGY_SHARE / fraction if fraction else math.nan,
        1.0,
        assumption="none",
        why=f"{fraction:.2g} of the energy's spread is in reach of one fresh momentum (1 for a "
        f"Gaussian); {ENERGY_SHARE:g} is asked",
    )


def _longest(still: np.ndarray) -> int:
    """The longest run of True along the second axis."""
    longest, current = 0, np.zeros(len(still), int)
    for column in still.T:
        current = np.where(column, current + 1, 0)
        longest = max(longest, int(current.max()))
    return longest
