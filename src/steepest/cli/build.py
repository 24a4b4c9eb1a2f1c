"""From a validated spec to a flow, a scheme and an initial state."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import tree
from ..errors import ArgumentError
from ..flow import Flow
from ..functionals import ExpectedEnergy, FreeEnergy
from ..noise import Thermal
from ..problems import Problem
from ..schemes import AbstractScheme
from ..states import Particles, Phase
from .ingredients import LAW_FUNCTIONALS, LAW_STATES, Context
from .ingredients.law import on_arrays
from .spec import Spec

MOST_BYTES = 4 * 2**30


@dataclasses.dataclass(frozen=True)
class Job:
    """What `solve` needs."""

    problem: Problem
    flow: Flow
    scheme: AbstractScheme
    state: Any
    key: Any

    @property
    def row(self) -> dict[str, str]:
        """What runs, in words."""
        return self.flow.card(self.scheme, self.state)


def build(spec: Spec, allow_code: bool = False) -> Job:
    """Every table builds its part. Raises SteepestError for what does not fit together."""
    context = spec.context(allow_code)
    problem = _problem(spec, context)
    if [table.kind for table in spec.geometry] == ["own"]:
        return _job(spec, problem, _own(spec, problem))
    parts = []
    for table in spec.geometry:
        part = table.build(context)
        if part is None:
            raise ArgumentError("geometry", "a sum with 'own'", "'own' is the whole geometry")
        parts.append(part if table.factor == 1 else table.factor * part)
    geometry = parts[0]
    for part in parts[1:]:
        geometry = geometry + part
    noise = None
    for part in [table.build() for table in spec.noise]:
        noise = part if noise is None else noise + part
    if spec.state.kind in LAW_STATES:
        key_state, key_run = jax.random.split(jax.random.key(spec.run.seed))
        law = Flow(problem.functional, geometry, noise).lift()
        state = spec.state.build_law(context, geometry.kinetic, key_state)
        _check_memory(spec, state, law)
        return Job(problem, law, spec.scheme.build(), state, key_run)
    functional = problem.functional
    if geometry.on_measures:
        functional, noise = _of_the_law(functional, noise)
    return _job(spec, problem, Flow(functional, geometry, noise))


def _job(spec: Spec, problem: Problem, flow: Flow) -> Job:
    """The flow of a point or of particles, with where it starts."""
    geometry = flow.geometry
    if geometry.kinetic and not geometry.dissipative and flow.noise is None:
        flow = flow.conserving(problem.invariants)
    _check_memory(spec, problem.start, flow)
    key_state, key_run = jax.random.split(jax.random.key(spec.run.seed))
    state = initial_state(spec, problem, flow, key_state)
    return Job(problem, flow, spec.scheme.build(), state, key_run)


def _own(spec: Spec, problem: Problem) -> Flow:
    """The flow that the problem brings along."""
    if problem.flow is None:
        kind = spec.functional[0].kind
        raise ArgumentError(
            "geometry.kind", "own", f"{kind} brings none; name one, e.g. euclidean or symplectic"
        )
    noises = [table.kind for table in spec.noise if table.kind != "none"]
    if noises or spec.geometry[0].factor != 1 or spec.state.kind in LAW_STATES:
        remedy = "it moves a point or particles, without noise or a factor"
        raise ArgumentError("geometry.kind", "own", remedy)
    return problem.flow


def _of_the_law(energy: Any, noise: Any) -> tuple[Any, Any]:
    """An energy of parameters under a geometry of measures: the bath becomes the entropy."""
    terms = () if noise is None else noise.terms
    bath = next((term for term in terms if isinstance(term, Thermal)), None)
    if bath is None:
        return ExpectedEnergy(energy), noise
    if len(terms) > 1:
        names = " + ".join(term.name for term in terms)
        raise ArgumentError("noise", names, "a geometry of measures takes thermal noise only")
    return FreeEnergy(energy, bath.temperature), None


def _problem(spec: Spec, context: Context) -> Problem:
    """The functional with where to start; of a law, on arrays of coordinates."""
    first = spec.functional[0]
    if first.kind in LAW_FUNCTIONALS:
        parts = []
        for table in spec.functional:
            part = table.build_law(context)
            parts.append(part if table.factor == 1 else table.factor * part)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        axes = first.axes(context)
        return Problem(total, (), coords={"axis": axes} if axes else {})
    problem = first.build(context)
    _try_energy(spec, problem)
    if spec.state.kind in LAW_STATES:
        return Problem(on_arrays(problem), (), notes=problem.notes)
    return problem


def initial_state(spec: Spec, problem: Problem, flow: Flow, key: Any) -> Any:
    """The point or the particles of [state], with momenta where the geometry is kinetic."""
    asked = spec.state
    key_position, key_momentum = jax.random.split(key)
    centre = problem.start
    if isinstance(asked.initial, list):
        flat, unravel = ravel_pytree(centre)
        if len(asked.initial) != flat.size:
            raise ArgumentError(
                "state.initial",
                f"{len(asked.initial)} numbers",
                f"there are {flat.size} parameters",
            )
        centre = unravel(jnp.asarray(asked.initial, flat.dtype))
    many = asked.kind == "particles"
    count = asked.chains if many else 1
    positions = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), centre)
    scale = asked.scale or (1.0 if asked.initial == "normal" else 0.0)
    if scale:
        noise = tree.scale(scale, Particles.normal(key_position, count, centre).positions)
        if flow.geometry.curved:
            # Around a point of a manifold: along its own noise, so that all stay on it.
            flow.geometry.check(centre)
            positions = jax.vmap(lambda white: _move(flow.geometry, centre, white))(noise)
        else:
            positions = tree.add(positions, noise)
    if not many:
        positions = jax.tree.map(lambda x: x[0], positions)
    if flow.geometry.kinetic:
        bath = flow.temperature(0.0)
        own = _momentum(asked, problem, positions)
        if own is not None:
            positions = Phase(positions, own)
        elif asked.momentum == "rest" or (asked.momentum == "auto" and bath is None):
            positions = Phase.at_rest(positions)
        else:
            positions = Phase.thermal(key_momentum, positions, 1.0 if bath is None else bath)
    return Particles(positions) if many else positions


def _momentum(asked: Any, problem: Problem, positions: Any) -> Any:
    """The momenta that the spec or the problem gives; None where neither does."""
    centre = problem.momentum
    if isinstance(asked.momentum, list):
        flat, unravel = ravel_pytree(problem.start)
        if len(asked.momentum) != flat.size:
            given = f"{len(asked.momentum)} numbers"
            raise ArgumentError("state.momentum", given, f"there are {flat.size} parameters")
        centre = unravel(jnp.asarray(asked.momentum, flat.dtype))
    elif asked.momentum != "auto" or centre is None:
        return None
    return jax.tree.map(lambda p, q: jnp.broadcast_to(p, q.shape), centre, positions)


def _move(geometry: Any, point: Any, white: Any) -> Any:
    return geometry.retract(point, geometry.sqrt(point, (white,)))


def _try_energy(spec: Spec, problem: Problem) -> None:
    """Evaluate an imported energy once, so that a mistake in it is told as such."""
    table = spec.functional[0]
    if table.kind != "imported":
        return
    try:
        jax.value_and_grad(problem.functional)(problem.start)
    except ArgumentError:
        raise
    except Exception as error:
        raise ArgumentError(
            "functional.energy",
            repr(table.energy),
            f"at the initial parameters it raised {type(error).__name__}: {error}",
        ) from error


def _check_memory(spec: Spec, start: Any, flow: Flow) -> None:
    """Refuse a run whose saves cannot be kept."""
    steps = spec.run.steps or 0
    if spec.run.time is not None and hasattr(spec.scheme, "step"):
        steps = int(spec.run.time / spec.scheme.step)
    one = sum(leaf.nbytes for leaf in jax.tree.leaves(start)) * spec.state.chains
    one *= 2 if flow.geometry.kinetic and not flow.geometry.on_measures else 1
    total = one * (steps // spec.run.save_every + 1)
    if total > MOST_BYTES:
        raise ArgumentError(
            "run.save_every",
            spec.run.save_every,
            f"the saved states would take {total / 2**30:.1f} GiB, the bound is "
            f"{MOST_BYTES / 2**30:.0f} GiB; save less often or run fewer chains",
        )
