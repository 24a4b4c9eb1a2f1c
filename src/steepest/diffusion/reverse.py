"""The reverse process as a flow, driven by a score (eq. 70 and its reversal).

With V the forward potential, K = g^2/2 (in the forward clock) and s = score(x, t), the families

    dx = [-f x + (1 + churn)/2 g^2 s] ds + sqrt(churn) g dW,      churn >= 0,

share the marginals of the forward process run backwards: churn 0 is the probability flow, churn 1
the time reversal. In the library's form F = -(V/T) - (1 + churn) log p_t under K with a bath of
temperature `churn`. Flow time u runs from 0 to 1 along a grid of forward times, so that any scheme
with step 1/n visits the grid, however uneven it is.
Source: Anderson, Stoch. Proc. Appl. 12 (1982) 313; Song et al., ICLR 2021.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .. import tree
from ..driver import solve
from ..errors import ArgumentError
from ..flow import Flow
from ..functionals import ExpectedEnergy
from ..functionals.base import AbstractFunctional
from ..geometries import Euclidean, Wasserstein
from ..geometries.cone import Scaled
from ..noise import Thermal
from ..states import Particles
from ..states.points import points
from .grids import times as grid_times
from .models import AbstractModel
from .processes import AbstractProcess


class Clock(eqx.Module):
    """u in [0, 1] -> forward time, piecewise linear through `count` + 1 knots, which decrease.

    The knots are padded to a length that few grids exceed: one compiled program serves all.
    """

    knots: Float[Array, " m"]
    count: Int[Array, ""]

    @classmethod
    def through(cls, knots: np.ndarray) -> Clock:
        """The clock of a grid."""
        room = max(64, 2 ** math.ceil(math.log2(knots.size)))
        padded = np.pad(knots, (0, room - knots.size), mode="edge")
        return cls(jnp.asarray(padded), jnp.asarray(knots.size - 1, jnp.int32))

    def _place(self, u: Any) -> tuple[Any, Any]:
        place = jnp.clip(jnp.asarray(u) * self.count, 0.0, self.count)
        # u is k * (1/n) in floating point: a hair below a knot still is that knot.
        near = jnp.round(place)
        place = jnp.where(jnp.abs(place - near) < 1e-3, near, place)
        index = jnp.clip(jnp.floor(place), 0, self.count - 1).astype(jnp.int32)
        return index, place - index

    def at(self, u: Any) -> Float[Array, ""]:
        """The forward time."""
        index, rest = self._place(u)
        return (1.0 - rest) * self.knots[index] + rest * self.knots[index + 1]

    def rate(self, u: Any) -> Float[Array, ""]:
        """-dt/du, on the piece that begins at u."""
        index, _ = self._place(u)
        return (self.knots[index] - self.knots[index + 1]) * self.count


class ReverseEnergy(AbstractFunctional):
    """-V - (1 + churn) log p_t of one point, with the model's score as the gradient of log p_t.

    V is the potential whose force under K is the drift: V = -f |x|^2 / g^2. Its value is known
    where the model knows log p; otherwise it is zero, and no ledger is kept (`exact` is False).
    """

    process: AbstractProcess
    model: AbstractModel
    clock: Clock
    churn: Any
    time: Any = None

    def levels(self) -> tuple[Any, Any, Any]:
        """(t, alpha, sigma) at the frozen time."""
        t = self.clock.at(0.0 if self.time is None else self.time)
        return t, self.process.alpha(t), self.process.sigma(t)

    def stiffness(self, t: Any) -> Any:
        """V = stiffness |x|^2 / 2."""
        drift, g2 = self.process.drift(t), self.process.diffusion_squared(t)
        # Without noise (some processes at t = 0) there is no bath and no V; and no step is taken.
        return jnp.where(g2 > 0, -2.0 * drift / jnp.where(g2 > 0, g2, 1.0), 0.0)

    def __call__(self, state):
        if not self.model.exact:
            return jnp.zeros((), state.dtype)
        t, alpha, sigma = self.levels()
        potential = 0.5 * self.stiffness(t) * jnp.sum(state**2)
        return -potential - (1.0 + self.churn) * self.model.log_prob(state, alpha, sigma)

    def differential(self, state):
        t, alpha, sigma = self.levels()
        score = self.model.score(state, alpha, sigma)
        return -self.stiffness(t) * state - (1.0 + self.churn) * score

    def at(self, time):
        return eqx.tree_at(lambda f: f.time, self, time, is_leaf=lambda x: x is None)

    @property
    def time_dependent(self):
        return True

    @property
    def exact(self):
        return self.model.exact

    @property
    def name(self):
        return "-V - (1 + churn) log p"


class _Pace(eqx.Module):
    """u -> g^2/2 times the pace of the clock."""

    process: AbstractProcess
    clock: Clock

    def __call__(self, u: Any) -> Any:
        return 0.5 * self.process.diffusion_squared(self.clock.at(u)) * self.clock.rate(u)


class ReverseFlow(Flow):
    """The reverse process of particles; `solve` it from u = 0 to 1 (eq. 70).

    `grid`: decreasing forward times. `churn`: 0 the probability flow, 1 the reversed process.
    `labels`: (n,) integers for a conditional model. `books`: whether the ledger follows F where the
    model knows log p; without them nothing but the samplers' own evaluations is computed. Raises
    ArgumentError for grids that leave the process's times.
    """

    process: AbstractProcess
    model: AbstractModel
    clock: Clock
    churn: float
    labels: Int[Array, " n"] | None
    books: bool = eqx.field(static=True)

    def __init__(
        self,
        process: AbstractProcess,
        model: AbstractModel,
        grid: Any,
        churn: float = 0.0,
        labels: Any = None,
        books: bool = True,
    ):
        check_parts(process, model)
        knots = np.asarray(grid, float)
        if knots.ndim != 1 or knots.size < 2 or not (np.diff(knots) < 0).all():
            raise ArgumentError("grid", f"shape {knots.shape}", "at least two decreasing times")
        process.check_time(knots)
        if not (isinstance(churn, (int, float)) and math.isfinite(churn) and churn >= 0):
            raise ArgumentError("churn", churn, "a number >= 0: 0 for the probability flow")
        self.process, self.model, self.churn = process, model, float(churn)
        self.clock = Clock.through(knots)
        self.books = books and model.exact and labels is None
        self.labels = None if labels is None else jnp.asarray(labels, jnp.int32)
        energy = ReverseEnergy(process, model, self.clock, self.churn)
        geometry = Wasserstein(Scaled(Euclidean(), _Pace(process, self.clock)))
        noise = Thermal(self.churn) if churn > 0 else None
        super().__init__(ExpectedEnergy(energy), geometry, noise)

    def bind(self, state):
        if not isinstance(state, Particles):
            raise ArgumentError("state", type(state).__name__, "Particles.from_positions(x)")
        if self.labels is not None and self.labels.shape != (state.count,):
            given = f"shape {self.labels.shape}"
            raise ArgumentError("labels", given, f"expected ({state.count},)")
        return self

    def _map(self, fn: Any, state: Particles) -> Any:
        """fn(x, label) of every particle."""
        axis = state.axis
        if self.labels is None:
            return jax.vmap(lambda x: fn(x, None), axis, axis)(state.positions)
        return jax.vmap(fn, (axis, 0), axis)(state.positions, self.labels)

    def levels(self, t: Any, dtype: Any) -> tuple[Any, Any]:
        """(alpha, sigma) at a forward time, in the precision of the state."""
        return self.process.alpha(t).astype(dtype), self.process.sigma(t).astype(dtype)

    def denoised(self, state: Particles, t: Any) -> Any:
        """E[x_0 | x] of every particle, at the forward time t."""
        alpha, sigma = self.levels(t, tree.dtype(state))
        return self._map(lambda x, c: self.model.denoise(x, alpha, sigma, c), state)

    def scores(self, state: Particles, t: Any) -> Any:
        """The score at every particle, at the forward time t."""
        alpha, sigma = self.levels(t, tree.dtype(state))
        return self._map(lambda x, c: self.model.score(x, alpha, sigma, c), state)

    def slope(self, state, time, randomness=None):
        energy: Any = self.functional.at(time).energy  # pyright: ignore[reportAttributeAccessIssue]
        t = self.clock.at(time)
        stiffness, dtype = energy.stiffness(t), tree.dtype(state)
        score = self.scores(state, t)
        field = -stiffness.astype(dtype) * state.positions - (1.0 + self.churn) * score
        covector = Particles(field / state.count, None, state.axis)
        return covector, self.velocity_along(state, covector, time)

    def per_point(self, state, time=0.0):
        if not self.books:
            return jnp.zeros(state.count, tree.dtype(state))
        return super().per_point(state, time)

    def rate_per_point(self, state, time=0.0):
        if not self.books:
            return jnp.zeros(state.count, tree.dtype(state))
        return super().rate_per_point(state, time)


def check_parts(process: Any, model: Any) -> None:
    """Raises ArgumentError for what is no process or no model."""
    if not isinstance(process, AbstractProcess):
        raise ArgumentError("process", type(process).__name__, "e.g. VariancePreserving()")
    if not isinstance(model, AbstractModel):
        raise ArgumentError("model", type(model).__name__, "a model, e.g. ExactMixture(mixture)")


def prior(
    process: AbstractProcess, shape: tuple[int, ...], key: Key[Array, ""], n: int, dtype: Any = None
) -> Particles:
    """n points of N(0, sigma(end)^2 I)."""
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise ArgumentError("n", n, "an integer >= 1")
    white = jax.random.normal(key, (int(n), *shape), dtype)
    return Particles.from_positions(process.prior_scale.astype(white.dtype) * white)


def sample(
    process: AbstractProcess,
    model: AbstractModel,
    key: Key[Array, ""],
    n: int,
    *,
    scheme: Any = None,
    steps: int = 20,
    grid: Any = None,
    start: Particles | None = None,
    labels: Any = None,
) -> Float[Array, "n ..."]:
    """n samples: the reverse process solved from noise to data.

    `scheme`: one of `steepest.diffusion`'s, by default `Anchored` (a deterministic multistep
    method); its step is replaced by 1/steps. `grid`: decreasing times, by default
    `times(process, steps, model)`. Returns positions (n, ...). Raises Diverged where numbers stop
    being finite, ArgumentError for what does not fit.
    """
    from .anchored import Anchored

    if not isinstance(steps, (int, np.integer)) or steps < 1:
        raise ArgumentError("steps", steps, "an integer >= 1")
    check_parts(process, model)
    scheme = Anchored.of(model, 1.0) if scheme is None else scheme
    grid = grid_times(process, int(steps), scheme) if grid is None else grid
    begin, draw = jax.random.split(key)
    state = prior(process, model.shape, begin, n) if start is None else start
    flow = ReverseFlow(process, model, grid, getattr(scheme, "churn", 0.0), labels, False)
    scheme = eqx.tree_at(lambda s: s.step, scheme, 1.0 / (len(grid) - 1))
    run = solve(
        flow,
        state,
        scheme=scheme,
        steps=len(grid) - 1,
        save_every=len(grid) - 1,
        key=draw,
        ledger="saves",
    )
    return points(run.final)
