"""Square roots of a covariance: how a Gaussian maps standard normal noise to displacements.

x = mean + push(z) with z of `latent` independent standard normals, push linear in z and in the
numbers of the factor. Three kinds share one interface: `Triangular` (Cholesky), `Diagonal` and
`LowRank`. Each knows its covariance and two inverse metrics on its own numbers:

- transport: with the covector lifted to the field ell(z) = g_m + N z that pairs with displacements
  under the law, a ground K gives v = K ell, and the tangent is the projection of v on the family;
- reweight: the inverse Fisher metric (natural gradient).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError

_EXACT = jax.lax.Precision.HIGHEST


def dot(a: Array, b: Array) -> Array:
    """The matrix product in full precision on every device."""
    return jnp.matmul(a, b, precision=_EXACT)


def half_lower(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Phi: the lower triangle with halved diagonal, so that Phi(A) + Phi(A)^T = A, A symmetric."""
    return jnp.tril(matrix) - 0.5 * jnp.diag(jnp.diagonal(matrix))


def inverse(lower: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """L^{-1}: for many points a product with it is far faster than a triangular solve of all."""
    return solve_triangular(lower, jnp.eye(lower.shape[-1], dtype=lower.dtype), lower=True)


def triangular_root(root: Float[Array, "d n"]) -> Float[Array, "d d"]:
    """The Cholesky factor of root root^T, n >= d, without forming the product (by QR)."""
    upper = jnp.linalg.qr(root.T, mode="r")
    signs = jnp.where(jnp.diagonal(upper) < 0, -1.0, 1.0).astype(upper.dtype)
    return jnp.tril((signs[:, None] * upper).T)


class Triangular(eqx.Module):
    """push(z) = L z, L lower triangular; S = L L^T. Its transport is Bures-Wasserstein.

    A covector g of L stands for G = dF/dS by g = tril(2 G L); P = 2 L^T G L is read off L^T g.
    """

    matrix: Float[Array, "d d"]

    @property
    def lower(self) -> Float[Array, "d d"]:
        """L; what lies above the diagonal is not read."""
        return jnp.tril(self.matrix)

    @property
    def latent(self) -> int:
        """How many normals `push` takes."""
        return self.matrix.shape[-1]

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """L L^T."""
        return dot(self.lower, self.lower.T)

    @property
    def log_determinant(self) -> Float[Array, ""]:
        """log det L, half that of the covariance."""
        return jnp.sum(jnp.log(jnp.diagonal(self.matrix)))

    def push(self, z: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """L z."""
        return dot(z, self.lower.T)

    def times(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        """S v."""
        return dot(self.lower, dot(self.lower.T, v))

    def squared(self, v: Float[Array, "... d"]) -> Float[Array, "..."]:
        """v^T S^{-1} v."""
        return jnp.sum(dot(v, inverse(self.lower).T) ** 2, axis=-1)

    def reweighted(self, covector: Float[Array, "d d"]) -> Float[Array, "d d"]:
        """S' = 2 S G S as L' = L Phi(L^T g), without an inverse."""
        return dot(self.lower, half_lower(dot(self.lower.T, covector)))

    def slopes(self, covector: Float[Array, "d d"]) -> Float[Array, "d d"]:
        """N = 2 G L: the gradient of the quadratic with derivative G, along the noise."""
        half = half_lower(dot(self.lower.T, covector))
        return solve_triangular(self.lower, half + half.T, trans=1, lower=True)

    def adjoint(self, v: Float[Array, " d"], z: Float[Array, " d"]) -> Float[Array, "d d"]:
        """v z^T, whose mean `restricted` takes."""
        return jnp.outer(v, z)

    def restricted(self, moved: Float[Array, "d d"]) -> Float[Array, "d d"]:
        """L' = L Phi(B + B^T), B = L^{-1} E[v z^T], which is S' = E[v (x - m)^T] + transpose."""
        relative = solve_triangular(self.lower, moved, lower=True)
        return dot(self.lower, half_lower(relative + relative.T))

    def transported(
        self, covector: Float[Array, "d d"], apply: Callable[[Array], Array]
    ) -> Float[Array, "d d"]:
        """S' = 2 (K G S + S G K^T) for a constant K, as L'."""
        return self.restricted(jax.vmap(apply, 1, 1)(self.slopes(covector)))

    def field(self, slopes: Float[Array, "d d"], z: Float[Array, " d"]) -> Float[Array, " d"]:
        """N z."""
        return dot(slopes, z)

    def price(self, hessian: Float[Array, "d d"]) -> Float[Array, "d d"]:
        """The covector of G = hessian / 2."""
        return jnp.tril(dot(hessian, self.lower))


class Diagonal(eqx.Module):
    """push(z) = s z, coordinate by coordinate; S = diag(s^2).

    The exact restriction of the Bures and of the Fisher metric: |dm|^2 + |ds|^2, and
    |dm/s|^2 + 2 |ds/s|^2. A ground acts through its diagonal: such a law cannot turn.
    """

    deviations: Float[Array, " d"]

    @property
    def lower(self) -> Float[Array, "d d"]:
        return jnp.diag(self.deviations)

    @property
    def latent(self) -> int:
        return self.deviations.shape[-1]

    @property
    def covariance(self) -> Float[Array, "d d"]:
        return jnp.diag(self.deviations**2)

    @property
    def log_determinant(self) -> Float[Array, ""]:
        return jnp.sum(jnp.log(self.deviations))

    def push(self, z: Float[Array, "... d"]) -> Float[Array, "... d"]:
        return self.deviations * z

    def times(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.deviations**2 * v

    def squared(self, v: Float[Array, "... d"]) -> Float[Array, "..."]:
        return jnp.sum((v / self.deviations) ** 2, axis=-1)

    def reweighted(self, covector: Float[Array, " d"]) -> Float[Array, " d"]:
        return 0.5 * self.deviations**2 * covector

    def slopes(self, covector: Float[Array, " d"]) -> Float[Array, " d"]:
        return covector

    def adjoint(self, v: Float[Array, " d"], z: Float[Array, " d"]) -> Float[Array, " d"]:
        return v * z

    def restricted(self, moved: Float[Array, " d"]) -> Float[Array, " d"]:
        return moved

    def transported(
        self, covector: Float[Array, " d"], apply: Callable[[Array], Array]
    ) -> Float[Array, " d"]:
        return diagonal_of(apply, covector) * covector

    def field(self, slopes: Float[Array, " d"], z: Float[Array, " d"]) -> Float[Array, " d"]:
        return slopes * z

    def price(self, hessian: Float[Array, "d d"]) -> Float[Array, " d"]:
        return jnp.diagonal(hessian) * self.deviations


class LowRank(eqx.Module):
    """push((z, w)) = D z + U w; S = diag(D^2) + U U^T, U = `factor` (d, r) and D = `diagonal` (d,).

    Its transport is the L2 metric of the map, |dm|^2 + |dD|^2 + |dU|^2, an upper bound of the Bures
    metric of the family. Its reweight is the family's Fisher metric, solved by a dense pseudo-
    inverse of size d (r + 1); turning the columns of U changes no law and is not done.
    """

    factor: Float[Array, "d r"]
    diagonal: Float[Array, " d"]

    @property
    def lower(self) -> Float[Array, "d d"]:
        return triangular_root(jnp.concatenate([jnp.diag(self.diagonal), self.factor], axis=1))

    @property
    def latent(self) -> int:
        return sum(self.factor.shape[-2:])

    @property
    def covariance(self) -> Float[Array, "d d"]:
        return jnp.diag(self.diagonal**2) + dot(self.factor, self.factor.T)

    @property
    def _inner(self) -> tuple[Array, Array]:
        """V = D^{-1} U and the Cholesky factor of 1 + V^T V."""
        v = self.factor / self.diagonal[:, None]
        return v, jnp.linalg.cholesky(jnp.eye(v.shape[1], dtype=v.dtype) + dot(v.T, v))

    @property
    def log_determinant(self) -> Float[Array, ""]:
        _, lower = self._inner
        return jnp.sum(jnp.log(self.diagonal)) + jnp.sum(jnp.log(jnp.diagonal(lower)))

    def push(self, z: Float[Array, "... dr"]) -> Float[Array, "... d"]:
        d = self.diagonal.shape[0]
        return self.diagonal * z[..., :d] + dot(z[..., d:], self.factor.T)

    def times(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.diagonal**2 * v + dot(self.factor, dot(self.factor.T, v))

    def squared(self, v: Float[Array, "... d"]) -> Float[Array, "..."]:
        """min over a of |D^{-1}(v - U a)|^2 + |a|^2, which does not cancel as Woodbury does."""
        low, lower = self._inner
        y = v / self.diagonal
        a = jax.scipy.linalg.cho_solve((lower, True), dot(y, low).reshape(-1, low.shape[1]).T).T
        a = a.reshape(*y.shape[:-1], low.shape[1])
        return jnp.sum((y - dot(a, low.T)) ** 2, axis=-1) + jnp.sum(a**2, axis=-1)

    def reweighted(self, covector: LowRank) -> LowRank:
        """In the coordinates dD = D delta, dU = D upsilon, where the Fisher metric has no units."""
        low, lower = self._inner
        d, r = low.shape
        eye = jnp.eye(d, dtype=low.dtype)
        precision = eye - dot(low, jax.scipy.linalg.cho_solve((lower, True), low.T))  # D S^{-1} D
        wu = dot(precision, low)
        uwu = dot(low.T, wu)
        on = 2.0 * precision**2
        mixed = 2.0 * jnp.einsum("ij,ik->ijk", precision, wu).reshape(d, d * r)
        turned = jnp.einsum("cb,ae->abce", wu, wu) + jnp.einsum("be,ac->abce", uwu, precision)
        fisher = jnp.block([[on, mixed], [mixed.T, turned.reshape(d * r, d * r)]])
        slope = jnp.concatenate(
            [
                self.diagonal * covector.diagonal,
                (self.diagonal[:, None] * covector.factor).reshape(-1),
            ]
        )
        values, vectors = jnp.linalg.eigh(fisher)
        cutoff = 10.0 * values.shape[0] * jnp.finfo(values.dtype).eps * values[-1]
        inverse = jnp.where(values > cutoff, 1.0 / jnp.where(values > cutoff, values, 1.0), 0.0)
        step = dot(vectors, inverse * dot(vectors.T, slope))
        return LowRank(self.diagonal[:, None] * step[d:].reshape(d, r), self.diagonal * step[:d])

    def slopes(self, covector: LowRank) -> LowRank:
        return covector

    def adjoint(self, v: Float[Array, " d"], z: Float[Array, " dr"]) -> LowRank:
        d = v.shape[0]
        return LowRank(jnp.outer(v, z[d:]), v * z[:d])

    def restricted(self, moved: LowRank) -> LowRank:
        return moved

    def transported(self, covector: LowRank, apply: Callable[[Array], Array]) -> LowRank:
        diagonal = diagonal_of(apply, covector.diagonal) * covector.diagonal
        return LowRank(jax.vmap(apply, 1, 1)(covector.factor), diagonal)

    def field(self, slopes: LowRank, z: Float[Array, " dr"]) -> Float[Array, " d"]:
        return slopes.push(z)

    def price(self, hessian: Float[Array, "d d"]) -> LowRank:
        return LowRank(dot(hessian, self.factor), jnp.diagonal(hessian) * self.diagonal)


def as_factor(scale: Any) -> Triangular | Diagonal | LowRank:
    """What a `scale` means: a matrix, a vector or a LowRank."""
    if isinstance(scale, LowRank):
        return scale
    return Triangular(scale) if jnp.ndim(scale) == 2 else Diagonal(scale)


def diagonal_of(apply: Callable[[Array], Array], like: Float[Array, " d"]) -> Float[Array, " d"]:
    """The entries K_ii of a linear map, a block of columns at a time."""

    def entry(i: Array) -> Array:
        return apply(jnp.zeros_like(like).at[i].set(1.0))[i]

    return jax.lax.map(entry, jnp.arange(like.shape[0]), batch_size=min(256, like.shape[0]))


def check_scale(argument: str, scale: Any, d: int) -> None:
    """Raises ArgumentError unless `scale` is a factor of a covariance in d dimensions."""
    if isinstance(scale, LowRank):
        if scale.diagonal.shape != (d,) or scale.factor.ndim != 2 or scale.factor.shape[0] != d:
            shapes = f"factor {scale.factor.shape}, diagonal {scale.diagonal.shape}"
            raise ArgumentError(argument, shapes, f"LowRank of shapes ({d}, r) and ({d},)")
        _check_values(f"{argument}.factor", scale.factor, None)
        _check_values(f"{argument}.diagonal", scale.diagonal, scale.diagonal)
        return
    if scale.shape not in ((d,), (d, d)):
        raise ArgumentError(argument, f"shape {scale.shape}", f"expected ({d}, {d}) or ({d},)")
    if isinstance(scale, Tracer):
        return
    _check_values(argument, scale, scale if scale.ndim == 1 else np.diagonal(scale))
    if scale.ndim == 2 and np.any(np.triu(scale, 1)):
        raise ArgumentError(
            argument,
            "a matrix with entries above its diagonal",
            "the lower-triangular Cholesky factor; use from_moments(mean, covariance)",
        )


def _check_values(argument: str, values: Any, positive: Any) -> None:
    if isinstance(values, Tracer):
        return
    if not np.all(np.isfinite(values)):
        raise ArgumentError(argument, "NaN or infinite values", "a finite factor")
    if positive is not None and not np.all(np.asarray(positive) > 0):
        low = float(np.min(positive))
        raise ArgumentError(
            argument, f"smallest deviation {low:.3g}", "positive numbers on its diagonal"
        )


def cholesky(
    argument: str, covariance: Float[Array, "d d"], remedy: str = "a positive definite matrix"
) -> Float[Array, "d d"]:
    """The Cholesky factor; raises ArgumentError when not symmetric or not positive definite."""
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise ArgumentError(argument, f"shape {covariance.shape}", "a square matrix")
    if not isinstance(covariance, Tracer):
        matrix = np.asarray(covariance)
        if not np.all(np.isfinite(matrix)):
            raise ArgumentError(argument, "NaN or infinite values", "a finite matrix")
        size, eps = np.max(np.abs(matrix)), np.finfo(matrix.dtype).eps
        asymmetry = np.max(np.abs(matrix - matrix.T))
        if asymmetry > 100 * len(matrix) * eps * size:
            raise ArgumentError(argument, f"asymmetry {asymmetry:.2e}", "a symmetric matrix")
        values = np.linalg.eigvalsh(0.5 * (matrix + matrix.T))
        if not values[0] > len(matrix) * eps * values[-1]:
            raise ArgumentError(argument, f"smallest eigenvalue {values[0]:.3e}", remedy)
        # What runs once is not worth compiling.
        return jnp.asarray(np.linalg.cholesky(0.5 * (matrix + matrix.T)))
    return jnp.linalg.cholesky(0.5 * (covariance + covariance.T))


def as_flat(x: Any) -> Array:
    """A point of space (an array, or a Phase of arrays) as one array (..., d)."""
    leaves = jax.tree.leaves(x)
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves, axis=-1)


def as_array(argument: str, value: Any) -> Array:
    """One float array; raises ArgumentError for what cannot be one."""
    if isinstance(value, (list, tuple)):
        try:
            value = jnp.asarray(value)
        except (TypeError, ValueError) as error:
            raise ArgumentError(argument, type(value).__name__, "one array of numbers") from error
    value = tree.as_float(value, argument)
    if not hasattr(value, "shape"):
        raise ArgumentError(argument, type(value).__name__, "one array")
    return value
