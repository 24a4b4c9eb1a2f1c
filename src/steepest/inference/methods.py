"""The methods by name. A method is a function (target, budget, key) -> Answer.

Each is the flow of one free energy with other slots: another state, geometry, noise or scheme.
A new method is one function in a file of its own and one line here.
"""

from __future__ import annotations

import difflib
import importlib

from ..errors import ArgumentError
from .answer import Method

_HOME: dict[str, str] = {
    "point": "laplace:point",
    "laplace": "laplace:laplace",
    "natural-gradient": "variational:natural_gradient",
    "natural-gradient-diagonal": "variational:natural_gradient_diagonal",
    "natural-gradient-low-rank": "variational:natural_gradient_low_rank",
    "bures": "variational:bures",
    "euclidean": "variational:euclidean",
    "stochastic-natural-gradient": "stochastic:stochastic_natural_gradient",
    "mixture": "mixtures:mixture",
    "svgd": "svgd:svgd",
    "annealing": "annealing:annealing",
    "hmc": "chains:hmc",
    "langevin": "chains:langevin",
    "kinetic-langevin": "unadjusted:kinetic_langevin",
    "microcanonical": "unadjusted:microcanonical",
}

DEFAULT = ("laplace", "natural-gradient", "hmc")


def method(name: str) -> Method:
    """The method called `name`; raises ArgumentError with the nearest name for an unknown one."""
    if name not in _HOME:
        near = difflib.get_close_matches(name, _HOME, 1)
        known = "one of " + ", ".join(_HOME)
        raise ArgumentError("method", repr(name), f"{near[0]!r}?" if near else known)
    module, function = _HOME[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), function)


def names() -> tuple[str, ...]:
    """All methods."""
    return tuple(_HOME)
