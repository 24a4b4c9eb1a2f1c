"""Mixtures of Gaussians: the free energy under Wasserstein() + FisherRao() (eq. 54, 62).

Components move, each along its own Bures geometry, while their weights follow the replicator
equation. Modes are searched from starts further and further out; each begins as one Gaussian by its
curvature, split into several with the same moments, weighted by Laplace's evidence.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..flow import Flow
from ..functionals import FreeEnergy
from ..geometries import FisherRao, Wasserstein
from ..states import Gaussian, GaussianMixture, QuasiMonteCarlo
from .answer import Answer, Budget
from .descent import descend
from .fitted import fit_budget, weighted_answer
from .modes import Part, search
from .newton import find_mode
from .stopwatch import Stopwatch
from .target import Target
from .variational import STRUCTURED_NODES, descent_statement

COMPONENTS = 6
SEARCH_SHARE = 0.2


def mixture(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """The best mixture of Gaussians near those of the modes that were found."""
    with Stopwatch() as tuning:
        mode = find_mode(target, int(0.2 * budget.gradients), 0.1 * budget.tolerance)
        frame, spent = mode.frame, mode.gradients
        found = search(frame, int(SEARCH_SHARE * budget.gradients), key)
        spent += found.gradients
        law = _split(found.weighty, frame.centre.dtype)
    with Stopwatch() as watch:
        room = fit_budget(budget, spent, frame.dimension)
        structured = frame.expect_gaussian is not None
        count = max(64, 2 ** math.ceil(math.log2(4 * frame.dimension)))
        nodes = law.count * (STRUCTURED_NODES if structured else count)
        law = GaussianMixture(law.log_weights, law.means, law.scales, QuasiMonteCarlo(count))
        run = descend(
            Flow(FreeEnergy(frame), Wasserstein() + FisherRao()),
            law,
            cost=nodes,
            trial=nodes,
            budget=room,
            remaining=0.1 * budget.tolerance,
        )
    fitted: Any = run.state
    return weighted_answer(
        "mixture",
        frame,
        fitted,
        budget,
        key,
        spent=spent + run.gradients,
        seconds={"compile": tuning.compile + watch.compile, "tune": tuning.run, "run": watch.run},
        ledger=run.ledger,
        statements=(descent_statement(run, budget.tolerance, needed=False),),
        optimum=None,
        notes=(f"{len(found.weighty)} modes were found",),
    )


def _split(parts: tuple[Part, ...], dtype: Any) -> GaussianMixture:
    """Each part in equally many components, with its moments."""
    top = max(part.log_mass for part in parts)
    each = max(1, COMPONENTS // len(parts))
    logs, means, scales = [], [], []
    for part in parts:
        one = GaussianMixture.from_gaussian(
            Gaussian(jnp.asarray(part.mean, dtype), jnp.asarray(part.lower, dtype)), each
        )
        logs.append(np.full(each, part.log_mass - top - math.log(each)))
        means.append(np.asarray(one.means))
        scales.append(np.tril(np.asarray(one.scales)))
    w, m, s = (jnp.asarray(np.concatenate(c), dtype) for c in (logs, means, scales))
    return GaussianMixture(w, m, s)
