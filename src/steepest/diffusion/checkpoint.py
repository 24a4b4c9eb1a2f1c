"""Checkpoints and saved models: arrays and JSON in an .npz, no pickle; whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

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


def fingerprint(*parts: Any) -> str:
    """A digest of everything that training depends on."""
    digest = hashlib.sha256()
    for part in parts:
        leaves, structure = jax.tree.flatten(part)
        digest.update(re.sub(r"0x[0-9a-f]+", "", repr(structure)).encode())  # no addresses
        for leaf in leaves:
            if eqx.is_array(leaf):
                if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                    leaf = jax.random.key_data(leaf)
                leaf = np.asarray(leaf)
                digest.update(f"{leaf.shape}{leaf.dtype}".encode() + leaf.tobytes())
            elif not callable(leaf):
                digest.update(repr(leaf).encode())
    return digest.hexdigest()


def write(path: Path, arrays: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    """One .npz with a JSON header; on the disk before the name points to it."""
    arrays = arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    scratch = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(scratch, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        raise ArgumentError("path", path, f"cannot be written: {error.strerror}") from None
    finally:
        scratch.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `write` wrote; executes nothing. Raises ArgumentError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(bytes(arrays.pop("header")))
        if header["format"] != FORMAT:
            raise ArgumentError("path", path, f"format {header['format']}, wanted {FORMAT}")
        return arrays, header
    except ArgumentError:
        raise
    except FileNotFoundError:
        raise ArgumentError("path", path, "the file does not exist") from None
    except Exception as error:
        raise ArgumentError("path", path, f"not a saved model or checkpoint ({error})") from None


def save(path: Path, carry: Any, step: int, losses: list[float], mark: str) -> None:
    """The whole state of training."""
    leaves = {f"leaf_{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(carry))}
    header = {"format": FORMAT, "kind": "checkpoint", "step": step, "mark": mark}
    write(path, leaves | {"losses": np.asarray(losses, float)}, header)


def load(path: Path, like: Any, mark: str) -> tuple[Any, int, list[float]] | None:
    """(carry, step, losses) of a checkpoint of the same training; None if there is no file."""
    if not path.exists():
        return None
    arrays, header = read(path)
    if header.get("kind") != "checkpoint" or header.get("mark") != mark:
        raise ArgumentError(
            "checkpoint", path, "it belongs to another training: delete it or choose another place"
        )
    carry = _fill(like, arrays, path)
    return carry, int(header["step"]), [float(x) for x in arrays["losses"]]


def _fill(like: Any, arrays: dict[str, np.ndarray], path: Path, same: bool = True) -> Any:
    leaves, structure = jax.tree.flatten(like)
    filled = []
    for i, leaf in enumerate(leaves):
        found = arrays.get(f"leaf_{i}")
        if (
            found is None
            or found.shape != leaf.shape
            or (found.dtype != leaf.dtype if same else found.dtype.kind != "f")
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
    write(path, leaves, header)


def load_model(path: Path) -> tuple[Learned, Any, dict[str, Any]]:
    """(model, process, what else was saved). Raises ArgumentError."""
    arrays, header = read(path)
    try:
        if header["kind"] != "model":
            raise ArgumentError("path", path, "a checkpoint, not a finished model")
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
        filled = _fill(_arrays(like), arrays, path, same=False)  # their own precision
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
