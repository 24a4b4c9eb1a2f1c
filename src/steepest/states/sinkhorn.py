"""W2 between two laws on one grid of two or three axes, by ott-jax.

The Sinkhorn divergence W_e(a, b) - (W_e(a, a) + W_e(b, b))/2 of entropic transport with the squared
distance for a cost: exact for translations, else W2^2 with an error of order e^2 for smooth laws.
On a grid the kernel is a product over the axes, so an iteration costs cells times the sum of the
axes' lengths. Source: Chizat et al., NeurIPS 2020 (the order in e).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from ..errors import ArgumentError, NotConverged
from .grid import Grid

THRESHOLD, MOST_ITERATIONS = 1e-6, 20_000
NEXT_TO_NOTHING = 1e-12
"""The mass spread over all cells: ott-jax 0.6 misses the value, by percents, beside empty ones."""


def divergence(
    grid: Grid, a: Float[Array, "..."], b: Float[Array, "..."], blur: Any
) -> Float[Array, ""]:
    """The divergence of two arrays of masses at e = 2 blur^2, about W2^2.

    Raises NotConverged, ArgumentError without ott-jax; NaN instead of NotConverged when traced.
    """
    try:
        from ott.geometry.grid import Grid as Lattice
        from ott.problems.linear.linear_problem import LinearProblem
        from ott.solvers.linear.sinkhorn import Sinkhorn
    except ImportError as error:
        remedy = 'pip install "steepest[transport]"'
        raise ArgumentError("other", "two axes or more need ott-jax", remedy) from error
    lattice = Lattice(x=[jnp.asarray(x, a.dtype) for x in grid.axes], epsilon=2.0 * blur**2)
    solver = Sinkhorn(threshold=THRESHOLD, max_iterations=MOST_ITERATIONS)
    a, b = ((x + NEXT_TO_NOTHING / x.size) / (jnp.sum(x) + NEXT_TO_NOTHING) for x in (a, b))

    def one(pair: Any) -> tuple[Any, Any]:
        found = solver(LinearProblem(lattice, pair[0].reshape(-1), pair[1].reshape(-1)))
        return jnp.asarray(found.ent_reg_cost, a.dtype), ~jnp.asarray(found.converged)

    # In turn, so that the solver is compiled once.
    values, late = jax.lax.map(one, (jnp.stack([a, a, b]), jnp.stack([b, a, b])))
    value, missed = values[0] - 0.5 * (values[1] + values[2]), jnp.any(late)
    if not isinstance(missed, Tracer) and bool(missed):
        raise NotConverged(
            f"Sinkhorn's iteration missed {THRESHOLD:g} in {MOST_ITERATIONS} turns; raise blur"
        )
    return jnp.where(missed, jnp.nan, value)
