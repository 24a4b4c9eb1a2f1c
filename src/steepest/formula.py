"""A formula that is one program.

Asked alone, outside a compiled function, an expression of twenty operations compiles twenty small
programs for every shape, at some 20 ms each; as a `formula` it compiles one. Inside another program
it is nothing but its operations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

Formula = TypeVar("Formula", bound=Callable[..., Any])


def formula(function: Formula, **options: Any) -> Formula:
    """`function` of arrays, or method of a module of arrays; `options`: those of `jax.jit`."""
    program = jax.jit(function, inline=True, **options)

    # A function again, which Equinox binds to its module as it does any method.
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return program(*arguments, **named)

    return call  # type: ignore[return-value]
