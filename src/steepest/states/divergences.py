"""Divergences of two laws by sampling, each with its standard error.

A law is anything with `log_prob(points)` and `sample(key, n)`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError


class Estimate(NamedTuple):
    """A number and its standard error; the error of an exact number is zero."""

    value: Float[Array, ""]
    error: Float[Array, ""]


def kl(first: Any, second: Any, key: Key[Array, ""] | None, n: int = 10_000) -> Estimate:
    """KL(first || second) = E_first[log first - log second] from n draws."""
    _check(second, key, n)
    x = first.sample(key, n)
    return _mean(first.log_prob(x) - second.log_prob(x))


def symmetric_kl(first: Any, second: Any, key: Key[Array, ""] | None, n: int = 10_000) -> Estimate:
    """KL(first || second) + KL(second || first), from n draws of each."""
    _check(second, key, n)
    there, back = jax.random.split(key)  # pyright: ignore[reportArgumentType]
    a, b = kl(first, second, there, n), kl(second, first, back, n)
    return Estimate(a.value + b.value, jnp.hypot(a.error, b.error))


def total_variation(
    first: Any, second: Any, key: Key[Array, ""] | None, n: int = 10_000
) -> Estimate:
    """1/2 integral |p - q| = E[tanh(|log p - log q| / 2)] under (p + q)/2, n draws of each half.

    The integrand lies in [0, 1], so the error never exceeds 1 / (2 sqrt(2 n)).
    """
    _check(second, key, n)
    keys = jax.random.split(key)  # pyright: ignore[reportArgumentType]
    halves = []
    for law, k in ((first, keys[0]), (second, keys[1])):
        x = law.sample(k, n)
        halves.append(_mean(jnp.tanh(0.5 * jnp.abs(first.log_prob(x) - second.log_prob(x)))))
    value = 0.5 * (halves[0].value + halves[1].value)
    return Estimate(value, 0.5 * jnp.hypot(halves[0].error, halves[1].error))


def _mean(terms: Float[Array, " n"]) -> Estimate:
    return Estimate(jnp.mean(terms), jnp.std(terms, ddof=1) / jnp.sqrt(terms.shape[0]))


def _check(other: Any, key: Any, n: int) -> None:
    if not (hasattr(other, "log_prob") and hasattr(other, "sample")):
        raise ArgumentError("other", type(other).__name__, "a law with log_prob and sample")
    if key is None:
        raise ArgumentError("key", None, "sampling needs key=jax.random.key(seed)")
    if n < 2:
        raise ArgumentError("n", n, "at least two draws, so that there is an error")
