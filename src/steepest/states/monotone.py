"""Laws on a line: cumulative masses, quantiles, and W2 between piecewise constant densities.

In one dimension the optimal map is monotone: it pairs equal quantiles (eq. 58).
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def wasserstein_squared(
    first: Float[Array, " n"], second: Float[Array, " n"], lower: float, spacing: float
) -> Float[Array, ""]:
    """W2^2 of two laws given by the masses of the same cells, uniform in each cell: exact.

    Both quantile functions are linear between the merged jumps of the cumulative masses, where
    integral (Q - R)^2 of a linear function is that of its ends.
    """
    a, b = (jnp.concatenate([jnp.zeros(1), jnp.cumsum(m) / jnp.sum(m)]) for m in (first, second))
    levels = jnp.sort(jnp.concatenate([a, b]))
    width = jnp.diff(levels)
    middle = 0.5 * (levels[1:] + levels[:-1])
    gaps = []
    for cumulative, masses in ((a, first / jnp.sum(first)), (b, second / jnp.sum(second))):
        cell = jnp.clip(jnp.searchsorted(cumulative, middle, side="right") - 1, 0, len(masses) - 1)
        share = masses[cell]
        inside = lambda level, c=cumulative, i=cell, m=share: jnp.where(  # noqa: E731
            m > 0, (level - c[i]) / jnp.where(m > 0, m, 1.0), 0.5
        )
        gaps.append(
            [
                lower + spacing * (cell + jnp.clip(inside(x), 0, 1))
                for x in (levels[:-1], levels[1:])
            ]
        )
    left, right = gaps[0][0] - gaps[1][0], gaps[0][1] - gaps[1][1]
    return jnp.sum(width * (left**2 + left * right + right**2)) / 3.0


def quantile_shift(
    masses: Float[Array, " n"], crossed: Float[Array, " m"], spacing: float
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Q(M_f + N_f) - x_f at the m = n - 1 inner faces, and its derivative in N_f.

    M_f is the mass left of face f and N_f = `crossed` what is added to it. In each cell the density
    is an exponential with the slope of its neighbours' logarithms (the smaller of both sides):
    positive, of order 2, and inverted in closed form. Sums start from the nearer end, so that the
    tails keep their relative accuracy.
    """
    n = masses.shape[0]
    left = jnp.concatenate([jnp.zeros(1, masses.dtype), jnp.cumsum(masses)])
    right = jnp.concatenate([jnp.cumsum(masses[::-1])[::-1], jnp.zeros(1, masses.dtype)])
    face = jnp.arange(1, n)
    low = left[face] + crossed
    high = right[face] - crossed
    from_left = jnp.clip(jnp.searchsorted(left, low, side="right") - 1, 0, n - 1)
    # `right` decreases: the cell whose mass above it exceeds what must stay above.
    from_right = jnp.clip(n - jnp.searchsorted(right[::-1], high, side="right"), 0, n - 1)
    near = left[face] < right[face]
    cell = jnp.where(near, from_left, from_right)
    share = jnp.maximum(masses[cell], jnp.finfo(masses.dtype).tiny)
    inside = jnp.where(near, (low - left[cell]) / share, 1.0 - (high - right[cell + 1]) / share)
    # Beyond the first or last cell the quantile stays at the wall.
    inside = jnp.clip(inside, 0.0, 1.0)
    steep = log_slopes(masses)[cell]
    flat = jnp.abs(steep) < 1e-5
    k = jnp.where(flat, 1.0, steep)
    grown = 1.0 + inside * jnp.expm1(k)
    place = jnp.where(flat, inside, jnp.log(grown) / k)
    rate = jnp.where(flat, 1.0, jnp.expm1(k) / (k * grown))
    return spacing * (cell + place - face), spacing * rate / share


def log_slopes(masses: Float[Array, " n"]) -> Float[Array, " n"]:
    """Change of log rho across each cell: the smaller of both sides, zero at an extremum."""
    logs = jnp.log(jnp.maximum(masses, jnp.finfo(masses.dtype).tiny))
    steps = jnp.diff(logs)
    back = jnp.concatenate([steps[:1] * 0.0, steps])
    ahead = jnp.concatenate([steps, steps[:1] * 0.0])
    # Harmonic mean where both agree in sign: smooth, and of order 2 in smooth regions.
    agree = back * ahead > 0
    return jnp.where(agree, 2.0 * back * ahead / jnp.where(agree, back + ahead, 1.0), 0.0)
