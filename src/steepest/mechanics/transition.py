"""How a noisy flow crosses from one state to another: the least action of its fluctuations.

A path of dx = b dt + sqrt(2 T K) dW has the weight exp(-S/T) with the Onsager-Machlup action

    S = integral of |v - b|^2 / 4 + (T/2) div b,    |.| the length of the geometry, K^{-1}

so that the most probable path is one of stationary action (eq. 12-15 meets eq. 42). As T -> 0 the
path follows a minimum energy path and S tends to the barrier. Sources: Onsager and Machlup, Phys.
Rev. 91 (1953) 1505; Freidlin and Wentzell, Random Perturbations of Dynamical Systems.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..driver import solve
from ..errors import ArgumentError, NotConverged
from ..flow import Flow
from ..functionals import AbstractFunctional, Energy
from ..geometries import Euclidean
from ..geometries.string import Strings, evenly, tangents
from ..roots import root
from ..schemes import RungeKutta
from ..states import Phase
from .action import flat_points
from .geometric import Clock, drift, geometric_path
from .kinetic_transition import kinetic_path, positive_friction
from .lagrangian import Lagrangian
from .stationary import StationaryPath, stationary_path

DOUBLINGS, INTERVALS = 16, 16


def onsager_machlup(flow: Flow, entropic: bool = True) -> Lagrangian:
    """L(x, v) = |v - b(x)|^2 / 4 + (T/2) div b(x) of a flow with thermal noise (eq. 42).

    `entropic=False` leaves out the divergence: the Freidlin-Wentzell action of T -> 0. Raises
    ArgumentError for flows without a bath, with a schedule, or whose noise does not reach every
    coordinate; and for a metric that is not constant, whose divergence term is another.
    """
    if not isinstance(flow, Flow) or flow.thermal is None:
        raise ArgumentError("flow", str(flow), "a Flow with Thermal noise")
    if flow.geometry.kinetic or flow.geometry.on_measures or flow.geometry.curved:
        given = flow.geometry.name
        raise ArgumentError("flow", given, "a geometry of parameters: noise in every coordinate")
    if callable(flow.thermal.temperature) or flow.functional.time_dependent:
        raise ArgumentError("flow", "a schedule", "a fixed temperature and energy")
    if entropic and not flow.geometry.constant:
        raise ArgumentError(
            "entropic", True, f"{flow.geometry.name} is not constant; only entropic=False is known"
        )
    return Lagrangian(_Fluctuation(flow, entropic))


class _Fluctuation(eqx.Module):
    flow: Flow
    entropic: bool = eqx.field(static=True)

    def __call__(self, x: Any, v: Any) -> Any:
        flow = self.flow
        cost = 0.25 * flow.geometry.length_sq(x, tree.sub(v, drift(flow, x)))
        if not self.entropic:
            return cost
        flat, unravel = ravel_pytree(x)
        bend = jax.jacfwd(lambda y: ravel_pytree(drift(flow, unravel(y)))[0])(flat)
        temperature = jnp.asarray(flow.temperature(), flat.dtype)
        return cost + 0.5 * temperature * jnp.trace(bend)


@dataclasses.dataclass(frozen=True)
class EnergyPath:
    """A minimum energy path: dE is along it everywhere.

    `path` (images, d), evenly spaced, with their `energies`; `saddle`: its highest point, where
    dE = 0, and the `barrier` above the start; `residual`: the largest |dE| across the path, as a
    share of the largest |dE| on it.
    """

    path: Any
    energies: np.ndarray
    saddle: Any
    barrier: float
    residual: float


def minimum_energy_path(
    energy: Callable[[Any], Any],
    start: Any,
    end: Any,
    images: int = 41,
    guess: Any = None,
    tolerance: float = 1e-3,
) -> EnergyPath:
    """The string method: a curve of `images` from `start` to `end` relaxes across itself.

    It is the flow of the summed energy under `Strings()`, run by `solve` until the residual is
    below `tolerance`. `guess`: a pytree with leading axis `images`; None: a straight line. Raises
    ArgumentError for unusable input, NotConverged where the curve does not come to rest.
    """
    functional = energy if isinstance(energy, AbstractFunctional) else Energy(energy)
    if not isinstance(images, int) or images < 5:
        raise ArgumentError("images", images, "an integer of at least 5")
    start, end = tree.as_float(start, "start"), tree.as_float(end, "end")
    both, unravel = flat_points(jax.tree.map(lambda a, b: jnp.stack([a, b]), start, end))
    if guess is None:
        x = both[0] + (both[1] - both[0]) * jnp.linspace(0, 1, images, dtype=both.dtype)[:, None]
    else:
        rows, _ = flat_points(guess)
        x = evenly(jnp.asarray(rows, both.dtype), images)
        x = x.at[0].set(both[0]).at[-1].set(both[1])
    total = _Summed(functional, unravel)
    flow = Flow(Energy(total), Strings())
    bend = jax.jit(jax.vmap(jax.hessian(total.one)))(x)
    time = float(1.0 / jnp.max(jnp.linalg.norm(bend, axis=(1, 2), ord=2)))
    across = math.inf
    for _ in range(DOUBLINGS):
        scheme = RungeKutta("tsit5", rtol=1e-4, atol=1e-6, max_steps=100_000)
        run = solve(flow, x, scheme=scheme, time=time, steps=INTERVALS, save_every=INTERVALS)
        x = run.final
        across = float(_across(total, x))
        if across <= tolerance:
            break
        time *= 2.0
        if not math.isfinite(across):
            break
    else:
        raise NotConverged(
            f"minimum_energy_path: |dE| across the path is still {across:.2g} of its largest; use "
            "more images (the tangents' error falls with their square) or a larger tolerance"
        )
    energies = np.asarray(jax.vmap(total.one)(x))
    top = int(np.argmax(energies))
    saddle = x[top]
    if 0 < top < images - 1:
        saddle = root(jax.grad(total.one), saddle, jnp.max(jnp.abs(x)))
    height = float(total.one(saddle)) - float(energies[0])
    return EnergyPath(jax.vmap(unravel)(x), energies, unravel(saddle), height, across)


class _Summed(eqx.Module):
    """The energies of the images of a curve, added."""

    functional: AbstractFunctional
    unravel: Any = eqx.field(static=True)

    def one(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self.functional(self.unravel(x))

    def __call__(self, images: Float[Array, "n d"]) -> Float[Array, ""]:
        return jnp.sum(jax.vmap(self.one)(images))


@eqx.filter_jit
def _across(total: _Summed, x: Array) -> Array:
    slope = jax.grad(total)(x)
    along = tangents(x)
    off = slope - jnp.sum(slope * along, axis=1, keepdims=True) * along
    size = lambda g: jnp.max(jnp.linalg.norm(g[1:-1], axis=1))  # noqa: E731
    return size(off) / size(slope)


def transition_path(
    flow: Flow,
    start: Any,
    end: Any,
    time: float,
    nodes: int,
    order: int = 2,
    entropic: bool = False,
    guess: Any = None,
) -> StationaryPath:
    """The most probable path of a thermal flow from `start` to `end` in the given `time`.

    `stationary_path` of the Onsager-Machlup Lagrangian; its `action` is S, and exp(-S/T) the weight
    of the path. `entropic`: see `onsager_machlup`. `guess`: as there, or an `EnergyPath` (None:
    that of the energy), which is run through at the speed that suits the time. In a time so long
    that the nodes cannot tell the energy of that speed from zero, the path waits at minima and
    saddles: then it is a geodesic of Jacobi's metric, of order 2, with its points evenly along the
    curve and their `times` to the digits of the clock (with `entropic` it stays Newton's, which may
    not converge there). A Morse index of 0 says that it is a local minimum of S. Raises
    ArgumentError for unusable input, NotConverged where no path is found.
    """
    if not (math.isfinite(time) and time > 0):
        raise ArgumentError("time", time, "a finite number > 0")
    if not isinstance(nodes, int) or nodes < 4:
        raise ArgumentError("nodes", nodes, "an integer of at least 4")
    if isinstance(flow, Flow) and flow.geometry.kinetic:
        return _underdamped(flow, start, end, time, nodes, entropic, guess)
    lagrangian = onsager_machlup(flow, entropic)
    start, end = tree.as_float(start, "start"), tree.as_float(end, "end")
    if guess is None:
        guess = minimum_energy_path(flow.functional, start, end, 61, tolerance=0.05)
    if isinstance(guess, EnergyPath):
        points, log_c, least = _timed(flow, guess.path, time, nodes)
        if math.exp(log_c) < least and not entropic:
            return geometric_path(flow, guess.path, time, nodes)
        guess = points
    return stationary_path(lagrangian, start, end, 0.0, time, nodes, order, guess)


def _timed(flow: Flow, curve: Any, time: float, nodes: int) -> tuple[Any, float, float]:
    """A curve at equal times, at the speed that takes `time`; its log c, and what nodes tell of c.

    That is the speed of least action along a given curve, c four times its conserved energy.
    """
    rows, unravel = flat_points(curve)
    rows = evenly(rows, nodes)
    clock = Clock(flow, rows, unravel)
    log_c = clock.log_c(time)
    at = np.interp(time * np.linspace(0.0, 1.0, nodes), clock.times(log_c), np.arange(nodes))
    points = jax.vmap(lambda c: jnp.interp(at, np.arange(nodes), c), 1, 1)(rows)
    return jax.vmap(unravel)(points), log_c, float(clock.root.max()) ** 2


def _underdamped(
    flow: Flow, start: Any, end: Any, time: float, nodes: int, entropic: bool, guess: Any
) -> StationaryPath:
    """The same of a flow in phase space: begun from the path of descent under its friction."""
    if flow.thermal is None:
        raise ArgumentError("flow", str(flow), "a Flow with Thermal noise")
    positive_friction(flow)
    energy = getattr(flow.functional, "potential", flow.functional)
    if guess is None:
        first, last = (x.position if isinstance(x, Phase) else x for x in (start, end))
        guess = minimum_energy_path(energy, first, last, 61, tolerance=0.05)
    if isinstance(guess, EnergyPath):
        # At a friction of at least 1, its own clock: t / gamma of the flow of descent.
        slow = max(positive_friction(flow), 1.0)
        descent = Flow(energy, Euclidean(), flow.noise)
        guess, _, _ = _timed(descent, guess.path, time / slow, nodes)
    del entropic  # div b = -gamma d/m is constant: it moves no path
    return kinetic_path(flow, start, end, time, nodes, guess)
