"""Gaussian variational inference by natural gradient from a few random draws a step.

The estimate's noise vanishes where the law is exact (see `SampledFreeEnergy`); elsewhere a constant
step leaves the law fluctuating about its optimum, and the average of the second half of the run, in
the natural parameters, is the answer.
Source: Polyak and Juditsky, SIAM J. Control Optim. 30 (1992) 838.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..driver import solve
from ..flow import Flow
from ..functionals import SampledFreeEnergy
from ..geometries import FisherRao
from ..noise import Minibatch
from ..schemes import Euler
from ..states import Cubature, Gaussian
from .answer import Answer, Budget
from .fitted import fit_budget, weighted_answer
from .modes import SHARE, search
from .newton import find_mode
from .stopwatch import Stopwatch
from .target import Target
from .variational import start

STEP, SAVES = 0.2, 32
LEAST_STEPS = 32


def stochastic_natural_gradient(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """The best Gaussian, by natural gradient steps from fresh draws."""
    with Stopwatch() as tuning:
        mode = find_mode(target, int(0.3 * budget.gradients), 0.1 * budget.tolerance)
        frame, law = start(mode, "full")
        others = search(frame, int(SHARE * budget.gradients), key)
    spent = mode.gradients + others.gradients
    d = frame.dimension
    structured = frame.expect_gaussian is not None
    nodes = 20 if structured else 2 * d  # what a line of the ledger costs
    room = fit_budget(budget, spent, frame.dimension)
    room -= (SAVES + 1) * nodes
    count = 2 * math.ceil(d / 2)
    steps = room // count // SAVES * SAVES
    ledger, notes = None, ()
    with Stopwatch() as watch:
        if steps >= LEAST_STEPS:
            most = 8 * SAVES
            if steps > most:  # rather more draws a step than more steps
                count, steps = 2 * (room // most // 2), most
            flow = Flow(SampledFreeEnergy(frame, 1.0, count), FisherRao(), Minibatch())
            law = Gaussian(law.mean, law.scale, Cubature(3))
            run = solve(
                flow, law, scheme=Euler(STEP), steps=steps, save_every=steps // SAVES, key=key
            )
            law = averaged(run.states, SAVES // 2, law)
            ledger, spent = run.ledger, spent + steps * count + (SAVES + 1) * nodes
        else:
            notes = ("the budget is too small for stochastic steps: the law is Laplace's",)
    return weighted_answer(
        "stochastic-natural-gradient",
        frame,
        law,
        budget,
        key,
        spent=spent,
        seconds={
            "compile": tuning.compile + watch.compile,
            "tune": tuning.run,
            "run": watch.run,
        },
        ledger=ledger,
        statements=(others.statement(),),
        notes=notes,
    )


def averaged(states: Any, last: int, like: Gaussian) -> Gaussian:
    """The Gaussian whose precision P and P m are the means of those of the last saves."""
    means = np.asarray(states.mean, float)[-last:]
    roots = np.linalg.inv(np.asarray(states.scale, float)[-last:])
    precisions = roots.transpose(0, 2, 1) @ roots
    precision = precisions.mean(axis=0)
    mean = np.linalg.solve(precision, np.mean(np.einsum("sij,sj->si", precisions, means), axis=0))
    lower = np.linalg.cholesky(np.linalg.inv(precision))
    dtype = like.mean.dtype
    return Gaussian(jnp.asarray(mean, dtype), jnp.asarray(lower, dtype))
