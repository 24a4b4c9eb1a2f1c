"""Does the mass concentrate below what a step resolves? (section 6.8: blow-up of aggregation)

One step's noise carries a particle over a length delta, |delta|^2 = 2 T d step. An interaction that
is resolved hardly changes along it, step |v(x + delta) - v(x)| < |delta|. Where that fails for a
quarter of the mass, attraction has won over noise: what the particles show there is the scheme's
own scale, and the law, if it has one, is a point mass.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..functionals import InteractionEnergy
from ..functionals.base import parts, unscaled
from ..kernels import pairs
from ..states.points import coordinates
from .context import Context
from .report import Check

SHARE, LOOKED_AT = 0.25, 512


def concentration_checks(context: Context) -> list[Check]:
    """The share of the mass on which one step does not resolve the interaction, at the end."""
    part = context.part
    if not (context.ensemble and context.single) or part.geometry.kinetic or context.adaptive:
        return []
    terms = [unscaled(term) for term in parts(part.functional)]
    terms = [(a, term) for a, term in terms if isinstance(term, InteractionEnergy)]
    if not terms or part.thermal is None or not context.flow.noisy:
        return []
    state, time = context.trajectory.final.turned(0), float(context.trajectory.times[-1])
    reach = float((2 * context.temperature(time) * context.step) ** 0.5)
    places = np.unique(np.linspace(0, state.count - 1, LOOKED_AT).astype(int))
    x, weights = coordinates(state), np.asarray(state.weights)[places]
    looked = x[places]
    delta = jnp.asarray(reach * np.random.default_rng(0).standard_normal(looked.shape), x.dtype)

    def pull(at: Any) -> Any:
        return sum(a * pairs.sums(term.on(state), at, x, state.weights)[1] for a, term in terms)

    change = np.asarray(pull(looked + delta) - pull(looked))
    unresolved = context.step * np.linalg.norm(change, axis=1) > np.linalg.norm(delta, axis=1)
    share = float(np.sum(weights * unresolved) / np.sum(weights))
    why = "the share of the mass whose interaction changes by more than the noise, over its reach"
    return [Check.compare("concentration", share, SHARE, why)]
