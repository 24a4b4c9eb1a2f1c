"""What is sampled: exp(-E) on flat space, with names and the way back to the user's parameters."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..functionals import AbstractFunctional, Energy
from ..naming import flatten, named_leaves
from ..problems import Problem


@dataclasses.dataclass(frozen=True)
class Unravel:
    """From a flat vector back to a pytree; equal for pytrees of equal structure and shapes."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, example: Any) -> Unravel:
        """For pytrees like `example`."""
        leaves, structure = jax.tree.flatten(example)
        return cls(structure, tuple(tuple(jnp.shape(leaf)) for leaf in leaves))

    def __call__(self, flat: Float[Array, " d"]) -> Any:
        leaves, first = [], 0
        for shape in self.shapes:
            size = math.prod(shape)
            leaves.append(flat[first : first + size].reshape(shape))
            first += size
        return jax.tree.unflatten(self.structure, leaves)


class Label:
    """A problem as static data. All labels are equal: names change no compiled program."""

    def __init__(self, problem: Problem):
        self.problem = problem

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Label)

    def __hash__(self) -> int:
        return hash(Label)


class Target(eqx.Module):
    """pi ~ exp(-E(x)) for x in R^d, the flattened parameters of a problem.

    `energy`: E of the user's parameters, -log pi up to a constant. `start` (d,): where methods
    begin. Calling the target gives E(x); `jax.grad(target)` costs one gradient. Targets that differ
    in numbers and names alone run the same compiled programs.
    """

    energy: AbstractFunctional
    start: Float[Array, " d"]
    unravel: Unravel = eqx.field(static=True)
    label: Label = eqx.field(static=True)

    @classmethod
    def of(cls, problem: Any, start: Any = None) -> Target:
        """The target of a `Problem`, or of an energy (function or functional) with its `start`.

        Raises ArgumentError where E or its gradient is not finite at the start.
        """
        if isinstance(problem, Target):
            return problem
        if not isinstance(problem, Problem):
            if not isinstance(problem, AbstractFunctional):
                if not callable(problem):
                    given = type(problem).__name__
                    raise ArgumentError("energy", given, "a Problem, or a function x -> -log pi(x)")
                problem = Energy(problem)
            if start is None:
                raise ArgumentError("start", None, "parameters to start from, e.g. jnp.zeros(d)")
            problem = Problem(problem, tree.as_float(start, "start"))
        flat, _ = ravel_pytree(problem.start)
        target = cls(problem.functional, flat, Unravel.of(problem.start), Label(problem))
        target._check()
        return target

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self.energy(self.unravel(x))

    @property
    def expect_gaussian(self) -> Any | None:
        """The energy's own expectation under a Gaussian of x, where it knows one."""
        return getattr(self.energy, "expect_gaussian", None)

    @property
    def problem(self) -> Problem:
        """What the target was made of."""
        return self.label.problem

    @property
    def dimension(self) -> int:
        """d."""
        return self.start.shape[0]

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each of the d coordinates."""
        held = self.variables(np.asarray(self.start)[None, None])
        return tuple(flatten(held, self.problem.dims, self.problem.coords)[0])

    def variables(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """Draws (chain, save, d) as the user's variables on unconstrained space, by name."""
        chains, saves, d = draws.shape
        held = jax.vmap(self.unravel)(jnp.asarray(draws).reshape(-1, d))
        return {
            name: np.asarray(leaf).reshape(chains, saves, *leaf.shape[1:])
            for name, leaf in named_leaves(held)
        }

    def constrained(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """Draws (chain, save, d) as what the model speaks of: after its transform back, if any."""
        constrain = self.problem.constrain
        if constrain is None:
            return self.variables(draws)
        chains, saves, d = draws.shape
        back = lambda x: constrain(self.unravel(x))  # noqa: E731
        held = jax.jit(jax.vmap(back))(jnp.asarray(draws).reshape(-1, d))
        return {
            name: np.asarray(leaf).reshape(chains, saves, *leaf.shape[1:])
            for name, leaf in held.items()
        }

    def _check(self) -> None:
        value, slope = jax.value_and_grad(self)(self.start)
        if jnp.shape(value) != ():
            raise ArgumentError("energy", f"shape {jnp.shape(value)}", "a scalar")
        if not bool(jnp.isfinite(value)):
            raise ArgumentError(
                "energy",
                f"value {float(value)} at the start",
                "a start inside the support: -log pi must be finite there; a constrained "
                "parameter needs a transform to the whole line",
            )
        if not tree.is_finite(slope):
            bad = [self.names[i] for i in np.flatnonzero(~np.isfinite(np.asarray(slope)))[:3]]
            raise ArgumentError(
                "energy", f"a gradient that is not finite in {', '.join(bad)}", "a smooth -log pi"
            )
