"""Regressions on a table as empirical risks (eq. 32); `posteriors` has their Bayesian kin.

Parameters are named: `intercept` and `weights`, the latter labelled by the columns of the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..errors import ArgumentError
from ..functionals import AbstractFunctional, EmpiricalRisk, Energy
from . import priors
from .posteriors import coefficients, table_notes
from .problem import Problem
from .table import Table, read_table


class Ridge(eqx.Module):
    """|theta|^2 / (2 scale^2)."""

    scale: Float[Array, ""]

    def __call__(self, theta: dict[str, Array]) -> Float[Array, ""]:
        return sum(priors.normal(leaf, self.scale) for leaf in theta.values())  # pyright: ignore


def squared_loss(theta: dict[str, Array], row: tuple[Array, Array]) -> Float[Array, ""]:
    """1/2 (x . w + b - y)^2."""
    x, y = row
    return 0.5 * (x @ theta["weights"] + theta.get("intercept", 0.0) - y) ** 2


def linear_regression(
    data: str | Path,
    target: str,
    *,
    ridge: float = 0.0,
    batch_size: int | None = None,
    intercept: bool = True,
    dtype: Any = jnp.float32,
    **reading: Any,
) -> Problem:
    """The risk (1/n) sum_i 1/2 (x_i . w + b - y_i)^2 + ridge/2 |theta|^2, y standardised."""
    table = read_table(data, target, target_kind="number", **reading)
    rows = (jnp.asarray(table.features, dtype), jnp.asarray(table.target, dtype))
    risk = EmpiricalRisk(squared_loss, rows, batch_size)
    return _problem(_with_ridge(risk, ridge, dtype), table, (), intercept, dtype)


def cross_entropy(
    theta: dict[str, Array], row: tuple[Float[Array, " d"], Int[Array, ""]]
) -> Float[Array, ""]:
    """-log softmax(x . W + b)[y], with the class 0 as reference: its logit is zero."""
    x, y = row
    logits = x @ theta["weights"] + theta.get("intercept", 0.0)
    logits = jnp.concatenate([jnp.zeros(1, logits.dtype), logits])
    return jax.nn.logsumexp(logits) - logits[y]


def softmax_regression(
    data: str | Path,
    target: str,
    *,
    ridge: float = 0.0,
    batch_size: int | None = None,
    intercept: bool = True,
    dtype: Any = jnp.float32,
    **reading: Any,
) -> Problem:
    """The risk (1/n) sum_i -log softmax(x_i . W + b)[y_i] + ridge/2 |theta|^2.

    W is (d, k - 1) for k classes, against the first class in sorted order.
    """
    table = read_table(data, target, target_kind="class", **reading)
    rows = (jnp.asarray(table.features, dtype), jnp.asarray(table.target, jnp.int32))
    risk = EmpiricalRisk(cross_entropy, rows, batch_size)
    others = table.classes[1:]
    return _problem(_with_ridge(risk, ridge, dtype), table, others, intercept, dtype)


def _with_ridge(risk: EmpiricalRisk, ridge: float, dtype: Any) -> AbstractFunctional:
    if not (np.isfinite(ridge) and ridge >= 0):
        raise ArgumentError("ridge", ridge, "a finite number >= 0")
    if ridge == 0:
        return risk
    return risk + Energy(Ridge(jnp.asarray(ridge**-0.5, dtype)))


def _problem(
    functional: AbstractFunctional,
    table: Table,
    classes: tuple[str, ...],
    intercept: bool,
    dtype: Any,
) -> Problem:
    """Parameters at zero, named by the columns (and by the classes beyond the reference)."""
    start, dims, coords = coefficients(table, classes, intercept, dtype)
    return Problem(functional, start, dims, coords, table_notes(table))
