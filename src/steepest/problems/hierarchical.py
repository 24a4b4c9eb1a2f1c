"""Posteriors of regressions whose coefficients differ between groups, around a common mean.

    y_i ~ N(sum_v c_{g(i), v} z_iv + x_i . w, noise_i^2),     c_{g, v} ~ N(mean_v, spread_v^2)

z_i is (1, the varying columns), x_i the others; g(i) is the group of row i. Centred parameters are
the coefficients c themselves; non-centred ones are (c - mean) / spread, which are N(0, 1) a priori
and leave no funnel where the data say little of a group (Papaspiliopoulos, Roberts, Skold 2007).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..errors import ArgumentError
from ..functionals import Energy
from . import priors
from .priors import check_scale
from .problem import Problem
from .propriety import check_rank, check_residual
from .table import Table, TableError, read_table


def hierarchical_regression(
    data: str | Path,
    target: str,
    *,
    group: str,
    varying: Sequence[str] = (),
    errors: str | None = None,
    centred: bool = False,
    prior_scale: float = 1.0,
    spread_scale: float = 1.0,
    spread_prior: Literal["half-cauchy", "half-normal"] = "half-cauchy",
    noise_scale: float = 1.0,
    dtype: Any = jnp.float32,
    **reading: Any,
) -> Problem:
    """The posterior of a regression with an intercept, and slopes of `varying` columns, by group.

    `group`: the column of groups. `errors`: a column of known standard errors; the target then
    keeps its units. Without it the target is standardised and its noise unknown (`log_noise`, with
    the prior |N(0, noise_scale^2)|). `prior_scale`: of the means and of the common weights, inf for
    a flat prior; `spread_scale`: of the prior of the spread between groups. Parameters: `mean`,
    `log_spread`, `effects` (centred) or `deviations` (not), `weights`, `log_noise`. Raises
    TableError, and ArgumentError for an improper posterior.
    """
    check_scale("prior_scale", prior_scale, flat=True)
    check_scale("spread_scale", spread_scale)
    check_scale("noise_scale", noise_scale)
    if spread_prior not in priors.POSITIVE:
        known = " or ".join(repr(name) for name in priors.POSITIVE)
        raise ArgumentError("spread_prior", repr(spread_prior), known)
    kind = "number" if errors is None else "quantity"
    table = read_table(data, target, target_kind=kind, group=group, errors=errors, **reading)
    assert table.group is not None
    moving, fixed = _columns(table, varying, Path(data).name)
    slopes, common = table.features[:, moving], table.features[:, fixed]
    _check_proper(table, slopes, common, moving, fixed, prior_scale, Path(data).name)
    energy = Hierarchical(
        jnp.asarray(table.group, jnp.int32),
        jnp.asarray(slopes, dtype) if moving else None,
        jnp.asarray(common, dtype) if fixed else None,
        jnp.asarray(table.target, dtype),
        None if table.errors is None else jnp.asarray(table.errors, dtype),
        jnp.asarray([prior_scale, spread_scale, noise_scale], dtype),
        spread_prior,
        centred,
    )
    start, dims = _start(table, moving, fixed, energy, spread_scale, group, dtype)
    coords = {
        group: table.levels,
        "coefficient": ("intercept", *(table.names[i] for i in moving)),
        "feature": tuple(table.names[i] for i in fixed),
    }
    used = {axis for axes in dims.values() for axis in axes}
    n, groups = len(table.target), len(table.levels)
    form = "centred" if centred else "non-centred"
    notes = (f"{n} rows in {groups} groups of {group}, {form}", *table.notes)
    return Problem(
        Energy(energy),
        start,
        dims,
        {axis: coords[axis] for axis in coords if axis in used},
        notes,
        energy.constrain,
        _constant(energy, start, prior_scale, spread_scale, noise_scale),
        unconstrain=lambda values: energy.unconstrain(values, start),
    )


class Hierarchical(eqx.Module):
    """-log posterior of a regression with coefficients by group, up to a constant."""

    group: Int[Array, " n"]
    slopes: Float[Array, "n v"] | None
    features: Float[Array, "n d"] | None
    response: Float[Array, " n"]
    errors: Float[Array, " n"] | None
    scales: Float[Array, "3"]
    spread_prior: str = eqx.field(static=True)
    centred: bool = eqx.field(static=True)

    def __call__(self, theta: dict[str, Array]) -> Float[Array, ""]:
        prior_scale, spread_scale, noise_scale = self.scales
        fitted = self.fitted(self.effects(theta), theta)
        if self.errors is None:
            log_noise = theta["log_noise"]
            z = (self.response - fitted) * jnp.exp(-log_noise)
            rows = len(self.response) * log_noise
            rows += priors.half_normal(log_noise, noise_scale)
        else:
            z, rows = (self.response - fitted) / self.errors, 0.0
        prior = priors.normal(theta["mean"], prior_scale)
        if self.features is not None:
            prior += priors.normal(theta["weights"], prior_scale)
        log_spread = theta["log_spread"]
        prior += priors.POSITIVE[self.spread_prior][0](log_spread, spread_scale)
        if self.centred:
            white = (theta["effects"] - theta["mean"]) * jnp.exp(-log_spread)
            prior += len(white) * jnp.sum(log_spread)
        else:
            white = theta["deviations"]
        return 0.5 * jnp.sum(z**2) + rows + prior + priors.normal(white, 1.0)

    def effects(self, theta: dict[str, Array]) -> Float[Array, "g ..."]:
        """The coefficients of every group."""
        if self.centred:
            return theta["effects"]
        return theta["mean"] + jnp.exp(theta["log_spread"]) * theta["deviations"]

    def fitted(self, effects: Float[Array, "g ..."], theta: dict[str, Array]) -> Float[Array, " n"]:
        """The mean of every row."""
        mine = effects[self.group]
        if self.slopes is not None:
            mine = mine[:, 0] + jnp.sum(mine[:, 1:] * self.slopes, axis=1)
        return mine if self.features is None else mine + self.features @ theta["weights"]

    def constrain(self, theta: dict[str, Array]) -> dict[str, Array]:
        """`mean`, `spread`, `effects`, and `weights`, `noise` where the model has them."""
        found = priors.positive(theta)
        found.pop("deviations", None)
        return found | {"effects": self.effects(theta)}

    def unconstrain(self, values: dict[str, Array], like: dict[str, Array]) -> dict[str, Array]:
        """The inverse of `constrain`: parameters named as in `like`."""
        white = {"deviations": (values["effects"] - values["mean"]) / values["spread"]}
        return priors.logarithms(values | white, like)


def _columns(table: Table, varying: Sequence[str], file: str) -> tuple[list[int], list[int]]:
    """The columns whose slope varies, and the others."""
    for name in varying:
        if name not in table.names:
            known = ", ".join(map(repr, table.names[:8])) or "no feature column"
            raise TableError(f"{file}: varying names {name!r}, which is no feature; it has {known}")
    if len(set(varying)) < len(varying):
        raise TableError(f"{file}: varying names a column twice")
    moving = [table.names.index(name) for name in varying]
    return moving, [i for i in range(len(table.names)) if i not in moving]


def _check_proper(
    table: Table,
    slopes: np.ndarray,
    common: np.ndarray,
    moving: list[int],
    fixed: list[int],
    prior_scale: float,
    file: str,
) -> None:
    ones = np.ones((len(table.target), 1))
    if math.isinf(prior_scale):
        names = ["mean", *(table.names[i] for i in (*moving, *fixed))]
        check_rank(np.concatenate([ones, slopes, common], axis=1), names)
    if table.errors is not None:
        return
    assert table.group is not None
    if np.bincount(table.group).max() <= 1:
        raise ArgumentError(
            "group",
            "one row in every group",
            'noise and spread cannot be told apart; name a column of known errors: errors = "..."',
        )
    # What is left when every group has had its own coefficients fitted.
    ones_and_slopes = np.concatenate([ones, slopes], axis=1)
    left = np.concatenate([common, table.target[:, None]], axis=1)
    spent = 0
    for index in range(len(table.levels)):
        rows = table.group == index
        own = ones_and_slopes[rows]
        solution, _, rank, _ = np.linalg.lstsq(own, left[rows], rcond=None)
        left[rows] -= own @ solution
        spent += int(rank)
    check_residual(left[:, :-1], left[:, -1], file, spent, float(np.linalg.norm(table.target)))


def _start(
    table: Table,
    moving: list[int],
    fixed: list[int],
    energy: Hierarchical,
    spread_scale: float,
    group: str,
    dtype: Any,
) -> tuple[dict[str, Array], dict[str, tuple[str, ...]]]:
    """Zero, and a spread in the middle of its prior."""
    width = (1 + len(moving),) if moving else ()
    axes = ("coefficient",) if moving else ()
    of_group = "effects" if energy.centred else "deviations"
    start = {
        "mean": jnp.zeros(width, dtype),
        "log_spread": jnp.full(width, math.log(spread_scale), dtype),
        of_group: jnp.zeros((len(table.levels), *width), dtype),
    }
    dims: dict[str, tuple[str, ...]] = {
        "mean": axes,
        "log_spread": axes,
        of_group: (group, *axes),
    }
    if fixed:
        start["weights"], dims["weights"] = jnp.zeros(len(fixed), dtype), ("feature",)
    if energy.errors is None:
        start["log_noise"], dims["log_noise"] = jnp.zeros((), dtype), ()
    return start, dims


def _constant(
    energy: Hierarchical,
    start: dict[str, Array],
    prior_scale: float,
    spread_scale: float,
    noise_scale: float,
) -> float | None:
    """What the energy leaves out of -log joint density."""
    flat = start["mean"].size + (start["weights"].size if "weights" in start else 0)
    constant = priors.normal_constant(flat, prior_scale)
    if constant is None:
        return None
    spread = priors.POSITIVE[energy.spread_prior][1](spread_scale)
    white = start["effects" if energy.centred else "deviations"].size
    rows = len(energy.response)
    constant += start["mean"].size * spread + 0.5 * (white + rows) * priors.LOG_2PI
    if energy.errors is None:
        return constant + priors.POSITIVE["half-normal"][1](noise_scale)
    return constant + float(np.sum(np.log(np.asarray(energy.errors))))
