"""Bridges through snapshots at several times, one after the other.

Under a reference that is a Markov process the law of paths nearest to it with the marginals
rho_0, ..., rho_k at the times t_0 < ... < t_k is itself Markov, and
    KL(P | P_0) = sum_i KL(P on [t_i, t_{i+1}] | P_0 started at rho_i):
each leg is the bridge between its two snapshots, and nothing is lost by solving them one by one.
Source: Benamou, Carlier, Di Marino and Nenna, Math. Models Methods Appl. Sci. 29 (2019) 2221.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError
from ..flow import Flow
from ..states import Gaussian
from ..states.divergences import Estimate
from .base import AbstractBridge
from .problem import SchrodingerBridge


class BridgeChain(AbstractBridge):
    """`legs`, the bridge of each interval, and the `times` of the snapshots, one more of them.

    Times are absolute. A time may be traced in `drift` and `backward_drift` alone.
    """

    legs: tuple[Any, ...]
    times: tuple[float, ...] = eqx.field(static=True)

    def __check_init__(self):
        if len(self.times) != len(self.legs) + 1:
            raise ArgumentError("times", self.times, f"{len(self.legs) + 1}, one more than legs")

    @property
    def method(self) -> str:
        """The solvers that were used."""
        return " and ".join(dict.fromkeys(leg.method for leg in self.legs))

    @property
    def why(self) -> str:
        """Why these."""
        return "; ".join(dict.fromkeys(leg.why for leg in self.legs))

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of all legs, each once."""
        return tuple(dict.fromkeys(note for leg in self.legs for note in leg.notes))

    @property
    def dimension(self):
        return self.legs[0].dimension

    @property
    def horizon(self):
        """The time of the last snapshot."""
        return self.times[-1]

    def drift(self, x, time):
        return self._along("drift", "right", x, time)

    def backward_drift(self, x, time):
        return self._along("backward_drift", "left", x, time)

    def reference_drift(self, x):
        return self.legs[0].reference_drift(x)

    def sample(self, x, key):
        for leg, k in zip(self.legs, jax.random.split(key, len(self.legs)), strict=True):
            x = leg.sample(x, k)
        return x

    def sample_backward(self, y, key):
        keys = jax.random.split(key, len(self.legs))
        for leg, k in zip(reversed(self.legs), keys, strict=True):
            y = leg.sample_backward(y, k)
        return y

    def sample_paths(self, x, times, key):
        """Paths from x, points of the first snapshot, at increasing times in (t_0, t_k]."""
        times = np.asarray(times, float)
        if not np.all((times >= self.times[0]) & (times <= self.times[-1])):
            raise ArgumentError("times", times, f"from {self.times[0]:g} to {self.times[-1]:g}")
        first, found = jnp.asarray(x), []
        edges = zip(self.legs, self.times[:-1], self.times[1:], strict=True)
        for i, (leg, before, after) in enumerate(edges):
            inside = times[(times < after) & ((times > before) | ((times == before) & (i == 0)))]
            at = jnp.append(jnp.asarray(inside - before, first.dtype), leg.horizon)
            path = leg.sample_paths(first, at, jax.random.fold_in(key, i))
            found.append(path if after in times else path[:-1])
            first = path[-1]
        return jnp.concatenate(found)

    def log_growth_along(
        self, x: Float[Array, "n d"], stations: Float[Array, "k n d"]
    ) -> Float[Array, "k n"]:
        """log of the mass at each snapshot after the first of a unit that starts at x.

        `stations`: the paths at `times[1:]`, where every leg's mass is told by its ends.
        """
        before = [x, *stations[:-1]]
        rates = [
            leg.log_growth(a, b) for leg, a, b in zip(self.legs, before, stations, strict=True)
        ]
        return jnp.cumsum(jnp.stack(rates), axis=0)

    def marginal(self, time, key=None, n=1000):
        i = self._leg(float(time), "right")
        return self.legs[i].marginal(time - self.times[i], key, n)

    def path_kl(self, key: Key[Array, ""], n: int = 2000) -> Estimate:
        """KL(P || P_0) over paths that start at the first snapshot: the legs' sum."""
        keys = jax.random.split(key, len(self.legs))
        found = [leg.path_kl(k, n) for leg, k in zip(self.legs, keys, strict=True)]
        value, error = (jnp.stack(list(part)) for part in zip(*found, strict=True))
        return Estimate(jnp.sum(value), jnp.sqrt(jnp.sum(error**2)))

    def _leg(self, time: float, side: Any) -> int:
        return int(np.searchsorted(np.asarray(self.times[1:-1]), time, side))

    def _along(self, name: str, side: Any, x: Any, time: Any) -> Any:
        """A drift of the leg that `time` is in."""
        if not isinstance(time, Tracer):
            i = self._leg(float(time), side)
            # As an array: a Python number would be compiled in.
            local = jnp.asarray(time - self.times[i], x.dtype)
            return getattr(self.legs[i], name)(x, local)
        choices = [
            lambda x, t, leg=leg, start=start: getattr(leg, name)(x, t - start)
            for leg, start in zip(self.legs, self.times[:-1], strict=True)
        ]
        inner = jnp.asarray(self.times[1:-1], jnp.result_type(time, float))
        return jax.lax.switch(jnp.searchsorted(inner, time, side), choices, x, time)


class SchrodingerChain:
    """The most likely way through `snapshots` at `times`, under one reference.

    `snapshots`: two or more laws as `SchrodingerBridge` takes them; `times`: as many, increasing
    (by default 0, 1, 2, ...). `growth`: the price of mass that grows or dies on the way from one
    snapshot to the next; `masses`: of the snapshots, with growth alone. `legs`: the problem of each
    interval. Raises ArgumentError for times, masses and laws that do not fit together.
    """

    def __init__(self, reference: Flow, snapshots: Sequence[Any],
                 times: Sequence[float] | None = None, *, growth: float | None = None,
                 masses: Sequence[float] | None = None):  # fmt: skip
        if len(snapshots) < 2:
            raise ArgumentError("snapshots", f"{len(snapshots)} of them", "two or more")
        given = range(len(snapshots)) if times is None else times
        self.times = tuple(float(time) for time in given)
        if len(self.times) != len(snapshots):
            raise ArgumentError(
                "times", f"{len(self.times)} of them", f"{len(snapshots)}, each one"
            )
        steps = np.diff(self.times)
        if not (np.all(np.isfinite(self.times)) and np.all(steps > 0)):
            raise ArgumentError("times", self.times, "finite times, each later than the last")
        self.masses = (1.0,) * len(snapshots) if masses is None else tuple(masses)
        if len(self.masses) != len(snapshots):
            raise ArgumentError("masses", masses, f"{len(snapshots)} numbers, one a snapshot")
        self.growth = growth
        pairs, weights = itertools.pairwise(snapshots), itertools.pairwise(self.masses)
        self.legs = tuple(
            SchrodingerBridge(reference, *pair, horizon=float(step), growth=growth, masses=both)
            for pair, step, both in zip(pairs, steps, weights, strict=True)
        )
        self.temperature = self.legs[0].temperature
        self.source, self.target = self.legs[0].source, self.legs[-1].target

    @property
    def snapshots(self) -> tuple[Any, ...]:
        """The laws."""
        return (self.source, *[leg.target for leg in self.legs])

    def solve(
        self, method: str = "auto", key: Key[Array, ""] | None = None, *,
        smooth: float | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """The bridge of each leg, by a method and its options as in `SchrodingerBridge.solve`.

        `smooth`: a temperature of velocities, in squared length per cubed time. Then the result is
        a `SmoothChain`, whose paths have velocities (`smooth.py`); between Gaussians the reference
        is that with inertia alone.
        """
        from .smooth import check_smooth, fit_smooth

        if smooth is not None:
            check_smooth(smooth, self.times)
        gaussian = all(isinstance(law, Gaussian) for law in self.snapshots)
        if smooth is not None and gaussian and method in ("auto", "gaussian"):
            return fit_smooth(self, smooth, None, **options)
        key = jax.random.key(0) if key is None else key
        keys = jax.random.split(key, len(self.legs))
        legs = [leg.solve(method, k, **options) for leg, k in zip(self.legs, keys, strict=True)]
        chain = BridgeChain(tuple(legs), self.times)
        return chain if smooth is None else fit_smooth(self, smooth, chain)
