"""Brackets whose matrix depends on the state: Poisson (conserves) and Onsager (dissipates).

With an energy E and an entropy S, GENERIC is  dx/dt = L dE + M dS  where L dS = 0 and M dE = 0.
That is the flow of E - S under K = M - L:  -K (dE - dS) = L dE + M dS.
Source: Öttinger, Beyond Equilibrium Thermodynamics (2005); Morrison, Physica D 18 (1986) 410.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..functionals import AbstractFunctional
from ..functionals.discrete import discrete_gradient
from .base import AbstractGeometry


class _Bracket(AbstractGeometry):
    """A matrix (d, d) over the raveled state, which annihilates the differentials of `keeps`.

    `directions` (d, k), of a step: then the matrix acts between the complements of its columns.
    """

    matrix: Callable[[Any], Any]
    keeps: tuple[AbstractFunctional, ...] = ()
    directions: Float[Array, "d k"] | None = None

    def __check_init__(self):
        if not callable(self.matrix):
            given = type(self.matrix).__name__
            raise ArgumentError("matrix", given, "a function state -> (d, d) matrix")

    def _apply(self, state: Any, covector: Any, sign: float) -> Any:
        flat, unravel = ravel_pytree(covector)
        matrix = sign * jnp.asarray(self.matrix(state), flat.dtype)
        return unravel(self._complement(matrix @ self._complement(flat)))

    def _complement(self, vector: Array) -> Array:
        if self.directions is None:
            return vector
        q = self.directions
        # Twice is enough: what round-off leaves along q after the first goes with the second.
        vector = vector - q @ (q.T @ vector)
        return vector - q @ (q.T @ vector)

    def between(self, start: Any, end: Any) -> AbstractGeometry:
        if not self.keeps:
            return self
        columns = [ravel_pytree(discrete_gradient(f, start, end))[0] for f in self.keeps]
        directions, _ = jnp.linalg.qr(jnp.stack(columns, axis=1))
        return type(self)(self.matrix, self.keeps, directions)

    def degeneracy(self, state: Any) -> Float[Array, ""]:
        """The largest |matrix dC| / (|matrix| |dC|) of what it keeps; zero in theory."""
        matrix = jnp.asarray(self.matrix(state), tree.dtype(state))
        worst = jnp.zeros((), matrix.dtype)
        for functional in self.keeps:
            covector = ravel_pytree(functional.differential(state))[0]
            size = jnp.linalg.norm(matrix) * jnp.linalg.norm(covector)
            off = jnp.linalg.norm(matrix @ covector)
            worst = jnp.maximum(worst, off / jnp.where(size > 0, size, 1.0))
        return worst

    def check(self, state: Any) -> None:
        d = tree.size(state)
        matrix = self.matrix(state)
        if jnp.shape(matrix) != (d, d):
            raise ArgumentError("matrix", f"shape {jnp.shape(matrix)}", f"expected ({d}, {d})")
        if isinstance(matrix, Tracer):
            return
        matrix = np.asarray(matrix, float)
        self._check_matrix(matrix, 100 * float(jnp.finfo(tree.dtype(state)).eps))
        off = float(self.degeneracy(state))
        if not off <= 1e3 * float(jnp.finfo(tree.dtype(state)).eps):
            names = ", ".join(functional.name for functional in self.keeps)
            raise ArgumentError(
                "matrix",
                f"|{self.name} d({names})| = {off:.2e} relative to its factors",
                "the degeneracy condition wants zero",
            )

    @abc.abstractmethod
    def _check_matrix(self, matrix: np.ndarray, slack: float) -> None:
        """Raises ArgumentError unless the matrix is of the bracket's kind, to relative `slack`."""


class Poisson(_Bracket):
    """K = -L for an antisymmetric L(x), `matrix`: dx/dt = L dF conserves F, and all of `keeps`.

    `keeps`: functionals (Casimirs) with L dC = 0. Raises ArgumentError at the start of a run for a
    matrix that is not antisymmetric or a Casimir that it does not annihilate.
    """

    def sharp(self, state, covector):
        return self._apply(state, covector, -1.0)

    def _check_matrix(self, matrix, slack):
        off = float(np.abs(matrix + matrix.T).max())
        if not off <= slack * (float(np.abs(matrix).max()) or 1.0):
            raise ArgumentError("poisson", f"symmetric part {off:.2e}", "it is antisymmetric")

    @property
    def noise_terms(self):
        return 0

    @property
    def dissipative(self):
        return False

    @property
    def conservative(self):
        return True


class Onsager(_Bracket):
    """K = M for a symmetric positive semi-definite M(x), `matrix`: dx/dt = -M dF lowers F.

    `keeps`: functionals with M dC = 0, which stay. Raises ArgumentError at the start of a run for
    a matrix that is not so.
    """

    def sharp(self, state, covector):
        return self._apply(state, covector, 1.0)

    def _check_matrix(self, matrix, slack):
        size = float(np.abs(matrix).max()) or 1.0
        off = float(np.abs(matrix - matrix.T).max())
        lowest = float(np.linalg.eigvalsh(0.5 * (matrix + matrix.T))[0])
        if not (off <= slack * size and lowest >= -slack * size * len(matrix)):
            given = f"asymmetry {off:.2e}, smallest eigenvalue {lowest:.2e}"
            raise ArgumentError("friction", given, "it is symmetric and positive semi-definite")

    @property
    def noise_terms(self):
        return 0
