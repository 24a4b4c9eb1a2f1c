"""Steepest descent under any norm, not only Riemannian ones (section 7.1).

    sharp(c) = |c|_* argmax { <c, v> : |v| = 1 },    <c, sharp(c)> = |c|_*^2

with the dual norm |c|_*. The map is no longer linear: sign descent, orthogonalised updates and
coordinate descent are of this kind. Sources: Boyd and Vandenberghe, Convex Optimization, section
9.4; Bernstein and Newhouse, arXiv:2409.20325 (per layer, modular).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .. import tree
from ..errors import ArgumentError
from .base import AbstractGeometry

KINDS = ("euclidean", "sup", "l1", "spectral", "row", "column")
QUINTIC = (3.4445, -4.7750, 2.0315)


class Norm(AbstractGeometry):
    """Steepest descent under the norm `kind` of every leaf.

    `"sup"`: sign descent, |c|_* = |c|_1. `"l1"`: the steepest coordinate alone, |c|_* = max |c|.
    `"spectral"`: the polar factor U V^T of a matrix (leaves of more axes as (..., last)), |c|_* the
    nuclear norm. `"row"`, `"column"`: each row or column normalised. `"euclidean"`: c itself.

    `unit`: velocities of norm 1, <c, sharp(c)> = |c|_*, as sign descent and muon take them; else
    they shrink with the dual norm. `joint`: one norm for all leaves, the largest of theirs, so that
    |c|_* is the sum over leaves (modular); else the squares of the leaves add up. `iterations`: of
    the Newton-Schulz approximation to the polar factor with Jordan's quintic coefficients, whose
    singular values are only near 1 (muon takes 5); None: exactly, by SVD.
    """

    kind: str = eqx.field(static=True)
    unit: bool = eqx.field(static=True, default=False)
    joint: bool = eqx.field(static=True, default=False)
    iterations: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.kind not in KINDS:
            raise ArgumentError("kind", repr(self.kind), f"one of {', '.join(KINDS)}")
        if self.iterations is not None and not (
            isinstance(self.iterations, int) and self.iterations >= 1 and self.kind == "spectral"
        ):
            raise ArgumentError("iterations", self.iterations, "an integer >= 1, for 'spectral'")

    def sharp(self, state, covector):
        leaves, shape = jax.tree.flatten(covector)
        directions = [self._direction(leaf) for leaf in leaves]
        if self.unit:
            return shape.unflatten(directions)
        duals = [jnp.vdot(c, d) for c, d in zip(leaves, directions, strict=True)]
        if self.joint:
            duals = [sum(duals[1:], duals[0])] * len(duals)
        return shape.unflatten([a * d for a, d in zip(duals, directions, strict=True)])

    def norm_sq(self, state, covector):
        """|c|_*^2, or |c|_* of unit velocities: by the norm's own formula, not through `sharp`."""
        duals = jnp.stack([self._dual(leaf) for leaf in jax.tree.leaves(covector)])
        if self.unit:
            return jnp.sum(duals)
        return jnp.sum(duals) ** 2 if self.joint else jnp.sum(duals**2)

    def _direction(self, c: Array) -> Array:
        """The unit vector of largest <c, v>; zero where c is."""
        if self.kind == "sup":
            return jnp.sign(c)
        if self.kind == "l1":
            flat = c.reshape(-1)
            place = jnp.argmax(jnp.abs(flat))
            return jnp.zeros_like(flat).at[place].set(jnp.sign(flat[place])).reshape(c.shape)
        if self.kind == "euclidean":
            return _over(c, jnp.sqrt(jnp.sum(c * c)))
        if self.kind in ("row", "column"):
            axis = -1 if self.kind == "row" else 0
            return _over(c, jnp.sqrt(jnp.sum(c * c, axis=axis, keepdims=True)))
        matrix = c.reshape(-1, c.shape[-1])
        if self.iterations is None:
            return polar(matrix).reshape(c.shape)
        return newton_schulz(matrix, self.iterations).reshape(c.shape)

    def _dual(self, c: Array) -> Array:
        if self.kind == "sup":
            return jnp.sum(jnp.abs(c))
        if self.kind == "l1":
            return jnp.max(jnp.abs(c))
        if self.kind == "euclidean":
            return jnp.sqrt(jnp.sum(c * c))
        if self.kind in ("row", "column"):
            axis = -1 if self.kind == "row" else 0
            return jnp.sum(jnp.sqrt(jnp.sum(c * c, axis=axis)))
        if self.iterations is None:
            matrix = c.reshape(-1, c.shape[-1])
            return jnp.sum(jnp.linalg.svd(matrix, compute_uv=False))
        return jnp.vdot(c, self._direction(c))

    def sqrt(self, state, white):
        raise ArgumentError("noise", self.name, "a norm that is no inner product has no noise")

    def check(self, state):
        if self.kind not in ("spectral", "row", "column"):
            return
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
            if jnp.ndim(leaf) < 2:
                raise ArgumentError(
                    "state" + jax.tree_util.keystr(path),
                    f"shape {jnp.shape(leaf)}",
                    f"'{self.kind}' needs matrices; give other leaves their own geometry, "
                    'e.g. Product({"w": Norm("spectral"), "b": Euclidean()})',
                )

    @property
    def linear(self):
        return self.kind == "euclidean" and not self.unit and not self.joint

    @property
    def noise_terms(self):
        return 0

    @property
    def name(self):
        steps = f", {self.iterations} Newton-Schulz" if self.iterations else ""
        return f"Norm({self.kind}{', unit' if self.unit else ''}{steps})"


def _over(c: Array, size: Array) -> Array:
    return c / jnp.where(size > 0, size, 1.0)


def polar(matrix: Array) -> Array:
    """U V^T of the singular value decomposition; singular values at round-off count as zero."""
    u, s, vt = jnp.linalg.svd(matrix, full_matrices=False)
    small = jnp.finfo(s.dtype).eps * max(matrix.shape) * jnp.max(s)
    return (u * (s > small)) @ vt


def newton_schulz(matrix: Array, iterations: int) -> Array:
    """The quintic iteration X <- a X + (b A + c A^2) X with A = X X^T, from X / |X|.

    Source: K. Jordan et al., Muon, 2024 (the coefficients); it settles near, not at, U V^T.
    """
    a, b, c = (jnp.asarray(value, matrix.dtype) for value in QUINTIC)
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (jnp.sqrt(jnp.sum(x * x)) + 1e-8)
    for _ in range(iterations):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def dual_norms(geometry: Any, state: Any, a: Any, b: Any) -> tuple[Array, Array]:
    """How far <a, sharp(a)> is from the dual norm, and by how much <a, sharp(b)> exceeds it."""
    ka, kb = geometry.sharp(state, a), geometry.sharp(state, b)
    na, nb = geometry.norm_sq(state, a), geometry.norm_sq(state, b)
    bound = na if getattr(geometry, "unit", False) else jnp.sqrt(na * nb)
    defect = jnp.abs(tree.dot(a, ka) - na) / na
    return defect, jnp.maximum(tree.dot(a, kb) - bound, 0.0) / bound
