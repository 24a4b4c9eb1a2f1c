"""Saved models: the arrays of a network, with what its process and its network are as JSON."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import store
from ..errors import ArgumentError
from . import networks, processes
from .learned import Learned

FORMAT = 1
PROCESSES = {
    "variance-preserving": processes.VariancePreserving,
    "sub-variance-preserving": processes.SubVariancePreserving,
    "cosine": processes.Cosine,
    "variance-exploding": processes.VarianceExploding,
    "edm": processes.EDM,
}


def _fill(like: Any, arrays: dict[str, np.ndarray], path: Path) -> Any:
    leaves, structure = jax.tree.flatten(like)
    filled = []
    for i, leaf in enumerate(leaves):
        found = arrays.get(f"leaf_{i}")
        if (
            found is None
            or found.shape != leaf.shape
            or found.dtype.kind != "f"  # the precision is its own
        ):
            raise ArgumentError("path", path, "its arrays do not fit this network")
        filled.append(jnp.asarray(found))
    return jax.tree.unflatten(structure, filled)


def describe_process(process: Any) -> dict[str, Any]:
    """A process as plain data."""
    for kind, cls in PROCESSES.items():
        if type(process) is cls:
            values = {f.name: float(getattr(process, f.name)) for f in dataclasses.fields(process)}
            return {"kind": kind} | values
    raise ArgumentError("process", type(process).__name__, f"one of {', '.join(PROCESSES)}")


def rebuild_process(described: dict[str, Any]) -> Any:
    """The process of a description. Raises ArgumentError."""
    values = dict(described)
    kind = values.pop("kind", None)
    if kind not in PROCESSES:
        raise ArgumentError("process", repr(kind), f"one of {', '.join(PROCESSES)}")
    try:
        return PROCESSES[kind](**values)
    except TypeError as error:
        raise ArgumentError("process", kind, str(error)) from None


def build_network(described: dict[str, Any], key: Any, dtype: Any = None) -> Any:
    """The untrained network of a description {kind, shape, width, depth, classes}."""
    shape, classes = tuple(described["shape"]), int(described["classes"])
    if described["kind"] == "unet":
        return networks.UNet(shape, key, width=described["width"], classes=classes, dtype=dtype)
    if described["kind"] == "perceptron":
        (d,) = shape
        width, depth = described["width"], described["depth"]
        options = dict(width=width, depth=depth, classes=classes, dtype=dtype)
        return networks.Perceptron(d, key, **options)
    raise ArgumentError("network", repr(described["kind"]), "'perceptron' or 'unet'")


def save_model(
    path: Path, model: Learned, process: Any, network: dict[str, Any], more: dict[str, Any]
) -> None:
    """A trained model with its process and the description of its network."""
    leaves = {f"leaf_{i}": np.asarray(x) for i, x in enumerate(_arrays(model))}
    header = {
        "format": FORMAT,
        "kind": "model",
        "process": describe_process(process),
        "network": network,
        "parametrisation": model.parametrisation,
        "more": more,
    }
    store.write(path, leaves, header)


def load_model(path: Path) -> tuple[Learned, Any, dict[str, Any]]:
    """(model, process, what else was saved). Raises ArgumentError."""
    arrays, header = store.read(path, FORMAT, "a saved model")
    try:
        if header["kind"] != "model":
            raise ArgumentError("path", path, "something else, not a finished model")
        described = header["network"]
        shape = tuple(int(n) for n in described["shape"])
        size = int(np.prod(shape))
        network = build_network(described, jax.random.key(0))
        like = Learned(
            network,
            jnp.zeros(shape),
            jnp.eye(size),
            header["parametrisation"],
            int(described["classes"]),
        )
        filled = _fill(_arrays(like), arrays, path)
        structure = jax.tree.structure(eqx.filter(like, eqx.is_inexact_array))
        dynamic = jax.tree.unflatten(structure, filled)
        model = eqx.combine(dynamic, eqx.filter(like, eqx.is_inexact_array, inverse=True))
        return model, rebuild_process(header["process"]), header["more"]
    except ArgumentError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise ArgumentError("path", path, f"not a saved model ({error})") from None


def _arrays(model: Learned) -> list[Any]:
    return jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
