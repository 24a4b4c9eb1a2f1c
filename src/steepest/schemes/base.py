"""How time advances. A scheme changes the error, never the flow.

A scheme is the map (state, memory) -> (state, memory, entry) over one step. `memory` carries what
the next step would compute again (a force, a value); `init` makes it from the state alone, so that
a resumed run repeats it. `entry` is what the step writes into the ledger.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import equinox as eqx
import jax
from jax.core import Tracer
from jaxtyping import Array, Float

from ..errors import ArgumentError, refuse_hidden_methods


class Entry(eqx.Module):
    """What one step did, per point.

    `dissipated`: energy given to the bath or lost to friction. `accepted`: 1 or 0 (Metropolis), and
    `diverged`: 1 where the proposal was thrown out by an energy beyond all sense.
    `violation`: by how much De Giorgi's inequality fails (minimizing movements), and `residual`:
    the optimality residual of the inner problem. `work`: of the protocol, where the scheme switches
    it at a fixed state and so knows it exactly.
    """

    dissipated: Float[Array, "..."]
    accepted: Float[Array, "..."] | None = None
    diverged: Float[Array, "..."] | None = None
    violation: Float[Array, ""] | None = None
    residual: Float[Array, ""] | None = None
    work: Float[Array, "..."] | None = None


class AbstractScheme(eqx.Module):
    """One way of advancing time by `step`."""

    step: eqx.AbstractVar[Any]

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        refuse_hidden_methods(cls)

    @abc.abstractmethod
    def init(self, flow: Any, state: Any, time: Any, randomness: Any) -> Any:
        """The memory at a state; `randomness` is that of the step which led there."""

    @abc.abstractmethod
    def advance(
        self, flow: Any, state: Any, memory: Any, time: Any, step: Any, randomness: Any
    ) -> tuple[Any, Any, Entry]:
        """One step from `time` to `time + step`."""

    def check(self, flow: Any, state: Any) -> None:
        """Raises ArgumentError when the scheme cannot advance this flow."""

    def examine(self, flow: Any, state: Any) -> Any:
        """What only numbers can tell of flow and state: scalars, computed with the first save."""
        del flow, state
        return ()

    def judge(self, flow: Any, state: Any, found: Any) -> None:
        """Raises ArgumentError when what `examine` found does not allow the run."""

    @property
    def order(self) -> int:
        """The order of accuracy in the step (weak order under noise)."""
        return 1

    @property
    def starting_order(self) -> int:
        """The order of a single step from a state without history: lower for multistep schemes."""
        return self.order

    def monotone(self, flow: Any) -> bool:
        """Whether each step of a bound dissipative flow lowers F, whatever its size."""
        del flow
        return False

    def stability(self, flow: Any) -> float | None:
        """The largest step * rate at which a linear flow stays bounded; None without such a limit.

        `rate`: of decay, or the frequency of a kinetic flow.
        """
        del flow
        return None

    @property
    def proposes(self) -> bool:
        """Whether a step may be taken in part or not at all: its entries say what was accepted."""
        return False

    @property
    def symplectic(self) -> bool:
        """Whether a step of a conservative kinetic flow is a symplectic map."""
        return False

    @property
    def name(self) -> str:
        """How the scheme appears in the flow's row."""
        return f"{type(self).__name__}({self.step:g})"


def check_step(step: Any, argument: str = "step") -> None:
    """Raises ArgumentError unless the step is a positive finite number."""
    if isinstance(step, Tracer):
        return
    try:
        good = math.isfinite(float(step)) and float(step) > 0
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ArgumentError(argument, step, "a step is a positive finite number")


def scaled(scheme: Any, factor: float) -> Any:
    """The scheme with every step in it times `factor`."""

    def leaf(path: Any, value: Any) -> Any:
        return value * factor if getattr(path[-1], "name", None) == "step" else value

    return jax.tree_util.tree_map_with_path(leaf, scheme)
