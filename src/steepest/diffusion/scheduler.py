"""Our schemes behind the three methods that loops written for diffusers' schedulers call."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError
from ..random import Randomness
from ..states import Particles
from .grids import times as grid_times
from .processes import AbstractProcess
from .reverse import Clock

PREDICTIONS = ("epsilon", "sample", "v_prediction")


@dataclasses.dataclass(frozen=True)
class Step:
    """`prev_sample`: (n, ...) at the next noise level; `pred_original_sample`: E[x_0 | x]."""

    prev_sample: Float[Array, "n ..."]
    pred_original_sample: Float[Array, "n ..."]


class _Known(eqx.Module):
    """What a sampler asks of a flow, where E[x_0 | x] has been computed outside."""

    process: AbstractProcess
    clock: Clock
    clean: Float[Array, "... n"]

    def denoised(self, state: Particles, t: Any) -> Any:
        return self.clean

    def scores(self, state: Particles, t: Any) -> Any:
        alpha, sigma = levels(self.process, t, self.clean.dtype)
        return (alpha * self.clean - state.positions) / sigma**2


def levels(process: AbstractProcess, t: Any, dtype: Any) -> tuple[Any, Any]:
    """(alpha, sigma) at a time, in the precision of the samples."""
    t = jnp.asarray(t)
    return process.alpha(t).astype(dtype), process.sigma(t).astype(dtype)


class Scheduler:
    """`scheme` on `process`, one call a step; the network is called by the loop around it.

        scheduler.set_timesteps(20)
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t), t, x).prev_sample

    `prediction_type`: what the network returns, as diffusers names it: "epsilon" (the noise),
    "sample" (the clean point), or "v_prediction" ((alpha noise - sigma x_0)/sqrt(alpha^2 +
    sigma^2)). `key`: of the noise of stochastic schemes. `timesteps` are times of the process, and
    it starts from `init_noise_sigma` times white noise. Raises ArgumentError for schemes that
    evaluate the model more than once a step, and for steps out of order.
    """

    def __init__(
        self,
        process: AbstractProcess,
        scheme: Any,
        prediction_type: str = "epsilon",
        key: Key[Array, ""] | None = None,
    ):
        if prediction_type not in PREDICTIONS:
            raise ArgumentError("prediction_type", repr(prediction_type), f"one of {PREDICTIONS}")
        if getattr(scheme, "evaluations", 0) != 1:
            raise ArgumentError(
                "scheme", scheme, "a sampler with one evaluation of the model a step"
            )
        self.process, self.scheme, self.prediction_type = process, scheme, prediction_type
        self._randomness = Randomness.from_key(jax.random.key(0) if key is None else key)
        self.timesteps, self._done = np.zeros(0), 0
        self._memory: Any = None
        self._clock: Any = None

    @property
    def init_noise_sigma(self) -> float:
        """The standard deviation to start from."""
        return float(self.process.prior_scale)

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Places the levels by the scheme's rule, and begins anew."""
        grid = grid_times(self.process, num_inference_steps, self.scheme)
        self.timesteps, self._clock, self._done = grid[:-1], Clock.through(grid), 0

    def scale_model_input(self, sample: Any, timestep: Any = None) -> Any:
        """The sample: ours need no scaling."""
        return sample

    def step(self, model_output: Any, timestep: Any, sample: Any) -> Step:
        """From the noise level of `timestep` to the next; arrays (n, ...)."""
        n, k = len(self.timesteps), self._done
        if k >= n or not np.isclose(float(timestep), self.timesteps[k], rtol=1e-5, atol=0.0):
            wanted = "set_timesteps first" if k >= n else f"the next is {self.timesteps[k]:g}"
            raise ArgumentError("timestep", timestep, wanted)
        x, out = jnp.asarray(sample), jnp.asarray(model_output)
        if x.shape != out.shape:
            raise ArgumentError("model_output", f"shape {out.shape}", f"expected {x.shape}")
        clean = self._clean(x, out, self.timesteps[k])
        known = _Known(self.process, self._clock, jnp.moveaxis(clean, 0, -1))
        state = Particles(jnp.moveaxis(x, 0, -1), None, -1)
        source, u = self._randomness.at(jnp.uint32(k)), jnp.asarray(k / n)
        memory = self.scheme.init(known, state, u, source) if k == 0 else self._memory
        new, self._memory = _advance(self.scheme, known, state, memory, u, 1.0 / n, source)
        self._done += 1
        return Step(new.turned(0).positions, clean)

    def add_noise(self, original_samples: Any, noise: Any, timesteps: Any) -> Float[Array, "n ..."]:
        """alpha x_0 + sigma noise, with one time for all rows or one for each."""
        self.process.check_time(timesteps)
        return self.process.mixed(jnp.asarray(original_samples), jnp.asarray(noise), timesteps)

    def _clean(self, x: Any, out: Any, t: float) -> Any:
        if self.prediction_type == "sample":
            return out
        alpha, sigma = levels(self.process, t, x.dtype)
        if self.prediction_type == "epsilon":
            return (x - sigma * out) / alpha
        length = jnp.sqrt(alpha**2 + sigma**2)
        return (alpha * x / length - sigma * out) / length


@eqx.filter_jit
def _advance(scheme: Any, flow: Any, state: Any, memory: Any, u: Any, step: Any, source: Any):
    new, memory, _ = scheme.advance(flow, state, memory, u, step, source)
    return new, memory
