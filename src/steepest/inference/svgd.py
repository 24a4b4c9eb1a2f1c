"""Stein variational gradient descent: the flow of the free energy under Stein() on particles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ..driver import solve
from ..flow import Flow
from ..functionals import FreeEnergy, SteinDiscrepancy
from ..geometries import Stein
from ..schemes import Euler
from ..states import Gaussian, Particles
from .answer import Answer, Budget
from .certificate import Statement
from .fitted import fit_budget, weighted_answer
from .frame import Frame
from .importance import place
from .modes import SHARE, search
from .newton import find_mode
from .proposal import generator
from .stopwatch import Stopwatch
from .target import Target

COUNT, STEPS, SAVES, STEP = 100, 256, 8, 0.5


def svgd(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """Particles that repel one another through a kernel; judged by weighted draws.

    In coordinates whitened at the mode. The weights are those of the Gaussian with the particles'
    mean and covariance; the answer is the particles themselves.
    """
    with Stopwatch() as tuning:
        mode = find_mode(target, int(0.3 * budget.gradients), 0.1 * budget.tolerance)
        others = search(mode.frame, int(SHARE * budget.gradients), key)
    frame, spent = mode.frame, mode.gradients + others.gradients
    d, dtype = frame.dimension, frame.centre.dtype
    room = fit_budget(budget, spent, frame.dimension)
    count = max(COUNT, 2 * d)
    steps = min(max(room - (SAVES + 2) * count, 0) // count, STEPS) // SAVES * SAVES
    x = jnp.asarray(generator(key, 2).standard_normal((count, d)), dtype)
    cloud, ledger = Particles.from_positions(x), None
    statements = (others.statement(),)
    with Stopwatch() as watch:
        if steps > 0:
            run = solve(
                Flow(FreeEnergy(frame), Stein()),
                cloud,
                scheme=Euler(STEP),
                steps=steps,
                save_every=steps // SAVES,
                key=key,
            )
            cloud, ledger = run.final, run.ledger
            spent += (steps + SAVES + 2) * count
            statements = (*statements, _discrepancy(frame, cloud))
    points = np.asarray(cloud.flat(), float)
    covariance = np.cov(points.T).reshape(d, d)
    law = Gaussian(
        jnp.asarray(points.mean(axis=0), dtype), jnp.asarray(np.linalg.cholesky(covariance), dtype)
    )
    return weighted_answer(
        "svgd",
        frame,
        law,
        budget,
        key,
        spent=spent,
        seconds={"compile": tuning.compile + watch.compile, "tune": tuning.run, "run": watch.run},
        ledger=ledger,
        statements=statements,
        optimum=None,
        draws=place(frame, points)[None],
    )


def _discrepancy(frame: Frame, cloud: Particles) -> Statement:
    """KSD^2 of the particles, in whitened coordinates."""
    found = SteinDiscrepancy(frame).measure(cloud)
    null = float(found.null)
    return Statement.of(
        "Stein discrepancy",
        float(found.value),
        3.0 * null,
        floor=null,
        assumption="the kernel meets every difference from the target; fails in many dimensions",
        why="KSD^2 of the particles, against three times what independent draws would show",
        needed=False,
    )
