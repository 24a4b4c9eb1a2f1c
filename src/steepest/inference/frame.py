"""Coordinates in which a target is roughly a standard normal: x = centre + root y.

Methods run in y, where one step size suits all directions, and hand back laws and draws of x.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..states import Gaussian, GaussianMixture
from ..states.factors import dot
from .target import Target


class Frame(eqx.Module):
    """E as a function of y, for x = centre + root y; `root` (d, d) lower triangular, or (d,)."""

    target: Target
    centre: Float[Array, " d"]
    root: Float[Array, " d ..."]

    def __call__(self, y: Float[Array, " d"]) -> Float[Array, ""]:
        return self.target(self.place(y))

    def place(self, y: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """x of y."""
        return self.centre + (y * self.root if self.root.ndim == 1 else dot(y, self.root.T))

    def places(self, y: np.ndarray) -> np.ndarray:
        """x of every y (..., d), on the host in 64 bits."""
        root, y = np.asarray(self.root, float), np.asarray(y, float)
        return np.asarray(self.centre, float) + (y * root if root.ndim == 1 else y @ root.T)

    def refined(self, change: np.ndarray) -> Frame:
        """A frame with root root^T = (root change)(root change)^T; `change`: (d, d) or (d,)."""
        root = np.asarray(self.root, float)
        if root.ndim == 1:
            new = root * change
        else:
            new = np.asarray(np.linalg.qr((root @ change).T, mode="r")).T
            new = new * np.sign(np.diagonal(new))
        return Frame(self.target, self.centre, jnp.asarray(new, self.root.dtype))

    def seen_from(self, x: np.ndarray) -> np.ndarray:
        """y of every x (n, d), on the host."""
        root, gap = np.asarray(self.root, float), x - np.asarray(self.centre, float)
        return gap / root if root.ndim == 1 else np.linalg.solve(root, gap.T).T

    @property
    def dimension(self) -> int:
        """d."""
        return self.centre.shape[0]

    @property
    def log_volume(self) -> float:
        """log |dx/dy|."""
        diagonal = self.root if self.root.ndim == 1 else jnp.diagonal(self.root)
        return float(np.sum(np.log(np.asarray(diagonal, float))))

    @property
    def expect_gaussian(self) -> Any | None:
        """The target's own expectation under a Gaussian of y, where it knows one."""
        own = self.target.expect_gaussian
        return None if own is None else _Pulled(own, self.centre, self.root)

    def law(self, law: Any) -> Any:
        """A Gaussian or a mixture of y as a law of x."""
        if isinstance(law, GaussianMixture):
            parts = [self.law(law.component(i)) for i in range(law.count)]
            means, scales = (jnp.stack([getattr(p, k) for p in parts]) for k in ("mean", "scale"))
            return GaussianMixture(law.log_weights, means, scales)
        root, centre = (np.asarray(v, float) for v in (self.root, self.centre))
        scale: Any = jax.tree.map(lambda v: np.asarray(v, float), law.scale)
        if root.ndim == 2:
            # The product of two lower-triangular factors is one.
            mean, scale = centre + root @ np.asarray(law.mean, float), root @ np.asarray(law.lower)
        else:
            mean = centre + root * np.asarray(law.mean, float)
            rows = lambda v: v * (root if v.ndim == 1 else root[:, None])  # noqa: E731
            scale = jax.tree.map(rows, scale)
        as_own = lambda v: jnp.asarray(v, self.centre.dtype)  # noqa: E731
        return Gaussian(as_own(mean), jax.tree.map(as_own, scale))

    @classmethod
    def from_precision(cls, target: Target, centre: Any, precision: Any) -> Frame:
        """root root^T = precision^{-1}."""
        matrix = np.asarray(precision, float)
        size = np.sqrt(np.diagonal(matrix))
        # precision = U U^T, U upper triangular; root = U^{-T}.
        upper = np.linalg.cholesky((matrix / np.outer(size, size))[::-1, ::-1])[::-1, ::-1]
        root = np.linalg.inv(upper).T / size[:, None]
        return cls(target, jnp.asarray(centre), jnp.asarray(np.tril(root), target.start.dtype))

    @classmethod
    def of_scales(cls, target: Target, centre: Any, scales: Any) -> Frame:
        """Every coordinate in units of its own."""
        return cls(target, jnp.asarray(centre), jnp.asarray(scales, target.start.dtype))


class _Pulled(eqx.Module):
    """Expectation, gradient and Hessian of the target, in y."""

    own: Any
    centre: Array
    root: Array

    def __call__(self, mean: Any, covariance: Any, **options: Any) -> tuple[Any, Any, Any]:
        if self.root.ndim == 1:
            outer = self.root[:, None] * self.root
            value, slope, bend = self.own(
                self.centre + self.root * mean, outer * covariance, **options
            )
            return value, self.root * slope, outer * bend
        turn = lambda a: dot(dot(self.root, a), self.root.T)  # noqa: E731
        value, slope, bend = self.own(
            self.centre + dot(self.root, mean), turn(covariance), **options
        )
        return value, dot(self.root.T, slope), dot(dot(self.root.T, bend), self.root)
