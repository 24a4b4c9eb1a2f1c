"""An energy from the user's own file, `module:function`. This executes that file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from ..functionals import AbstractFunctional, Energy
from .problem import Problem


def imported_energy(
    energy: str,
    *,
    folder: Path,
    dimension: int | None = None,
    start: str | None = None,
    dtype: Any = jnp.float32,
) -> Problem:
    """E(theta) = the function that `energy` names in a file of `folder`.

    The parameters are an array of `dimension` zeros, or the pytree (or function of no arguments)
    that `start` = "module:name" gives; exactly one of the two. Executes the user's code.
    """
    if (dimension is None) == (start is None):
        raise ArgumentError(
            "dimension, start",
            (dimension, start),
            "give exactly one: the number of parameters, or module:name of the initial ones",
        )
    fn = load_object(energy, folder, "energy")
    if not callable(fn):
        raise ArgumentError("energy", energy, "it must name a function theta -> scalar")
    if start is None:
        theta: Any = jnp.zeros(dimension or 0, dtype)
    else:
        theta = load_object(start, folder, "start")
        theta = theta() if callable(theta) else theta
        theta = jax.tree.map(lambda x: x.astype(dtype), tree.as_float(theta, "start"))
    functional = fn if isinstance(fn, AbstractFunctional) else Energy(fn)
    return Problem(functional, theta)


def load_object(reference: str, folder: Path, argument: str) -> Any:
    """The object `module:name`, from module.py inside `folder`; the file is executed."""
    module_name, _, name = reference.partition(":")
    if not name.isidentifier() or not all(p.isidentifier() for p in module_name.split(".")):
        raise ArgumentError(argument, repr(reference), 'write it as "module:function"')
    module = _load_module(module_name, folder, argument)
    if not hasattr(module, name):
        known = [n for n in vars(module) if not n.startswith("_") and callable(getattr(module, n))]
        raise ArgumentError(argument, repr(reference), f"{module_name}.py has {sorted(known)}")
    return getattr(module, name)


def _load_module(name: str, folder: Path, argument: str) -> ModuleType:
    path = folder.joinpath(*name.split(".")).with_suffix(".py")
    if not path.is_file():
        raise ArgumentError(argument, name, f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # The file may import its neighbours, as a script may.
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ArgumentError(
            argument, name, f"{path} raised {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(str(folder))
    return module
