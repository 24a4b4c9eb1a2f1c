"""One point or many: how the floors above see a state without asking which one they hold.

A state is a point (any pytree, a `Phase`, or a law without points such as `Density` or `Gaussian`)
or an ensemble of points (`Particles`). What is
counted "per point" has shape () or (n,), and `average` brings it to one number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import tree
from .particles import Particles
from .phase import Phase


def is_ensemble(state: Any) -> bool:
    """Whether the state is an empirical measure."""
    return isinstance(state, Particles)


def is_measure(state: Any) -> bool:
    """Whether the state is a law: `Particles`, `Density`, `Gaussian` ..."""
    return hasattr(state, "reweight")


def is_law(state: Any) -> bool:
    """Whether the state is a law that is known as a whole, not by points."""
    return is_measure(state) and not is_ensemble(state)


def points(state: Any) -> Any:
    """The point, or the points with their leading axis."""
    return state.positions if isinstance(state, Particles) else state


def with_points(state: Any, new: Any) -> Any:
    """The same state at other points."""
    if isinstance(state, Particles):
        return eqx.tree_at(lambda s: s.positions, state, new)
    return new


def coordinates(state: Particles) -> Float[Array, "n d"]:
    """The positions as one matrix, a row a particle; of a `Phase` without the momenta."""
    inner = state.positions
    if isinstance(inner, Phase):
        state = Particles(inner.position, None, state.axis)
    return state.flat()


def from_coordinates(state: Particles, x: Float[Array, "n d"]) -> Any:
    """The matrix as positions of the state again (momenta zero), the inverse of `coordinates`."""
    _, transpose = jax.vjp(lambda p: coordinates(Particles(p, None, state.axis)), state.positions)
    return transpose(x)[0]


def each(fn: Callable[..., Any], state: Any) -> Callable[..., Any]:
    """fn of one point, made to act on every point of the state."""
    return state.vmap(fn) if isinstance(state, Particles) else fn


def batch_axis(state: Any) -> int | None:
    """The axis of the leaves that counts points; None for one point."""
    return state.axis if isinstance(state, Particles) else None


def turned(state: Any, axis: int) -> Any:
    """An ensemble with its points counted along `axis`; one point as it is."""
    return state.turned(axis) if isinstance(state, Particles) else state


def average(state: Any, values: Any) -> Any:
    """The weighted mean of per-point values (themselves, for one point)."""
    return state.average(values) if isinstance(state, Particles) and jnp.ndim(values) else values


def standard_error(state: Any, values: Float[Array, "..."]) -> Float[Array, ""]:
    """Of the mean of per-point values, for independent points; zero for one point."""
    if not isinstance(state, Particles) or jnp.ndim(values) == 0:
        return jnp.zeros((), jnp.result_type(values))
    mean = state.average(values)
    w = state.weights
    n = jnp.asarray(state.count, values.dtype)
    return jnp.sqrt(jnp.sum((w * (values - mean)) ** 2) * n / jnp.maximum(n - 1.0, 1.0))


def pairing(state: Any, covector: Any, tangent: Any) -> Float[Array, "..."]:
    """<covector, tangent>: one number; for equally weighted particles one each, to average."""
    if isinstance(state, Particles):
        if state.log_weights is not None:
            return tree.dot(covector, tangent)  # weights may move: what is per point has no account
        return tree.dot(state.potential_gradient(covector), tangent.positions, state.axis)
    return tree.dot(covector, tangent)
