"""Learning a score: denoising, sliced and implicit score matching, with EMA and checkpoints.

Denoising: min E |F(x_t) - target|^2, which has the exact score as its minimum (Vincent, Neural
Comput. 23 (2011) 1661). With u = log(sigma/alpha) the loss of the likelihood bound is
E |D - x_0|^2 / r^2 du, uniformly in u (Song et al., NeurIPS 2021). Sliced and implicit score
matching need no clean points: r^2 E[|s|^2/2 + v . grad(s . v)] (Song et al., UAI 2019).

Randomness is a function of (key, step); a run that is killed goes on from its checkpoint and ends
with the same bits.
"""

from __future__ import annotations

import dataclasses
import time as clock
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from .. import termination
from ..checkpoint import Checkpoint, Kept
from ..described import describe
from ..errors import ArgumentError, Diverged
from ..progress import Progress
from . import descent
from .learned import Learned, check_network
from .processes import AbstractProcess

LOSSES = ("denoising", "sliced", "implicit")
WEIGHTINGS = ("velocity", "likelihood")
CHUNK = 50
"""Steps in one compiled call, and for one loss."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """`model` has the averaged parameters, `last` the last ones; `losses`: one for each chunk."""

    model: Learned
    last: Learned
    losses: np.ndarray
    steps: int
    seconds: float
    resumed_at: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a step of training depends on beside the data and the key."""

    batch_size: int
    loss: str
    weighting: str
    decay: float
    unlabelled: float
    quantum: float
    low: float
    high: float


def fit(
    process: AbstractProcess,
    network: Any,
    data: Any,
    key: Key[Array, ""],
    *,
    labels: Any = None,
    steps: int = 2000,
    batch_size: int = 256,
    optimizer: Any = None,
    learning_rate: float = 2e-3,
    parametrisation: str = "velocity",
    loss: str = "denoising",
    weighting: str = "velocity",
    ema: float = 0.999,
    unlabelled: float = 0.1,
    quantum: float = 0.0,
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> Fit:
    """Train `network` as the score of `data` under `process`.

    `data`: (n, ...) floats. `network`: (x, noise, label) -> array like x. `labels`: (n,) integers
    from 0, a share
    `unlabelled` of them is hidden, so that one network serves classifier-free guidance.
    `optimizer`: an optax transformation, by default Adam with clipping and a cosine decay from
    `learning_rate`. `weighting`: "velocity" (unit loss on v, noise near the scale of the data) or
    "likelihood" (the KL bound). `quantum`: the spacing of integer-like data, filled by uniform
    noise afresh in every batch. `checkpoint`: where an unfinished training is kept, from which the
    same call goes on.
    Raises ArgumentError for data and networks that do not fit, Diverged if the loss is not finite,
    Terminated after SIGTERM where there is a checkpoint.
    """
    settings = Settings(
        batch_size, loss, weighting, ema, unlabelled, quantum, *_range(process, data)
    )
    data, labels, classes = _checked(data, labels, settings, steps)
    floats = {x.dtype for x in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))}
    if len(floats) == 1:  # the precision is the network's
        data = data.astype(floats.pop())
    model = initial(network, data, parametrisation, classes, quantum)
    check_network(model, classes > 0)
    if optimizer is None:
        optimizer = descent.usual_optimizer(learning_rate, steps)
    trained, rest = eqx.partition(model.network, eqx.is_inexact_array)
    carry = descent.begin(trained, optimizer)
    began, done = clock.perf_counter(), 0
    made_of = dict(process=process, model=model, data=data, labels=labels, key=key)
    card = describe(**made_of, settings=settings, steps=steps, optimizer=optimizer)
    kept = Kept(checkpoint, card if checkpoint else {}, -(-steps // CHUNK), np.zeros(1))
    found = kept.restore(carry)
    if found is not None:
        carry, done = found[0], int(found[1]["done"])
    resumed = done
    chunk = _compiled_chunk(model, rest, optimizer, settings)
    with termination.noticed(checkpoint is not None), Progress(progress, steps) as bar:
        while done < steps:
            count = min(CHUNK, steps - done)
            carry, mean = chunk(carry, (data, labels), key, jnp.uint32(done), count)
            done += count
            if not np.isfinite(mean):
                raise Diverged("the training loss is not finite", 0.0, done, "lower learning_rate")
            kept.saves.add(np.asarray([mean], float), 1)
            due, asked = kept.due or done == steps, termination.asked()
            kept.keep(done, carry, {"done": done}, due, asked and done < steps)
            bar.update(done)
    named = [_with(model, part, rest) for part in carry[:2]]
    seconds = clock.perf_counter() - began
    return Fit(named[1], named[0], np.array(kept.saves.taken()), steps, seconds, resumed)


def initial(network: Any, data: Any, parametrisation: str, classes: int, quantum: float) -> Learned:
    """The model with the moments of the data."""
    flat = data.reshape(data.shape[0], -1)
    mean = jnp.mean(flat, axis=0)
    covariance = (flat - mean).T @ (flat - mean) / flat.shape[0]
    covariance = covariance + quantum**2 / 12.0 * jnp.eye(flat.shape[1], dtype=flat.dtype)
    centre = (mean + 0.5 * quantum).reshape(data.shape[1:])
    return Learned(network, centre, covariance, parametrisation, classes)


def _with(model: Learned, parameters: Any, rest: Any) -> Learned:
    return eqx.tree_at(lambda m: m.network, model, eqx.combine(parameters, rest))


def _compiled_chunk(model: Learned, rest: Any, optimizer: Any, settings: Settings) -> Any:
    """(carry, (data, labels), key, first step, count) -> (carry, mean loss)."""

    def loss(parameters: Any, data: Any, key: Any) -> Any:
        points, labels = data
        pick, draw = jax.random.split(key)
        rows = jax.random.randint(pick, (settings.batch_size,), 0, points.shape[0])
        batch = None if labels is None else labels[rows]
        return batch_loss(_with(model, parameters, rest), points[rows], batch, draw, settings)

    return descent.compiled_chunk(loss, optimizer, settings.decay)


def batch_loss(model: Learned, x0: Any, labels: Any, key: Any, settings: Settings) -> Any:
    """The mean loss of a batch, each row at a noise level of its own."""
    level, draw, hide, fill = jax.random.split(key, 4)
    n = x0.shape[0]
    if settings.quantum:
        x0 = x0 + settings.quantum * jax.random.uniform(fill, x0.shape, x0.dtype)
    # One level in each of n equal shares of probability: less variance than independent draws.
    u = (jnp.arange(n) + jax.random.uniform(level, (n,), x0.dtype)) / n
    u = u.astype(x0.dtype)
    low, high = settings.low, settings.high
    if settings.weighting == "likelihood":
        log_r = low + u * (high - low)
    else:
        middle = jnp.log(model.scale).astype(x0.dtype) - 1.0
        log_r = jnp.clip(
            middle + 1.6 * jax.scipy.special.ndtri(jnp.clip(u, 1e-6, 1 - 1e-6)), low, high
        )
    noise = jax.random.normal(draw, x0.shape, x0.dtype)
    if labels is not None:
        hidden = jax.random.bernoulli(hide, settings.unlabelled, (n,))
        labels = jnp.where(hidden, model.classes, labels)

    def one(x: Any, e: Any, log_r: Any, label: Any) -> Any:
        r = jnp.exp(log_r)
        y = x - model.mean + r * e
        skip, out, _ = model.coefficients(r)
        if settings.loss == "denoising":
            value = model.output(y, r, label)
            target = (x - model.mean - skip * y) / out
            weight = (out / r) ** 2 if settings.weighting == "likelihood" else 1.0
            return weight * jnp.mean((value - target) ** 2)

        def score(y: Any) -> Any:
            return (skip * y + out * model.output(y, r, label) - y) / r**2

        if settings.loss == "implicit":
            slopes = jax.jacfwd(lambda z: score(z.reshape(y.shape)).ravel())(y.ravel())
            value, trace = score(y), jnp.trace(slopes)
        else:
            signs = jnp.sign(jax.random.normal(jax.random.fold_in(key, 7), y.shape, y.dtype))
            value, push = jax.jvp(score, (y,), (signs,))
            trace = jnp.sum(signs * push)
        return r**2 * (0.5 * jnp.sum(value**2) + trace) / y.size

    return jnp.mean(
        jax.vmap(one, (0, 0, 0, None if labels is None else 0))(x0, noise, log_r, labels)
    )


def _range(process: AbstractProcess, data: Any) -> tuple[float, float]:
    if not isinstance(process, AbstractProcess):
        raise ArgumentError("process", type(process).__name__, "e.g. EDM()")
    ends = (jnp.asarray(t) for t in (process.start, process.end))
    low, high = (float(jnp.log(process.ratio(t))) for t in ends)
    return low, high


def check_data(data: Any) -> Float[Array, "n ..."]:
    """Points as floats; raises ArgumentError for what a score cannot be learned from."""
    data = np.asarray(data)
    if data.ndim < 2 or 0 in data.shape:
        raise ArgumentError("data", f"shape {data.shape}", "(n, ...), a row for each point")
    if not (np.issubdtype(data.dtype, np.number) or data.dtype == bool):
        raise ArgumentError("data", f"dtype {data.dtype}", "numbers")
    if not np.issubdtype(data.dtype, np.floating):
        raise ArgumentError(
            "data",
            f"dtype {data.dtype}",
            "integers have no density: give floats with quantum= their spacing, "
            "e.g. fit(..., data / 16, quantum=1 / 16)",
        )
    if not np.isfinite(data).all():
        rows = np.flatnonzero(~np.isfinite(data.reshape(len(data), -1)).all(axis=1))
        raise ArgumentError("data", f"NaN or infinite values in row {rows[0]}", "finite numbers")
    return data  # pyright: ignore[reportReturnType]


def _checked(data: Any, labels: Any, settings: Settings, steps: int) -> Any:
    data = check_data(data)
    flat = data.reshape(len(data), -1)
    spread = flat.std(axis=0)
    if settings.quantum == 0 and not (spread > 1e-9 * (1e-300 + np.abs(flat).max())).all():
        columns = np.flatnonzero(~(spread > 1e-9 * (1e-300 + np.abs(flat).max())))
        raise ArgumentError(
            "data",
            f"{len(columns)} constant columns, the first is {columns[0]}",
            "they have no density: drop them, or give quantum= for images",
        )
    if settings.loss not in LOSSES:
        raise ArgumentError("loss", repr(settings.loss), f"one of {LOSSES}")
    if settings.weighting not in WEIGHTINGS:
        raise ArgumentError("weighting", repr(settings.weighting), f"one of {WEIGHTINGS}")
    if not 0 <= settings.decay < 1:
        raise ArgumentError("ema", settings.decay, "a number in [0, 1)")
    if not 0 <= settings.unlabelled <= 1:
        raise ArgumentError("unlabelled", settings.unlabelled, "a share from 0 to 1")
    if not (np.isfinite(settings.quantum) and settings.quantum >= 0):
        raise ArgumentError("quantum", settings.quantum, "the spacing of the values, >= 0")
    for name, value in (("steps", steps), ("batch_size", settings.batch_size)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ArgumentError(name, value, "an integer >= 1")
    classes = 0
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(data),) or not np.issubdtype(labels.dtype, np.integer):
            raise ArgumentError(
                "labels", f"{labels.dtype}{labels.shape}", f"({len(data)},) integers"
            )
        if labels.min() < 0:
            raise ArgumentError("labels", int(labels.min()), "integers from 0")
        classes = int(labels.max()) + 1
        labels = jnp.asarray(labels, jnp.int32)
    return jnp.asarray(data), labels, classes
