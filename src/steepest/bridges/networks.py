"""Bridges by networks: iterative Markovian and proportional fitting, with a mixture to start from.

In white coordinates every linear reference is Brownian motion on its own clock: the expected end
mu_t of the reference has d mu = (dD)^{1/2} dW while its remaining variance D falls from 1 to 0.
A process pulled to its end by a slope s is d mu = s d(1 - D) + noise, and the one of all Markov
processes nearest to a mixture of Brownian bridges between u and v has
    s(mu, t) = E[(v - mu_t)/D | mu_t = mu]                                    (Markovian projection)
so that s is a regression on pairs of ends. Here s is the slope of a mixture's bridge in closed form
plus a network that starts at zero. Two such halves run in the two directions of time; each learns
from pairs that the other makes out of points of the true end it starts from:
    u ~ source, v from u ahead: the back half learns;   v ~ target, u from v back: the half ahead.
The fixed point is Markov, a mixture of bridges of the reference, and has both ends: it is the
Schroedinger bridge. Every regression is weighted by D, the inverse variance of its noise.
Sources: Shi, De Bortoli, Campbell and Doucet, NeurIPS 2023 (iterative Markovian fitting);
Peluchetti, JMLR 24 (2023) 374; Kholkin et al., arXiv 2410.02601 (both ends refreshed in turn).
"""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..diffusion import descent
from ..diffusion.networks import Perceptron
from ..errors import ArgumentError, Diverged
from ..random import Randomness
from ..states import GaussianMixture, Particles
from ..states.divergences import Estimate
from .base import AbstractBridge, compiled
from .mixtures import draw, fit_mixture
from .potential import drawn_ends, ends, normals
from .reference import LinearReference, brownian, linear_reference

STEPS = 30
"""Steps of a path. The mixture's part of the drift is exact at any number of them."""
LEAST = 1e-3
"""Training looks no nearer to the end than this share of the clock."""
DECAY = 0.99


class Half(eqx.Module):
    """The slope of one direction of time: that of a mixture potential, corrected by a network.

    s(mu, t) = grad log phi(mu, D) + network((mu - centre)/spread, t/T). With D a share of the unit
    variance left, per coordinate.
    """

    potential: GaussianMixture
    network: Any
    centre: Float[Array, " d"]
    spread: Float[Array, " d"]

    def correction(self, mu: Float[Array, "n d"], time: Float[Array, " n"]) -> Float[Array, "n d"]:
        """What the network adds, at shares `time` of the horizon."""
        kinds = {x.dtype for x in jax.tree.leaves(self.network) if eqx.is_inexact_array(x)}
        dtype = kinds.pop() if len(kinds) == 1 else mu.dtype
        scaled = ((mu - self.centre) / self.spread).astype(dtype)
        return jax.vmap(lambda m, t: self.network(m, t, None))(scaled, time.astype(dtype)).astype(
            mu.dtype
        )

    def slopes(self, mu: Float[Array, "n d"], D: Float[Array, " d"], time: Any) -> Array:
        """s, with D left at the share `time` of the horizon."""
        times = jnp.full(len(mu), time, mu.dtype)
        return ends(self.potential, mu, D).slopes + self.correction(mu, times)

    def path(
        self, mu: Float[Array, "n d"], left: Float[Array, "k d"], times: Any, key: Key[Array, ""]
    ) -> Float[Array, "k n d"]:
        """Paths through k stations at which `left` of the variance remains, from the first of them.

        The mixture's part is sampled exactly (an end, then a Brownian bridge); the correction acts
        in kicks of half an interval on either side of each station (Strang: order 2 in law).
        """
        still = jnp.zeros_like(left[:1])
        spent = jnp.concatenate([still, -jnp.diff(left, axis=0), still])
        before, whole = 0.5 * spent[:-1], 0.5 * (spent[:-1] + spent[1:])

        def move(mu: Any, now: Any) -> Any:
            D, after, time, first, kick, k = now
            push = self.correction(mu, jnp.full(len(mu), time, mu.dtype))
            shown, mu = mu + first * push, mu + kick * push
            noise, shake = jax.random.split(k)
            v = drawn_ends(self.potential, mu, D, noise)
            share = jnp.where(D > 0, (D - after) / jnp.where(D > 0, D, 1.0), 0.0)
            mu = mu + share * (v - mu)
            mu = mu + jnp.sqrt(share * after) * normals(mu, Randomness.from_key(shake))
            return mu, shown

        after = jnp.concatenate([left[1:], left[-1:]])
        keys = jax.random.split(key, len(left))
        return jax.lax.scan(move, mu, (left, after, times, before, whole, keys))[1]


class NetworkBridge(AbstractBridge):
    """Two halves, `ahead` and `back`, in the white coordinates of `reference`.

    `starts`: points of the source. `losses`: the mean of each training, in units of the noise.
    """

    reference: LinearReference
    ahead: Half
    back: Half
    starts: Particles
    losses: Float[Array, "rounds 2"]
    method: str = eqx.field(static=True, default="network")
    why: str = eqx.field(static=True, default="")
    notes: tuple[str, ...] = eqx.field(static=True, default=())
    steps: int = eqx.field(static=True, default=STEPS)

    @property
    def dimension(self):
        return self.reference.dimension

    @property
    def horizon(self):
        return self.reference.horizon

    @compiled
    def drift(self, x, time):
        z = self.reference.turned(x)
        mu, D, factor = self.reference.coming(z, time)
        pull = factor * self.ahead.slopes(mu, D, time / self.horizon)
        return self.reference.pulled(z, pull)

    @compiled
    def backward_drift(self, x, time):
        z = self.reference.turned(x)
        mu, D, factor = self.reference.coming(z, time)
        pull = factor * self.back.slopes(mu, 1.0 - D, 1.0 - time / self.horizon)
        return self.reference.pulled(z, -pull)

    def reference_drift(self, x):
        return self.reference.velocity(x)

    def sample(self, x, key):
        return self.sample_paths(x, self.horizon[None], key)[0]

    @eqx.filter_jit
    def sample_backward(self, y, key):
        left, times = stations(self.reference, self.steps)
        v = self.reference.white_target(y)
        u = self.back.path(v, 1.0 - left[::-1], 1.0 - times[::-1], key)[-1]
        return self.reference.from_white_source(u)

    @compiled
    def sample_paths(self, x, times, key):
        reference, asked = self.reference, jnp.asarray(times, x.dtype) / self.horizon
        every = jnp.sort(jnp.concatenate([stations(reference, self.steps)[1], asked]))
        left = jax.vmap(lambda s: reference.remaining(s * self.horizon))(every)
        path = self.ahead.path(reference.white_source(x), left, every, key)
        # A duplicate of a station is an interval of no length; the last of them has the last kick.
        found = path[jnp.searchsorted(every, asked, side="right") - 1]
        seen = lambda mu, s: reference.from_coming(mu, s * self.horizon)  # noqa: E731
        return jax.vmap(seen)(found, asked)

    def marginal(self, time, key=None, n=1000):
        if key is None:
            raise ArgumentError("key", None, "a key: this marginal is sampled")
        pick, move = jax.random.split(key)
        x = self.starts.sample(pick, n)
        return Particles(self.sample_paths(x, jnp.asarray([time]), move)[0])

    @eqx.filter_jit
    def expected_end(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """E[X_T | X_0 = x] = u + s(u, 0) in white coordinates, by what s is."""
        u = self.reference.white_source(x)
        return self.reference.from_white_target(u + self.ahead.slopes(u, jnp.ones_like(u[0]), 0.0))

    @eqx.filter_jit
    def path_kl(self, key: Key[Array, ""], n: int = 2000) -> Estimate:
        """KL(P || P_0) = E integral |s|^2/2 d(1 - D) over paths from the source (Girsanov)."""
        pick, move = jax.random.split(key)
        left, times = stations(self.reference, 2 * self.steps)
        u = self.reference.white_source(self.starts.sample(pick, n))
        path = self.ahead.path(u, left, times, move)

        def rate(now: Any) -> Any:
            mu, D, time = now
            return 0.5 * self.ahead.slopes(mu, D, time) ** 2

        # The last station, where nothing is left, is left out: its interval is judged by its start.
        rates = jax.lax.map(rate, (path[:-1], left[:-1], times[:-1]))
        middle = jnp.concatenate([0.5 * (rates[:-1] + rates[1:]), rates[-1:]])
        terms = jnp.sum(middle * -jnp.diff(left, axis=0)[:, None], axis=(0, 2))
        return Estimate(jnp.mean(terms), jnp.std(terms) / jnp.sqrt(n))


@functools.partial(jax.jit, static_argnames="steps")
def stations(reference: LinearReference, steps: int) -> tuple[Float[Array, "k d"], Any]:
    """(D, t/T) at steps + 1 times that spend equal shares of the variance, averaged over axes."""
    fine = jnp.linspace(0.0, 1.0, 1025, dtype=reference.rates.dtype)
    left = jax.vmap(lambda s: reference.remaining(s * reference.horizon))(fine)
    spent = jnp.linspace(0.0, 1.0, steps + 1, dtype=fine.dtype)
    times = jnp.interp(spent, 1.0 - jnp.mean(left, axis=1), fine)
    return jax.vmap(lambda s: reference.remaining(s * reference.horizon))(times), times


class Whitened(eqx.Module):
    """A law as seen in white coordinates, u = a (x - origin) R + b: `rows` are a and b."""

    law: Any
    reference: LinearReference
    rows: Float[Array, "2 d"]

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "n d"]:
        """n draws."""
        return self.reference.turned(draw(self.law, key, n)) * self.rows[0] + self.rows[1]


def whitened(reference: LinearReference, source: Any, target: Any) -> tuple[Whitened, Whitened]:
    """Both ends; two laws of one kind are one program."""
    first, last = _rows(reference)
    return Whitened(source, reference, first), Whitened(target, reference, last)


@jax.jit
def _rows(reference: LinearReference) -> tuple[Array, Array]:
    factor, shift, variance = reference.transition(reference.horizon)
    root = jnp.sqrt(variance)
    return jnp.stack([factor / root, jnp.zeros_like(root)]), jnp.stack([1.0 / root, -shift / root])


def fit_networks(
    reference: LinearReference,
    source: Any,
    target: Any,
    starts: Particles,
    key: Key[Array, ""],
    *,
    network: Any = None,
    width: int = 64,
    depth: int = 2,
    rounds: int = 4,
    steps: int = 1000,
    pairs: int = 8192,
    batch: int = 256,
    learning_rate: float = 3e-3,
    mixture: dict[str, Any] | None = None,
    why: str = "",
    notes: tuple[str, ...] = (),
) -> NetworkBridge:
    """`rounds` times: the half back, then the half ahead, each trained for `steps` steps.

    `network`: (x, time, None) -> (d,), zero at first if the mixture is to be where it starts;
    by default a `Perceptron` of `width` and `depth`. `pairs`: of ends, made afresh for each
    training. `mixture`: options of `fit_mixture` for what both halves start from.
    Raises ArgumentError for numbers that cannot work, Diverged if a loss is not finite.
    """
    counts = {"rounds": rounds, "steps": steps, "pairs": pairs, "batch": batch}
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(name, value, "a positive integer")
    if not (isinstance(learning_rate, float) and 0 < learning_rate < 1):
        raise ArgumentError("learning_rate", learning_rate, "a number between 0 and 1")
    d = reference.dimension
    first, second, build, key = jax.random.split(key, 4)
    if network is None:
        make = eqx.filter_jit(Perceptron)  # one program, not one for each of its arrays
        network = make(d, build, width=width, depth=depth, dtype=jnp.float32)
    _check(network, d)
    laws = whitened(reference, source, target)
    unit = linear_reference(brownian(0.5), jnp.zeros(d, reference.rates.dtype), 1.0)
    options = {} if mixture is None else mixture
    fits = [fit_mixture(unit, laws[0], laws[1], first, **options)]
    fits.append(fit_mixture(unit, laws[1], laws[0], second, **options))
    clouds = [draw(law, build, 2048) for law in laws]
    whole = np.concatenate(clouds)
    centre, spread = jnp.asarray(whole.mean(0)), jnp.asarray(np.sqrt(whole.var(0) + 1.0))
    halves: list[Any] = [Half(fit.potential, network, centre, spread) for fit in fits]

    rest = eqx.filter(network, eqx.is_inexact_array, inverse=True)
    optimizer, chunk = _training(*_hashable(rest), batch, learning_rate, steps)
    left, times = stations(reference, STEPS)
    # (D, t/T) of the two directions, the true law that each starts from, and who learns from it.
    ways = ((left, times), (1.0 - left[::-1], 1.0 - times[::-1]))
    clock, losses = stations(reference, 256)[1], []
    for turn in range(2 * rounds):
        one, two, fit = jax.random.split(jax.random.fold_in(key, turn), 3)
        made, learns = turn % 2, 1 - turn % 2
        start = draw(laws[made], one, pairs)
        end = _end(halves[made], start, *ways[made], two)
        half = halves[learns]
        parameters = eqx.filter(half.network, eqx.is_inexact_array)
        data = (eqx.tree_at(lambda h: h.network, half, None), end, start, reference, clock, learns)
        carry = descent.begin(parameters, optimizer)
        carry, loss = chunk(carry, data, fit, jnp.uint32(0), steps)
        if not bool(jnp.isfinite(loss)):
            raise Diverged("the training loss is not finite", 0.0, turn, "lower learning_rate")
        losses.append(float(loss))
        halves[learns] = eqx.tree_at(lambda h: h.network, half, eqx.combine(carry[1], rest))
    table = jnp.asarray(losses).reshape(rounds, 2)
    ahead, back = halves
    return NetworkBridge(reference, ahead, back, starts, table, "network", why, notes)


@eqx.filter_jit
def _end(half: Half, start: Any, left: Any, times: Any, key: Any) -> Any:
    return half.path(start, left, times, key)[-1]


def _hashable(rest: Any) -> tuple[tuple[Any, ...], Any]:
    leaves, structure = jax.tree.flatten(rest)
    return tuple(leaves), structure


@functools.lru_cache(maxsize=8)
def _training(leaves: Any, structure: Any, batch: int, rate: float, steps: int) -> tuple[Any, Any]:
    """(optimizer, compiled steps), kept: another bridge of the same shapes compiles nothing."""
    rest = jax.tree.unflatten(structure, leaves)
    optimizer = descent.usual_optimizer(rate, steps)

    def loss(parameters: Any, data: Any, key: Any) -> Any:
        return _loss(eqx.combine(parameters, rest), data, key, batch)

    return optimizer, descent.compiled_chunk(loss, optimizer, DECAY)


def _loss(network: Any, data: Any, key: Any, batch: int) -> Any:
    """The mean of D |s - (v - mu)/D|^2 over pairs and times; 1 is the noise of a sure end."""
    half, u, v, reference, clock, back = data
    half = eqx.tree_at(lambda h: h.network, half, network, is_leaf=lambda x: x is None)
    pick, level, noise = jax.random.split(key, 3)
    rows = jax.random.randint(pick, (batch,), 0, len(u))
    u, v = u[rows], v[rows]
    # One time in each equal share of the clock, where the half begins at 0 whatever its direction.
    shares = (jnp.arange(batch) + jax.random.uniform(level, (batch,), u.dtype)) / batch
    shares = LEAST + (1.0 - 2.0 * LEAST) * shares.astype(u.dtype)
    place = jnp.interp(shares, jnp.linspace(0.0, 1.0, len(clock), dtype=u.dtype), clock)
    D = jax.vmap(lambda s: reference.remaining(s * reference.horizon))(place)
    D, place = jnp.where(back, 1.0 - D, D), jnp.where(back, 1.0 - place, place)
    mu = D * u + (1.0 - D) * v
    mu = mu + jnp.sqrt(D * (1.0 - D)) * normals(mu, Randomness.from_key(noise))
    known = jax.vmap(lambda m, D: ends(half.potential, m[None], D).slopes[0])(mu, D)
    wanted = (v - mu) / D - known
    return jnp.mean(D * (half.correction(mu, place) - wanted) ** 2)


def _check(network: Any, d: int) -> None:
    point, number = jax.ShapeDtypeStruct((d,), float), jax.ShapeDtypeStruct((), float)
    try:
        found = eqx.filter_eval_shape(network, point, number, None).shape
    except (AttributeError, TypeError, ValueError) as error:
        found = f"an error: {error}"
    if found != (d,):
        raise ArgumentError("network", found, f"(x, time, None) -> an array of shape ({d},)")
