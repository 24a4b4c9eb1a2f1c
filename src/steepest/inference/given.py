"""Draws that a user brings, from any tool, as draws (chain, save, d) of a target's coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..errors import ArgumentError
from ..naming import flatten
from .target import Target

SHAPES = "(chain, save, d), or by name (chain, save, ...) of what the model speaks of"


def flat_draws(draws: Any, target: Target) -> np.ndarray:
    """Draws as (chain, save, d).

    `draws`: an array of flat coordinates (chain, save, d), or (save, d) of one chain; a mapping
    from names to (chain, save, ...), of the quantities that the model speaks of or, by other names,
    of its parameters on unconstrained space; an ArviZ InferenceData or an xarray Dataset of such.
    Raises ArgumentError where names are missing, where shapes differ, and for values that are not
    finite.
    """
    named = _named(draws)
    flat = _of_array(draws, target) if named is None else _of_names(named, target)
    if not np.isfinite(flat).all():
        bad = int(np.sum(~np.isfinite(flat).all(axis=2)))
        raise ArgumentError(
            "draws", f"{bad} draws that are not finite on unconstrained space", "finite draws alone"
        )
    return flat


def table_draws(names: tuple[str, ...], rows: np.ndarray, target: Target) -> np.ndarray:
    """Rows (n, columns) as draws (chain, save, d).

    Columns: the names of a summary's rows, or `name[0]` by indices, of the quantities that the
    model speaks of or of its parameters on unconstrained space; `chain` numbers the chains; others
    are not read.
    """
    columns = dict(zip(names, rows.T, strict=True))
    chains = _by_chain(columns.pop("chain", np.zeros(len(rows))))
    start = np.asarray(target.start)[None, None]
    problem, tried = target.problem, []
    for variables in (target.constrained(start), target.variables(start)):
        for coords in (problem.coords, {}):
            asked, _ = flatten(variables, problem.dims, coords)
            missing = [name for name in asked if name not in columns]
            tried.append(missing)
            if not missing:
                found = np.stack([columns[name] for name in asked], axis=1)[chains]
                return flat_draws(_split(found, variables), target)
    short = min(tried, key=len)
    listed = ", ".join(repr(name) for name in short[:5])
    raise ArgumentError("draws", f"no column {listed}", "a column for every quantity")


def _named(draws: Any) -> dict[str, np.ndarray] | None:
    """Variables by name, if the draws have names."""
    draws = getattr(draws, "posterior", draws)
    if isinstance(draws, Mapping) or hasattr(draws, "data_vars"):
        return {str(name): np.asarray(draws[name]) for name in getattr(draws, "data_vars", draws)}
    return None


def _of_array(draws: Any, target: Target) -> np.ndarray:
    flat = np.asarray(draws, float)
    flat = flat[None] if flat.ndim == 2 else flat
    if flat.ndim != 3 or flat.shape[-1] != target.dimension or 0 in flat.shape:
        raise ArgumentError("draws", f"shape {np.shape(draws)}", f"{SHAPES}, d={target.dimension}")
    return flat


def _of_names(named: dict[str, np.ndarray], target: Target) -> np.ndarray:
    """By the names of the parameters where they are all there, else through `unconstrain`."""
    start = np.asarray(target.start)[None, None]
    own, spoken = target.variables(start), target.constrained(start)
    unconstrain = target.problem.unconstrain
    if unconstrain is not None and target.problem.constrain is not None:
        values = {name: _checked(name, named[name], spoken[name]) for name in spoken.keys() & named}
        dtype = target.start.dtype
        rows = {k: jnp.asarray(v.reshape(-1, *v.shape[2:]), dtype) for k, v in values.items()}
        back = lambda row: ravel_pytree(unconstrain(row))[0]  # noqa: E731
        try:  # quantities that follow from others need not be there
            flat = np.asarray(jax.jit(jax.vmap(back))(rows), float) if rows else None
        except KeyError:
            flat = None
        if flat is not None:
            return flat.reshape(*next(iter(values.values())).shape[:2], -1)
    missing = [name for name in own if name not in named]
    if missing:
        listed = ", ".join(map(repr, missing))
        raise ArgumentError("draws", f"no {listed}", f"{SHAPES}: {', '.join(spoken)}")
    parts = [_checked(name, named[name], own[name]) for name in own]
    return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=2)


def _checked(name: str, values: np.ndarray, like: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    if values.ndim < 2 or values.shape[2:] != like.shape[2:]:
        raise ArgumentError(
            "draws", f"{name} of shape {values.shape}", f"(chain, save, *{like.shape[2:]})"
        )
    return values


def _by_chain(numbers: np.ndarray) -> np.ndarray:
    """Row indices (chain, save): chains as long as the shortest, the last rows of each."""
    each = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    shortest = min(map(len, each))
    return np.stack([rows[len(rows) - shortest :] for rows in each])


def _split(flat: np.ndarray, variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns (chain, save, k) as the variables they were flattened from."""
    found, first = {}, 0
    for name, like in variables.items():
        shape = like.shape[2:]
        size = int(np.prod(shape))
        found[name] = flat[..., first : first + size].reshape(*flat.shape[:2], *shape)
        first += size
    return found
