"""Propagation of chaos: n interacting particles against their limit as n grows (section 6.8).

Two distances at the end of a run, each a root mean square over repeats:

    to the limit law:           |(1/n) sum_i phi(X_i) - integral phi rho|,  phi smooth
    to independent copies:      (1/n sum_i |X_i - Y_i|^2)^(1/2)

rho is the density of the same flow; the copies Y_i feel rho in place of the other particles, with
the initial points and the noise of X_i. Both fall as n^(-1/2).
Source: Sznitman, Topics in propagation of chaos, LNM 1464 (1991), theorem 1.4.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from .driver import solve
from .errors import ArgumentError
from .flow import Flow
from .functionals import AbstractFunctional
from .functionals.measures import realised
from .geometries import Wasserstein
from .noise import Thermal
from .schemes import Euler, FiniteVolume
from .states import Density, Particles


@dataclasses.dataclass(frozen=True)
class Chaos:
    """Distances by number of particles, and their slopes in log n with standard errors.

    `to_law`, `to_copies`: arrays like `sizes`; theory gives both slopes -1/2.
    """

    sizes: np.ndarray
    to_law: np.ndarray
    to_copies: np.ndarray
    repeats: np.ndarray
    law_slope: float
    law_slope_error: float
    copies_slope: float
    copies_slope_error: float

    def __str__(self) -> str:
        lines = [f"{'particles':>9}  {'repeats':>7}  {'to the law':>10}  {'to the copies':>13}"]
        for n, r, a, b in zip(self.sizes, self.repeats, self.to_law, self.to_copies, strict=True):
            lines.append(f"{n:>9}  {r:>7}  {a:>10.3g}  {b:>13.3g}")
        lines.append(
            f"slopes {self.law_slope:.2f} ± {self.law_slope_error:.2f} and "
            f"{self.copies_slope:.2f} ± {self.copies_slope_error:.2f} (theory -0.5)"
        )
        return "\n".join(lines)


class MeanField(AbstractFunctional):
    """The energy x -> dF/drho(x) of one particle in the field of a law that moves with time."""

    functional: AbstractFunctional
    law: Density  # leaves have a leading axis of times
    step: Any
    now: Any = 0.0

    def __call__(self, x: Any) -> Float[Array, ""]:
        last = self.law.values.shape[0] - 1
        place = jnp.clip(self.now / self.step, 0.0, last)
        before = jnp.minimum(jnp.floor(place).astype(int), last - 1)
        share = (place - before).astype(self.law.values.dtype)
        values = (1.0 - share) * self.law.values[before] + share * self.law.values[before + 1]
        law = Density.tangent(self.law, values)
        return self.functional.first_variation(law)(x)

    def at(self, time: Any) -> MeanField:
        return dataclasses.replace(self, now=time)

    @property
    def time_dependent(self) -> bool:
        return True


def propagation_of_chaos(
    flow: Flow,
    state: Density,
    sizes: Sequence[int] = (32, 64, 128, 256, 512, 1024),
    *,
    time: float,
    key: Key[Array, ""],
    steps: int = 200,
    observable: Callable[[Any], Any] | None = None,
    repeats: int = 32,
) -> Chaos:
    """Run `flow` with n particles for every n in `sizes`, and its limit, from the law `state`.

    `flow`: on measures, with interactions, for example
    Flow(FreeEnergy(E, T) + InteractionEnergy(W), Wasserstein()). `state`: the initial law on a grid
    (reflecting walls should be out of reach). `observable`: phi, of one particle (default x and
    |x|^2). `steps` of Euler over `time`; `repeats` independent runs of each size.
    Raises ArgumentError for a flow without a density to compare with.
    """
    sizes = tuple(sizes)
    if len(sizes) < 3 or any(n < 2 for n in sizes) or len(set(sizes)) < len(sizes):
        raise ArgumentError("sizes", sizes, "three or more different numbers of particles >= 2")
    if not isinstance(state, Density):
        raise ArgumentError("state", type(state).__name__, "the initial law as a Density")
    if not isinstance(flow, Flow) or not isinstance(flow.geometry, Wasserstein):
        raise ArgumentError("flow", str(flow), "a single Flow under Wasserstein()")
    if not flow.functional.couples:
        raise ArgumentError("flow", flow.functional.name, "its particles do not interact")
    functional, temperature = realised(flow.functional)
    if temperature is None and flow.thermal is not None:
        temperature = flow.thermal.temperature
    phi = observable or (lambda x: jnp.concatenate([jnp.ravel(x), jnp.sum(x**2)[None]]))
    law = solve(flow, state, scheme=FiniteVolume(time / steps, order=2), steps=steps)
    states = jax.tree.map(jnp.asarray, law.states)
    limit = law.final.expect(phi)
    step = time / steps
    frozen = MeanField(functional, states, step)
    noise = None if temperature is None else Thermal(temperature)
    copies = Flow(frozen, flow.geometry.ground, noise)

    @eqx.filter_jit
    def distances(n: int, keys: Any) -> Any:
        def one(key: Any) -> Any:
            start, run = jax.random.split(key)
            particles = Particles(_points(state, start, n))
            options = {"scheme": Euler(step), "steps": steps, "save_every": steps, "key": run}
            ours = solve(flow, particles, ledger="saves", **options).final
            theirs = solve(copies, particles, ledger="saves", **options).final
            gap = jnp.sum((ours.flat() - theirs.flat()) ** 2, axis=1)
            return jnp.sum((ours.expect(phi) - limit) ** 2), jnp.mean(gap)

        return jax.lax.map(one, keys)

    found = []
    for index, n in enumerate(sizes):
        keys = jax.random.split(jax.random.fold_in(key, index), repeats)
        found.append([np.sqrt(np.mean(np.asarray(x))) for x in distances(n, keys)])
    to_law, to_copies = np.array(found).T
    return Chaos(
        np.array(sizes),
        to_law,
        to_copies,
        np.full(len(sizes), repeats),
        *_slope(sizes, to_law, repeats),
        *_slope(sizes, to_copies, repeats),
    )


def _points(state: Density, key: Any, n: int) -> Any:
    return state.sample(key, n)


def _slope(sizes: Sequence[int], distance: np.ndarray, repeats: int) -> tuple[float, float]:
    """Least squares in log-log; a root mean square of R Gaussians errs by 1/sqrt(2 R)."""
    x = np.log(np.asarray(sizes, float))
    x = x - x.mean()
    slope = float(x @ np.log(distance) / (x @ x))
    return slope, float(1.0 / math.sqrt(2 * repeats) / math.sqrt(x @ x))
