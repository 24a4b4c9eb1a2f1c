"""The density of a model by its probability flow:  log p_0(x) = log p_T(x_T) + int div v dt.

Along dx/dt = v = f x - g^2/2 s the density changes by -div v. Source: Chen et al., NeurIPS 2018;
Song et al., ICLR 2021, section 4.3.
"""

from __future__ import annotations

import math
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .. import tree
from ..errors import ArgumentError
from .models import AbstractModel
from .processes import AbstractProcess


class LogLikelihood(eqx.Module):
    """`value`: (n,) log p(x); `latent`: the points' images in the noise; `error`: (n,) standard
    errors over Hutchinson's probes, zero for the exact divergence."""

    value: Float[Array, " n"]
    latent: Float[Array, "n ..."]
    error: Float[Array, " n"]

    def bits_per_dimension(self) -> Float[Array, " n"]:
        """-log2 p(x) / d."""
        d = math.prod(self.latent.shape[1:])
        return -self.value / (d * math.log(2.0))


def log_likelihood(
    process: AbstractProcess,
    model: AbstractModel,
    x: Float[Array, "n ..."],
    *,
    start: float | None = None,
    probes: int = 0,
    key: Key[Array, ""] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    label: Any = None,
) -> LogLikelihood:
    """log p of points by the probability flow, from `start` (by default the process's) to its end.

    `probes` 0: the exact divergence, d derivatives for each evaluation; else Hutchinson's estimate
    with so many Rademacher vectors, each with its own value, so that the spread is the error.
    Without noise at `start` the density is that of the data; with it, of data with that noise, and
    x is taken as it is. Raises ArgumentError for points of another shape.
    """
    x = jnp.asarray(x)
    x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))
    if x.shape[1:] != model.shape:
        raise ArgumentError("x", f"shape {x.shape}", f"expected (n, *{model.shape})")
    if not tree.is_finite(x):
        raise ArgumentError("x", "NaN or infinite values", "finite numbers")
    begin = process.start if start is None else start
    process.check_time(begin)
    if probes and key is None:
        raise ArgumentError("key", None, "Hutchinson's estimate is random: key=jax.random.key(0)")
    if probes == 1:
        raise ArgumentError("probes", 1, "0 (exact), or at least 2 for a standard error")
    keys = jax.random.split(jax.random.key(0) if key is None else key, x.shape[0])
    values, latent, errors = _all(process, model, x, keys, begin, probes, rtol, atol, label)
    return LogLikelihood(values, latent, errors)


def velocity(process: Any, model: Any, t: Any, x: Any, label: Any = None) -> Any:
    """f x - g^2/2 s(x, t), of one point."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    score = model.score(x, alpha, sigma, label)
    return process.drift(t) * x - 0.5 * process.diffusion_squared(t) * score


def transport(
    process: AbstractProcess,
    model: AbstractModel,
    x: Float[Array, "n ..."],
    start: float,
    end: float,
    *,
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Float[Array, "n ..."]:
    """The probability flow from one time to another: encode (up) and decode (down)."""
    process.check_time(jnp.asarray([start, end]))

    def one(point: Any) -> Any:
        return _solve(lambda t, y, _: velocity(process, model, t, y), point, start, end, rtol, atol)

    return eqx.filter_jit(jax.vmap(one))(jnp.asarray(x))


def _solve(field: Any, y: Any, start: Any, end: Any, rtol: float, atol: float) -> Any:
    dtype = jax.tree.leaves(y)[0].dtype
    start, end = jnp.asarray(start, dtype), jnp.asarray(end, dtype)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Dopri5(),
        start,
        end,
        (end - start) * 1e-3,
        y,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        max_steps=10_000,
        throw=False,
    )
    good = solution.result == diffrax.RESULTS.successful
    assert solution.ys is not None
    return jax.tree.map(lambda leaf: jnp.where(good, leaf[-1], jnp.nan), solution.ys)


@eqx.filter_jit
def _all(
    process: Any,
    model: Any,
    x: Any,
    keys: Any,
    begin: Any,
    probes: int,
    rtol: Any,
    atol: Any,
    label,
) -> Any:
    end = process.end

    def one(point: Any, key: Any) -> Any:
        shape = (probes, *point.shape)
        signs = jax.random.rademacher(key, shape, point.dtype) if probes else None

        def field(t: Any, y: Any, _: Any) -> Any:
            at = lambda z: velocity(process, model, t, z, label)  # noqa: E731
            if signs is None:
                moved = at(y[0])
                slope = jnp.trace(
                    jax.jacfwd(lambda z: at(z.reshape(y[0].shape)).ravel())(y[0].ravel())
                )
                return moved, slope
            moved, push = jax.linearize(at, y[0])
            return moved, jax.vmap(lambda e: jnp.sum(e * push(e)))(signs)

        zero = jnp.zeros((probes,) if probes else (), point.dtype)
        latent, gained = _solve(field, (point, zero), begin, end, rtol, atol)
        scale = process.sigma(jnp.asarray(end, point.dtype))
        d = point.size
        log_prior = -0.5 * jnp.sum((latent / scale) ** 2)
        log_prior = log_prior - d * (jnp.log(scale) + 0.5 * math.log(2.0 * math.pi))
        error = jnp.std(gained, ddof=1) / math.sqrt(probes) if probes else zero
        return log_prior + jnp.mean(gained), latent, error

    return jax.vmap(one)(x, keys)
