"""Flat and Riemannian geometries of parameters (eq. 33, 38-40)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from .base import AbstractGeometry


class Euclidean(AbstractGeometry):
    """K = 1: the gradient is the differential (eq. 33, 64)."""

    def sharp(self, state, covector):
        return covector

    def sqrt(self, state, white):
        return white[0]

    def length_sq(self, state, tangent):
        return tree.norm_sq(tangent)

    def log_volume(self, state):
        return jnp.zeros((), tree.dtype(state))

    def check(self, state):
        for leaf in jax.tree.leaves(state):
            if not hasattr(leaf, "dtype"):
                raise ArgumentError("state", type(leaf).__name__, "a pytree of float arrays")

    @property
    def constant(self):
        return True


class Riemannian(AbstractGeometry):
    """K(theta) = G(theta)^{-1} for a metric G (eq. 38-41).

    `metric`: theta -> symmetric positive definite matrix (d, d) over the raveled parameters, or a
    lineax operator, solved by what its structure and tags allow (diagonal, tridiagonal, Cholesky).
    The noise is G^{-1/2} and the drift gains temperature * div G^{-1}, so that exp(-E/temperature)
    dtheta, with respect to Lebesgue measure in the coordinates, stays exact.
    """

    metric: Callable[[Any], Any]

    def __check_init__(self):
        if not callable(self.metric):
            raise ArgumentError(
                "metric", type(self.metric).__name__, "a function theta -> matrix or operator"
            )

    def _factor(self, state: Any) -> Float[Array, "d d"]:
        """The Cholesky factor L of G = L L^T."""
        matrix = self.metric(state)
        if isinstance(matrix, lx.AbstractLinearOperator):
            matrix = matrix.as_matrix()
        return jnp.linalg.cholesky(matrix.astype(tree.dtype(state)))

    def sharp(self, state, covector):
        flat, unravel = ravel_pytree(covector)
        matrix = self.metric(state)
        if isinstance(matrix, lx.AbstractLinearOperator):
            solver = lx.AutoLinearSolver(well_posed=True)
            vector = flat.astype(matrix.out_structure().dtype)
            return unravel(lx.linear_solve(matrix, vector, solver).value.astype(flat.dtype))
        lower = jnp.linalg.cholesky(matrix.astype(flat.dtype))
        return unravel(jax.scipy.linalg.cho_solve((lower, True), flat))

    def sqrt(self, state, white):
        flat, unravel = ravel_pytree(white[0])
        lower = self._factor(state)
        return unravel(jax.scipy.linalg.solve_triangular(lower, flat, trans=1, lower=True))

    def divergence(self, state):
        flat, unravel = ravel_pytree(state)

        def inverse(x: Array) -> Array:
            lower = self._factor(unravel(x))
            return jax.scipy.linalg.cho_solve((lower, True), jnp.eye(x.size, dtype=x.dtype))

        return unravel(jnp.einsum("ijj->i", jax.jacfwd(inverse)(flat)))

    def length_sq(self, state, tangent):
        flat, _ = ravel_pytree(tangent)
        return jnp.sum((self._factor(state).T @ flat) ** 2)

    def log_volume(self, state):
        return -jnp.sum(jnp.log(jnp.diagonal(self._factor(state))))

    def check(self, state):
        matrix = _evaluated(self.metric, state)
        d = tree.size(state)
        if isinstance(matrix, lx.AbstractLinearOperator):
            if matrix.in_size() != d or matrix.out_size() != d:
                raise ArgumentError(
                    "metric", f"an operator of size {matrix.in_size()}", f"expected {d}"
                )
            matrix = matrix.as_matrix()
        matrix = jnp.asarray(matrix)
        if matrix.shape != (d, d):
            raise ArgumentError("metric", f"shape {matrix.shape}", f"expected ({d}, {d})")
        if isinstance(matrix, Tracer):
            return
        matrix = np.asarray(matrix)
        asymmetry = float(np.max(np.abs(matrix - matrix.T)))
        size = float(np.max(np.abs(matrix)))
        if not asymmetry <= 100 * np.finfo(matrix.dtype).eps * size:
            raise ArgumentError(
                "metric",
                f"a matrix with asymmetry {asymmetry:.2e} at the initial state",
                "a metric is symmetric",
            )
        # Scaled to a diagonal of one: the sign is the same, and units do not hide it in rounding.
        units = np.sqrt(np.maximum(np.diagonal(matrix), np.finfo(matrix.dtype).tiny))
        lowest = float(np.linalg.eigvalsh(matrix / units[:, None] / units)[0])
        if not lowest > 0:
            raise ArgumentError(
                "metric",
                f"smallest eigenvalue {lowest:.2e} at the initial state",
                "a metric is positive definite; add a multiple of the identity",
            )


@eqx.filter_jit
def _evaluated(metric: Any, state: Any) -> Any:
    """One program: operation by operation a metric would compile each of its operations."""
    return metric(state)
