"""From a fitted law to an answer: draws by importance weights, and the certificate."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from ..ledger import Ledger
from .answer import Answer, Budget
from .certificate import Certificate, Statement
from .checks import (
    ENOUGH,
    GRADIENT_COST,
    WEIGHTS,
    gradient_statement,
    optimum_statement,
    projection_statement,
    score_gap,
    weight_statements,
)
from .convexity import convexity_bound
from .frame import Frame
from .importance import CHUNK, MOST_DRAWS, Weighted, bounds, place, resample, weigh
from .proposal import Proposal, generator
from .stopwatch import Stopwatch
from .tails import MOMENTS, allowance, moments_statement


def least_draws(d: int) -> int:
    """The fewest weighted draws that bounds rest on: 4,000, and 100 for every coordinate."""
    return CHUNK * math.ceil(max(4_000, 100 * d) / CHUNK)


def certificate_cost(d: int) -> int:
    """The fewest gradients that a certificate takes."""
    return least_draws(d) + GRADIENT_COST


def fit_budget(budget: Budget, spent: int, d: int) -> int:
    """What a fit may spend: 40 % of the budget, and what a certificate leaves at most."""
    return min(int(0.4 * budget.gradients), budget.gradients - spent - certificate_cost(d))


def affordable(budget: Budget, spent: int) -> int:
    """How many weighted draws the rest of the budget pays for."""
    left = budget.gradients - spent - GRADIENT_COST
    return max(0, min(MOST_DRAWS, left // CHUNK * CHUNK))


def weighted_answer(
    method: str,
    frame: Frame,
    law: Any,
    budget: Budget,
    key: jax.Array,
    *,
    spent: int,
    seconds: dict[str, float],
    ledger: Ledger | None,
    statements: tuple[Statement, ...] = (),
    optimum: str | None = "full",
    draws: np.ndarray | None = None,
    notes: tuple[str, ...] = (),
) -> Answer:
    """The answer that a law of the frame's coordinates gives.

    `optimum`: "full" or "diagonal", of which Gaussian family the law claims to be the best; None
    where it makes no such claim. `draws`: the method's own (chain, save, d), which are then judged
    by the weighted ones instead of being replaced by them.
    """
    target = frame.target
    n = affordable(budget, spent)
    enough = Statement.of(
        "budget",
        spent + certificate_cost(frame.dimension),
        budget.gradients,
        assumption="",
        why="gradients: those spent on the fit, and the least that a certificate takes",
    )
    if n < least_draws(frame.dimension):
        if draws is None:
            proposal = Proposal.of(law, frame.root)
            draws = _unweighted(frame, proposal, generator(key, 1))
        certificate = Certificate((*statements, enough))
        return Answer(
            method,
            target,
            draws,
            certificate,
            spent,
            seconds,
            law=frame.law(law),
            ledger=ledger,
            notes=(*notes, "the budget is too small for a certificate"),
        )
    with Stopwatch() as watch:
        weighted = weigh(frame, law, key, n)
        spent += n + GRADIENT_COST
        found = [*statements, enough, gradient_statement(frame, weighted)]
        if len(weighted.proposal.weights) == 1:
            if optimum is not None:
                found.append(optimum_statement(weighted, budget.tolerance, optimum == "diagonal"))
            found.append(projection_statement(weighted))
        found.extend(weight_statements(weighted))
        shapes = weighted.shapes()
        found.append(moments_statement(shapes, "weight times what a draw adds to the variance"))
        proven = convexity_bound(target, score_gap(weighted))
        if proven is not None:
            found.append(proven.statement)
        held = {s.name for s in found if s.held}
        # Where the terms of sds have a steep tail nothing is certified, but weights still correct.
        reliable = ENOUGH in held and (MOMENTS in held or WEIGHTS in held)
        own = draws is not None
        if draws is None:
            chosen = resample(weighted, key) if reliable else None
            draws = (
                chosen[None]
                if chosen is not None
                else _unweighted(frame, weighted.proposal, generator(key, 1))
            )
        mean = sd = math.nan
        if reliable:
            flat = draws.reshape(-1, draws.shape[-1]).astype(float)
            mean, sd = bounds(weighted, shapes, flat.mean(axis=0), flat.std(axis=0))
    seconds = dict(seconds)
    seconds["compile"] = seconds.get("compile", 0.0) + watch.compile
    seconds["weights"] = watch.run
    return Answer(
        method,
        target,
        draws,
        Certificate(tuple(found), mean, sd, math.nan if proven is None else proven.kl),
        spent,
        seconds,
        law=frame.law(law),
        free_energy=weighted.free_energy(),
        log_evidence=_evidence(weighted, {WEIGHTS, ENOUGH} <= held),
        ledger=ledger,
        independent=not own,
        notes=notes,
    )


def _evidence(weighted: Weighted, reliable: bool) -> tuple[float, float]:
    """log Z within 1.96 standard errors; from below alone, by the free energy, else."""
    if not reliable:
        value, error = weighted.free_energy()
        return -value - 1.645 * error, math.inf
    wide = 1.96 * allowance(weighted.k) * weighted.log_z_error
    return weighted.log_z - wide, weighted.log_z + wide


def _unweighted(frame: Frame, proposal: Proposal, rng: np.random.Generator) -> np.ndarray:
    """Draws of the law as it is."""
    y, component = proposal.draw(rng, 5 * CHUNK)
    return place(frame, y[component >= 0])[None]
