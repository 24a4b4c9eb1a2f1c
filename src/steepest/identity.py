"""Results kept for as long as the objects live that they were computed from."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A pure function of frozen modules, computed once for each of them.

    By identity, weakly: nothing is compared and no module is kept alive. Modules that hold numpy
    arrays, which can be overwritten, or tracers are computed each time.
    """
    kept: dict[Any, tuple[tuple[Any, ...], Any]] = {}

    @functools.wraps(function)
    def call(*parts: Any) -> Any:
        key = (*map(id, parts), jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
        if key in kept:
            return kept[key][1]
        result = function(*parts)
        fleeting = any(isinstance(x, (np.ndarray, Tracer)) for x in jax.tree.leaves(parts))
        # A result that is one of the parts would keep it alive.
        if not fleeting and not any(result is part for part in parts):
            drop = lambda _: kept.pop(key, None)  # noqa: E731
            with contextlib.suppress(TypeError):  # no weak reference to a dict or a tuple
                kept[key] = tuple(weakref.ref(part, drop) for part in parts), result
        return result

    return call
