"""Sampling an unnormalised density by a drift: the reverse process weighed against the forward.

With y = x/alpha, r = sigma/alpha, v = r_s^2 - r_t^2, noising is the walk y_s = y_t + N(0, v), and
the controlled path from the prior back to the data has the steps

    y_t ~ N(y_s + v score(y_s), S),      S_i = v (c_i^2 + r_t^2)/(c_i^2 + r_s^2),

the exact posterior of the walk where the data are N(m, diag c^2), and everywhere in the limit of
short steps. For any score s, the log-ratio of the two paths

    w = -E(y_0) + sum log walk(y_s | y_t) - log prior(y_T) - sum log control(y_t | y_s)

has E_control exp(w) = Z, so E_control w <= log Z <= E_walk w: the bracket of Jarzynski and Crooks,
with -w as the work. How far it is open is what the drift, the prior and the steps lose.
Source: Vargas, Grathwohl and Doucet, ICLR 2023; Vargas et al., ICLR 2024 (both directions).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy import stats

from .. import tree
from ..driver import solve
from ..errors import ArgumentError
from ..inference.evidence import CONFIDENCE, bennett_ratio, margin
from ..schemes.base import Entry
from ..states import Particles
from .anchored import Anchored
from .grids import times as grid_times
from .models import AbstractModel
from .processes import AbstractProcess
from .reverse import ReverseFlow, check_parts
from .solvers import AbstractSampler, Levels

BLOCKS = 16
"""Into which paths are divided for the standard error of Bennett's estimate."""

GIVEN = "the draws are of the target"
RESAMPLED = "draws by the weights of the way up are of the target (they are, in the limit)"


class Controlled(AbstractSampler):
    """The steps of the controlled path; log-weights, where particles have some, collect w.

    `anchor`: mean, scales and directions of the data, as `Anchored.of` finds them.
    """

    step: float = 1.0
    churn: float = 1.0
    anchor: Anchored = eqx.field(kw_only=True)
    to_zero = True
    rule = "angle"

    @property
    def scale(self) -> float:
        """That of the data, which the grid uses."""
        return self.anchor.scale

    def kernel(self, flow: Any, y: Any, levels: Levels) -> tuple[Any, Any]:
        """(mean like y, variances (d, 1) along the directions) of a step from y."""
        r, r_end = levels.ratio
        score = levels.alpha[0] * flow.scores(Particles(levels.alpha[0] * y, None, -1), levels.t[0])
        c = self.anchor.scales.astype(y.dtype)[:, None]
        variances = (r**2 - r_end**2) * (c**2 + r_end**2) / (c**2 + r**2)
        return y + (r**2 - r_end**2) * score, variances

    def drawn(self, kernel: Any, noise: Any) -> Any:
        """A point of the kernel for each column of noise."""
        mean, variances = kernel
        white = noise.reshape(-1, noise.shape[-1])
        return self.anchor.back(self.anchor.turn(mean) + jnp.sqrt(variances) * white, mean)

    def gained(self, kernel: Any, y: Any, new: Any, levels: Levels) -> Float[Array, " n"]:
        """log walk(y | new) - log control(new | y)."""
        mean, variances = kernel
        spread = levels.ratio[0] ** 2 - levels.ratio[1] ** 2
        walk = (new - y).reshape(-1, y.shape[-1]) ** 2 / spread
        control = (self.anchor.turn(new) - self.anchor.turn(mean)) ** 2 / variances
        logs = control - walk + jnp.log(variances / spread)
        return 0.5 * jnp.sum(logs, axis=0)

    def advance(self, flow, state, memory, time, step, randomness):
        dtype = tree.dtype(state)
        levels = Levels.between(flow, time, time + step, dtype)
        y = state.positions / levels.alpha[0]
        kernel = self.kernel(flow, y, levels)
        new = self.drawn(kernel, randomness.normal(y.shape, dtype, 0, state.axis))
        weights = state.log_weights
        if weights is not None:
            weights = weights + self.gained(kernel, y, new, levels)
        moved = Particles(levels.alpha[1] * new, weights, state.axis)
        return moved, memory, Entry(jnp.zeros(state.count, dtype))

    def move(self, flow, y, memory, levels, noise):
        return self.drawn(self.kernel(flow, y, levels), noise()), memory


@dataclasses.dataclass(frozen=True)
class Steered:
    """Weighted samples of exp(-E)/Z and log Z between bounds.

    `particles`: with log-weights w, of which E exp(w) = Z. `lower`, `upper`: bounds on log Z, at
    `confidence` together by Student's t; `estimate`, `standard_error`: Bennett's, from both ways.
    `log_ratios`: w of the paths (up, down). `assumption`: of the upper bound.
    """

    particles: Particles
    log_ratios: tuple[np.ndarray, np.ndarray]
    lower: float
    upper: float
    estimate: float
    standard_error: float
    assumption: str
    confidence: float = CONFIDENCE

    @property
    def kl(self) -> float:
        """A bound on KL(an unweighted sample || target), in nats."""
        return max(self.upper - self.lower, 0.0)

    @property
    def effective_share(self) -> float:
        """Kish's effective sample size over n."""
        return float(self.particles.effective_size) / self.particles.count


def steer(
    process: AbstractProcess,
    model: AbstractModel,
    energy: Callable[[Any], Any],
    key: Key[Array, ""],
    n: int,
    *,
    steps: int = 100,
    draws: Float[Array, "m ..."] | None = None,
) -> Steered:
    """Follow the drift of `model` from a Gaussian to exp(-E)/Z, and measure log Z from both sides.

    `model`: a score of the noised target, exact or learned (`fit`, by any of its losses); a worse
    one opens the bracket and does not move it. `energy`: one point -> E. `draws`: of the target,
    for the way down; by default resampled from the way up. Raises ArgumentError for input that
    does not fit, Diverged where numbers stop being finite.
    """
    check_parts(process, model)
    if not isinstance(steps, (int, np.integer)) or steps < 1:
        raise ArgumentError("steps", steps, "an integer >= 1")
    if not isinstance(n, (int, np.integer)) or n < 2 * BLOCKS:
        raise ArgumentError("n", n, f"an integer >= {2 * BLOCKS}")
    if not callable(energy):
        raise ArgumentError("energy", type(energy).__name__, "a function of one point")
    anchor = Anchored.of(model)
    scheme = Controlled(1.0 / steps, anchor=anchor)
    flow = ReverseFlow(process, model, grid_times(process, steps, scheme), 1.0, books=False)
    keys = jax.random.split(key, 4)
    start = _prior(process, anchor, model, keys[0], n)
    run = solve(
        flow, start, scheme=scheme, steps=steps, save_every=steps, key=keys[1], ledger="saves"
    )
    energies = jax.jit(jax.vmap(energy))
    x = run.final.positions
    up = run.final.log_weights - energies(x)
    particles, assumption = Particles(x, up), GIVEN
    if draws is None:
        chosen = jax.random.categorical(keys[2], up, shape=(n,))
        draws, assumption = x[chosen], RESAMPLED
    ends = jnp.asarray(draws, x.dtype)
    if ends.shape[1:] != x.shape[1:] or len(ends) < 2 * BLOCKS:
        given = f"shape {ends.shape}"
        raise ArgumentError("draws", given, f"at least {2 * BLOCKS} points of shape {x.shape[1:]}")
    down = _walked(flow, scheme, ends, keys[3], steps) - energies(ends)
    return _bracket(particles, np.asarray(up, float), np.asarray(down, float), assumption)


def surprisal_bound(
    process: AbstractProcess,
    model: AbstractModel,
    points: Float[Array, "n ..."],
    key: Key[Array, ""],
    *,
    steps: int = 200,
    anchor: Anchored | None = None,
) -> Float[Array, " n"]:
    """For each point one draw of log walk - log control, whose mean bounds -log p(point) above.

    p is the law of the controlled path of `steps` steps, without error of discretisation: with
    points of a law rho, KL(rho || p) <= E [bound + log rho]. With one `key` and `anchor` two models
    see the same walks, and the mean of the difference from the exact score's is the sum over steps
    of E |score error|^2: the KL bound of `reverse_books`, from other numbers. Raises ArgumentError
    for points that do not fit.
    """
    check_parts(process, model)
    x = jnp.asarray(points)
    if x.shape[1:] != model.shape:
        raise ArgumentError("points", f"shape {x.shape}", f"points of shape {model.shape}")
    scheme = Controlled(1.0 / steps, anchor=Anchored.of(model) if anchor is None else anchor)
    flow = ReverseFlow(process, model, grid_times(process, steps, scheme), 1.0, books=False)
    return _walked(flow, scheme, x, key, steps)


def _prior(process: Any, anchor: Anchored, model: Any, key: Any, n: int) -> Particles:
    """n points of the data's Gaussian, noised, with weights of -log of its density."""
    end = jnp.asarray(process.end)
    alpha, r = process.alpha(end), process.ratio(end)
    white = jax.random.normal(key, (int(np.prod(model.shape)), n), anchor.mean.dtype)
    spread = jnp.sqrt(anchor.scales**2 + r**2)[:, None].astype(white.dtype)
    y = anchor.back(spread * white, jnp.zeros((*model.shape, n), white.dtype))
    return Particles(alpha.astype(y.dtype) * y, _surprise(white, spread), -1).turned(0)


def _surprise(white: Any, spread: Any) -> Float[Array, " n"]:
    """-log of the density of spread white, of columns."""
    return jnp.sum(0.5 * white**2 + jnp.log(spread) + 0.5 * jnp.log(2 * jnp.pi), axis=0)


@eqx.filter_jit
def _walked(flow: Any, scheme: Controlled, ends: Any, key: Any, steps: int) -> Float[Array, " m"]:
    """w + E of the walks from the given ends: all levels at once, as a walk is a sum of noise."""
    y = jnp.moveaxis(ends, 0, -1)
    u = jnp.arange(steps + 1) / steps
    ratios = jax.vmap(lambda v: flow.process.ratio(flow.clock.at(v)))(u).astype(y.dtype)
    noise = jax.random.normal(key, (steps, *y.shape), y.dtype)
    spread = jnp.sqrt(ratios[:-1] ** 2 - ratios[1:] ** 2)
    kicks = spread.reshape(-1, *(1,) * y.ndim) * noise
    # From the end of the clock to its beginning: levels are counted from the prior.
    path = jnp.concatenate([y[None], y + jnp.cumsum(kicks[::-1], axis=0)])[::-1]

    def gained(k: Any) -> Any:
        levels = Levels.between(flow, k / steps, (k + 1) / steps, y.dtype)
        return scheme.gained(scheme.kernel(flow, path[k], levels), path[k], path[k + 1], levels)

    total = jnp.sum(jax.lax.map(gained, jnp.arange(steps)), axis=0)
    spread = jnp.sqrt(scheme.anchor.scales**2 + ratios[0] ** 2)[:, None].astype(y.dtype)
    return total + _surprise(scheme.anchor.turn(path[0]) / spread, spread)


def _bracket(particles: Particles, up: np.ndarray, down: np.ndarray, assumption: str) -> Steered:
    half = 0.5 * (1.0 - CONFIDENCE)
    parts = [
        bennett_ratio(-a, -b)
        for a, b in zip(np.array_split(up, BLOCKS), np.array_split(down, BLOCKS), strict=True)
    ]
    lower = float(up.mean() - margin(up, half))
    upper = float(down.mean() + margin(down, half))
    error = float(stats.sem(parts))
    return Steered(particles, (up, down), lower, upper, float(np.mean(parts)), error, assumption)
