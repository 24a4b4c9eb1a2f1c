"""A geometry, a friction and a noise as an optax transformation (sections 5.7 and 7.1).

Without friction, Euler's step of eq. 33 and 43:    theta += -lr K dE + sqrt(2 T lr) S xi.
With friction gamma, the conformal symplectic step of H = E + <p, K p>/2 (eq. 53), h = sqrt(lr):

    p <- exp(-gamma h) p - h dE + sqrt(T (1 - exp(-2 gamma h))) xi,    theta <- theta + h K p

The momentum is kept as m = -p/h, so that with T = 0 it is heavy ball, m <- beta m + dE and theta +=
-lr K m, with beta = exp(-gamma h).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from .. import tree
from ..dials import check_dial, check_number
from ..errors import ArgumentError
from ..geometries import AbstractGeometry, Product
from ..geometries.base import Observed
from ..noise import Thermal
from ..random import Randomness

MOMENTUM_STREAM = 17
NUMBER = "a finite number >= 0, or a schedule"


class OptimizerState(NamedTuple):
    """What is kept: updates so far, flow time, momentum with its weight, the geometry's memory."""

    count: Any
    time: Any
    momentum: Any
    weight: Any
    memory: Any


def as_optax(
    geometry: AbstractGeometry | Any,
    learning_rate: float | Callable[[Any], Any],
    *,
    friction: float | Callable[[Any], Any] | None = None,
    noise: Thermal | float | None = None,
    seed: int = 0,
    nesterov: bool = False,
    average: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Steepest descent under `geometry`, with momentum and noise, for `optax.apply_updates`.

    `geometry`: one for all parameters, or a pytree prefix of geometries (see `Product`).
    `learning_rate`: the time step (with friction, its square), a number or an optax schedule.
    `friction`: gamma >= 0, a number or a function of flow time (Nesterov's is t -> 3/t); see
    `friction_of` for a momentum decay. `nesterov`: look ahead by one decay, as optax does.
    `average`: divide the momentum by its weight, as Adam does (with `nesterov`, each of the two
    gradients' shares by its own, as optax's nadam and muon do). `noise`: `Thermal(T)` or T.

    The update takes optax's extra arguments: `value=` (the loss, for adaptive damping) and `batch=`
    (the examples that a Fisher metric is averaged over); others are ignored. Random numbers depend
    on `seed` and the count alone. Raises ArgumentError for wrong arguments, and where an update
    needs `params` and gets none.
    """
    if not isinstance(geometry, AbstractGeometry):
        geometry = Product(geometry)
    if geometry.kinetic or geometry.on_measures:
        raise ArgumentError(
            "geometry", geometry.name, "a geometry of parameters; momentum comes with friction="
        )
    check_dial("learning_rate", learning_rate, NUMBER)
    if friction is not None:
        check_dial("friction", friction, NUMBER)
    if friction is None and (nesterov or average):
        raise ArgumentError("friction", None, "momentum needs a friction")
    bath = _bath(noise)
    if bath is not None and (not geometry.noise_terms or geometry.adaptive):
        raise ArgumentError("noise", bath.name, f"{geometry.name} has no square root for noise")

    def init(params: Any) -> OptimizerState:
        if not any(isinstance(x, Tracer) for x in jax.tree.leaves((geometry, params))):
            frozen = geometry.at(0.0)
            if not frozen.adaptive:
                frozen.check(params)
        zero = jnp.zeros((), tree.dtype(params))
        plain = friction is None
        return OptimizerState(
            jnp.zeros((), jnp.int32),
            zero,
            None if plain else jax.tree.map(jnp.zeros_like, params),
            None if plain else zero,
            geometry.begin(params),
        )

    def update(
        updates: Any,
        state: OptimizerState,
        params: Any = None,
        *,
        value: Any = None,
        batch: Any = None,
        **extra: Any,
    ) -> tuple[Any, OptimizerState]:
        del extra
        if params is None:
            if not geometry.constant or geometry.curved:
                raise ArgumentError("params", None, f"{geometry.name} needs update(..., params)")
            params = updates
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        randomness = None
        if bath is not None or hasattr(geometry, "rows"):
            randomness = Randomness.from_key(jax.random.key(seed))
            randomness = randomness.at(state.count.astype(jnp.uint32))
        seen = Observed(value, batch, randomness)
        here = geometry.at(state.time)
        memory, now, place, updates = here.observe(state.memory, params, updates, seen)
        momentum, weight = state.momentum, state.weight
        direction, clock = updates, rate
        if friction is not None:
            clock = jnp.sqrt(jnp.asarray(rate, state.time.dtype))
            gamma = friction(state.time + 0.5 * clock) if callable(friction) else friction
            decay = jnp.exp(-gamma * clock)
            momentum = jax.tree.map(lambda m, g: g + decay.astype(g.dtype) * m, momentum, updates)
            if bath is not None:
                momentum = _kicked(momentum, bath, state.time, clock, decay, randomness)
            weight = 1.0 + decay * weight
            direction = momentum
            if nesterov:
                direction = _ahead(momentum, updates, decay, weight if average else None)
            elif average:
                direction = jax.tree.map(lambda m: m / weight.astype(m.dtype), momentum)
        tangent = now.sharp(place, direction)
        memory = now.settle(memory, place, direction, tangent, rate)
        moved = jax.tree.map(lambda t: -jnp.asarray(rate, t.dtype) * t, tangent)
        if bath is not None and friction is None:
            moved = _shaken(moved, bath, now, place, state.time, rate, randomness)
        if now.curved:
            moved = tree.sub(now.retract(place, moved), place)
        if place is not params:
            moved = tree.add(moved, tree.sub(place, params))
        time = state.time + jnp.asarray(clock, state.time.dtype)
        return moved, OptimizerState(state.count + 1, time, momentum, weight, memory)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def friction_of(decay: float, learning_rate: Any) -> Any:
    """The friction whose momentum decays by `decay` an update: exp(-gamma sqrt(lr)) = decay."""
    if not 0 < decay < 1:
        raise ArgumentError("decay", decay, "a number between 0 and 1")
    if isinstance(learning_rate, Tracer):
        return -math.log(decay) / jnp.sqrt(learning_rate)
    check_number("learning_rate", learning_rate, NUMBER)
    return -math.log(decay) / math.sqrt(learning_rate)


def _ahead(momentum: Any, gradient: Any, decay: Any, weight: Any) -> Any:
    """g + decay m; with a weight, g / w_k + decay m / w_{k+1}."""
    if weight is None:
        return jax.tree.map(lambda m, g: g + decay.astype(g.dtype) * m, momentum, gradient)
    own, ahead = 1.0 / weight, decay / (1.0 + decay * weight)
    return jax.tree.map(
        lambda m, g: own.astype(g.dtype) * g + ahead.astype(g.dtype) * m, momentum, gradient
    )


def _kicked(momentum: Any, bath: Any, time: Any, clock: Any, decay: Any, randomness: Any) -> Any:
    """The O-step's noise, in units of m = -p/h."""
    size = jnp.sqrt(bath.at(time).temperature * (1.0 - decay**2)) / clock
    white = randomness.like(momentum, bath.increments, MOMENTUM_STREAM)
    return jax.tree.map(lambda m, w: m - size.astype(m.dtype) * w, momentum, white)


def _shaken(
    moved: Any, bath: Any, geometry: Any, params: Any, time: Any, rate: Any, randomness: Any
) -> Any:
    """The step with temperature div K and sqrt(2 temperature rate) S xi added."""
    temperature = bath.at(time).temperature
    spread = None if geometry.constant else geometry.divergence(params)
    if spread is not None:
        moved = tree.axpy(rate * temperature, spread, moved)
    white = tuple(
        randomness.like(params, bath.increments, MOMENTUM_STREAM + i)
        for i in range(geometry.noise_terms)
    )
    size = jnp.sqrt(2.0 * jnp.asarray(temperature) * rate)
    return tree.axpy(size, geometry.sqrt(params, white), moved)


def _bath(noise: Any) -> Thermal | None:
    if noise is None or isinstance(noise, Thermal):
        return noise
    if isinstance(noise, (int, float)) or callable(noise):
        return Thermal(noise)
    raise ArgumentError("noise", type(noise).__name__, "Thermal(temperature), or a temperature")
