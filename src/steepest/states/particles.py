"""The empirical measure of n particles (eq. 63): positions, and log-weights if unequal.

A measure knows itself and nothing above it: `expect`, `entropy`, `sample`, and its two primitive
motions, `transport` (mass moves) and `reweight` (mass appears and disappears).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .. import tree
from ..errors import ArgumentError
from ..formula import formula
from .entropy import gaussian_entropy, nearest_neighbour_entropy


class Particles(eqx.Module):
    """sum_i w_i delta_{x_i}, with w = softmax(log_weights) (eq. 63).

    `positions`: pytree whose leaves have leading axis n (a `Phase` of such for kinetic systems).
    `log_weights`: shape (n,), need not be normalised; None means equal weights, which is also the
    fast case. `axis` is where the leaves count particles: 0 for everybody; the driver turns it to
    -1 (`turned`), because particles last keep short vectors in fast elementwise kernels.
    Raises ArgumentError when the leading axes differ.
    """

    positions: Any
    log_weights: Float[Array, " n"] | None = None
    axis: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        leaves = jax.tree.leaves(self.positions)
        if not leaves or not all(hasattr(leaf, "shape") for leaf in leaves):
            return  # a placeholder that JAX or Equinox rebuilds, not data
        sizes = {leaf.shape[self.axis] if leaf.ndim else None for leaf in leaves}
        if len(sizes) != 1 or None in sizes:
            raise ArgumentError(
                "positions",
                f"leaves of shapes {[leaf.shape for leaf in leaves]}",
                "every leaf needs the same leading axis, the number of particles",
            )
        (n,) = sizes
        weights = self.log_weights
        if weights is not None and hasattr(weights, "shape") and weights.shape != (n,):
            raise ArgumentError("log_weights", f"shape {weights.shape}", f"expected ({n},)")

    @classmethod
    def from_positions(cls, positions: Any) -> Particles:
        """Equal weights at the given positions (leading axis n on each leaf)."""
        found = cls(tree.as_float(positions, "positions"))
        if found.count < 1:
            raise ArgumentError("positions", "no particles", "at least one particle is needed")
        return found

    @classmethod
    def normal(cls, key: Key[Array, ""], n: int, like: Any) -> Particles:
        """n independent standard normal copies of the structure and shapes of `like`."""
        if n < 1:
            raise ArgumentError("n", n, "at least one particle is needed")
        leaves, structure = jax.tree.flatten(tree.as_float(like, "like"))
        keys = jax.random.split(key, len(leaves))
        drawn = [
            jax.random.normal(k, (n, *x.shape), x.dtype) for k, x in zip(keys, leaves, strict=True)
        ]
        return cls(jax.tree.unflatten(structure, drawn))

    @property
    def count(self) -> int:
        """n."""
        return jax.tree.leaves(self.positions)[0].shape[self.axis]

    def turned(self, axis: int) -> Particles:
        """The same measure with its particles counted along `axis` (0 or -1)."""
        if axis == self.axis:
            return self
        moved = jax.tree.map(lambda x: jnp.moveaxis(x, self.axis, axis), self.positions)
        return Particles(moved, self.log_weights, axis)

    def vmap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """fn of one particle, made to act on all (arguments and values along `axis`)."""
        return jax.vmap(fn, in_axes=self.axis, out_axes=self.axis)

    def spread(self, values: Float[Array, " n"], leaf: Array) -> Array:
        """A number per particle, shaped to multiply a leaf of positions."""
        return values.reshape((-1,) + (1,) * (leaf.ndim - 1)) if self.axis == 0 else values

    @property
    def weights(self) -> Float[Array, " n"]:
        """w, which sums to one."""
        if self.log_weights is None:
            return jnp.full((self.count,), 1.0 / self.count, tree.dtype(self.positions))
        return jax.nn.softmax(self.log_weights)

    @property
    def effective_size(self) -> Float[Array, ""]:
        """1 / sum_i w_i^2, between 1 and n (Kish)."""
        return 1.0 / jnp.sum(self.weights**2)

    def flat(self) -> Float[Array, "n d"]:
        """The positions as one matrix, a row a particle."""
        return jnp.concatenate(
            [jnp.reshape(x, (self.count, -1)) for x in jax.tree.leaves(self.turned(0).positions)],
            axis=1,
        )

    def expect(self, fn: Callable[[Any], Any]) -> Any:
        """sum_i w_i fn(x_i), for fn of one particle with any pytree of arrays as value."""
        return self.average(self.vmap(fn)(self.positions))

    def average(self, values: Any) -> Any:
        """sum_i w_i values_i over the particle axis of each leaf."""
        if self.log_weights is None:
            return jax.tree.map(lambda v: jnp.mean(v, axis=self.axis), values)
        w = self.weights
        return jax.tree.map(lambda v: jnp.tensordot(v, w, axes=(self.axis, 0)), values)

    @formula
    def mean(self) -> Any:
        """The mean, with the structure of one particle."""
        return self.average(self.positions)

    @formula
    def covariance(self) -> Float[Array, "d d"]:
        """The weighted covariance of the flattened particles (divided by 1 - sum w^2)."""
        x, w = self.flat(), self.weights
        centred = x - w @ x
        return (centred * w[:, None]).T @ centred / (1.0 - jnp.sum(w**2))

    def entropy(self, estimator: str = "auto") -> Float[Array, ""]:
        """-integral rho log rho of the law behind the particles, estimated.

        Weights count as the density of that law with respect to the law of the positions, as after
        importance sampling or reweighting.
        `"nearest-neighbour"`: Kozachenko-Leonenko, consistent, biased in high dimension;
        `"gaussian"`: of the Gaussian with the same covariance, an upper bound in expectation;
        `"auto"`: the first up to dimension 4, the second above.
        """
        return self.average(self.entropy_terms(estimator))

    def entropy_terms(self, estimator: str = "auto") -> Float[Array, " n"]:
        """Estimates of -log rho(x_i), whose average is the entropy and whose spread its error."""
        x = self.flat()
        if estimator == "auto":
            estimator = "nearest-neighbour" if x.shape[1] <= 4 else "gaussian"
        if estimator == "nearest-neighbour":
            terms = nearest_neighbour_entropy(x)
            if self.log_weights is None:
                return terms
            # The neighbours see the law of the positions; n w_i is the density with respect to it.
            log_ratio = jax.nn.log_softmax(self.log_weights) + math.log(self.count)
            return terms - jnp.where(self.weights > 0, log_ratio, 0.0)
        if estimator == "gaussian":
            return gaussian_entropy(x, self.weights)
        raise ArgumentError("estimator", estimator, "'auto', 'nearest-neighbour' or 'gaussian'")

    def log_prob(self, x: Any) -> Any:
        """An empirical measure has no density: always raises ArgumentError."""
        raise ArgumentError(
            "Particles.log_prob", "an empirical measure", "it has no density; use entropy()"
        )

    def sample(self, key: Key[Array, ""], n: int) -> Any:
        """n draws with replacement, with the leading axis n on each leaf."""
        index = jax.random.choice(key, self.count, (n,), p=self.weights)
        return jax.tree.map(lambda x: x[index], self.turned(0).positions)

    def transport(self, covector: Particles, ground: Any) -> Particles:
        """x_i' = K(x_i) (1/w_i) dF/dx_i (eq. 58): the tangent of mass that moves.

        `ground` acts on one particle; the weights stay.
        """
        field = self.potential_gradient(covector)
        moved = self.vmap(ground.sharp)(self.positions, field)
        return self.tangent(moved)

    def reweight(self, covector: Particles) -> Particles:
        """(log w_i)' = psi_i - sum_j w_j psi_j, with psi_i = dF/dw_i along the simplex.

        The covector of log-weights under softmax is w_i (psi_i - <psi>), so psi is read off it.
        """
        if covector.log_weights is None:
            raise ArgumentError(
                "log_weights", "None", "reweighting needs weights: use particles.weighted()"
            )
        still = tree.zeros_like(self.positions)
        return Particles(still, self._per_weight(covector.log_weights), self.axis)

    def weighted(self) -> Particles:
        """The same measure with explicit (equal) log-weights, ready to be reweighted."""
        if self.log_weights is not None:
            return self
        equal = jnp.zeros((self.count,), tree.dtype(self.positions))
        return Particles(self.positions, equal, self.axis)

    def potential_gradient(self, covector: Particles) -> Any:
        """grad psi(x_i) = (1/w_i) dF/dx_i, the gradient of the first variation at each particle."""
        if self.log_weights is None:
            return tree.scale(self.count, covector.positions)
        return jax.tree.map(self._per_weight, covector.positions)

    def _per_weight(self, covector: Array) -> Array:
        """covector_i / w_i; zero for a particle whose weight is below the smallest number."""
        w = self.spread(self.weights, covector)
        return jnp.where(w > 0, covector / jnp.where(w > 0, w, 1.0), 0.0)

    def tangent(self, positions: Any) -> Particles:
        """A tangent that moves the particles and leaves the weights."""
        rest = None if self.log_weights is None else jnp.zeros_like(self.log_weights)
        return Particles(positions, rest, self.axis)
