"""A box of equal cells, on which densities live; one to three dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import ArgumentError
from .phase import Phase

BOUNDARIES = ("reflecting", "periodic")
MOST_CELLS = 2**27


class Grid(eqx.Module):
    """Cells of equal size that fill the box [lower, upper], with data at their centres.

    `lower`, `upper`: a number, or one for each axis; `shape`: cells along each axis (1 to 3 axes);
    `boundary`: `"reflecting"` (no mass crosses) or `"periodic"`, one for all or one for each axis.
    With `phase=True` the first half of the axes are positions and the second half momenta, and a
    point of the grid is a `Phase`. Everything is static: a grid is hashable and compiled in.
    Raises ArgumentError for a box without volume or a shape that does not fit.
    """

    lower: tuple[float, ...] = eqx.field(static=True)
    upper: tuple[float, ...] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    boundary: tuple[str, ...] = eqx.field(static=True)
    phase: bool = eqx.field(static=True)

    def __init__(
        self,
        lower: float | Sequence[float],
        upper: float | Sequence[float],
        shape: int | Sequence[int],
        boundary: str | Sequence[str] = "reflecting",
        phase: bool = False,
    ):
        cells = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        if not 1 <= len(cells) <= 3:
            raise ArgumentError("shape", shape, "one to three axes; use particles beyond")
        if any(not isinstance(n, (int, np.integer)) or n < 2 for n in cells):
            raise ArgumentError("shape", shape, "at least two cells along each axis")
        if math.prod(cells) > MOST_CELLS:
            raise ArgumentError("shape", shape, f"at most {MOST_CELLS} cells; use particles beyond")
        self.shape = tuple(int(n) for n in cells)
        self.lower = _per_axis("lower", lower, len(cells))
        self.upper = _per_axis("upper", upper, len(cells))
        for low, high in zip(self.lower, self.upper, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ArgumentError("upper", upper, f"must be finite and above lower = {lower}")
        kinds = (boundary,) * len(cells) if isinstance(boundary, str) else tuple(boundary)
        if len(kinds) != len(cells) or any(kind not in BOUNDARIES for kind in kinds):
            raise ArgumentError("boundary", boundary, f"one of {BOUNDARIES}, or one for each axis")
        self.boundary = kinds
        if phase and len(cells) != 2:
            raise ArgumentError("phase", f"{len(cells)} axes", "phase space on a grid is (q, p)")
        self.phase = bool(phase)

    @property
    def dimension(self) -> int:
        """How many axes."""
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Cell size along each axis."""
        return tuple(
            (high - low) / n
            for low, high, n in zip(self.lower, self.upper, self.shape, strict=True)
        )

    @property
    def cell_volume(self) -> float:
        """Product of the spacings."""
        return math.prod(self.spacing)

    @property
    def axes(self) -> tuple[np.ndarray, ...]:
        """Cell centres along each axis."""
        return tuple(
            low + h * (np.arange(n) + 0.5)
            for low, h, n in zip(self.lower, self.spacing, self.shape, strict=True)
        )

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Whether each axis closes upon itself."""
        return tuple(kind == "periodic" for kind in self.boundary)

    def points(self, face: int | None = None) -> Float[Array, "..."]:
        """Cell centres, shape (*shape, dimension).

        `face`: an axis, for the centres of the faces above each cell along it instead.
        """
        axes = list(self.axes)
        if face is not None:
            axes[face] = axes[face] + 0.5 * self.spacing[face]
        return jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))

    def point(self, x: Float[Array, " d"]) -> Any:
        """A point of space as functions see it: x itself, or Phase(q, p) on phase space."""
        if not self.phase:
            return x
        half = self.dimension // 2
        return Phase(x[:half], x[half:])

    def evaluate(self, fn: Callable[[Any], Any], face: int | None = None) -> Any:
        """fn at every cell (or face) centre; leaves of shape (*shape, ...)."""
        apply = lambda x: fn(self.point(x))  # noqa: E731
        for _ in self.shape:
            apply = jax.vmap(apply)
        return apply(self.points(face))

    def index(self, x: Float[Array, "... d"]) -> tuple[tuple[Array, ...], Array]:
        """The cell of each point, and whether the point is inside the box."""
        cells, inside = [], jnp.ones(x.shape[:-1], bool)
        for axis, (low, h, n) in enumerate(zip(self.lower, self.spacing, self.shape, strict=True)):
            position = (x[..., axis] - low) / h
            if self.periodic[axis]:
                position = jnp.mod(position, n)
            inside = inside & (position >= 0) & (position <= n)
            cells.append(jnp.clip(jnp.floor(position).astype(int), 0, n - 1))
        return tuple(cells), inside

    def along(self, axis: int) -> Grid:
        """The grid of one axis."""
        kind = self.boundary[axis]
        return Grid(self.lower[axis], self.upper[axis], self.shape[axis], kind)

    def refined(self, factor: int = 2) -> Grid:
        """The same box with `factor` times as many cells along each axis."""
        shape = [factor * n for n in self.shape]
        return Grid(self.lower, self.upper, shape, self.boundary, self.phase)

    def __str__(self) -> str:
        box = " x ".join(
            f"[{low:g}, {high:g}]" for low, high in zip(self.lower, self.upper, strict=True)
        )
        return f"{' x '.join(map(str, self.shape))} cells on {box}"


def _per_axis(argument: str, value: float | Sequence[float], count: int) -> tuple[float, ...]:
    values = (value,) * count if isinstance(value, (int, float)) else tuple(value)
    if len(values) != count:
        raise ArgumentError(argument, value, f"a number, or one for each of the {count} axes")
    return tuple(float(v) for v in values)
