"""Minimizing movements, the variational step (eq. 36-37; on measures eq. 50, 59, 62):

    x+ = argmin_x F(x) + cost(x, x_k) / step

The cost is the geometry's own: half the squared distance of a point, W2^2/2 under Wasserstein()
(the JKO scheme), KL(. || x_k) under FisherRao() (the mirror step). At the minimum the step is
implicit Euler. How the minimum is found depends on the state: see `proximal`.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ..errors import ArgumentError
from ..functionals import ExpectedEnergy, InternalEnergy
from ..functionals.base import unscaled
from ..geometries import FisherRao, Wasserstein
from ..geometries.cone import unscaled as unscaled_geometry
from ..states import Categorical, Density, Gaussian, GaussianMixture
from ..states.factors import LowRank
from ..states.points import is_ensemble, is_measure, pairing, points
from .base import AbstractScheme, Entry, check_step
from .proximal import (
    Movement,
    Problem,
    bures,
    covector,
    entropic,
    line,
    mirror,
    mixture,
    monge_ampere,
)

METHODS = ("auto", "covector", "quantile", "monge-ampere", "entropic", "bures", "mirror")
ON_A_GRID = ("quantile", "monge-ampere", "entropic")


class MinimizingMovement(AbstractScheme):
    """The minimizing-movement (proximal, implicit) step: order 1, monotone (eq. 36-37, 50, 59).

    On points and particles by quasi-Newton; under Wasserstein() it is JKO: on a `Gaussian` in
    closed form (or a fixed point), on a `GaussianMixture` for each component (weights stay), on a
    `Density` on a line by exact quantiles, in a box of two or three axes by the Monge-Ampere
    equation of the step, without regularisation; under FisherRao() the KL-proximal step. `method`:
    "auto", or "covector", "bures", "quantile", "monge-ampere", "mirror"; or "entropic", for
    comparison: JKO with the entropy of the plan, which spreads the law by about `blur`^2 at every
    step (`blur`: a length, two cells by default).
    In a box it takes powers m > 1 with potentials and interactions, or a potential alone, between
    reflecting walls; with an entropy only where step and grid resolve the law, else NotConverged:
    starts with jumps, wide steps and double wells need `FiniteVolume`.
    `order=2`, for JKO on a line (BDF2) and on a Gaussian (extrapolated half step); F may then rise
    where the step is wide, and the inequality below is that of what was minimised: of BDF2 with
    W2^2(., rho_k) - W2^2(., rho_{k-1})/4 for a cost, of the half step on a Gaussian.
    The inner problem is solved until the residual of its optimality condition, as a velocity, is
    below `tolerance` times 1 + its size; `tolerance` defaults to 1e-8 in float64 (in a box
    1e-5) and 2e-4 in float32. The residual and De Giorgi's inequality
    F(x+) + cost/step <= F(x_k) are checked at every step; a missed tolerance stops the run with
    NotConverged.
    Sources: Ambrosio, Gigli and Savare, Gradient Flows, 2nd ed., section 3.1; Jordan, Kinderlehrer
    and Otto, SIAM J. Math. Anal. 29 (1998) 1.
    """

    step: float
    tolerance: float | None = None
    max_iterations: int = 500
    method: str = eqx.field(static=True, default="auto")
    order: int = eqx.field(static=True, default=1)  # pyright: ignore[reportIncompatibleMethodOverride]
    blur: float | None = None

    def __check_init__(self):
        check_step(self.step)
        if self.tolerance is not None:
            check_step(self.tolerance, "tolerance")
        if self.blur is not None:
            check_step(self.blur, "blur")
            if self.method != "entropic":
                raise ArgumentError("blur", self.blur, 'only method="entropic" blurs')
        if self.method not in METHODS:
            raise ArgumentError("method", repr(self.method), f"one of {METHODS}")
        if self.order not in (1, 2):
            raise ArgumentError("order", self.order, "1 or 2")

    def init(self, flow, state, time, randomness):
        slope = flow.slope(state, time)
        if self.order == 2 and isinstance(state, Density):
            # Before the first step nothing has moved: BDF2 starts with a step of order 1.
            still = jnp.zeros(state.grid.shape[0] - 1, state.values.dtype)
            return *slope, (state.masses, still, jnp.zeros((), bool))
        return slope

    def advance(self, flow, state, memory, time, step, randomness):
        before_covector, velocity, *rest = memory
        history: Any = None
        part = flow.parts[0]
        functional, geometry = part.functional.at(time + step), part.geometry.at(time)
        problem = Problem(
            functional, geometry, state, before_covector, step, self.tolerance, self.max_iterations
        )
        if rest:
            found, history = line.second_order(problem, rest[0])
        elif self.order == 2:
            found = bures.extrapolated(problem)
        else:
            found = self._minimise(problem)
        new = found.state
        slope = flow.slope(new, time + step)
        dissipated = found.dissipated
        if dissipated is None:
            before, after = pairing(state, before_covector, velocity), pairing(new, *slope)
            dissipated = -0.5 * jnp.asarray(step, before.dtype) * (before + after)
        entry = Entry(dissipated, violation=found.increase, residual=found.residual)
        return new, (*slope, history) if rest else slope, entry

    def _minimise(self, problem: Problem) -> Movement:
        state = problem.state
        if is_ensemble(state) and _separable(problem):
            energy, ground = problem.functional.energy, problem.geometry.ground

            def one(x: Any, c: Any) -> Any:
                return tuple(
                    covector.minimise(
                        problem._replace(functional=energy, geometry=ground, state=x, covector=c)
                    )
                )

            start = state.potential_gradient(problem.covector)
            moved, drop, residual, _ = state.vmap(one)(points(state), start)
            new = type(state)(moved, state.log_weights, state.axis)
            return Movement(new, jnp.max(drop), jnp.max(residual))
        kind = self.solver(problem.geometry, state)
        mixed = isinstance(state, GaussianMixture)
        if kind == "mirror":
            return mixture.weights(problem) if mixed else mirror.minimise(problem)
        if kind == "bures":
            return mixture.components(problem) if mixed else bures.minimise(problem)
        if kind == "quantile":
            return line.minimise(problem)[0]
        if kind == "monge-ampere":
            return monge_ampere.minimise(problem)
        if kind == "entropic":
            return entropic.minimise(problem, self.blur)
        return covector.minimise(problem)

    def solver(self, geometry: Any, state: Any) -> str:
        """The inner solver that `method` means for a geometry and a state."""
        if self.method != "auto":
            return self.method
        base = unscaled_geometry(geometry)[1]
        if isinstance(base, FisherRao) and isinstance(
            state, (Density, Categorical, Gaussian, GaussianMixture)
        ):
            return "mirror"
        if isinstance(base, Wasserstein) and isinstance(state, GaussianMixture):
            return "bures"
        if isinstance(base, Wasserstein) and isinstance(state, Gaussian):
            return "covector" if isinstance(state.scale, LowRank) else "bures"
        if isinstance(base, Wasserstein) and isinstance(state, Density):
            return "quantile" if state.grid.dimension == 1 else "monge-ampere"
        return "covector"

    def check(self, flow, state):
        part = flow.parts[0]
        if flow.warm or len(flow.parts) != 1:  # a repulsion that stands for noise is none of F
            raise ArgumentError("scheme", self.name, "it minimises: a single flow without noise")
        if part.geometry.conservative or not part.geometry.dissipative:
            raise ArgumentError(
                "geometry", part.geometry.name, "a conservative part has no minimizing movement"
            )
        if not is_measure(state):
            if self.order == 2 or self.method not in ("auto", "covector"):
                asked = f"method={self.method!r}, order={self.order}"
                raise ArgumentError("scheme", asked, 'order 1 and method="auto" move a point')
            return
        kind = self.solver(part.geometry, state)
        base = unscaled_geometry(part.geometry)[1]
        if kind == "bures" or kind in ON_A_GRID:
            _check_jko(kind, part.geometry, base, state)
            if isinstance(state, Density):
                _check_on_grid(kind, part.functional, state)
        elif kind == "mirror":
            if not isinstance(base, FisherRao):
                raise ArgumentError("method", "mirror", "the KL-proximal step is FisherRao()'s")
            if isinstance(state, Gaussian) and isinstance(state.scale, LowRank):
                raise ArgumentError("state", "a low-rank Gaussian", "a full or diagonal scale")
        elif isinstance(state, Density) and isinstance(base, FisherRao):
            remedy = 'method="mirror": a step in the values themselves may make them negative'
            raise ArgumentError("method", "covector", remedy)
        elif not is_ensemble(state) and len(part.geometry.terms) > 1:
            raise ArgumentError(
                "geometry", part.geometry.name, "one cost at a time: Composition(...) for sums"
            )
        if self.order == 2 and (
            kind not in ("bures", "quantile") or isinstance(state, GaussianMixture)
        ):
            raise ArgumentError("order", 2, "JKO on a line or on a Gaussian; elsewhere order 1")

    @property
    def starting_order(self):
        return 1

    def monotone(self, flow):
        return self.order == 1


def _check_jko(kind: str, geometry: Any, base: Any, state: Any) -> None:
    if not isinstance(base, Wasserstein):
        raise ArgumentError("geometry", geometry.name, f"{kind} is a JKO step: Wasserstein()")
    ground = unscaled_geometry(base.ground)[1]
    if not ground.constant or type(ground).__name__ != "Euclidean":
        raise ArgumentError("ground", base.ground.name, "JKO steps know the Euclidean ground")
    wanted = (Gaussian, GaussianMixture) if kind == "bures" else (Density,)
    if not isinstance(state, wanted):
        names = " or a ".join(each.__name__ for each in wanted)
        raise ArgumentError("method", kind, f"it moves a {names}")
    if isinstance(state, Gaussian) and isinstance(state.scale, LowRank):
        raise ArgumentError("state", "a low-rank Gaussian", 'method="covector", or a full scale')


def _check_on_grid(kind: str, functional: Any, state: Density) -> None:
    if any(state.grid.periodic):
        raise ArgumentError("grid", "a periodic axis", "JKO steps know reflecting walls")
    if kind == "quantile":
        if state.grid.dimension != 1:
            given = f"a density in {state.grid.dimension} dimensions"
            raise ArgumentError("state", given, 'quantiles are for a line; method="monge-ampere"')
        return
    resolved = functional.at(0.0).resolve()
    terms = [unscaled(term)[1] for term in resolved.rest]
    powers = [term for term in terms if isinstance(term, InternalEnergy)]
    if any(float(term.power) < 1 for term in powers):
        remedy = "powers m > 1 in a box; FiniteVolume runs fast diffusion"
        raise ArgumentError("power", min(float(term.power) for term in powers), remedy)
    temperature = resolved.temperature
    cold = isinstance(temperature, (int, float)) and temperature <= 0
    if cold and terms and not powers:
        remedy = "an entropy or an internal energy beside it, or particles"
        raise ArgumentError("functional", functional.name, remedy)


def _separable(problem: Problem) -> bool:
    """Whether every particle minimises by itself."""
    return isinstance(problem.functional, ExpectedEnergy) and isinstance(
        problem.geometry, Wasserstein
    )
