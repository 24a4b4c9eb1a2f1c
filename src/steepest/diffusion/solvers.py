"""Schemes for a `ReverseFlow`: how a step is taken from one noise level to the next.

With y = x/alpha, r = sigma/alpha and D = E[x_0 | x], the probability flow of every process is

    dy/dr = (y - D)/r,

and its linear part is integrated exactly: y_t = (r_t/r_s) y_s + (1 - r_t/r_s) D for constant D.
With h = log(r_s/r_t) the multistep formulas are those of DPM-Solver++ (Lu et al., 2022, arXiv
2211.01095, algorithms 1 and 2, and its reference code for order 3); DDIM is Song et al., ICLR 2021.
Evaluations of the model are made at the start of a step, so that the last level may have no noise.
"""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import tree
from ..errors import ArgumentError
from ..schemes.base import AbstractScheme, Entry, check_step
from ..states import Particles
from ..states.points import pairing
from .reverse import ReverseFlow


class Levels(eqx.Module):
    """The two ends of a step: forward times, alpha, and r = sigma/alpha."""

    t: tuple[Any, Any]
    alpha: tuple[Any, Any]
    ratio: tuple[Any, Any]

    @classmethod
    def between(cls, flow: Any, start: Any, end: Any, dtype: Any) -> Levels:
        """At two values of the flow's clock."""
        t = (flow.clock.at(start), flow.clock.at(end))
        alpha, ratio = (
            tuple(f(s).astype(dtype) for s in t) for f in (flow.process.alpha, flow.process.ratio)
        )
        return cls(t, alpha, ratio)

    @property
    def log_ratio(self) -> Any:
        """h = log(r_s/r_t), infinite when the step ends without noise."""
        return jnp.log(self.ratio[0]) - jnp.log(self.ratio[1])


class AbstractSampler(AbstractScheme):
    """A scheme in the coordinates (y, r)."""

    step: eqx.AbstractVar[float]
    churn: eqx.AbstractVar[float]

    @abc.abstractmethod
    def move(self, flow: Any, y: Any, memory: Any, levels: Levels, noise: Any) -> tuple[Any, Any]:
        """(y, memory) at the end of a step; `noise` draws a standard normal like y."""

    def init(self, flow: Any, state: Any, time: Any, randomness: Any) -> Any:
        return ()

    def advance(self, flow, state, memory, time, step, randomness):
        dtype = tree.dtype(state)
        levels = Levels.between(flow, time, time + step, dtype)
        alpha = levels.alpha

        axis, state = state.axis, state.turned(-1)

        def noise(stream: int = 0) -> Any:
            return randomness.normal(state.positions.shape, dtype, stream, -1)

        y, memory = self.move(flow, state.positions / alpha[0], memory, levels, noise)
        new = Particles(alpha[1] * y, state.log_weights, -1)
        heat = jnp.zeros(state.count, dtype)
        if getattr(flow, "books", False):
            heat = _heat(flow, state, new, time, step)
        return new.turned(axis), memory, Entry(heat)

    def check(self, flow, state):
        check_step(self.step)
        if not isinstance(flow, ReverseFlow):
            raise ArgumentError("flow", type(flow).__name__, f"{self.name} advances a ReverseFlow")
        if flow.churn != self.churn:
            raise ArgumentError(
                "churn", flow.churn, f"{type(self).__name__} needs ReverseFlow(churn={self.churn})"
            )

    @property
    def evaluations(self) -> int:
        """Of the model in one step."""
        return 1


def _heat(flow: Any, state: Any, new: Any, time: Any, step: Any) -> Any:
    """-dF . dx of every particle, Stratonovich's product: what a bath has received."""
    before, after = flow.slope(state, time)[0], flow.slope(new, time + step)[0]
    moved = Particles(new.positions - state.positions, None, -1)
    return -pairing(state, tree.scale(0.5, tree.add(before, after)), moved)


def denoised(flow: Any, y: Any, t: Any, alpha: Any) -> Any:
    """D at y = x/alpha, the particles along the last axis."""
    return flow.denoised(Particles(alpha * y, None, -1), t)


class ReverseEuler(AbstractSampler):
    """Euler-Maruyama on dx = [-f x + (1 + churn)/2 g^2 s] ds + sqrt(churn) g dW, order 1.

    `churn` 1 is the reversed process, 0 the probability flow by Euler's method.
    """

    step: float = 1.0
    churn: float = 1.0
    to_zero = False
    rule = "karras"

    def move(self, flow, y, memory, levels, noise):
        (t, end), (alpha, alpha_end) = levels.t, levels.alpha
        dt = (t - end).astype(y.dtype)
        g2 = flow.process.diffusion_squared(t).astype(y.dtype)
        drift = flow.process.drift(t).astype(y.dtype)
        x = alpha * y
        score = flow.scores(Particles(x, None, -1), t)
        x = x + dt * (-drift * x + 0.5 * (1.0 + self.churn) * g2 * score)
        if self.churn > 0:
            x = x + jnp.sqrt(self.churn * g2 * dt) * noise()
        return x / alpha_end, memory


class PredictorCorrector(ReverseEuler):
    """An Euler step to the next level and there `corrections` steps of Langevin dynamics.

    Each is x+ = x + e s + sqrt(2 e) xi with e = 2 (signal sigma)^2. Needs a last level with noise.
    Source: Song et al., ICLR 2021, algorithms 2 and 3.
    """

    corrections: int = eqx.field(static=True, default=1)
    signal: float = 0.16

    def move(self, flow, y, memory, levels, noise):
        y, memory = super().move(flow, y, memory, levels, noise)
        alpha = levels.alpha[1]
        size = 2.0 * (self.signal * alpha * levels.ratio[1]) ** 2
        x = alpha * y
        for k in range(self.corrections):
            score = flow.scores(Particles(x, None, -1), levels.t[1])
            x = x + size * score + jnp.sqrt(2.0 * size) * noise(1 + k)
        return x / alpha, memory

    @property
    def evaluations(self):
        return 1 + self.corrections


class DDIM(AbstractSampler):
    """y_t = (r_t/r_s) y + (1 - r_t/r_s) D: exact where D does not change; order 1, no noise."""

    step: float = 1.0
    churn: float = 0.0
    to_zero = True
    rule = "karras"

    def move(self, flow, y, memory, levels, noise):
        kept = levels.ratio[1] / levels.ratio[0]
        clean = denoised(flow, y, levels.t[0], levels.alpha[0])
        return kept * y + (1.0 - kept) * clean, memory


class Heun(AbstractSampler):
    """dy/dr = (y - D)/r by Heun's method, order 2; a step that ends at r = 0 is Euler's.

    Two evaluations a step. Source: Karras et al., NeurIPS 2022, algorithm 1.
    """

    step: float = 1.0
    churn: float = 0.0
    to_zero = True
    rule = "karras"

    def move(self, flow, y, memory, levels, noise):
        (t, end), (r, r_end) = levels.t, levels.ratio
        slope = (y - denoised(flow, y, t, levels.alpha[0])) / r
        first = y + (r_end - r) * slope

        def corrected() -> Any:
            again = (first - denoised(flow, first, end, levels.alpha[1])) / r_end
            return y + 0.5 * (r_end - r) * (slope + again)

        return jax.lax.cond(r_end > 0, corrected, lambda: first), memory

    @property
    def order(self):
        return 2

    @property
    def evaluations(self):
        return 2


class SingleStep(AbstractSampler):
    """DPM-Solver++(2S): a half step in log r, then the whole with the slope of D; order 2.

    Two evaluations a step, but one for a step that ends at r = 0.
    """

    step: float = 1.0
    churn: float = 0.0
    to_zero = True
    rule = "log-snr"

    def move(self, flow, y, memory, levels, noise):
        (r, r_end), kept = levels.ratio, levels.ratio[1] / levels.ratio[0]
        clean = denoised(flow, y, levels.t[0], levels.alpha[0])

        def halfway() -> Any:
            middle = jnp.sqrt(r * r_end)
            t = flow.process.time_of(middle)
            half = (middle / r) * y + (1.0 - middle / r) * clean
            return denoised(flow, half, t, flow.process.alpha(t).astype(y.dtype))

        later = jax.lax.cond(r_end > 0, halfway, lambda: clean)
        return kept * y + (1.0 - kept) * later, memory

    @property
    def order(self):
        return 2

    @property
    def evaluations(self):
        return 2


class History(eqx.Module):
    """The last values of the multistep methods, newest first, and how many are real."""

    values: tuple[Any, ...]
    places: tuple[Any, ...]
    count: Any

    @classmethod
    def empty(cls, like: Any, place: Any, length: int) -> History:
        zero, one = jnp.zeros_like(like), jnp.zeros_like(place)
        return cls((zero,) * length, (one,) * length, jnp.zeros((), jnp.int32))

    def push(self, value: Any, place: Any) -> History:
        return History(
            (value, *self.values)[: len(self.values)],
            (place, *self.places)[: len(self.places)],
            self.count + 1,
        )


class MultiStep(AbstractSampler):
    """DPM-Solver++ (2M, 3M) from the values of D at earlier levels; one evaluation a step.

    The parabola of order 3 is integrated exactly; the reference code takes half of its quadratic
    term, which leaves order 2 (measured).

    `solver_order` 1, 2 or 3; `churn` 1 is the SDE version (orders 1 and 2): its mean is as
    accurate, its law of order 1. The first steps have lower order, and so does a step to r = 0.
    """

    step: float = 1.0
    churn: float = 0.0
    solver_order: int = eqx.field(static=True, default=2)
    to_zero = True
    rule = "karras"

    def __check_init__(self):
        most = 2 if self.churn else 3
        if self.solver_order not in range(1, most + 1):
            raise ArgumentError("solver_order", self.solver_order, f"an integer from 1 to {most}")
        if self.churn not in (0.0, 1.0):
            raise ArgumentError("churn", self.churn, "0 (deterministic) or 1 (SDE)")

    def init(self, flow, state, time, randomness):
        place = jnp.zeros((), tree.dtype(state))
        return History.empty(state.turned(-1).positions, place, self.solver_order - 1)

    def move(self, flow, y, memory, levels, noise):
        clean = denoised(flow, y, levels.t[0], levels.alpha[0])
        place = -jnp.log(levels.ratio[0])
        h, ends = levels.log_ratio, levels.ratio[1] > 0
        kept = levels.ratio[1] / levels.ratio[0]
        gain = 1.0 - (kept if self.churn == 0 else kept**2)
        new = (1.0 - gain) * y + gain * clean
        backward = jnp.zeros_like(y)
        if self.solver_order > 1:
            backward = (clean - memory.values[0]) / (place - memory.places[0])
            second = new + 0.5 * gain * h * backward
            new = jnp.where((memory.count >= 1) & ends, second, new)
        if self.solver_order > 2:
            older = (memory.values[0] - memory.values[1]) / (memory.places[0] - memory.places[1])
            near, far = place - memory.places[0], memory.places[0] - memory.places[1]
            bend = (backward - older) / (near + far)
            slope = backward + near * bend
            third = (1.0 - gain) * y + gain * clean + (h - gain) * slope
            third = third + 2.0 * (gain - h + 0.5 * h**2) * bend
            new = jnp.where((memory.count >= 2) & ends, third, new)
        if self.churn:
            new = new + levels.ratio[1] * jnp.sqrt(gain) * noise()
        return new, memory.push(clean, place)

    @property
    def order(self):
        return 1 if self.churn else self.solver_order

    @property
    def starting_order(self):
        return 1
