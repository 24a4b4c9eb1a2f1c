"""A bridge on disk: arrays in an npz file, the rest in JSON. Loading executes nothing."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..archive import read_arrays
from ..errors import ArgumentError
from ..states import GaussianMixture, Particles
from .base import AbstractBridge
from .chain import BridgeChain
from .linear import LinearBridge
from .reference import LinearReference

FORMAT = 1
ARRAYS, WORDS = "model.npz", "model.json"
MOST_BYTES = 2**30


def save(bridge: AbstractBridge, folder: str | Path, **words: Any) -> None:
    """model.npz and model.json in a folder; `words` (plain data) are kept beside.

    Of a chain a folder for each leg. Raises ArgumentError for a bridge on a grid, whose reference
    is code.
    """
    if isinstance(bridge, BridgeChain):
        for i, leg in enumerate(bridge.legs, 1):
            save(leg, Path(folder) / f"leg_{i}")
        _write(folder, {"kind": "chain", "times": list(bridge.times), "words": words})
        return
    if not isinstance(bridge, LinearBridge):
        raise ArgumentError("bridge", type(bridge).__name__, "a bridge of a linear reference")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    atoms = isinstance(bridge.potential, Particles)
    reference, arrays = bridge.reference, {}
    for name in ("rotation", "origin", "rates", "push", "temperature", "horizon"):
        arrays[name] = getattr(reference, name)
    if atoms:
        arrays |= {
            "points": bridge.potential.positions,
            "log_weights": bridge.potential.log_weights,
        }
    else:
        arrays |= {name: getattr(bridge.potential, name) for name in _PARTS}
    arrays |= {"starts": bridge.starts.positions, "start_weights": bridge.starts.log_weights}
    kept = {name: np.asarray(value) for name, value in arrays.items() if value is not None}
    np.savez(folder / ARRAYS, **kept)  # pyright: ignore[reportArgumentType]
    content = {
        "kind": "atoms" if atoms else "mixture",
        "method": bridge.method,
        "why": bridge.why,
        "notes": list(bridge.notes),
        "words": words,
    }
    _write(folder, content)


def _write(folder: str | Path, content: dict[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, **content}, indent=1) + "\n"
    (Path(folder) / WORDS).write_text(text, encoding="utf-8")


def load(folder: str | Path) -> tuple[LinearBridge | BridgeChain, dict[str, Any]]:
    """(bridge, words) of a folder. Raises ArgumentError for what is no saved bridge."""
    folder = Path(folder)
    try:
        content = json.loads((folder / WORDS).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        if content["kind"] == "chain":
            times = tuple(float(time) for time in content["times"])
            legs = [load(folder / f"leg_{i}")[0] for i in range(1, len(times))]
            return BridgeChain(tuple(legs), times), dict(content["words"])
        found = read_arrays(folder / ARRAYS, MOST_BYTES)
        # Asarray keeps float64 only where JAX may: the caller decides about precision.
        arrays = {name: jnp.asarray(array) for name, array in found.items()}
        if not all(bool(jnp.all(jnp.isfinite(a))) for n, a in arrays.items() if n != "log_weights"):
            raise ValueError("numbers that are not finite")
        names = ("origin", "rates", "push", "temperature", "horizon")
        reference = LinearReference(arrays.get("rotation"), *[arrays[name] for name in names])
        if content["kind"] == "atoms":
            potential: Any = Particles(arrays["points"], arrays["log_weights"])
        else:
            potential = GaussianMixture(**{name: arrays[name] for name in _PARTS})  # pyright: ignore
        starts = Particles(arrays["starts"], arrays.get("start_weights"))
        bridge = LinearBridge(
            reference, potential, starts, None, None, str(content["method"]), str(content["why"]),
            tuple(str(note) for note in content["notes"]),
        )  # fmt: skip
        return bridge, dict(content["words"])
    except (OSError, KeyError, TypeError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise ArgumentError("run", folder, f"no saved bridge ({error})") from None


_PARTS = ("log_weights", "means", "scales")
