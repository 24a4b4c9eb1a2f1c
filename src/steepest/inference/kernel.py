"""One step of a flow under a scheme as a kernel of the kind that sampling libraries pass around."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .. import tree
from ..errors import ArgumentError
from ..flow import AbstractFlow
from ..random import Randomness
from ..schemes import AbstractScheme, Entry
from ..states import Phase
from ..states.points import points


class KernelState(eqx.Module):
    """A state of the flow, what the scheme remembers of it, and how many steps were taken."""

    state: Any
    memory: Any
    index: Int[Array, ""]

    @property
    def position(self) -> Any:
        """Without the momentum, if there is one."""
        inner = points(self.state)
        return inner.position if isinstance(inner, Phase) else inner


class Kernel(NamedTuple):
    """`init(position) -> state` and `step(key, state) -> (state, info)`, pure and traceable."""

    init: Callable[..., KernelState]
    step: Callable[[Any, KernelState], tuple[KernelState, Entry]]


def as_kernel(flow: AbstractFlow, scheme: AbstractScheme) -> Kernel:
    """The step of `solve(flow, ..., scheme=scheme)` for a loop of one's own.

    `init` takes a state of the flow; under a kinetic geometry a bare position starts at rest. It
    draws nothing, and ignores the key that the loops of BlackJAX pass with the position.
    `info` is the scheme's `Entry`: heat, acceptance, divergence. With one and the same key at every
    step the states are those of `solve` with that key; keys that are split work as well. Raises
    ArgumentError for ingredients that do not fit.
    """
    if not isinstance(flow, AbstractFlow):
        raise ArgumentError("flow", type(flow).__name__, "a Flow(functional, geometry, noise)")
    if not isinstance(scheme, AbstractScheme) or scheme.step is None:
        raise ArgumentError("scheme", type(scheme).__name__, "one with a step, e.g. Euler(0.1)")
    kinetic = any(part.geometry.kinetic for part in flow.parts)

    def init(position: Any, _key: Any = None, /) -> KernelState:
        state = tree.as_float(position, "position")
        if kinetic and not isinstance(points(state), Phase):
            state = Phase.at_rest(state)
        bound = flow.bind(state)
        scheme.check(bound, state)
        source = Randomness.from_key(jax.random.key(0)).at(jnp.uint32(2**32 - 1))
        return KernelState(state, scheme.init(bound, state, 0.0, source), jnp.uint32(0))

    def step(key: Any, state: KernelState) -> tuple[KernelState, Entry]:
        bound = flow.bind(state.state)
        source = Randomness.from_key(key).at(state.index)
        time = state.index.astype(tree.dtype(state.state)) * scheme.step
        new, memory, entry = scheme.advance(
            bound, state.state, state.memory, time, scheme.step, source
        )
        same = lambda a, b: a.astype(b.dtype)  # noqa: E731
        new = jax.tree.map(same, new, state.state)
        memory = jax.tree.map(same, memory, state.memory)
        return KernelState(new, memory, state.index + jnp.uint32(1)), entry

    return Kernel(init, step)
