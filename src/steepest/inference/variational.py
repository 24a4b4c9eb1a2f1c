"""Gaussian variational inference: flows of the free energy <E> - S on Gaussians (eq. 56, 62).

    name                            family              geometry        step
    natural-gradient                full covariance     FisherRao()     Euler in natural parameters
    natural-gradient-diagonal       diagonal            FisherRao()     the same
    natural-gradient-low-rank       diagonal + rank r   FisherRao()     Euler
    bures                           full covariance     Wasserstein()   forward-backward
    euclidean                       full covariance     Parametric()    Euler on (m, L)

All start from the Gaussian at the mode (from a unit one at the start, where there is no mode), in
coordinates whitened by it, with steps that are halved until F falls. Expectations are the energy's
own where it has them, and by quasi-Monte-Carlo otherwise.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from ..flow import Flow
from ..functionals import FreeEnergy
from ..geometries import FisherRao, Parametric, Wasserstein
from ..geometries.base import AbstractGeometry
from ..states import Cubature, Gaussian, LowRank, QuasiMonteCarlo
from ..states.quadrature import Rule
from .answer import Answer, Budget
from .certificate import Statement
from .checks import decrement
from .descent import Descent, descend
from .fitted import fit_budget, weighted_answer
from .frame import Frame
from .importance import CHUNK, weigh
from .modes import SHARE, search
from .newton import Mode, find_mode
from .stopwatch import Stopwatch
from .target import Target

STRUCTURED_NODES = 20
TYPICAL_STEPS, FINE_STEPS, MOST_NODES = 12, 4, 2048
RANK = 5


def natural_gradient(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """The best Gaussian, by natural gradient: FisherRao() on full covariances."""
    return _answer("natural-gradient", target, budget, key, FisherRao())


def natural_gradient_diagonal(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """The best Gaussian without correlations (mean field), by natural gradient."""
    return _answer("natural-gradient-diagonal", target, budget, key, FisherRao(), "diagonal")


def natural_gradient_low_rank(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """The best Gaussian with covariance diagonal + rank 5, by natural gradient."""
    return _answer("natural-gradient-low-rank", target, budget, key, FisherRao(), "low-rank")


def bures(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """The best Gaussian, along the Bures-Wasserstein geometry: forward-backward steps."""
    return _answer("bures", target, budget, key, Wasserstein())


def euclidean(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """The best Gaussian, by plain gradient steps on its mean and Cholesky factor."""
    return _answer("euclidean", target, budget, key, Parametric())


def _answer(
    name: str,
    target: Target,
    budget: Budget,
    key: jax.Array,
    geometry: AbstractGeometry,
    family: str = "full",
) -> Answer:
    with Stopwatch() as tuning:
        mode = find_mode(target, int(0.3 * budget.gradients), 0.1 * budget.tolerance)
        others = search(mode.frame, int(SHARE * budget.gradients), key)
        frame, law = start(mode, family)
        spent = mode.gradients + others.gradients
    with Stopwatch() as watch:
        run = fit(frame, law, geometry, budget, spent, jax.random.fold_in(key, 1))
    seconds = {
        "compile": tuning.compile + watch.compile,
        "tune": tuning.run,
        "run": watch.run,
    }
    return weighted_answer(
        name,
        frame,
        run.state,
        budget,
        key,
        spent=spent + run.gradients,
        seconds=seconds,
        ledger=run.ledger,
        statements=(descent_statement(run, budget.tolerance), others.statement()),
        optimum=None if family == "low-rank" else family,
    )


def start(mode: Mode, family: str) -> tuple[Frame, Gaussian]:
    """The frame and the law in it that a fit of a family ("full", ...) begins with."""
    frame = mode.frame
    d, dtype = frame.dimension, frame.centre.dtype
    zero = jnp.asarray(np.zeros(d), dtype)
    if family == "full":
        return frame, Gaussian(zero, jnp.asarray(np.eye(d), dtype))
    root = np.asarray(frame.root, float)
    covariance = root @ root.T
    # Conditional deviations: those of the best Gaussian without correlations.
    scales = 1.0 / np.sqrt(np.diagonal(np.linalg.inv(covariance)))
    frame = Frame.of_scales(frame.target, frame.centre, scales)
    if family == "diagonal":
        return frame, Gaussian(zero, jnp.asarray(np.ones(d), dtype))
    factor, diagonal = principal_factors(covariance / np.outer(scales, scales), min(RANK, d - 1))
    low_rank = LowRank(jnp.asarray(factor, dtype), jnp.asarray(diagonal, dtype))
    return frame, Gaussian(zero, low_rank)


def principal_factors(
    covariance: np.ndarray, rank: int, iterations: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """U (d, rank) and D (d,) with covariance ~ U U^T + diag(D^2), by iterated principal factors.

    Source: Lawley and Maxwell, Factor Analysis as a Statistical Method, 1971.
    """
    total = np.diagonal(covariance)
    d2 = 1.0 / np.diagonal(np.linalg.inv(covariance))
    factor = np.zeros((len(covariance), rank))
    for _ in range(iterations):
        size = np.sqrt(d2)
        values, vectors = np.linalg.eigh(covariance / np.outer(size, size))
        top = np.sqrt(np.maximum(values[-rank:] - 1.0, 1e-6)) if rank else np.zeros(0)
        factor = size[:, None] * vectors[:, len(values) - rank :] * top
        d2 = np.maximum(total - np.sum(factor**2, axis=1), 1e-3 * total)
    return factor, np.sqrt(d2)


def fit(
    frame: Frame,
    law: Gaussian,
    geometry: AbstractGeometry,
    budget: Budget,
    spent: int,
    key: jax.Array,
) -> Descent:
    """The flow of the free energy from `law`, until a tenth of the tolerance is left to gain.

    Without structure first by a rule of few nodes; if draws then show that more than half of the
    tolerance could be gained, by one of many.
    """
    flow = Flow(FreeEnergy(frame), geometry)
    room = fit_budget(budget, spent, frame.dimension)
    if frame.expect_gaussian is not None:
        n = STRUCTURED_NODES
        return descend(flow, law, cost=n, trial=n, budget=room, remaining=0.1 * budget.tolerance)
    latent = law.factor.latent
    few = max(64, 2 ** math.ceil(math.log2(4 * latent)))
    rule: Rule = QuasiMonteCarlo(few)
    if room < TYPICAL_STEPS * few:
        few, rule = 2 * latent, Cubature(3)
    law = Gaussian(law.mean, law.scale, rule)
    coarse = descend(flow, law, cost=few, trial=few, budget=room, remaining=0.25 * budget.tolerance)
    room -= coarse.gradients + CHUNK
    many = 2 ** int(math.log2(max(room / FINE_STEPS, 1.0)))
    many = min(many, MOST_NODES)
    if many <= 2 * few:
        return coarse
    value, error = decrement(
        weigh(frame, coarse.state, key, CHUNK), getattr(law.scale, "ndim", 2) == 1
    )
    if value + 1.645 * error <= 0.5 * budget.tolerance and coarse.converged:
        return dataclasses.replace(coarse, gradients=coarse.gradients + CHUNK)
    law = Gaussian(coarse.state.mean, coarse.state.scale, QuasiMonteCarlo(many))
    fine = descend(
        flow,
        law,
        cost=many,
        trial=many,
        budget=room,
        remaining=0.1 * budget.tolerance,
        halvings=2,
    )
    return fine.after(coarse, CHUNK)


def descent_statement(run: Descent, tolerance: float, needed: bool = True) -> Statement:
    """Whether the fit stopped by itself."""
    return Statement.of(
        "fit",
        run.remaining,
        tolerance,
        assumption="the quadrature of the fit, and F quadratic over the last step",
        why=f"nats that the fit can still gain; it ended after {run.steps} steps: {run.why}",
        needed=needed,
    )
