"""Hand-written samplers, each one loop of arithmetic on flat arrays: what the hardware allows.

`polar` is the fastest that we know. Four steps a trip, so that two blocks of threefry are in flight
(the rounds of one wait for each other); normals by the polar form; kicks that meet are merged; the
phase is one complex array, so that a single kernel updates it. `quantile` makes its normals by the
inverse error function (Giles, GPU Computing Gems 2 (2011) 109) and takes two steps a trip.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from steepest.random import normals_from_words, threefry2x32

# sqrt(2) erfinv(x) / x in w - 2.5 for w = -log(1 - x^2) < 5, and in sqrt(w) - 3.4357679 beyond.
_CENTRE = (
    2.1233131885528564,
    0.34880363941192627,
    -0.005906121339648962,
    -0.0017743163043633103,
    0.00030735929613001645,
    -5.790284831164172e-06,
    -4.505491233430803e-06,
    4.4639409679803066e-07,
)
_TAIL = (
    4.625600814819336,
    1.4239896535873413,
    0.005257222801446915,
    -0.003262355923652649,
    0.0018134021665900946,
    -0.001426049740985036,
    0.0009077366557903588,
    -0.00023857485211919993,
)


def polar(x0, force, steps, step, friction):
    """A function that runs `steps` steps (a multiple of 4); overdamped if `friction` is None."""
    assert steps % 4 == 0

    def normals(i):
        for block in (2 * i, 2 * i + 1):
            yield from normals_from_words(*_words(x0, block.astype(jnp.uint32)))

    if friction is None:
        return jax.jit(
            lambda: jax.lax.fori_loop(0, steps // 4, _langevin(force, step, normals), x0)
        )
    h, c, heat = _kinetic(step, friction)

    def body(i, phase):
        q, p = jnp.real(phase), jnp.imag(phase)
        for xi in normals(i):
            q = q + 0.5 * h * p
            p = c * p + heat * xi
            q = q + 0.5 * h * p
            p = p + h * force(q)
        return jax.lax.complex(q, p)

    def run():
        start = jax.lax.complex(x0, 0.5 * h * force(x0))
        phase = jax.lax.fori_loop(0, steps // 4, body, start)
        q, p = jnp.real(phase), jnp.imag(phase)
        return q, p - 0.5 * h * force(q)

    return jax.jit(run)


def quantile(x0, force, steps, step, friction):
    """The same with the inverse error function, two steps a trip, and no merging."""

    def normals(i):
        return (_quantile(word) for word in _words(x0, i.astype(jnp.uint32)))

    if friction is None:
        return jax.jit(
            lambda: jax.lax.fori_loop(0, steps // 2, _langevin(force, step, normals), x0)
        )
    h, c, heat = _kinetic(step, friction)

    def stored(i):
        # Where several arrays are updated, XLA would make the normals again for each of them; it
        # cannot decide this condition.
        make = lambda: jax.lax.complex(*normals(i))  # noqa: E731
        never = lambda: jnp.zeros(x0.shape, jnp.complex64)  # noqa: E731
        both = jax.lax.cond(i < 2**30, make, never)
        return jnp.real(both), jnp.imag(both)

    def body(i, state):
        q, p, f = state
        for xi in stored(i):
            p = p + 0.5 * h * f
            q = q + 0.5 * h * p
            p = c * p + heat * xi
            q = q + 0.5 * h * p
            f = force(q)
            p = p + 0.5 * h * f
        return q, p, f

    return jax.jit(lambda: jax.lax.fori_loop(0, steps // 2, body, (x0, 0 * x0, force(x0)))[:2])


def _words(x0, block):
    number = jax.lax.iota(jnp.uint32, x0.size)
    return threefry2x32(jnp.uint32(1), jnp.uint32(2), number, jnp.full_like(number, block))


def _langevin(force, step, normals):
    h, kick = np.float32(step), np.float32(np.sqrt(2 * step))

    def body(i, x):
        for xi in normals(i):
            x = x + h * force(x) + kick * xi
        return x

    return body


def _kinetic(step, friction):
    """The step, what is left of the momentum, and the size of the kick."""
    decay = np.exp(-friction * step)
    return np.float32(step), np.float32(decay), np.float32(np.sqrt(1 - decay**2))


def _quantile(bits):
    magnitude = (bits >> np.uint32(1)).astype(jnp.int32).astype(jnp.float32)
    tail = (magnitude + np.float32(0.5)) * np.float32(2.0**-31)
    w = -jnp.log(tail * (np.float32(2.0) - tail))
    central = w < np.float32(5.0)
    u = jnp.where(central, w - np.float32(2.5), jnp.sqrt(w) - np.float32(3.4357679))
    value = jnp.where(central, np.float32(_CENTRE[-1]), np.float32(_TAIL[-1]))
    for a, b in zip(_CENTRE[-2::-1], _TAIL[-2::-1], strict=True):
        value = value * u + jnp.where(central, np.float32(a), np.float32(b))
    value = value * (np.float32(1.0) - tail)
    return jnp.where((bits & np.uint32(1)) == 0, value, -value)
