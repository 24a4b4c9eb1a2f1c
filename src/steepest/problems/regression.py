"""Regressions on a table: a Bayesian posterior at temperature 1, and empirical risks (eq. 32).

Parameters are named: `intercept` and `weights`, the latter labelled by the columns of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..errors import ArgumentError
from ..functionals import AbstractFunctional, EmpiricalRisk, Energy
from .generalised_linear import GeneralisedLinear, logistic_loss
from .problem import Problem
from .table import Table, read_table


class Ridge(eqx.Module):
    """|theta|^2 / (2 scale^2)."""

    scale: Float[Array, ""]

    def __call__(self, theta: dict[str, Array]) -> Float[Array, ""]:
        return _penalty(theta, self.scale)


def _penalty(theta: dict[str, Array], scale: Any) -> Float[Array, ""]:
    return sum(jnp.sum(leaf**2) for leaf in theta.values()) / (2.0 * scale**2)


def bayesian_logistic_regression(
    data: str | Path,
    target: str,
    *,
    prior_scale: float = 1.0,
    intercept: bool = True,
    dtype: Any = jnp.float32,
    **reading: Any,
) -> Problem:
    """The posterior of logistic regression with priors N(0, prior_scale^2) on every parameter.

    `reading`: options of `read_table`. The second class in sorted order has the positive sign.
    """
    _check_scale("prior_scale", prior_scale)
    table = read_table(data, target, target_kind="binary", **reading)
    signs = 2.0 * table.target - 1.0
    energy = GeneralisedLinear(
        jnp.asarray(design(table, intercept), dtype),
        jnp.asarray(signs, dtype),
        jnp.full(table.features.shape[1] + intercept, prior_scale, dtype),
        logistic_loss,
    )
    return _problem(Energy(energy), table, (), intercept, dtype)


def design(table: Table, intercept: bool) -> np.ndarray:
    """The features, after a column of ones for the intercept: the order of flat parameters."""
    ones = np.ones((len(table.features), int(intercept)))
    return np.concatenate([ones, table.features], axis=1)


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


def _check_scale(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise ArgumentError(name, value, "a positive finite number")


def _problem(
    functional: AbstractFunctional,
    table: Table,
    classes: Sequence[str],
    intercept: bool,
    dtype: Any,
) -> Problem:
    """Parameters at zero, named by the columns (and by the classes beyond the reference)."""
    n, d = table.features.shape
    width = (len(classes),) if classes else ()
    start = {"weights": jnp.zeros((d, *width), dtype)}
    if intercept:
        start["intercept"] = jnp.zeros(width, dtype)
    axes = ("class",) if classes else ()
    dims: dict[str, tuple[str, ...]] = {"weights": ("feature", *axes), "intercept": axes}
    coords: dict[str, tuple[str, ...]] = {"feature": table.names}
    if classes:
        coords["class"] = tuple(classes)
    notes = (f"{n} rows, {d} features, numeric columns standardised", *table.notes)
    return Problem(functional, start, {name: dims[name] for name in start}, coords, notes)
