"""`steepest design`: from words to algorithms, each with a spec that `steepest run` takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError
from . import environment
from .spec import to_toml

WORD = re.compile(r"(\w+)\s*=\s*(.*?)(?=\s+\w+\s*=|$)")
PLAIN = ("Euclidean", "Symplectic", "Sphere", "Wasserstein", "FisherRao")
NAMED = ("Euler", "MinimizingMovement", "DiscreteGradient", "Exponential")
ENERGY = {"kind": "quadratic", "curvatures": [2.0, 1.0]}


def command(words: Sequence[str]) -> int:
    """Print every algorithm that fits; the exit code. Raises ArgumentError for unknown words."""
    environment.prepare()
    import jax

    from ..registry import from_card
    from . import screen

    with jax.enable_x64(True):
        found = from_card(parse(" ".join(words)))
        for design in found:
            screen.say("; ".join(design.names) or "new: no known algorithm has this card", "bold")
            if design.citation:
                screen.say(design.citation, "dim")
            screen.row(design.card())
            tables = spec_of(design)
            if tables is None:
                screen.say("no spec says this; from Python: steepest.from_card(...)", "dim")
            else:
                screen.say(to_toml(tables))
    if len(found) > 1:
        screen.say(f"{len(found)} known algorithms fit; more slots choose among them", "dim")
    return 0


def parse(text: str) -> dict[str, str]:
    """{"state": "gaussian", ...} from "state=gaussian ..."; raises ArgumentError."""
    found = dict(WORD.findall(text.strip()))
    if not found or WORD.sub("", text).strip():
        raise ArgumentError("SLOT=WORD", repr(text), "e.g. state=gaussian functional=kl")
    return found


def spec_of(design: Any) -> dict[str, Any] | None:
    """The tables of a spec with this structure, on an invented energy; None where there is none."""
    flow, scheme, state = design.flow, design.scheme, design.state
    (part,) = flow.parts
    thermal = part.thermal is not None
    shape = _state(state, thermal)
    functionals = _functionals(part.functional, shape)
    geometries = [_geometry(term) for term in part.geometry.terms]
    noises = [] if part.noise is None else [_noise(term) for term in part.noise.terms]
    motion = _scheme(scheme)
    if shape is None or motion is None or None in (*functionals, *geometries, *noises):
        return None
    if not functionals:
        return None
    if any(table and table["kind"] == "sphere" for table in geometries):
        shape["initial"] = [0.6, 0.8]
    tables: dict[str, Any] = {"state": shape, "functional": functionals, "geometry": geometries}
    tables |= {"noise": noises} if noises else {}
    run = {"steps": 200, "save_every": 10, "precision": "float64"}
    return tables | {"scheme": motion, "run": run}


def _state(state: Any, thermal: bool) -> dict[str, Any] | None:
    match type(state).__name__:
        case "Gaussian":
            return {"kind": "gaussian", "mean": [1.0, -0.5], "deviation": 0.7}
        case "Density":
            grid = {"lower": -3.0, "upper": 3.5, "cells": 100}
            return {"kind": "density", **grid, "mean": -0.5, "deviation": 0.55}
        case "Particles":
            return {"kind": "cloud", "count": 200}
        case "Categorical" | "Adaptive":
            return None
    return {"kind": "particles", "chains": 64} if thermal else {"kind": "point"}


def _functionals(functional: Any, state: dict[str, Any] | None) -> list[dict[str, Any] | None]:
    """A table for each term."""
    from ..functionals.base import parts, unscaled

    line = state is not None and state["kind"] == "density"
    energy = {"kind": "quadratic", "curvatures": [1.0]} if line else ENERGY
    tables: list[dict[str, Any] | None] = []
    for term in parts(functional):
        one = unscaled(term)[1]
        match type(one).__name__:
            case "Energy" | "Hamiltonian":
                inner = getattr(one, "potential", one)
                tables.append(dict(energy) if not _sampled(inner) else None)
            case "FreeEnergy" | "KL":
                warm = {"temperature": float(getattr(one, "temperature", 1.0))}
                tables.append({"kind": "free-energy", **warm, "energy": energy})
            case "ExpectedEnergy":
                tables.append({"kind": "expected-energy", "energy": energy})
            case "NegativeEntropy":
                tables.append({"kind": "negative-entropy"})
            case "InteractionEnergy":
                tables.append({"kind": "interaction-energy"})
            case "InternalEnergy":
                tables.append({"kind": "internal-energy", "power": float(one.power)})
            case _:
                tables.append(None)
    return tables


def _sampled(functional: Any) -> bool:
    return "Risk" in type(functional).__name__ or "Likelihood" in type(functional).__name__


def _geometry(term: Any) -> dict[str, Any] | None:
    from ..geometries.cone import unscaled

    one = unscaled(term)[1]
    name = type(one).__name__
    if name in PLAIN:
        return {"kind": _kebab(name)}
    match name:
        case "Friction" if not callable(one.gamma):
            return {"kind": "friction", "gamma": float(one.gamma)}
        case "Riemannian":
            return {"kind": "riemannian", "metric": [[2.0, 0.0], [0.0, 1.0]]}
        case "Norm" if one.kind in ("sup", "l1", "euclidean"):
            return {"kind": "norm", "norm": one.kind, "unit": one.unit}
        case "Stein":
            return {"kind": "stein", "kernel": "gaussian"}
    return None


def _noise(term: Any) -> dict[str, Any] | None:
    match type(term).__name__:
        case "Thermal":
            cooled = {"initial": 0.4, "final": 0.1, "time": 10.0}
            fixed = not callable(term.temperature)
            return {"kind": "thermal", "temperature": float(term.temperature) if fixed else cooled}
    return None


def _scheme(scheme: Any) -> dict[str, Any] | None:
    name, step = type(scheme).__name__, {"step": float(scheme.step)}
    words = {"BAB": "leapfrog", "BAOAB": "baoab", "OBABO": "obabo"}
    if name in NAMED:
        return {"kind": _kebab(name), **step}
    match name:
        case "Splitting" if scheme.accuracy is None:
            return {"kind": words[scheme.word], **step} if scheme.word in words else None
        case "Splitting":
            kinds = {"ABABABA": "forest-ruth", "BABABAB": "yoshida", "ABABA": "mclachlan"}
            return {"kind": kinds[scheme.word], **step} if scheme.word in kinds else None
        case "Metropolis" if isinstance(scheme.leaps, int):
            inner = getattr(scheme.scheme, "word", type(scheme.scheme).__name__).lower()
            return {"kind": "metropolis", **step, "proposal": inner}
        case "FiniteVolume":
            return {"kind": "finite-volume", **step, "order": scheme.order}
        case "Variational":
            return {"kind": "variational", **step, "order": scheme.order}
        case "Composition" if all(getattr(p, "order", 2) == 2 for p in scheme.schemes):
            parts = [_kebab(type(part).__name__) for part in scheme.schemes]
            return {"kind": "strang", **step, "schemes": parts}
    return None


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
