"""The ledger of the forward and of the reverse flow.

Forward: with p_t the law of x_t and u = log(sigma/alpha), the minimal error of denoising
mmse(u) = E|x_0 - E[x_0 | x_t]|^2 gives the rates. Reverse, for the SDE with the model's score,

    KL(data || model) <= KL(p_T || prior) + integral E|D - D_model|^2 / r^2 du,      r = e^u,

which is 1/2 int g^2 E|s - s_model|^2 dt; a sampler that holds D over steps u_k > u pays besides

    integral (mmse(u_k) - mmse(u)) / r^2 du,

since D(x_t) is a martingale in falling noise. Source: Song et al., NeurIPS 2021; Benton et al.,
ICLR 2024 (discretisation); Guo, Shamai and Verdu, IEEE Trans. Inf. Theory 51 (2005) 1261.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Key

from ..errors import ArgumentError
from .models import AbstractModel
from .processes import AbstractProcess


@dataclasses.dataclass(frozen=True)
class ForwardBooks:
    """Columns over `times`. `entropy` of p_t; `free_energy` = KL(p_t || N(0, prior scale^2 I)), nan
    where there is no stationary law; `rate`: its rate by de Bruijn's identity,
    -g^2/2 E|s - s_stationary|^2; `error`: the standard error of entropy and free energy.
    `half_bridge`: KL(p_T || prior) and its standard error, the gap that the finite T leaves."""

    times: np.ndarray
    entropy: np.ndarray
    free_energy: np.ndarray
    rate: np.ndarray
    error: np.ndarray
    half_bridge: tuple[float, float]

    @property
    def descends(self) -> bool:
        """Whether the free energy never rises by more than its error (3 standard errors)."""
        if not np.isfinite(self.free_energy).all():
            return True
        return bool((np.diff(self.free_energy) <= 3 * self.error[1:]).all())

    @property
    def imbalance(self) -> float:
        """The largest gap between the fall of KL and the integral of its rate (trapezoidal)."""
        pieces = 0.5 * np.diff(self.times) * (self.rate[1:] + self.rate[:-1])
        gone = self.free_energy - self.free_energy[0]
        return float(np.abs(gone[1:] - np.cumsum(pieces)).max())


def forward_books(
    process: AbstractProcess,
    truth: AbstractModel,
    points: Any,
    key: Key[Any, ""],
    *,
    levels: int = 24,
) -> ForwardBooks:
    """Entropy, KL to the stationary law and its rate along the forward flow, from exact scores.

    `points`: (n, ...) of the data; the same noise is used at all times, so that differences between
    times have less error than the values.
    """
    if not truth.exact:
        raise ArgumentError("truth", type(truth).__name__, "a model that knows log p")
    clean = jnp.asarray(points)
    low, high = (float(process.log_snr(jnp.asarray(t))) for t in (process.end, process.start))
    grid = np.linspace(low, high, levels)
    times = np.sort(np.asarray(process.time_of(jnp.exp(-jnp.asarray(grid)))))
    stationary = float(process.drift(jnp.asarray(0.5 * process.end))) < 0
    noise = jax.random.normal(key, clean.shape, clean.dtype)

    @eqx.filter_jit
    def at(t: Any) -> Any:
        alpha, sigma = process.alpha(t), process.sigma(t)
        x = alpha * clean + sigma * noise
        logs: Any = jax.vmap(lambda z: truth.log_prob(z, alpha, sigma))(x)
        scores = jax.vmap(lambda z: truth.score(z, alpha, sigma))(x)
        d = math.prod(x.shape[1:])
        squared = jnp.sum(x.reshape(len(x), -1) ** 2, axis=1)
        ratio = logs + 0.5 * squared + 0.5 * d * math.log(2 * math.pi)
        information = jnp.sum((scores + x).reshape(len(x), -1) ** 2, axis=1)
        rate = -0.5 * process.diffusion_squared(t) * jnp.mean(information)
        return -jnp.mean(logs), jnp.mean(ratio), rate, jnp.std(logs) / math.sqrt(len(x))

    columns = [np.asarray(at(jnp.asarray(t, clean.dtype)), float) for t in times]
    entropy, ratio, rate, error = np.stack(columns, axis=1)
    if not stationary:
        ratio, rate = np.full_like(ratio, np.nan), np.full_like(rate, np.nan)
    gap = _half_bridge(process, truth, clean, noise)
    return ForwardBooks(times, entropy, ratio, rate, error, gap)


@eqx.filter_jit
def _prior_surplus(process: Any, truth: Any, clean: Any, noise: Any) -> Any:
    """log(p_T/prior) + prior/p_T - 1 at points of p_T: no term is negative, and the mean is KL."""
    end = jnp.asarray(process.end)
    alpha, sigma = (a.astype(clean.dtype) for a in (process.alpha(end), process.sigma(end)))
    x = alpha * clean + sigma * noise
    d = math.prod(x.shape[1:])
    squared = jnp.sum(x.reshape(len(x), -1) ** 2, axis=1) / sigma**2
    prior = -0.5 * squared - d * jnp.log(sigma) - 0.5 * d * math.log(2 * math.pi)
    ratio = jax.vmap(lambda z: truth.log_prob(z, alpha, sigma))(x) - prior
    return ratio + jnp.expm1(-ratio)


def _half_bridge(process: Any, truth: Any, clean: Any, noise: Any) -> tuple[float, float]:
    terms = np.asarray(_prior_surplus(process, truth, clean, noise), float)
    return float(terms.mean()), float(terms.std(ddof=1) / math.sqrt(len(terms)))


@dataclasses.dataclass(frozen=True)
class ReverseBooks:
    """The bound on KL(data || model) by noise level.

    `log_ratios`: u, increasing; `loss`: E|D_model - x_0|^2 / r^2 there; `mmse`: the same of the
    truth; `gap`: the model's excess, the integrand of the bound, and its standard error `error`;
    `prior_gap`: KL(p_T || prior), an upper bound; `bound_error`: of the whole bound. Where the
    truth is not known `mmse` and `gap` are nan, and `loss` bounds them from above.
    """

    log_ratios: np.ndarray
    loss: np.ndarray
    mmse: np.ndarray
    gap: np.ndarray
    error: np.ndarray
    prior_gap: float
    bound_error: float

    @property
    def bound(self) -> float:
        """The bound in nats."""
        return float(np.trapezoid(self.gap, self.log_ratios) + self.prior_gap)

    def curve(self) -> np.ndarray:
        """r^2 times the best known minimal error of denoising: the truth's, or the model's."""
        shown = self.loss if np.isnan(self.mmse).all() else self.mmse
        return shown * np.exp(2 * self.log_ratios)

    def step_losses(self, ratios: Any) -> np.ndarray:
        """What each step of a sampler that holds D pays, in nats, for a grid of sigma/alpha.

        `ratios`: decreasing; a last one of 0 counts as the lowest level of the books.
        """
        u, curve = self.log_ratios, np.maximum.accumulate(self.curve())
        grid = np.asarray(ratios, float)
        logs = np.log(np.maximum(grid, math.exp(u[0])))
        paid = []
        for high, low in itertools.pairwise(logs):
            fine = np.linspace(low, high, 33)
            inside = np.interp(high, u, curve) - np.interp(fine, u, curve)
            paid.append(np.trapezoid(inside * np.exp(-2 * fine), fine))
        return np.asarray(paid)

    def best_grid(self, high: float, steps: int, candidates: int = 160) -> np.ndarray:
        """steps + 1 values of sigma/alpha from `high` down that pay least, by dynamic programming.

        They end at the lowest level of the books.
        """
        u = np.linspace(math.log(high), self.log_ratios[0], candidates)
        if not 1 <= steps < candidates:
            raise ArgumentError("steps", steps, f"from 1 to {candidates - 1}")
        curve = np.interp(u, self.log_ratios, np.maximum.accumulate(self.curve()))
        weight = np.exp(-2 * u)
        # Integrals from u_j down to u_i of r^-2 and of curve r^-2, by cumulative trapezoids.
        piece = 0.5 * -np.diff(u)
        base = np.append(0.0, np.cumsum(piece * (weight[1:] + weight[:-1])))
        inner = curve * weight
        used = np.append(0.0, np.cumsum(piece * (inner[1:] + inner[:-1])))
        paid = curve[:, None] * (base[None, :] - base[:, None]) - (used[None, :] - used[:, None])
        paid = np.where(np.triu(np.ones_like(paid), 1) > 0, paid, np.inf)
        total, back = paid[0].copy(), []
        for _ in range(steps - 1):
            every = total[:, None] + paid
            back.append(np.argmin(every, axis=0))
            total = np.min(every, axis=0)
        path = [candidates - 1]
        for came in reversed(back):
            path.append(int(came[path[-1]]))
        return np.exp(u[[0, *reversed(path)]])


def reverse_books(
    process: AbstractProcess,
    model: AbstractModel,
    points: Any,
    key: Key[Any, ""],
    *,
    truth: AbstractModel | None = None,
    levels: int = 48,
    low: float | None = None,
) -> ReverseBooks:
    """The terms of the bound by noise level, over `points` (n, ...) that were not trained on.

    `low`: the lowest sigma/alpha, by default the process's at its start.
    """
    x0 = jnp.asarray(points)
    bottom = float(process.ratio(jnp.asarray(process.start))) if low is None else low
    top = float(process.ratio(jnp.asarray(process.end)))
    u = np.linspace(math.log(bottom), math.log(top), levels)

    @eqx.filter_jit
    def at(log_r: Any, key: Any) -> Any:
        t = process.time_of(jnp.exp(log_r))
        alpha, sigma = (a.astype(x0.dtype) for a in (process.alpha(t), process.sigma(t)))
        r2 = jnp.exp(2 * log_r)
        x = alpha * x0 + sigma * jax.random.normal(key, x0.shape, x0.dtype)
        found = jax.vmap(lambda z: model.denoise(z, alpha, sigma))(x)
        size = lambda a: jnp.sum(a.reshape(len(x), -1) ** 2, axis=1) / r2  # noqa: E731
        loss = size(found - x0)
        if truth is None:
            return loss, jnp.full_like(loss, jnp.nan), jnp.full_like(loss, jnp.nan)
        known = truth
        best = jax.vmap(lambda z: known.denoise(z, alpha, sigma))(x)
        # The excess by the exact score itself: the difference of two losses would be all noise.
        return loss, size(best - x0), size(found - best)

    # Noise of its own at each level: errors of levels cancel where the points allow it.
    draws = jax.random.split(key, levels)
    columns = [at(jnp.asarray(v, x0.dtype), k) for v, k in zip(u, draws, strict=True)]
    loss, mmse, gap = np.asarray(columns, float).transpose(1, 0, 2)
    alpha, sigma = (float(f(jnp.asarray(process.end))) for f in (process.alpha, process.sigma))
    # KL(p_T || prior) <= E KL(N(alpha x_0, sigma^2) || N(0, sigma^2)), by convexity.
    far = np.sum(np.asarray(x0, float).reshape(len(x0), -1) ** 2, axis=1)
    prior = 0.5 * alpha**2 * far / sigma**2
    whole = np.trapezoid(gap, u, axis=0) + prior
    root = math.sqrt(len(x0))
    return ReverseBooks(
        u,
        loss.mean(axis=1),
        mmse.mean(axis=1),
        gap.mean(axis=1),
        gap.std(axis=1, ddof=1) / root,
        float(prior.mean()),
        float(whole.std(ddof=1)) / root,
    )
