"""JKO of a potential alone: each point x of rho_k moves to argmin |y - x|^2/(2 step) + V(y).

Without entropy and internal energy the step is the proximal map of V, point by point, and the new
law is its image. An image y between cell centres is shared out among them with multilinear weights
w_i(y): mass and sign are kept. V is then seen through its interpolation, so a move is kept only
where sum_i w_i V(x_i) + |y - x|^2/(2 step) <= V(x): De Giorgi's inequality holds on the grid.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...states import Density
from .problem import Movement, Problem


def minimise(problem: Problem, potential: Any) -> Movement:
    """By Newton's method in every cell; walls stop what would leave the box of cell centres."""
    state: Density = problem.state
    grid, dtype = state.grid, state.values.dtype
    clock = jnp.asarray(problem.clock(), dtype)
    tolerance = problem.accuracy()
    axes = [jnp.asarray(axis, dtype) for axis in grid.axes]
    low, high = (jnp.stack([axis[end] for axis in axes]) for end in (0, -1))
    gradient, hessian = jax.grad(potential), jax.hessian(potential)
    unit = jnp.eye(grid.dimension, dtype=dtype)

    def slack(x: Any, y: Any) -> Any:
        """The gradient of the cell's objective, without what a wall holds."""
        pull = (y - x) / clock + gradient(y)
        held = ((y <= low) & (pull > 0)) | ((y >= high) & (pull < 0))
        return jnp.where(held, 0.0, pull)

    def move(x: Any) -> Any:
        def closer(y: Any, _: Any) -> Any:
            values, vectors = jnp.linalg.eigh(unit / clock + hessian(y))
            pull = vectors.T @ slack(x, y)
            # A curvature that is not positive is replaced by that of the distance.
            step = vectors @ (pull / jnp.where(values > 0.1 / clock, values, 1.0 / clock))
            return jnp.clip(y - step, low, high), None

        return jax.lax.scan(closer, x, None, length=min(problem.max_iterations, 50))[0]

    points = grid.points().astype(dtype).reshape(-1, grid.dimension)
    here = jax.vmap(potential)(points)
    images = jax.vmap(move)(points)
    cells, weights = _shares(grid, (images - low) / jnp.asarray(grid.spacing, dtype))
    lengths = 0.5 * jnp.sum((images - points) ** 2, -1) / clock
    lower = jnp.sum(weights * here[cells], -1) + lengths <= here
    masses = state.masses.reshape(-1)
    moved, stayed = jnp.where(lower, masses, 0.0), jnp.where(lower, 0.0, masses)
    new = stayed.at[cells].add(moved[:, None] * weights).reshape(grid.shape)
    law = state.tangent(new / (jnp.sum(new) * grid.cell_volume))
    cost = jnp.sum(moved * lengths)
    rest = jnp.sum(jax.vmap(slack)(points, images) ** 2, -1)
    scale = 1.0 + jnp.sqrt(jnp.sum(masses * jnp.sum(jax.vmap(gradient)(points) ** 2, -1)))
    residual = jnp.sqrt(jnp.sum(moved * rest)) / (tolerance * scale)
    drop = problem.functional(state) - problem.functional(law)
    return Movement(law, cost - drop, residual, drop)


def _shares(grid: Any, place: Any) -> tuple[Any, Any]:
    """Flat cells around positions in units of cells, shape (n, 2^d), and their weights."""
    shape = jnp.asarray(grid.shape)
    cell = jnp.clip(place.astype(jnp.int32), 0, shape - 2)
    share = place - cell
    corners = np.array(list(np.ndindex(*(2,) * grid.dimension)))
    strides = np.array([int(np.prod(grid.shape[a + 1 :])) for a in range(grid.dimension)])
    cells = (cell @ strides)[:, None] + corners @ strides
    weights = jnp.prod(jnp.where(corners == 1, share[:, None], 1.0 - share[:, None]), -1)
    return cells, weights
