"""A bridge on disk: arrays in an npz file, the rest in JSON. Loading executes nothing."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import tree
from ..diffusion.networks import Perceptron
from ..errors import ArgumentError
from ..schemes.generator import Generator
from ..states import Density, Gaussian, GaussianMixture, Grid, Particles
from ..store import new_file, read_arrays, write_arrays
from .base import AbstractBridge
from .chain import BridgeChain
from .grids import GridBridge, Halves, gibbs_law
from .growth import GrowthBridge
from .linear import LinearBridge
from .networks import Half, NetworkBridge
from .reference import LinearReference
from .smooth import Joint, SmoothChain

FORMAT = 1
ARRAYS, WORDS = "model.npz", "model.json"
MOST_BYTES = 2**30
REFERENCE = ("rotation", "origin", "rates", "push", "temperature", "horizon")
GROWTH = ("f", "g", "masses", "price", "gap", "error")
MIXTURE = ("log_weights", "means", "scales")


def save(bridge: AbstractBridge | SmoothChain, folder: str | Path, **words: Any) -> None:
    """model.npz and model.json in a folder; `words` (plain data) are kept beside.

    Of a chain a folder for each leg. Raises ArgumentError for networks that are code.
    """
    content = {"method": bridge.method, "why": bridge.why, "notes": list(bridge.notes)}  # pyright: ignore
    if isinstance(bridge, BridgeChain):
        for i, leg in enumerate(bridge.legs, 1):
            save(leg, Path(folder) / f"leg_{i}")
        content = {"kind": "chain", "times": list(bridge.times)}
        arrays: dict[str, Any] = {}
    elif isinstance(bridge, SmoothChain):
        content |= {"kind": "smooth", "times": list(bridge.times)}
        arrays = {"temperature": bridge.temperature, "gap": bridge.gap}
        if isinstance(bridge.joined, Joint):
            arrays |= {"mean": bridge.joined.mean, "covariance": bridge.joined.covariance}
        else:
            save(bridge.joined, Path(folder) / "joined")
            starts = bridge.starts
            arrays |= {"starts": starts.positions, "start_weights": starts.log_weights}
    elif isinstance(bridge, GrowthBridge):
        save(bridge.lineages, Path(folder) / "lineages")
        content = {"kind": "growth"}
        arrays = {"x": bridge.sources.positions, "x_logs": jnp.log(bridge.sources.weights)}
        arrays |= {"y": bridge.targets.positions, "y_logs": jnp.log(bridge.targets.weights)}
        arrays |= {name: getattr(bridge, name) for name in GROWTH}
    elif isinstance(bridge, LinearBridge):
        content["kind"], arrays = _of_linear(bridge)
    elif isinstance(bridge, GridBridge):
        arrays = _of_grid(bridge)
        grid = bridge.grid
        content |= {"kind": "grid", "substeps": bridge.substeps, "lower": grid.lower}
        content |= {"upper": grid.upper, "shape": grid.shape, "boundary": grid.boundary}
    elif isinstance(bridge, NetworkBridge):
        arrays, shape = _of_networks(bridge)
        content |= {"kind": "network", "steps": bridge.steps, **shape}
    else:
        raise ArgumentError("bridge", type(bridge).__name__, "a bridge that a solver returned")
    folder = Path(folder)
    kept = {name: np.asarray(value) for name, value in arrays.items() if value is not None}
    if kept:
        write_arrays(folder / ARRAYS, kept)
    text = json.dumps({"format": FORMAT, **content, "words": words}, indent=1) + "\n"
    with new_file(folder / WORDS) as file:
        file.write(text.encode())


def load(folder: str | Path) -> tuple[Any, dict[str, Any]]:
    """(bridge, words) of a folder. Raises ArgumentError for what is no saved bridge."""
    folder = Path(folder)
    try:
        content = json.loads((folder / WORDS).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        words = dict(content["words"])
        if content["kind"] == "chain":
            times = tuple(float(time) for time in content["times"])
            legs = [load(folder / f"leg_{i}")[0] for i in range(1, len(times))]
            return BridgeChain(tuple(legs), times), words
        found = read_arrays(folder / ARRAYS, MOST_BYTES)
        # Asarray keeps float64 only where JAX may: the caller decides about precision.
        arrays = {name: jnp.asarray(array) for name, array in found.items()}
        weights = ("log_weights", "start_weights", "x_logs", "y_logs")
        if not all(tree.is_finite(a) for n, a in arrays.items() if n not in weights):
            raise ValueError("numbers that are not finite")
        if content["kind"] == "growth":
            x, y = (Particles(arrays[name], arrays[f"{name}_logs"]) for name in ("x", "y"))
            lineages, rest = load(folder / "lineages")[0], {name: arrays[name] for name in GROWTH}
            return GrowthBridge(lineages=lineages, sources=x, targets=y, **rest), words
        if content["kind"] == "smooth":
            return _smooth(folder, content, arrays), words
        reader = {"grid": _grid, "network": _networks}.get(content["kind"], _linear)
        told = (str(content["method"]), str(content["why"]), tuple(map(str, content["notes"])))
        return reader(content, arrays, told), words
    except (OSError, KeyError, TypeError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise ArgumentError("run", folder, f"no saved bridge ({error})") from None


def _smooth(folder: Path, content: Any, arrays: Any) -> SmoothChain:
    times = tuple(float(time) for time in content["times"])
    if "mean" in arrays:
        mean, covariance = arrays["mean"], arrays["covariance"]
        if mean.shape[0] != len(times) or covariance.shape != (mean.size, mean.size):
            raise ValueError("moments that do not fit the times")
        joined, d = Joint(mean, covariance), mean.shape[1]
        starts: Any = Gaussian.from_moments(mean[0], covariance[:d, :d])
    else:
        joined = load(folder / "joined")[0]
        if not isinstance(joined, BridgeChain) or joined.times != times:
            raise ValueError("a chain of other times")
        starts = Particles(arrays["starts"], arrays.get("start_weights"))
    told = (str(content["method"]), str(content["why"]), tuple(map(str, content["notes"])))
    return SmoothChain(joined, starts, arrays["temperature"], arrays["gap"], times, *told)


def _of_reference(reference: LinearReference, starts: Particles) -> dict[str, Any]:
    found = {name: getattr(reference, name) for name in REFERENCE}
    return found | {"starts": starts.positions, "start_weights": starts.log_weights}


def _reference(arrays: dict[str, Any]) -> tuple[LinearReference, Particles]:
    parts = {name: arrays[name] for name in REFERENCE if name != "rotation"}
    starts = Particles(arrays["starts"], arrays.get("start_weights"))
    return LinearReference(rotation=arrays.get("rotation"), **parts), starts


def _of_linear(bridge: LinearBridge) -> tuple[str, dict[str, Any]]:
    arrays, potential = _of_reference(bridge.reference, bridge.starts), bridge.potential
    if isinstance(potential, Particles):
        points = {"points": potential.positions, "log_weights": potential.log_weights}
        return "atoms", arrays | points
    return "mixture", arrays | {name: getattr(potential, name) for name in MIXTURE}


def _linear(content: Any, arrays: Any, told: Any) -> LinearBridge:
    reference, starts = _reference(arrays)
    if content["kind"] == "atoms":
        potential: Any = Particles(arrays["points"], arrays["log_weights"])
    else:
        potential = GaussianMixture(**{name: arrays[name] for name in MIXTURE})
    method, why, notes = told
    return LinearBridge(reference, potential, starts, None, None, method, why, notes)


def _of_grid(bridge: GridBridge) -> dict[str, Any]:
    operator = bridge.generator
    rates = {f"up_{i}": rate for i, rate in enumerate(operator.up)}
    rates |= {f"down_{i}": rate for i, rate in enumerate(operator.down)}
    return rates | {
        "potential": operator.potential, "heat": operator.temperature, "own": bridge.own,
        "f": bridge.halves.f, "g": bridge.halves.g, "error": bridge.halves.error,
        "iterations": bridge.halves.iterations, "temperature": bridge.temperature,
        "span": bridge.span, "source": bridge.source.values, "target": bridge.target.values,
    }  # fmt: skip


def _grid(content: Any, arrays: Any, told: Any) -> GridBridge:
    lower, upper = (tuple(map(float, content[name])) for name in ("lower", "upper"))
    shape = tuple(map(int, content["shape"]))
    grid = Grid(lower, upper, shape, tuple(map(str, content["boundary"])))
    axes = range(grid.dimension)
    up, down = (tuple(arrays[f"{name}_{i}"] for i in axes) for name in ("up", "down"))
    tables = (*up, *down, *[arrays[name] for name in ("potential", "f", "g", "source", "target")])
    if any(table.shape != shape for table in (*tables, *arrays["own"])):
        raise ValueError("tables that do not fit the grid")
    operator = Generator(grid, up, down, arrays["potential"], arrays["heat"])
    halves = Halves(arrays["f"], arrays["g"], arrays["error"], arrays["iterations"])
    source, target = (Density(grid, arrays[name]) for name in ("source", "target"))
    method, why, notes = told
    return GridBridge(
        operator, gibbs_law(operator), halves, arrays["own"], arrays["temperature"], arrays["span"],
        source, target, method, why, notes, int(content["substeps"]),
    )  # fmt: skip


def _of_networks(bridge: NetworkBridge) -> tuple[dict[str, Any], dict[str, int]]:
    network = bridge.ahead.network
    if not isinstance(network, Perceptron):
        raise ArgumentError("network", type(network).__name__, "a Perceptron: others are code")
    shape = {"width": network.entry.weight.shape[0], "depth": len(network.blocks)}
    arrays = _of_reference(bridge.reference, bridge.starts) | {"losses": bridge.losses}
    for name, half in (("ahead", bridge.ahead), ("back", bridge.back)):
        parts = {part: getattr(half.potential, part) for part in MIXTURE}
        parts |= {"centre": half.centre, "spread": half.spread}
        leaves = jax.tree.leaves(eqx.filter(half.network, eqx.is_inexact_array))
        parts |= {f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}
        arrays |= {f"{name}_{part}": value for part, value in parts.items()}
    return arrays, shape


def _networks(content: Any, arrays: Any, told: Any) -> NetworkBridge:
    reference, starts = _reference(arrays)
    width, depth = int(content["width"]), int(content["depth"])
    halves = []
    for name in ("ahead", "back"):
        part = {key[len(name) + 1 :]: a for key, a in arrays.items() if key.startswith(f"{name}_")}
        make = eqx.filter_eval_shape
        like = make(Perceptron, reference.dimension, jax.random.key(0), width=width, depth=depth)
        leaves, structure = jax.tree.flatten(like)
        found = [part[f"leaf_{i}"] for i in range(len(leaves))]
        if any(a.shape != b.shape for a, b in zip(found, leaves, strict=True)):
            raise ValueError("parameters that do not fit the network")
        potential = GaussianMixture(**{key: part[key] for key in MIXTURE})
        network = jax.tree.unflatten(structure, found)
        halves.append(Half(potential, network, part["centre"], part["spread"]))
    (ahead, back), (method, why, notes), steps = halves, told, int(content["steps"])
    losses = arrays["losses"]
    return NetworkBridge(reference, ahead, back, starts, losses, method, why, notes, steps)
