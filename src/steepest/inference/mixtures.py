"""Mixtures of Gaussians: the free energy under Wasserstein() + FisherRao() (eq. 54, 62).

Components move, each along its own Bures geometry, while their weights follow the replicator
equation. Modes are searched from starts further and further out; each begins as one Gaussian by its
curvature, split into several with the same moments, weighted by Laplace's evidence.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..flow import Flow
from ..functionals import FreeEnergy
from ..geometries import FisherRao, Wasserstein
from ..states import Gaussian, GaussianMixture, QuasiMonteCarlo
from .answer import Answer, Budget
from .descent import descend
from .fitted import CERTIFICATE, weighted_answer
from .frame import Frame
from .laplace import find_mode, mode_from
from .proposal import generator
from .stopwatch import Stopwatch
from .target import Target
from .variational import FIT_SHARE, STRUCTURED_NODES, descent_statement

COMPONENTS, STARTS = 6, 6
SEARCH_SHARE = 0.2


def mixture(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """The best mixture of Gaussians near those of the modes that were found."""
    with Stopwatch() as tuning:
        mode = find_mode(target, int(0.2 * budget.gradients), 0.1 * budget.tolerance)
        frame, spent = mode.frame, mode.gradients
        parts, searched = _modes(frame, int(SEARCH_SHARE * budget.gradients), key)
        spent += searched
        law = _split(parts, frame.centre.dtype)
    with Stopwatch() as watch:
        room = min(int(FIT_SHARE * budget.gradients), budget.gradients - spent - CERTIFICATE)
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
        notes=(f"{len(parts)} modes were found",),
    )


Part = tuple[float, np.ndarray, np.ndarray]
"""Log weight, mean (d,) and lower factor (d, d), in the frame's coordinates."""


def _modes(frame: Frame, budget: int, key: jax.Array) -> tuple[list[Part], int]:
    """The strict minima of E that Newton's flow finds, and the gradients spent."""
    d = frame.dimension
    root, centre = np.asarray(frame.root, float), np.asarray(frame.centre, float)
    energy = float(_energy(frame, jnp.asarray(np.zeros(d), frame.centre.dtype)))
    parts: list[Part] = [(-energy, np.zeros(d), np.eye(d))]
    rng, spent = generator(key, 3), 1
    for reach in np.geomspace(2.0, 24.0, STARTS):
        start = centre + root @ (reach / math.sqrt(d) * rng.standard_normal(d) * _widening(d))
        room = min(budget - spent, budget // STARTS)
        found = mode_from(frame.target, jnp.asarray(start, frame.centre.dtype), room)
        spent += found.gradients
        if found.precision is None:
            continue
        mean = np.linalg.solve(root, np.asarray(found.point, float) - centre)
        own = Frame.from_precision(frame.target, found.point, found.precision)
        lower = np.tril(np.linalg.solve(root, np.asarray(own.root, float)))
        near = [np.linalg.norm(np.linalg.solve(other, mean - m)) for _, m, other in parts]
        if min(near) > 1.0:
            volume = float(np.sum(np.log(np.diagonal(lower))))
            parts.append((-found.value + volume, mean, lower))
    return parts, spent


def _widening(d: int) -> float:
    """A draw has length about `reach` standard deviations in each of few coordinates."""
    return math.sqrt(min(d, 4))


@eqx.filter_jit
def _energy(frame: Any, y: jax.Array) -> jax.Array:
    return frame(y)


def _split(parts: list[Part], dtype: Any) -> GaussianMixture:
    """Each part in equally many components, with its moments."""
    top = max(log for log, _, _ in parts)
    parts = [part for part in parts if part[0] > top - 12.0]
    each = max(1, COMPONENTS // len(parts))
    logs, means, scales = [], [], []
    for log, mean, lower in parts:
        one = GaussianMixture.from_gaussian(
            Gaussian(jnp.asarray(mean, dtype), jnp.asarray(np.tril(lower), dtype)), each
        )
        logs.append(np.full(each, log - top - math.log(each)))
        means.append(np.asarray(one.means))
        scales.append(np.tril(np.asarray(one.scales)))
    joined = (np.concatenate(column) for column in (logs, means, scales))
    return GaussianMixture(*(jnp.asarray(column, dtype) for column in joined))
