"""A small network on a table of classes: a likelihood that knows its Fisher metric (sec. 7.1)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import ArgumentError
from ..functionals import NegativeLogLikelihood
from .problem import Problem
from .table import read_table


def perceptron(theta: dict[str, Any], x: Any) -> Any:
    """W_k tanh(... tanh(x W_0 + b_0) ...) + b_k, the logits of one row."""
    layers = sorted(theta)
    for name in layers[:-1]:
        x = jnp.tanh(x @ theta[name]["weights"] + theta[name]["bias"])
    return x @ theta[layers[-1]]["weights"] + theta[layers[-1]]["bias"]


def classifier(
    data: str | Path,
    target: str,
    *,
    hidden: Sequence[int] = (32,),
    batch_size: int | None = None,
    seed: int = 0,
    dtype: Any = jnp.float32,
    **reading: Any,
) -> Problem:
    """The mean cross entropy of a multilayer perceptron; without hidden layers, softmax regression.

    Weights start as N(0, 1/inputs) from `seed`, biases at zero. `reading`: options of `read_table`.
    """
    if any(not isinstance(width, int) or width < 1 for width in hidden):
        raise ArgumentError("hidden", list(hidden), "a list of positive integers")
    table = read_table(data, target, target_kind="class", **reading)
    widths = [table.features.shape[1], *hidden, len(table.classes)]
    keys = jax.random.split(jax.random.key(seed), len(widths))
    start = {}
    for k, (width, out) in enumerate(itertools.pairwise(widths)):
        weights = width**-0.5 * jax.random.normal(keys[k], (width, out), dtype)
        start[f"layer{k}"] = {"weights": weights, "bias": jnp.zeros(out, dtype)}
    x = jnp.asarray(np.asarray(table.features), dtype)
    model = NegativeLogLikelihood(perceptron, (x, jnp.asarray(table.target)), batch_size=batch_size)
    count = sum(leaf.size for leaf in jax.tree.leaves(start))
    notes = (f"{x.shape[0]} rows, {x.shape[1]} features, {count:,} parameters", *table.notes)
    return Problem(model, start, notes=notes)
