"""Forward noising as a flow:  dx = f x dt + g dW,  x_t = alpha x_0 + sigma noise (eq. 70).

Every process is `Flow(|x|^2/2, a(t) Euclidean(), Thermal(T))` in a clock of its own. With
lambda = log(alpha/sigma), half the log signal-to-noise ratio,

    f = d log alpha / dt,      g^2 = -2 sigma^2 dlambda/dt.

Sources: Song et al., ICLR 2021 (VP, VE, sub-VP); Nichol and Dhariwal, ICML 2021 (cosine); Karras et
al., NeurIPS 2022 (EDM).
"""

from __future__ import annotations

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError
from ..flow import Flow
from ..functionals import Energy
from ..geometries import Euclidean
from ..geometries.cone import Scaled
from ..noise import Thermal


class AbstractProcess(eqx.Module):
    """A linear process with a scalar kernel p(x_t | x_0) = N(alpha x_0, sigma^2 I) (eq. 70).

    Times run from `start` (nearly clean) to `end` (nearly pure noise).
    """

    start: eqx.AbstractVar[float]
    end: eqx.AbstractVar[float]

    @abc.abstractmethod
    def log_alpha(self, t: Any) -> Float[Array, "..."]:
        """log alpha(t)."""

    @abc.abstractmethod
    def sigma(self, t: Any) -> Float[Array, "..."]:
        """sigma(t), zero at t = 0."""

    @abc.abstractmethod
    def drift(self, t: Any) -> Float[Array, "..."]:
        """f(t) = d log alpha / dt."""

    @abc.abstractmethod
    def diffusion_squared(self, t: Any) -> Float[Array, "..."]:
        """g(t)^2."""

    @abc.abstractmethod
    def time_of(self, ratio: Any) -> Float[Array, "..."]:
        """The time at which sigma/alpha has this value."""

    @abc.abstractmethod
    def flow(self) -> Flow:
        """The process as a flow of points; `.lift()` is the flow of its law."""

    def alpha(self, t: Any) -> Float[Array, "..."]:
        """alpha(t), one at t = 0."""
        return jnp.exp(self.log_alpha(t))

    def ratio(self, t: Any) -> Float[Array, "..."]:
        """sigma/alpha: the noise on x_t / alpha(t)."""
        return self.sigma(t) * jnp.exp(-self.log_alpha(t))

    def log_snr(self, t: Any) -> Float[Array, "..."]:
        """lambda = log(alpha/sigma)."""
        return -jnp.log(self.ratio(t))

    def noised(self, key: Key[Array, ""], x0: Float[Array, "n ..."], t: Any) -> tuple[Any, Any]:
        """(x_t, noise) with one time for all rows or one for each."""
        noise = jax.random.normal(key, x0.shape, x0.dtype)
        return self.mixed(x0, noise, t), noise

    def mixed(self, x0: Float[Array, "n ..."], noise: Any, t: Any) -> Float[Array, "n ..."]:
        """alpha x_0 + sigma noise, with one time for all rows or one for each."""
        t = jnp.asarray(t, x0.dtype)
        t = t.reshape(t.shape + (1,) * (x0.ndim - t.ndim)) if t.ndim else t
        return self.alpha(t) * x0 + self.sigma(t) * noise

    @property
    def prior_scale(self) -> Float[Array, ""]:
        """sigma(end), the standard deviation from which the reverse process starts."""
        return self.sigma(jnp.asarray(self.end))

    def check_time(self, t: Any) -> None:
        """Raises ArgumentError unless 0 <= t <= end."""
        if isinstance(t, Tracer):
            return
        values = jnp.asarray(t)
        if not bool(jnp.all((values >= 0) & (values <= self.end))):  # NaN fails too
            raise ArgumentError("t", t, f"times of this process are in [0, {self.end:g}]")

    @property
    def name(self) -> str:
        """How the process appears in reports."""
        return type(self).__name__


def _positive(**values: Any) -> None:
    for name, value in values.items():
        try:
            good = math.isfinite(float(value)) and float(value) > 0
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ArgumentError(name, value, "a positive finite number")


def _ordered(low: str, a: Any, high: str, b: Any) -> None:
    _positive(**{low: a, high: b})
    if not a < b:
        raise ArgumentError(high, b, f"larger than {low} = {a:g}")


def quadratic(x: Any) -> Any:
    """|x|^2 / 2, whose Gibbs law at temperature 1 is N(0, I)."""
    return 0.5 * jnp.sum(x**2)


def flat(x: Any) -> Any:
    """0: a free particle."""
    return jnp.zeros((), jnp.result_type(x))


class _Half(eqx.Module):
    """t -> rate(t) / 2, the clock of the geometry."""

    process: Any
    exploding: bool = eqx.field(static=True)

    def __call__(self, t: Any) -> Any:
        if self.exploding:
            return 0.5 * self.process.diffusion_squared(t)
        return -self.process.drift(t)


class _Linear(AbstractProcess):
    """What the processes with rate beta(t) = low + (high - low) t share."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    start: float = eqx.field(default=1e-4, kw_only=True)
    end: float = eqx.field(default=1.0, kw_only=True)

    def __check_init__(self):
        _ordered("beta_min", self.beta_min, "beta_max", self.beta_max)
        _ordered("start", self.start, "end", self.end)

    def beta(self, t: Any) -> Any:
        """The rate of the clock."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def total(self, t: Any) -> Any:
        """Integral of beta from 0 to t."""
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    def time_of_total(self, total: Any) -> Any:
        """The inverse of `total`."""
        slope = self.beta_max - self.beta_min
        return 2.0 * total / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2.0 * slope * total))

    def log_alpha(self, t):
        return -0.5 * self.total(t)

    def drift(self, t):
        return -0.5 * self.beta(t)


class VariancePreserving(_Linear):
    """dx = -beta/2 x dt + sqrt(beta) dW, sigma^2 = 1 - alpha^2; stationary N(0, I).

    beta runs linearly from `beta_min` to `beta_max` over the unit of time.
    """

    def sigma(self, t):
        return jnp.sqrt(-jnp.expm1(-self.total(t)))

    def diffusion_squared(self, t):
        return self.beta(t)

    def time_of(self, ratio):
        return self.time_of_total(jnp.log1p(ratio**2))

    def flow(self):
        return Flow(Energy(quadratic), Scaled(Euclidean(), _Half(self, False)), Thermal(1.0))


class SubVariancePreserving(_Linear):
    """dx = -beta/2 x dt + sqrt(beta (1 - alpha^4)) dW, sigma = 1 - alpha^2; tends to N(0, I).

    The bath warms from 0 to 1, so that less noise enters than in the variance-preserving process.
    """

    def sigma(self, t):
        return -jnp.expm1(-self.total(t))

    def diffusion_squared(self, t):
        return self.beta(t) * -jnp.expm1(-2.0 * self.total(t))

    def time_of(self, ratio):
        return self.time_of_total(2.0 * jnp.arcsinh(0.5 * ratio))

    def flow(self):
        def temperature(t: Any) -> Any:
            return -jnp.expm1(-2.0 * self.total(t))

        geometry = Scaled(Euclidean(), _Half(self, False))
        return Flow(Energy(quadratic), geometry, Thermal(temperature))


class Cosine(AbstractProcess):
    """Variance preserving with alpha = cos(a) / cos(a_0), a = pi/2 (t + offset)/(1 + offset)."""

    offset: float = 0.008
    start: float = eqx.field(default=1e-4, kw_only=True)
    end: float = eqx.field(default=0.994, kw_only=True)

    def __check_init__(self):
        _positive(offset=self.offset)
        _ordered("start", self.start, "end", self.end)
        if self.end >= 1:
            raise ArgumentError("end", self.end, "below 1, where the rate is infinite")

    @property
    def _pace(self) -> float:
        return 0.5 * math.pi / (1.0 + self.offset)

    def _angles(self, t: Any) -> tuple[Any, float]:
        return self._pace * (t + self.offset), self._pace * self.offset

    def log_alpha(self, t):
        a, a0 = self._angles(t)
        return jnp.log(jnp.cos(a)) - math.log(math.cos(a0))

    def sigma(self, t):
        # 1 - cos^2 a / cos^2 a0 = sin(a - a0) sin(a + a0) / cos^2 a0 does not cancel at small t.
        a, a0 = self._angles(t)
        return jnp.sqrt(jnp.sin(self._pace * t) * jnp.sin(a + a0)) / math.cos(a0)

    def drift(self, t):
        return -self._pace * jnp.tan(self._angles(t)[0])

    def diffusion_squared(self, t):
        return -2.0 * self.drift(t)

    def time_of(self, ratio):
        a0 = self._pace * self.offset
        part = ratio**2 / (1.0 + ratio**2) * math.cos(a0) ** 2  # sigma^2 cos^2 a0
        a = jnp.arcsin(jnp.sqrt(math.sin(a0) ** 2 + part))
        # a itself loses digits at small t; its difference to a0 does not (and is below pi/2).
        small = jnp.arcsin(jnp.clip(part / jnp.sin(a + a0), 0.0, 1.0))
        return jnp.where(a < 0.7, small, a - a0) / self._pace

    def flow(self):
        return Flow(Energy(quadratic), Scaled(Euclidean(), _Half(self, False)), Thermal(1.0))


class VarianceExploding(AbstractProcess):
    """dx = g dW, sigma^2 = sigma_min^2 ((sigma_max/sigma_min)^(2t) - 1): no stationary law."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    start: float = eqx.field(default=1e-3, kw_only=True)
    end: float = eqx.field(default=1.0, kw_only=True)

    def __check_init__(self):
        _ordered("sigma_min", self.sigma_min, "sigma_max", self.sigma_max)
        _ordered("start", self.start, "end", self.end)

    @property
    def _growth(self) -> float:
        return 2.0 * math.log(self.sigma_max / self.sigma_min)

    def log_alpha(self, t):
        return 0.0 * t

    def sigma(self, t):
        return self.sigma_min * jnp.sqrt(jnp.expm1(self._growth * t))

    def drift(self, t):
        return 0.0 * t

    def diffusion_squared(self, t):
        return self.sigma_min**2 * self._growth * jnp.exp(self._growth * t)

    def time_of(self, ratio):
        return jnp.log1p((ratio / self.sigma_min) ** 2) / self._growth

    def flow(self):
        return Flow(Energy(flat), Scaled(Euclidean(), _Half(self, True)), Thermal(1.0))


class EDM(AbstractProcess):
    """dx = sqrt(2 t) dW, sigma = t: the heat flow in the clock of its own noise."""

    start: float = eqx.field(default=2e-3, kw_only=True)
    end: float = eqx.field(default=80.0, kw_only=True)

    def __check_init__(self):
        _ordered("start", self.start, "end", self.end)

    def log_alpha(self, t):
        return 0.0 * t

    def sigma(self, t):
        return 1.0 * t

    def drift(self, t):
        return 0.0 * t

    def diffusion_squared(self, t):
        return 2.0 * t

    def time_of(self, ratio):
        return 1.0 * ratio

    def flow(self):
        return Flow(Energy(flat), Scaled(Euclidean(), _Half(self, True)), Thermal(1.0))
