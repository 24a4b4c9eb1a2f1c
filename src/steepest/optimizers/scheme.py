"""Any optax optimizer as a scheme, so that its run has a ledger and an audit (section 7.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from .. import tree
from ..errors import ArgumentError
from ..geometries import Euclidean
from ..schemes.base import AbstractScheme, Entry, check_step
from ..states.points import is_measure


class OptaxScheme(AbstractScheme):
    """theta += updates(dE, theta): one update takes `step` units of flow time.

    The ledger's dissipation is -<(dE_k + dE_{k+1})/2, theta_{k+1} - theta_k>, what the loss fell by
    along the step, so its balance says how well the loss is resolved between updates, and the
    series of what was dissipated what each update was worth.
    """

    transform: Any
    step: float

    def __init__(self, transform: Any, step: float = 1.0):
        self.transform, self.step = transform, step

    def __check_init__(self):
        check_step(self.step)
        self.optimizer()

    def optimizer(self) -> optax.GradientTransformationExtraArgs:
        """The transformation, made at this step where it is a function of its learning rate."""
        made = self.transform(self.step) if callable(self.transform) else self.transform
        if not isinstance(made, optax.GradientTransformation):
            raise ArgumentError(
                "transform",
                type(made).__name__,
                "an optax.GradientTransformation, or learning rate -> one",
            )
        return optax.with_extra_args_support(made)

    def init(self, flow, state, time, randomness):
        covector, _ = flow.slope(state, time, randomness)
        return covector, self.optimizer().init(state)

    def advance(self, flow, state, memory, time, step, randomness):
        covector, inner = memory
        functional = flow.parts[0].functional.at(time)
        extra = {"value": functional(state), "grad": covector, "value_fn": functional}
        updates, inner = self.optimizer().update(covector, inner, state, **extra)
        # A part of a step, as the audit takes it, is a part of the update.
        share = step / self.step
        moved = jax.tree.map(lambda u: jnp.asarray(share, u.dtype) * u, updates)
        new = optax.apply_updates(state, moved)
        later, _ = flow.slope(new, time + step, randomness)
        dissipated = -0.5 * (tree.dot(covector, moved) + tree.dot(later, moved))
        return new, (later, inner), Entry(dissipated)

    def check(self, flow, state):
        part = flow.parts[0]
        if len(flow.parts) != 1 or not isinstance(part.geometry, Euclidean):
            raise ArgumentError(
                "geometry", part.geometry.name, "Euclidean(): the optimizer has its own geometry"
            )
        if is_measure(state):
            raise ArgumentError("state", type(state).__name__, "one point; use jax.vmap for many")
        if part.fluctuates and not part.subsamples:
            raise ArgumentError("noise", part.noise.name, "noise of the optimizer's own, or none")

    @property
    def name(self):
        return f"optax({self.step:g})"


def from_optax(
    transform: optax.GradientTransformation | Callable[[Any], optax.GradientTransformation],
    step: float = 1.0,
) -> OptaxScheme:
    """Any optax optimizer as a scheme of `solve`: the ledger and the audit of its run.

    `step`: the flow time of one update, its learning rate if the clock of eq. 33 is wanted.
    `transform` may be a function of the learning rate, e.g. `optax.adam`: it is made at `step`,
    which is traced, so that runs at other rates do not compile again. Used with `Flow(loss,
    Euclidean())`, or with `Minibatch()` noise for a risk that subsamples.
    """
    return OptaxScheme(transform, step)
