"""What a run is made of, in words that can be compared: one line for each part.

Two runs with the same lines compute the same numbers. Arrays are told apart by their bytes,
functions by their code, what it encloses and what it names in its own module.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from .devices import whole

MOST_SHOWN = 12
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def describe(**parts: Any) -> dict[str, str]:
    """path -> text for every part, of modules, trees, arrays and functions."""
    seen: dict[int, Any] = {}
    return dict(line for name, part in parts.items() for line in _lines(name, part, seen))


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """A line for each part that differs."""
    names = [*here, *(name for name in there if name not in here)]
    found = [
        f"{name}: {there.get(name, 'nothing')} there, {here.get(name, 'nothing')} here"
        for name in names
        if there.get(name) != here.get(name)
    ]
    more = len(found) - MOST_SHOWN
    return [*found[:MOST_SHOWN], f"and {more} more"] if more > 0 else found


def _lines(path: str, value: Any, seen: dict[int, Any]) -> Iterator[tuple[str, str]]:
    inside = _inside(path, value)
    if inside is None:
        yield path, _text(value)
    elif id(value) in seen:
        yield path, "as above"
    else:
        seen[id(value)] = value  # kept alive, so that no other gets its id
        for name, part in inside:
            yield from _lines(name, part, seen)


def _inside(path: str, value: Any) -> list[tuple[str, Any]] | None:
    """The named parts of a value; None for a leaf."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value)]
        kind = [(f"{path}", type(value))]
        return kind + [(f"{path}.{name}", part) for name, part in fields]
    if isinstance(value, Mapping):
        return [(f"{path}[{key}]", part) for key, part in value.items()] or None
    if isinstance(value, (list, tuple)):
        return [(f"{path}[{i}]", part) for i, part in enumerate(value)] or None
    if isinstance(value, functools.partial):
        return [(f"{path}.func", value.func), (path, value.args), (path, value.keywords)]
    if isinstance(value, types.MethodType):
        return [(path, value.__func__), (f"{path}.self", value.__self__)]
    if (wrapped := getattr(value, "__wrapped__", None)) is not None:
        return [(path, wrapped)]
    if isinstance(value, types.FunctionType):
        return _of_function(path, value)
    return None


def _of_function(path: str, function: types.FunctionType) -> list[tuple[str, Any]]:
    code = function.__code__
    cells = function.__closure__ or ()
    enclosed = zip(code.co_freevars, [_content(cell) for cell in cells], strict=True)
    # Of the module only what computes: numbers, arrays, and functions of the same file.
    module = function.__globals__
    named = [(name, module[name]) for name in code.co_names if name in module]
    own = [(name, part) for name, part in named if _computes(part, function.__module__)]
    defaults = enumerate(function.__defaults__ or ())
    found = [(path, code)]
    found += [(f"{path}.{name}", part) for name, part in [*enclosed, *own]]
    return found + [(f"{path}.default{i}", part) for i, part in defaults]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None


def _computes(value: Any, module: str) -> bool:
    if isinstance(value, (int, float, complex, np.ndarray, np.generic, jax.Array)):
        return True
    return isinstance(value, types.FunctionType) and value.__module__ == module


def _text(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return f"function {value.co_qualname} {_digest(_code_bytes(value))}"
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, (jax.Array, np.ndarray)):
        if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = whole(value)
        if array.size == 1:
            return f"{array.dtype.name} {array.item()!r}"
        return f"{array.dtype.name}{list(array.shape)} {_digest(array.tobytes())}"
    return _ADDRESS.sub("", repr(value))


def _code_bytes(code: types.CodeType) -> bytes:
    constants = [
        _code_bytes(c)
        if isinstance(c, types.CodeType)
        else repr(sorted(map(repr, c)) if isinstance(c, frozenset) else c).encode()
        for c in code.co_consts
    ]
    return b"\0".join([code.co_code, repr(code.co_names).encode(), *constants])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
