"""A diagonal metric: fixed, a function of theta, or one that moves with the flow (section 7.1).

    K = 1 / (sqrt(v) + epsilon),    dv/dt = (dF^2 - v) / time

RMSProp is Euler's method for this pair; the bias of v at the start is that of its weight w,
dw/dt = (1 - w) / time, and v / w has none (Adam's correction).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..states.adaptive import Adaptive
from .base import AbstractGeometry
from .potentials import check_positive


class SecondMoment(eqx.Module):
    """The running average of squared gradients that RMSProp and Adam precondition by.

    `time`: how long it remembers, in flow time; `as_optax` counts updates, so that a decay beta is
    time = 1/(1 - beta). `unbiased`: divide by the weight gathered so far. `epsilon`: the floor of
    sqrt(v). The flow is on an `Adaptive` state.
    """

    time: float
    epsilon: float = 1e-8
    unbiased: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check_positive("time", self.time)
        check_positive("epsilon", self.epsilon)

    def inverse(self, moment: Any, weight: Any) -> Any:
        """1 / (sqrt(v) + epsilon)."""
        scale = weight if self.unbiased else 1.0
        return jax.tree.map(lambda v: 1.0 / (jnp.sqrt(v / scale) + self.epsilon), moment)

    def seen(self, moment: Any, weight: Any, gradient: Any, step: Any) -> tuple[Any, Any]:
        """(v, w) after a time `step` of this gradient, by Euler's method."""
        share = step / self.time
        new = jax.tree.map(lambda v, g: v + share * (g * g - v), moment, gradient)
        return new, weight + share * (1.0 - weight)


class Diagonal(AbstractGeometry):
    """K = 1/diagonal: of a `SecondMoment`, of a function theta -> pytree, or of a fixed pytree.

    Under `solve` a `SecondMoment` needs an `Adaptive` state, which holds the averages; `as_optax`
    keeps them in the optimizer's own state.
    """

    estimator: SecondMoment | Callable[[Any], Any] | Any
    known: Any = None

    def __init__(self, estimator: Any, known: Any = None):
        if not isinstance(estimator, SecondMoment) and not callable(estimator):
            estimator = tree.as_float(estimator, "estimator")
            for leaf in jax.tree.leaves(estimator):
                if not isinstance(leaf, Tracer) and not bool(jnp.all(leaf > 0)):
                    raise ArgumentError("estimator", float(jnp.min(leaf)), "positive numbers")
        self.estimator, self.known = estimator, known

    def inverse(self, state: Any) -> Any:
        """1 / diagonal at the position."""
        if self.known is not None:
            return self.known
        if isinstance(self.estimator, SecondMoment):
            return self.estimator.inverse(state.moment, state.weight)
        metric = self.estimator(state) if callable(self.estimator) else self.estimator
        return jax.tree.map(lambda x, m: jnp.broadcast_to(1.0 / m, x.shape), state, metric)

    def sharp(self, state, covector):
        inverse = self.inverse(state)
        if not isinstance(state, Adaptive):
            return jax.tree.map(jnp.multiply, inverse, covector)
        along = jax.tree.map(jnp.multiply, inverse, covector.position)
        zero = jax.tree.map(jnp.zeros_like, state.moment)
        if not isinstance(self.estimator, SecondMoment):
            return Adaptive(along, zero, jnp.zeros_like(state.weight))
        moment, weight = self.estimator.seen(
            state.moment, state.weight, covector.position, self.estimator.time
        )
        rate = 1.0 / self.estimator.time
        back = jax.tree.map(lambda old, new: rate * (old - new), state.moment, moment)
        return Adaptive(along, back, rate * (state.weight - weight))

    def norm_sq(self, state, covector):
        if isinstance(state, Adaptive):
            inverse, covector = self.inverse(state), covector.position
        else:
            inverse = self.inverse(state)
        return tree.dot(covector, jax.tree.map(jnp.multiply, inverse, covector))

    def begin(self, state):
        if not isinstance(self.estimator, SecondMoment):
            return ()
        zero = jax.tree.map(jnp.zeros_like, state)
        return zero, jnp.zeros((), tree.dtype(state))

    def observe(self, memory, state, covector, seen):
        if not isinstance(self.estimator, SecondMoment):
            return memory, self, state, covector
        moment, weight = memory
        memory = self.estimator.seen(moment, weight, covector, 1.0)
        now = Diagonal(self.estimator, self.estimator.inverse(*memory))
        return memory, now, state, covector

    def sqrt(self, state, white):
        if isinstance(state, Adaptive):
            raise ArgumentError("noise", self.name, "its metric follows the run: no Gibbs law")
        return jax.tree.map(lambda k, w: jnp.sqrt(k) * w, self.inverse(state), white[0])

    def divergence(self, state):
        if not callable(self.estimator) or self.known is not None:
            return None
        flat, unravel = ravel_pytree(state)

        def inverse(x: Any) -> Float[Array, " d"]:
            return ravel_pytree(self.inverse(unravel(x)))[0]

        return unravel(jnp.diagonal(jax.jacfwd(inverse)(flat)))

    def length_sq(self, state, tangent):
        if isinstance(state, Adaptive):
            raise ArgumentError("geometry", self.name, "an adaptive metric has no movement")
        return tree.dot(tangent, jax.tree.map(jnp.divide, tangent, self.inverse(state)))

    def check(self, state):
        adaptive = isinstance(state, Adaptive)
        if isinstance(self.estimator, SecondMoment) and not adaptive and self.known is None:
            raise ArgumentError(
                "state",
                type(state).__name__,
                "a moving metric needs its averages: Adaptive.start(theta, gradient), or as_optax",
            )
        if not isinstance(self.estimator, SecondMoment):
            jax.eval_shape(self.inverse, state)

    @property
    def adaptive(self):
        return isinstance(self.estimator, SecondMoment)

    @property
    def linear(self):
        # On an `Adaptive` state the averages follow the square of the covector.
        return not self.adaptive

    @property
    def constant(self):
        return not callable(self.estimator) and not self.adaptive

    @property
    def name(self):
        return "Diagonal(second moment)" if self.adaptive else "Diagonal"
