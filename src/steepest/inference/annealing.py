"""Annealing as a method: draws of the target from particles led down from a reference.

Every island repeats the whole annealing, so that the spread of islands is the error of all of it,
weights and ancestry included, not only that of the chains at the end. An island counts by its
estimate of Z, which makes the average over islands consistent in their number; draws are equally
weighted, and what the islands' weights would change is part of the bounds.
Source: Verge, Dubarry, Del Moral and Moulines, Stat. Comput. 25 (2015) 243 (islands).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from scipy import stats

from ..ledger import Ledger
from .answer import Answer, Budget
from .bridge import effective_share
from .certificate import CONFIDENCE, Certificate, Statement, uncertified
from .evidence import REACHED, Annealed, anneal
from .target import Target

FINAL = 6.0
"""How many times as many states as at other levels are made at the target."""

LARGEST_GAP = 1.0
"""Nats between the bounds of log Z, beyond which a draw may be far from the target."""


def annealing(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """Draws by annealing from the modes' Gaussians, with log Z from both sides."""
    found = anneal(target, budget.gradients, key, final=FINAL)
    if found is None:
        why = f"{budget.gradients} gradients do not lead from the reference to the target"
        nothing = np.broadcast_to(np.asarray(target.start), (1, 2, target.dimension))
        seconds = {"compile": 0.0, "tune": 0.0, "run": 0.0}
        return Answer("annealing", target, nothing, uncertified(why), budget.gradients, seconds)
    evidence = found.evidence
    return Answer(
        "annealing",
        target,
        found.up.draws,
        certificate(found),
        evidence.gradients,
        evidence.seconds,
        free_energy=(-evidence.estimate, evidence.standard_error),
        log_evidence=(evidence.lower, evidence.upper),
        ledger=ledger(found),
        notes=evidence.notes,
    )


def certificate(found: Annealed) -> Certificate:
    """Bounds on means and sds by the spread of islands, and what they rest on."""
    evidence, up = found.evidence, found.up
    ratios = up.log_ratios.sum(axis=0)
    mean, sd, spread, expected = island_errors(up.draws, ratios, found.chains)
    islands = effective_share(ratios) * len(up.draws)
    statements = (
        *evidence.statements,
        Statement.of(
            "gap of the bounds on log Z",
            evidence.gap,
            LARGEST_GAP,
            assumption=evidence.assumptions[0],
            why="nats; it bounds KL(a draw || target)",
        ),
        Statement.of(
            "unequal islands",
            len(up.draws) / float(islands) - 1.0,
            0.25,
            assumption="none",
            why="relative variance of the islands' estimates of Z",
        ),
        Statement.of(
            "disagreement of islands",
            spread,
            0.5,
            assumption="none",
            why="spread of the islands' means, in sds, worst coordinate",
            floor=expected,
        ),
        Statement.of(
            "lost ancestry",
            1.0 / float(up.ancestors.min()),
            0.5,
            assumption="none",
            why=f"at least {up.ancestors.min()} ancestors at the reference in every island",
            needed=False,
        ),
        Statement(
            "modes",
            math.nan,
            math.nan,
            math.nan,
            REACHED,
            "no draws tell of a mode that was never met",
            None,
            needed=False,
        ),
    )
    return Certificate(statements, mean, sd, evidence.kl)


def island_errors(
    draws: np.ndarray, log_weights: np.ndarray, chains: int = 1, confidence: float = CONFIDENCE
) -> tuple[float, float, float, float]:
    """(mean, sd, spread, expected) of draws (island, n, d) whose islands have weights exp(.) (G,).

    `mean`, `sd`: bounds on the two errors of a certificate for the plain averages over all draws,
    by Student's t over islands with Bonferroni's correction over the 2 d of them, plus by how much
    the islands' weights would move them. `spread`: the largest standard deviation of the islands'
    means, in sds; `expected`: what independent draws would make of it.

    `chains`: of an island, of n / chains draws side by side. Their ancestors are drawn
    systematically: each island has nearly the same number in a mode, and the rare ones with one
    chain more or less, which are the error, may all be missing. So the spread of islands counts as
    no smaller than that of as many chains which had been drawn each by itself.
    """
    islands, n, d = draws.shape
    draws = np.asarray(draws, float)
    centre = draws.mean(axis=(0, 1))
    sd = draws.std(axis=(0, 1))
    scale = np.where(sd > 0, sd, np.nan)
    each = ((draws - centre) / scale).reshape(islands, chains, -1, d)
    # sd^2 is a mean of squares, so half its relative error is the error of the sd.
    means, squares = each.mean(axis=2), 0.5 * (each**2).mean(axis=2)
    shares = np.exp(log_weights - log_weights.max())
    shares /= shares.sum()
    quantile = float(stats.t.ppf(1.0 - (1.0 - confidence) / (4.0 * d), islands - 1))

    def bound(values: np.ndarray) -> float:
        own = values.mean(axis=1)
        alone = values.reshape(-1, d).std(axis=0, ddof=1) / math.sqrt(chains)
        error = quantile * np.maximum(own.std(axis=0, ddof=1), alone) / math.sqrt(islands)
        shift = np.abs(shares @ own - own.mean(axis=0))
        worst = np.max(error + shift)
        return float(worst) if np.isfinite(worst) else math.inf

    spread = float(np.max(means.mean(axis=1).std(axis=0, ddof=1)))
    return bound(means), bound(squares), spread, 1.0 / math.sqrt(n)


def ledger(found: Annealed) -> Ledger:
    """The ledger of the way up: an entry for each level, the clock being the share of the target.

    `work`: of the switches, on average over particles; `dissipated`: the heat of the moves at each
    level; `functional` counts their kinetic energy. What resampling changes of the mean energy
    stands in `closure`.
    """
    up, protocol = found.up, found.protocol
    levels = len(protocol.shares)
    gaps: list[Any] = up.gaps
    work = np.zeros(levels)
    heat = np.zeros(levels)
    value = np.zeros(levels)
    error = np.zeros(levels)
    rate = np.zeros(levels)
    for k, run in enumerate(up.ledgers, start=1):
        width = protocol.shares[k] - protocol.shares[k - 1]
        switched = gaps[k - 1][np.isfinite(gaps[k - 1])]
        work[k] = work[k - 1] + width * float(switched.mean())
        heat[k] = heat[k - 1] + float(run.dissipated[-1])
        value[k], error[k] = float(run.functional[-1]), float(run.functional_error[-1])
        rate[k] = float(run.dissipation_rate[-1])
    value[0] = float(up.ledgers[0].functional[0]) - work[1] if levels > 1 else 0.0
    acceptance = np.concatenate([[0.0], up.acceptance])
    return Ledger(
        times=np.asarray(protocol.shares),
        functional=value,
        functional_error=error,
        dissipation_rate=rate,
        dissipated=heat,
        dissipated_error=np.zeros(levels),
        work=work,
        closure=value - value[0] - work + heat,
        closure_error=np.zeros(levels),
        conserved={},
        acceptance=acceptance,
    )
