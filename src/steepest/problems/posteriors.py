"""Posteriors of regressions on a table: exp(-E) over parameters that range over the whole space.

Priors: N(0, prior_scale^2) on intercept and weights, flat where prior_scale is infinite (checked:
the posterior must stay proper); |N(0, noise_scale^2)| on an unknown noise scale, whose parameter is
its logarithm (the Jacobian is in E). Features are standardised, and so is a numeric target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln
from jaxtyping import Array, Float, Int

from ..functionals import Energy
from . import priors
from .generalised_linear import GeneralisedLinear, gaussian_loss, logistic_loss, poisson_loss
from .priors import check_scale
from .problem import Problem
from .propriety import check_rank, check_residual, check_separation
from .table import Table, read_table


def bayesian_logistic_regression(
    data: str | Path,
    target: str,
    *,
    prior_scale: float = 1.0,
    intercept: bool = True,
    dtype: Any = jnp.float32,
    **reading: Any,
) -> Problem:
    """The posterior of logistic regression: y_i = 1 with log odds x_i . w + b.

    `reading`: options of `read_table`. The second class in sorted order has the positive sign.
    """
    check_scale("prior_scale", prior_scale, flat=True)
    table = read_table(data, target, target_kind="binary", **reading)
    X, signs = design(table, intercept), 2.0 * table.target - 1.0
    if math.isinf(prior_scale):
        names = labels(table, intercept)
        check_rank(X, names)
        check_separation(signs[:, None] * X, names, "a plane separates the classes")
    return _generalised(X, signs, logistic_loss, 0.0, prior_scale, table, intercept, dtype)


def poisson_regression(
    data: str | Path,
    target: str,
    *,
    prior_scale: float = 1.0,
    intercept: bool = True,
    dtype: Any = jnp.float32,
    **reading: Any,
) -> Problem:
    """The posterior of Poisson regression: counts y_i with log rate x_i . w + b."""
    check_scale("prior_scale", prior_scale, flat=True)
    table = read_table(data, target, target_kind="count", **reading)
    X, counts = design(table, intercept), table.target
    if math.isinf(prior_scale):
        names = labels(table, intercept)
        check_rank(X, names)
        # A direction that changes no row with a count and lowers the rate of the others.
        zero = counts == 0
        what = "the rates of rows with count 0 can go to 0 alone"
        check_separation(-X[zero], names, what, X[~zero])
    said = sum(math.lgamma(count + 1.0) for count in counts)
    return _generalised(X, counts, poisson_loss, said, prior_scale, table, intercept, dtype)


def bayesian_linear_regression(
    data: str | Path,
    target: str,
    *,
    prior_scale: float = 1.0,
    noise: float | None = None,
    noise_scale: float = 1.0,
    intercept: bool = True,
    dtype: Any = jnp.float32,
    **reading: Any,
) -> Problem:
    """The posterior of linear regression: y_i ~ N(x_i . w + b, noise^2).

    `noise`: a known standard deviation (of the standardised target; the posterior is then
    Gaussian), or None: unknown, with the parameter `log_noise`.
    """
    table, X = _numeric(data, target, prior_scale, noise_scale, intercept, noise is None, reading)
    if noise is not None:
        check_scale("noise", noise)
        said = len(X) * (math.log(noise) + 0.5 * priors.LOG_2PI)
        scaled, response = X / noise, table.target / noise
        return _generalised(
            scaled, response, gaussian_loss, said, prior_scale, table, intercept, dtype
        )
    energy = NoisyRegression(
        jnp.asarray(table.features, dtype),
        jnp.asarray(table.target, dtype),
        jnp.asarray(prior_scale, dtype),
        jnp.asarray(noise_scale, dtype),
    )
    said = 0.5 * len(X) * priors.LOG_2PI
    return _noisy(energy, said, prior_scale, noise_scale, table, intercept, dtype)


def robust_regression(
    data: str | Path,
    target: str,
    *,
    prior_scale: float = 1.0,
    dof: float | None = None,
    noise_scale: float = 1.0,
    intercept: bool = True,
    dtype: Any = jnp.float32,
    **reading: Any,
) -> Problem:
    """The posterior of linear regression with Student's t: (y_i - x_i . w - b) / noise ~ t_dof.

    `dof`: degrees of freedom, a number > 0, or None: unknown, with the parameter `log_dof` and the
    prior Gamma(2, rate 0.1) (Juarez and Steel 2010). The parameter `log_noise` as in linear
    regression.
    """
    if dof is not None:
        check_scale("dof", dof)
    table, _ = _numeric(data, target, prior_scale, noise_scale, intercept, True, reading)
    energy = NoisyRegression(
        jnp.asarray(table.features, dtype),
        jnp.asarray(table.target, dtype),
        jnp.asarray(prior_scale, dtype),
        jnp.asarray(noise_scale, dtype),
        student=True,
        dof=None if dof is None else jnp.asarray(dof, dtype),
    )
    said = 0.0 if dof is not None else priors.gamma_constant(*DOF_PRIOR)
    return _noisy(energy, said, prior_scale, noise_scale, table, intercept, dtype)


def multinomial_regression(
    data: str | Path,
    target: str,
    *,
    prior_scale: float = 1.0,
    intercept: bool = True,
    dtype: Any = jnp.float32,
    **reading: Any,
) -> Problem:
    """The posterior of softmax regression: p(y_i = k) prop. to exp(x_i . w_k + b_k).

    The first class in sorted order is the reference: its w and b are zero.
    """
    check_scale("prior_scale", prior_scale, flat=True)
    table = read_table(data, target, target_kind="class", **reading)
    X, others = design(table, intercept), table.classes[1:]
    if math.isinf(prior_scale):
        names = labels(table, intercept)
        check_rank(X, names)
        both = [f"{name}, {other}" for name in names for other in others]
        check_separation(_margins(X, table), both, "planes separate the classes")
    energy = Softmax(
        jnp.asarray(table.features, dtype),
        jnp.asarray(table.target, jnp.int32),
        jnp.asarray(prior_scale, dtype),
    )
    count = X.shape[1] * len(others)
    return _problem(
        energy, priors.normal_constant(count, prior_scale), table, intercept, dtype, others
    )


DOF_PRIOR = (2.0, 0.1)


class NoisyRegression(eqx.Module):
    """-log posterior of a regression with an unknown noise scale, normal or Student's t."""

    features: Float[Array, "n d"]
    response: Float[Array, " n"]
    prior_scale: Float[Array, ""]
    noise_scale: Float[Array, ""]
    student: bool = eqx.field(static=True, default=False)
    dof: Float[Array, ""] | None = None

    def __call__(self, theta: dict[str, Array]) -> Float[Array, ""]:
        log_noise = theta["log_noise"]
        z = (predictor(theta, self.features) - self.response) * jnp.exp(-log_noise)
        if self.student:
            dof = jnp.exp(theta["log_dof"]) if self.dof is None else self.dof
            rows = student_loss(z, dof)
        else:
            rows = 0.5 * jnp.sum(z**2)
        prior = priors.normal(theta["weights"], self.prior_scale)
        if "intercept" in theta:
            prior += priors.normal(theta["intercept"], self.prior_scale)
        prior += priors.half_normal(log_noise, self.noise_scale)
        if self.student and self.dof is None:
            prior += priors.gamma(theta["log_dof"], *DOF_PRIOR)
        return rows + len(self.response) * log_noise + prior


def student_loss(z: Float[Array, " n"], dof: Any) -> Float[Array, ""]:
    """-sum_i log t_dof(z_i); B(dof / 2, 1 / 2) has no cancellation for large dof."""
    normaliser = 0.5 * jnp.log(dof) + betaln(0.5 * dof, 0.5)
    return z.size * normaliser + 0.5 * (dof + 1.0) * jnp.sum(jnp.log1p(z**2 / dof))


class Softmax(eqx.Module):
    """-log posterior of softmax regression against the first class."""

    features: Float[Array, "n d"]
    classes: Int[Array, " n"]
    prior_scale: Float[Array, ""]

    def __call__(self, theta: dict[str, Array]) -> Float[Array, ""]:
        logits = predictor(theta, self.features)
        logits = jnp.concatenate([jnp.zeros_like(logits[:, :1]), logits], axis=1)
        chosen = jnp.take_along_axis(logits, self.classes[:, None], axis=1)
        rows = jnp.sum(jax.nn.logsumexp(logits, axis=1)) - jnp.sum(chosen)
        return rows + sum(priors.normal(leaf, self.prior_scale) for leaf in theta.values())


def predictor(theta: dict[str, Array], features: Float[Array, "n d"]) -> Float[Array, "n ..."]:
    """x_i . w + b."""
    return features @ theta["weights"] + theta.get("intercept", 0.0)


def design(table: Table, intercept: bool) -> np.ndarray:
    """The features, after a column of ones for the intercept: the order of flat parameters."""
    ones = np.ones((len(table.features), int(intercept)))
    return np.concatenate([ones, table.features], axis=1)


def labels(table: Table, intercept: bool) -> list[str]:
    """The names of the columns of `design`."""
    return ["intercept"] * intercept + list(table.names)


def _numeric(
    data: str | Path,
    target: str,
    prior_scale: float,
    noise_scale: float,
    intercept: bool,
    noisy: bool,
    reading: dict[str, Any],
) -> tuple[Table, np.ndarray]:
    """The table of a regression on numbers, and its design; refuses improper posteriors."""
    check_scale("prior_scale", prior_scale, flat=True)
    check_scale("noise_scale", noise_scale)
    table = read_table(data, target, target_kind="number", **reading)
    X = design(table, intercept)
    if math.isinf(prior_scale):
        check_rank(X, labels(table, intercept))
    if noisy:
        check_residual(X, table.target, Path(data).name)
    return table, X


def _margins(X: np.ndarray, table: Table) -> np.ndarray:
    """Rows g with g . V = x_i . (V_y - V_k), k other than y; V (columns, classes - 1), flat."""
    d, k = X.shape[1], len(table.classes)
    one_hot = np.eye(k)[:, 1:]  # the reference class has no parameters
    rows = []
    for other in range(k):
        picked = table.target != other
        difference = one_hot[table.target[picked]] - one_hot[other]
        rows.append((X[picked][:, :, None] * difference[:, None, :]).reshape(-1, d * (k - 1)))
    return np.concatenate(rows)


def _generalised(
    X: np.ndarray,
    response: np.ndarray,
    loss: Callable[[Any, Any], Any],
    said: float,
    prior_scale: float,
    table: Table,
    intercept: bool,
    dtype: Any,
) -> Problem:
    d = X.shape[1]
    energy = GeneralisedLinear(
        jnp.asarray(X, dtype),
        jnp.asarray(response, dtype),
        jnp.full(d, prior_scale, dtype),
        loss,
    )
    constant = priors.normal_constant(d, prior_scale)
    constant = None if constant is None else constant + said
    return _problem(energy, constant, table, intercept, dtype)


def _noisy(
    energy: NoisyRegression,
    said: float,
    prior_scale: float,
    noise_scale: float,
    table: Table,
    intercept: bool,
    dtype: Any,
) -> Problem:
    constant = priors.normal_constant(table.features.shape[1] + intercept, prior_scale)
    if constant is not None:
        constant += said + priors.POSITIVE["half-normal"][1](noise_scale)
    extra = {"log_noise": jnp.zeros((), dtype)}
    if energy.student and energy.dof is None:
        extra["log_dof"] = jnp.asarray(math.log(DOF_PRIOR[0] / DOF_PRIOR[1]), dtype)
    return _problem(energy, constant, table, intercept, dtype, extra=extra)


def _problem(
    energy: Any,
    constant: float | None,
    table: Table,
    intercept: bool,
    dtype: Any,
    classes: tuple[str, ...] = (),
    extra: dict[str, Array] | None = None,
) -> Problem:
    extra = extra or {}
    start, dims, coords = coefficients(table, classes, intercept, dtype)
    dims |= dict.fromkeys(extra, ())
    notes = table_notes(table)
    if constant is None:
        notes = (*notes, "flat prior; the likelihood alone makes the posterior proper (checked)")
    start = start | extra
    return Problem(
        Energy(energy),
        start,
        dims,
        coords,
        notes,
        priors.positive if extra else None,
        constant,
        unconstrain=lambda values: priors.logarithms(values, start),
    )


def coefficients(
    table: Table, classes: tuple[str, ...], intercept: bool, dtype: Any
) -> tuple[dict[str, Array], dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Weights and intercept at zero, their dims and coords: the columns, and classes if any."""
    width = (len(classes),) if classes else ()
    axes = ("class",) if classes else ()
    start = {"weights": jnp.zeros((table.features.shape[1], *width), dtype)}
    if intercept:
        start["intercept"] = jnp.zeros(width, dtype)
    dims: dict[str, tuple[str, ...]] = {"weights": ("feature", *axes)}
    if intercept:
        dims["intercept"] = axes
    coords: dict[str, tuple[str, ...]] = {"feature": table.names}
    if classes:
        coords["class"] = tuple(classes)
    return start, dims, coords


def table_notes(table: Table) -> tuple[str, ...]:
    """What was read, in sentences."""
    n, d = table.features.shape
    return (f"{n} rows, {d} features, numeric columns standardised", *table.notes)
