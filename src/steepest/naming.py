"""Names for the coordinates of a state: variables from a pytree, labels from dims and coords."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

MOST_COORDINATES = 2_000


def named_leaves(points: Any) -> Iterator[tuple[str, Any]]:
    """(name, leaf) for the leaves of a pytree; a bare array is called theta."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(points)[0]:
        yield "_".join(_key_name(key) for key in path) or "theta", leaf


def _key_name(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def flatten(
    variables: Mapping[str, np.ndarray],
    dims: Mapping[str, Sequence[str]],
    coords: Mapping[str, Sequence[str]],
) -> tuple[list[str], np.ndarray]:
    """Names, and draws with axes (chain, save, coordinate), of variables (chain, save, ...).

    At most 2000 coordinates, the first ones. The largest variable goes by its labels alone.
    """
    largest = max(variables, key=lambda variable: variables[variable].size)
    names: list[str] = []
    columns = []
    for variable, value in variables.items():
        chains, saves, *shape = value.shape
        room = MOST_COORDINATES - len(names)
        columns.append(value.reshape(chains, saves, -1)[:, :, :room].astype(float))
        axes = dims.get(variable, ())
        labelled = bool(axes) and all(axis in coords for axis in axes)
        for index in itertools.islice(np.ndindex(*shape), room):
            parts = [
                str(coords[axes[k]][i]) if k < len(axes) and axes[k] in coords else str(i)
                for k, i in enumerate(index)
            ]
            label = ", ".join(parts)
            if not label:
                names.append(variable)
            else:
                names.append(label if labelled and variable == largest else f"{variable}[{label}]")
    return names, np.concatenate(columns, axis=2)
