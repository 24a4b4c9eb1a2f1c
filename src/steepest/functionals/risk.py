"""Empirical risk (eq. 32), whole or by unbiased minibatches (eq. 51)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import devices, tree
from ..errors import ArgumentError
from .base import AbstractFunctional
from .streamed import Streamed

BATCH_STREAM = 15


class EmpiricalRisk(AbstractFunctional):
    """E(theta) = (1/n) sum_i loss(theta, row_i) (eq. 32).

    `loss(theta, row)` is a scalar; `data` is a pytree whose leaves have leading axis n, and `row`
    has that structure without the axis; or `Streamed` rows, that need not fit into memory.
    `batch_size` rows, drawn with replacement from the run's own random numbers, give the unbiased
    estimate (1/b) sum over the batch, with covariance Sigma(theta)/b.

    The convention for n and temperature, stated once: the risk is a *mean*, so the Gibbs law at
    temperature T is exp(-risk/T), and the posterior prod_i exp(-loss_i) is temperature 1/n, or
    temperature 1 with `n * risk`, which `total()` gives.

    Raises ArgumentError if leaves disagree on n or the batch is larger than the data.
    """

    loss: Callable[[Any, Any], Any]
    data: Any
    batch_size: int | None = eqx.field(static=True)
    anchor: Any

    def __init__(self, loss: Callable[[Any, Any], Any], data: Any, batch_size: int | None = None):
        if not callable(loss):
            raise ArgumentError("loss", type(loss).__name__, "a function (theta, row) -> scalar")
        data, n = (data, data.count) if isinstance(data, Streamed) else _in_memory(data)
        if batch_size is not None and not (
            isinstance(batch_size, (int, np.integer)) and 1 <= batch_size <= n
        ):
            raise ArgumentError("batch_size", batch_size, f"between 1 and the {n} rows of data")
        self.loss, self.data, self.batch_size, self.anchor = loss, data, batch_size, None

    @property
    def count(self) -> int:
        """n, the number of rows."""
        if isinstance(self.data, Streamed):
            return self.data.count
        return jax.tree.leaves(self.data)[0].shape[0]

    def __call__(self, state: Any) -> Float[Array, ""]:
        if isinstance(self.data, Streamed):
            return (
                self.data.total(lambda x, rows: jnp.sum(self._losses(x, rows)), state) / self.count
            )
        return self._mean(state, self.data)

    def _mean(self, state: Any, rows: Any) -> Float[Array, ""]:
        return jnp.mean(self._losses(state, rows))

    def _losses(self, state: Any, rows: Any) -> Float[Array, " n"]:
        losses = jax.vmap(lambda row: self.loss(state, row))(devices.rows(rows))
        if losses.ndim != 1:
            raise ArgumentError(
                "loss", f"a value of shape {losses.shape[1:]}", "a loss must be a scalar"
            )
        return losses

    def estimate(self, state: Any, randomness: Any) -> Any:
        """The gradient over `batch_size` rows drawn with replacement; unbiased."""
        if self.batch_size is None or randomness is None:
            return self.differential(state)
        # The remainder of 32 bits: every row as likely as any other to a relative n / 2^32.
        bits = randomness.bits((self.batch_size,), stream=BATCH_STREAM)
        index = (bits % np.uint32(self.count)).astype(jnp.int32)
        if isinstance(self.data, Streamed):
            rows = self.data.rows(index)
        else:
            rows = jax.tree.map(lambda leaf: leaf[index], self.data)
        drawn = jax.grad(self._mean)(state, rows)
        if self.anchor is None:
            return drawn
        place, gradient = self.anchor
        there = jax.grad(self._mean)(place, rows)
        return jax.tree.map(lambda a, b, c: a - b + c, drawn, there, gradient)

    def around(self, theta: Any) -> EmpiricalRisk:
        """The same risk with control variates: estimates err by what the gradient changed since.

        grad E(theta_0) + (1/b) sum over the batch of grad l_i(theta) - grad l_i(theta_0), unbiased,
        with a variance that vanishes at theta_0 (Baker et al., Stat. Comput. 29 (2019) 599).
        """
        place = (theta, self.differential(theta))
        return eqx.tree_at(lambda r: r.anchor, self, place, is_leaf=lambda x: x is None)

    def total(self) -> AbstractFunctional:
        """n E(theta) = sum_i loss_i: a negative log likelihood, temperature 1."""
        return self.count * self

    def gradients(self, state: Any) -> Any:
        """The gradient of every row's loss, leading axis n."""
        return jax.vmap(lambda row: jax.grad(self.loss)(state, row))(self.arrays)

    @property
    def arrays(self) -> Any:
        """The data as arrays, for what needs all rows at once; raises where they are streamed."""
        if isinstance(self.data, Streamed):
            raise ArgumentError("data", "streamed rows", "what needs all at once takes arrays")
        return self.data

    @property
    def has_rows(self) -> bool:
        """Several devices can share them."""
        return not isinstance(self.data, Streamed)

    @property
    def subsamples(self) -> bool:
        return self.batch_size is not None

    @property
    def name(self) -> str:
        batch = "" if self.batch_size is None else f", batch {self.batch_size}"
        return f"risk(n={self.count}{batch})"


def _in_memory(data: Any) -> tuple[Any, int]:
    """The arrays and n."""
    try:
        data = jax.tree.map(jnp.asarray, data)
    except (TypeError, ValueError) as error:
        raise ArgumentError("data", error, "a pytree of numeric arrays") from error
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(data)}
    if len(sizes) != 1 or 0 in sizes:
        raise ArgumentError(
            "data", f"leading axes {sorted(sizes)}", "every leaf needs the same n >= 1 rows"
        )
    return data, sizes.pop()


def gradient_covariance(risk: EmpiricalRisk, state: Any) -> Float[Array, "d d"]:
    """Sigma(theta): the covariance over rows of the loss gradient, flattened (eq. 52)."""
    rows = jax.tree.leaves(risk.gradients(state))
    matrix = jnp.concatenate([jnp.reshape(leaf, (risk.count, -1)) for leaf in rows], axis=1)
    centred = matrix - jnp.mean(matrix, axis=0)
    assert matrix.shape[1] == tree.size(state)
    return centred.T @ centred / risk.count
