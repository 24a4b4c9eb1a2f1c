"""Statements about chains: do they agree, stand still, move freely, and follow the law of E?

Chains are independent of each other, so a mean over chains with the chains' own scatter is a t
statistic with (chains - 1) degrees of freedom, whatever the correlations along a chain. Each
statement is a test that a right run fails with probability ALARM; several quantities share it by
Bonferroni. Positions are in the whitened coordinates, where scales are near 1.
Sources: Vehtari, Gelman, Simpson, Carpenter and Buerkner, Bayesian Analysis 16 (2021) 667
(rank-normalised split R-hat, ESS); Betancourt, arXiv:1604.00695 (energy); Rugh, Phys. Rev. Lett. 78
(1997) 772 (configurational temperature); Gorham and Mackey, ICML 2017 (Stein discrepancy).
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import stats

from ..functionals import SteinDiscrepancy
from ..kernels import InverseMultiquadric
from ..states import Particles
from .certificate import Statement
from .dynamics import Ensemble, in_batches, slope_at, value_at
from .frame import Frame
from .proposal import generator
from .sampling_error import SamplingError
from .tails import moments_statement

ALARM = 0.002
"""The probability with which one statement fails on a right run."""
EFFECTIVE = 400.0
UNEXPLAINED = 0.05
"""The share of the variance that may lie between chains beyond what their length explains: in the
mean over m chains an error of sqrt(0.05 / m) sd, which the standard errors contain."""
DIVERGENT = 1e-3
BIASED = 0.05
ENERGY_SHARE = 0.3
MOST_POINTS = 1024


def diagnose(
    ensemble: Ensemble,
    z: np.ndarray,
    spread: SamplingError,
    ledger: Any,
    *,
    every: int,
    exact: bool = True,
) -> list[Statement]:
    """Statements about the saves z (chain, save, d) of chains; `spread`: their sampling error.

    `exact`: the chains are Metropolis-adjusted, `every` steps between saves.
    """
    values = in_batches(value_at, ensemble.energy, z.reshape(-1, z.shape[-1])).reshape(z.shape[:2])
    found = [
        agreement(z, spread),
        effective(spread),
        moments_statement(spread.shapes, "squared distance, in blocks as long as it is correlated"),
        stationarity(z, values),
    ]
    if exact:
        found += moves(ledger, z, every)
    found.append(energy_exchange(values, z.shape[-1]))
    found += slopes(ensemble, z, exact)
    return found


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


def within(z: np.ndarray) -> np.ndarray:
    """Effective draws per draw inside a chain, (d,), at most 1.

    From correlations about each chain's own mean, so that chains which disagree do not hide it. The
    mean takes tau/n of the variance off every covariance: with K lags summed, the sum s comes out
    such that tau = s / (1 - (2 K + 1 - s)/n).
    """
    n, d = z.shape[1:]
    centred = z - z.mean(axis=1, keepdims=True)
    variance = np.maximum(np.mean(centred**2, axis=(0, 1)), 1e-300)
    total, lags, going = np.ones(d), np.zeros(d), np.ones(d, bool)
    for lag in range(1, max(2, min(n // 2, 200)), 2):
        pair = np.zeros(d)
        for k in (lag, lag + 1):
            if k < n:
                pair += np.mean(centred[:, k:] * centred[:, :-k], axis=(0, 1)) / variance
        going &= pair > 0  # Geyer: sums of neighbours are positive, until they are noise
        total += np.where(going, 2 * pair, 0.0)
        lags += 2 * going
        if not going.any():
            break
    total = np.maximum(total, 1.0)
    return np.minimum(np.maximum(1.0 - (2 * lags + 1 - total) / n, 0.1) / total, 1.0)


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
    largest, bound, floor = _largest_t(change)
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


def slopes(ensemble: Ensemble, z: np.ndarray, exact: bool) -> list[Statement]:
    """What needs gradients at draws: the gradient itself, equipartition, temperature, Stein.

    Of chains that are not exact a share of BIASED is left to the bias of the step.
    """
    chains, saves, d = z.shape
    points = min(MOST_POINTS, (ensemble.account.left - 100) // 3) // chains
    if points < 1:
        return []
    index = np.linspace(0, saves - 1, min(points, saves)).astype(int)
    chosen = z[:, index]
    flat = chosen.reshape(-1, d)
    probes = generator(ensemble.next_key(), 0).choice([-1.0, 1.0], flat.shape)
    slack = 0.0 if exact else BIASED
    _, slope, curved = in_batches(slope_at, ensemble.energy, flat, probes)
    ensemble.account.spend(3 * len(flat))
    slope = slope.reshape(chosen.shape)
    curved = curved.reshape(chosen.shape[:2])
    centre = z.mean(axis=(0, 1))
    # <(z_i - c_i) dE/dz_j> = delta_ij for any fixed c; the mean over all draws is nearly fixed.
    virial = np.einsum("cni,cnj->cij", chosen - centre, slope) / len(index)
    largest, bound, floor = _largest_t(virial.reshape(chains, -1) - np.eye(d).ravel(), slack)
    trace, trace_bound, trace_floor = _largest_t(
        (np.einsum("cii->c", virial) - d)[:, None], slack * d
    )
    mean = float(np.mean(np.einsum("cii->c", virial))) / d
    force = np.mean(np.sum(slope**2, axis=2) - curved, axis=1)
    hot, hot_bound, hot_floor = _largest_t(force[:, None], slack * float(np.mean(curved)))
    ratio = float(np.mean(np.sum(slope**2, axis=2)) / np.mean(curved))
    found = [
        gradient(ensemble, flat, slope.reshape(-1, d)),
        Statement.of(
            "equipartition",
            trace,
            trace_bound,
            floor=trace_floor,
            assumption="E grows at infinity; chains are independent",
            why=f"<(x - m) . grad E> / d = {mean:.4g}, 1 is right, in standard errors",
        ),
        Statement.of(
            "virial matrix",
            largest,
            bound,
            floor=floor,
            assumption="E grows at infinity; chains are independent",
            why="entries of <(x - m)_i d_j E> = delta_ij, in standard errors",
        ),
        Statement.of(
            "configurational temperature",
            hot,
            hot_bound,
            floor=hot_floor,
            assumption="E grows at infinity; chains are independent",
            why=f"<|grad E|^2> / <lap E> = {ratio:.4g}, 1 is right, in standard errors",
        ),
        stein(ensemble.energy, chosen, slope, exact),
    ]
    return found


def gradient(ensemble: Ensemble, z: np.ndarray, slope: np.ndarray) -> Statement:
    """Whether grad E is the gradient of E: along segments by Gauss and Legendre, five nodes."""
    pairs, nodes = min(16, len(z) // 2), 5
    ensemble.account.spend(pairs * (nodes + 1))
    step = 0.1 * (z[pairs : 2 * pairs] - z[:pairs])
    # Along the steepest directions: the change of E is then far above its rounding.
    size = np.linalg.norm(step, axis=1, keepdims=True)
    steep = slope[:pairs] / np.maximum(np.linalg.norm(slope[:pairs], axis=1, keepdims=True), 1e-300)
    step = step + size * steep
    at, weights = np.polynomial.legendre.leggauss(nodes)
    along = z[:pairs, None] + 0.5 * (1 + at)[None, :, None] * step[:, None]
    everything = np.concatenate([along.reshape(-1, z.shape[1]), z[:pairs], z[:pairs] + step])
    values, slopes_, _ = in_batches(slope_at, ensemble.energy, everything, 0 * everything)
    inner = np.einsum("pnd,pd->pn", slopes_[: pairs * nodes].reshape(along.shape), step)
    predicted = inner @ (0.5 * weights)
    before, after = values[pairs * nodes :].reshape(2, pairs)
    rounding = 8 * float(jnp.finfo(ensemble.energy.centre.dtype).eps) * np.abs(before)
    scale = np.abs(inner) @ (0.5 * weights)
    off = np.maximum(np.abs(after - before - predicted) - 2 * rounding, 0.0)
    return Statement.of(
        "gradient",
        float(np.sum(off) / max(np.sum(scale), 1e-300)),
        0.01,
        assumption="E is smooth over a tenth of its width",
        why="differences of E against the integral of its gradient, relative",
    )


def stein(energy: Frame, z: np.ndarray, slope: np.ndarray, needed: bool) -> Statement:
    """The kernelised Stein discrepancy, in standard deviations of its null.

    The null of independent draws is widened by the correlation along chains.
    """
    n, d = z.shape[1:]
    kernel = InverseMultiquadric(float(math.sqrt(d)))
    state = Particles.from_positions(jnp.asarray(z.reshape(-1, d), energy.centre.dtype))
    at = jnp.asarray(slope.reshape(-1, d), energy.centre.dtype)
    estimate = SteinDiscrepancy(energy, kernel).measure(state, at)
    widened = float(estimate.null) / max(float(np.min(within(z))) if n > 3 else 1.0, 0.05)
    return Statement.of(
        "Stein discrepancy",
        float(estimate.value) / max(widened, 1e-300),
        5.0,
        floor=1.0,
        assumption="the score is right",
        why="of the draws against grad E, in standard deviations of its null",
        needed=needed,
    )


def _largest_t(values: np.ndarray, slack: float = 0.0) -> tuple[float, float, float]:
    """(largest |t|, its bound, its usual size) over columns of values (chain, k).

    `slack`: how far from zero a mean may be for other reasons.
    """
    chains, k = values.shape
    size = values.std(axis=0, ddof=1) / math.sqrt(chains)
    mean = np.maximum(np.abs(values.mean(axis=0)) - slack, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(size > 0, mean / size, np.where(mean > 0, np.inf, 0.0))
    quantile = lambda p: float(stats.t.ppf(p, chains - 1))  # noqa: E731
    worst = float(np.max(t)) if np.isfinite(values).all() else math.nan
    return worst, quantile(1 - ALARM / (2 * k)), quantile(1 - 0.25 / k)


def _longest(still: np.ndarray) -> int:
    """The longest run of True along the second axis."""
    longest, current = 0, np.zeros(len(still), int)
    for column in still.T:
        current = np.where(column, current + 1, 0)
        longest = max(longest, int(current.max()))
    return longest
