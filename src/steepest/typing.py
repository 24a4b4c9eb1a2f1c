"""The few types that signatures use.

A *state* is any pytree of float arrays (or a measure); a *tangent* and a *covector* have the
structure of the state. Covectors eat tangents: <covector, tangent> = sum of products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from jaxtyping import Array, Float

State: TypeAlias = Any
Tangent: TypeAlias = Any
Covector: TypeAlias = Any
Scalar: TypeAlias = Float[Array, ""]
Schedule: TypeAlias = Callable[[Any], Any]
