"""A density from the user's own file, `module:function`. This executes that file."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from ..functionals import AbstractFunctional, Energy
from .problem import Problem


class NegativeLog(eqx.Module):
    """-log density."""

    log_density: Callable[..., Any]

    def __call__(self, theta: Any) -> Any:
        return -self.log_density(theta)


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
    theta = _start(folder, dimension, start, dtype)
    fn = load_object(energy, folder, "energy")
    if not callable(fn):
        raise ArgumentError("energy", energy, "it must name a function theta -> scalar")
    functional = fn if isinstance(fn, AbstractFunctional) else Energy(fn)
    return Problem(functional, theta)


def imported_closed_system(
    *,
    energy: str,
    entropy: str,
    poisson: str | None,
    friction: str | None,
    folder: Path,
    dimension: int | None = None,
    start: str | None = None,
    dtype: Any = jnp.float32,
) -> Problem:
    """The `Metriplectic` flow of four functions in files of `folder`, each "module:name".

    `dimension` or `start` as in `imported_energy`. Executes the user's code.
    """
    from ..mechanics import Metriplectic

    given = {"energy": energy, "entropy": entropy, "poisson": poisson, "friction": friction}
    found = {
        name: None if word is None else load_object(word, folder, name)
        for name, word in given.items()
    }
    for name in ("energy", "entropy"):
        if not callable(found[name]):
            raise ArgumentError(name, given[name], "it must name a function state -> scalar")
    flow = Metriplectic(**found)  # pyright: ignore[reportArgumentType]
    return Problem(flow.functional, _start(folder, dimension, start, dtype), flow=flow)


def imported_density(
    *,
    folder: Path,
    log_density: str | None = None,
    energy: str | None = None,
    dimension: int | None = None,
    start: str | None = None,
    dtype: Any = jnp.float32,
) -> Problem:
    """The density exp(-E) of a function in a file of `folder`: E, or the logarithm of the density.

    The name may also be that of a `Problem`, or of a function of no arguments that returns one;
    it then needs no start. Otherwise as `imported_energy`. Executes the user's code.
    """
    if (log_density is None) == (energy is None):
        raise ArgumentError("log_density, energy", (log_density, energy), "give exactly one")
    if log_density is None:
        assert energy is not None
        return imported_energy(energy, folder=folder, dimension=dimension, start=start, dtype=dtype)
    fn = load_object(log_density, folder, "log_density")
    if isinstance(fn, Problem):
        return fn
    if not callable(fn):
        remedy = "it must name a function theta -> log density, or a Problem"
        raise ArgumentError("log_density", log_density, remedy)
    if _takes_nothing(fn):
        made = fn()
        if not isinstance(made, Problem):
            remedy = "a function theta -> log density, or one that returns a Problem"
            raise ArgumentError("log_density", f"a {type(made).__name__}", remedy)
        return made
    problem = Problem(Energy(NegativeLog(fn)), _start(folder, dimension, start, dtype))
    return _tried(problem, "log_density", log_density)


def _tried(problem: Problem, argument: str, reference: str) -> Problem:
    """Evaluate it once, so that a mistake in the user's function is told as such."""
    try:
        jax.value_and_grad(problem.functional)(problem.start)
    except ArgumentError:
        raise
    except Exception as error:
        raise ArgumentError(
            argument,
            repr(reference),
            f"at the initial parameters it raised {type(error).__name__}: {error}",
        ) from error
    return problem


def _takes_nothing(fn: Any) -> bool:
    try:
        return not inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return False


def _start(folder: Path, dimension: int | None, start: str | None, dtype: Any) -> Any:
    if (dimension is None) == (start is None):
        raise ArgumentError(
            "dimension, start",
            (dimension, start),
            "give exactly one: the number of parameters, or module:name of the initial ones",
        )
    if start is None:
        return jnp.zeros(dimension or 0, dtype)
    theta = load_object(start, folder, "start")
    theta = theta() if callable(theta) else theta
    return jax.tree.map(lambda x: x.astype(dtype), tree.as_float(theta, "start"))


def load_object(reference: str, folder: Path, argument: str) -> Any:
    """The object `module:name`, from module.py inside `folder`; the file is executed."""
    module_name, _, name = reference.partition(":")
    if not name.isidentifier() or not all(p.isidentifier() for p in module_name.split(".")):
        raise ArgumentError(argument, repr(reference), 'write it as "module:function"')
    module = _load_module(module_name, folder, argument)
    if not hasattr(module, name) and name == "start":
        raise ArgumentError(
            argument,
            repr(reference),
            f"{module_name}.py has no start: write start = (initial parameters) into it, or set "
            "dimension = N for N zeros; a NumPyro model needs none, set kind = numpyro",
        )
    if not hasattr(module, name):
        known = [n for n in vars(module) if not n.startswith("_") and callable(getattr(module, n))]
        raise ArgumentError(argument, repr(reference), f"{module_name}.py has {sorted(known)}")
    return getattr(module, name)


def _load_module(name: str, folder: Path, argument: str) -> ModuleType:
    path = folder.joinpath(*name.split(".")).with_suffix(".py")
    if not path.is_file():
        hint = "; a module has its name without .py" if name.endswith(".py") else ""
        raise ArgumentError(argument, name, f"there is no file {path}{hint}")
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
