"""exp(t A) rho for the generator A of a reversible flow on a grid.

On a line: the rational approximation of exp on the negative axis that Caratheodory and Fejer's
theorem makes nearly the best, error about 9.3^-n with n poles, so a handful of complex tridiagonal
solves serve every t. In two and three dimensions: the Chebyshev series on the interval of the
spectrum, sqrt(t |A|) products. Both have errors of one size everywhere. Where values span more,
    exp(t A) = sum_k exp(-a) a^k/k! (1 + A/r)^k,   a = r t,
of positive terms alone, has relative ones.
Sources: Trefethen, Weideman and Schmelzer, BIT 46 (2006) 653; Tal-Ezer and Kosloff, J. Chem. Phys.
81 (1984) 3967; Grassmann, Comput. Oper. Res. 4 (1977) 47 (uniformisation).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .generator import Generator
from .tridiagonal import solve_lines

MOST_TERMS = 4096
POISSON = 64.0
"""t r for one series of positive terms."""
NATS = 8.0
"""A range of the transition law that errors of one size would spoil."""
LARGEST = 1e5
"""t |A| / 2 for one Chebyshev series; longer times take several."""


def propagate(
    generator: Generator, values: Float[Array, "..."], times: Float[Array, " k"], poles: int = 14
) -> Float[Array, "k ..."]:
    """exp(t A) values for each t >= 0 of `times`; `poles` matters on a line alone.

    Mass is kept to round-off; negative values, of the size of the error, are cut off.
    """
    if generator.grid.dimension == 1:
        one = lambda t: _rational(generator, values, t, poles)  # noqa: E731
    else:
        one = lambda t: _chebyshev(generator, values, t)  # noqa: E731
    # In turn: the systems of one time fit the fast memory, those of all do not.
    found = jax.lax.map(one, jnp.asarray(times, values.dtype))
    positive = jnp.maximum(found, 0.0)
    axes = tuple(range(1, values.ndim + 1))
    mass = jnp.sum(values) / jnp.sum(positive, axis=axes, keepdims=True)
    return positive * mass


def propagate_positive(
    generator: Generator, values: Float[Array, "..."], time: Any
) -> Float[Array, "..."]:
    """exp(t A) values for values >= 0, each to a relative error, however small it is.

    Over sizes of N cells the transition law falls by about sum N^2/(2 t r) nats: where that is
    little, and t r large, `propagate` does.
    """
    rate = 1.25 * _leaving(generator)  # 1 + A/r keeps a fifth of every cell
    cells, kind = sum(n * n for n in values.shape), values.dtype
    values = values.astype(jnp.result_type(values, rate))  # rates may have more digits
    time = jnp.asarray(time, values.dtype)
    plain = lambda: propagate(generator, values, jnp.reshape(time, (1,)))[0]  # noqa: E731
    far = lambda: _poisson(generator, values, time, rate)  # noqa: E731
    return jax.lax.cond(cells > 2.0 * NATS * time * rate, far, plain).astype(kind)


def _poisson(generator: Generator, values: Any, time: Any, rate: Any) -> Any:
    pieces = jnp.maximum(jnp.ceil(time * rate / POISSON), 1.0)
    width = time * rate / pieces
    # Ten deviations, and in all as many steps as there are cells to cross.
    terms = jnp.ceil(width + 10.0 * jnp.sqrt(width) + 20.0 + sum(values.shape) / pieces)

    def piece(_: Any, rho: Any) -> Any:
        def term(k: Any, carry: Any) -> Any:
            now, total = carry
            now = (now + generator.matvec(now) / rate) * (width / k)
            return now, total + now

        first = jnp.exp(-width) * rho
        return jax.lax.fori_loop(1, terms.astype(jnp.int32) + 1, term, (first, first))[1]

    return jax.lax.fori_loop(0, pieces.astype(jnp.int32), piece, values)


def _leaving(generator: Generator) -> Any:
    """The largest rate at which mass leaves a cell."""
    leaving = jnp.zeros_like(generator.potential)
    for axis, (up, down) in enumerate(zip(generator.up, generator.down, strict=True)):
        if up is not None and down is not None:
            leaving = leaving + up + jnp.roll(down, 1, axis)
    return jnp.max(leaving)


@functools.lru_cache(maxsize=16)
def rational_exponential(count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Poles z, weights w, constant c: exp(x) ~ c + 2 Re sum w / (x - z) for x <= 0, exact at 0.

    `count` even poles in conjugate pairs; those above the axis are returned. The half line is
    mapped to the circle by x = 9 (s - 1)^2/(s + 1)^2; there the singular vector of the Hankel
    matrix of Chebyshev coefficients for its (count + 1)-th singular value has the poles as zeros.
    """
    terms, samples, scale = 75, 1024, 9.0
    angle = 2.0 * np.pi * np.arange(samples) / samples
    circle, cosine = np.exp(1j * angle), np.cos(angle)
    image = np.exp(scale * (cosine - 1.0) / (cosine + 1.0 + 1e-16))
    series = np.asarray(np.fft.fft(image)).real / samples
    index = np.arange(terms)
    sums = index[:, None] + index[None, :] + 1
    hankel = np.where(sums <= terms, series[np.minimum(sums, terms)], 0.0)
    left, singular, right = np.linalg.svd(hankel)
    u, v = left[::-1, count], right[count]
    # The truncated series less the singular value times a Blaschke product is rational of the
    # type sought, up to terms that the projection on nonnegative powers removes.
    blaschke = np.fft.fft(u, samples) / np.fft.fft(v, samples)
    rational = np.polyval(series[terms::-1], circle) - singular[count] * circle**terms * blaschke
    zeros = np.roots(v)
    outside = zeros[np.abs(zeros) > 1.0]
    numerator = np.real(np.fft.fft(rational * np.polyval(np.poly(outside), circle))) / samples
    numerator = numerator[count::-1]
    residues = np.array(
        [
            np.polyval(numerator, q) / np.prod(q - np.delete(outside, k))
            for k, q in enumerate(outside)
        ]
    )
    poles = scale * ((outside - 1.0) / (outside + 1.0)) ** 2
    weights = 4.0 * residues * poles / (outside**2 - 1.0)
    above = poles.imag > 0
    poles, weights = poles[above], weights[above]
    constant = 1.0 + 2.0 * float(np.sum(weights / poles).real)  # so that mass is kept
    return poles, weights, constant


def _rational(generator: Generator, values: Any, time: Any, poles: int) -> Any:
    z, w, constant = rational_exponential(poles)
    kind = jnp.result_type(values.dtype, jnp.complex64)
    lower, diagonal, upper = (time * line[:, None] for line in generator.lines(0))
    shift, weight = jnp.asarray(z, kind), jnp.asarray(w, kind)
    count = (values.shape[0], len(z))
    found = solve_lines(
        jnp.broadcast_to(lower, count).astype(kind),
        diagonal - shift,
        jnp.broadcast_to(upper, count).astype(kind),
        jnp.broadcast_to(values[:, None].astype(kind), count),
        generator.grid.periodic[0],
    )
    return constant * values + 2.0 * jnp.real(jnp.sum(found * weight, axis=-1))


def _chebyshev(generator: Generator, values: Any, time: Any) -> Any:
    """exp(t A) = sum c_k T_k(1 + A/r), c_k from the cosine transform of exp(r t (cos - 1))."""
    dtype = values.dtype
    radius = _leaving(generator)  # the spectrum lies in [-2 radius, 0] (Gershgorin)
    pieces = jnp.maximum(jnp.ceil(time * radius / LARGEST), 1.0).astype(jnp.int32)
    width = time * radius / pieces
    angle = jnp.pi * (jnp.arange(MOST_TERMS, dtype=dtype) + 0.5) / MOST_TERMS
    samples = jnp.exp(width * (jnp.cos(angle) - 1.0))
    coefficients = _cosine_transform(samples)
    # c_k = exp(-a) I_k(a) falls below eps exp(-k^2/2a) by k = sqrt(80 a) + 40.
    terms = jnp.minimum(jnp.ceil(jnp.sqrt(80.0 * width) + 40.0), MOST_TERMS - 1.0)

    def apply(rho: Any) -> Any:
        return rho + generator.matvec(rho) / radius

    def piece(_: Any, rho: Any) -> Any:
        first = apply(rho)
        total = coefficients[0] * rho + coefficients[1] * first

        def term(k: Any, carry: Any) -> Any:
            older, old, total = carry
            new = 2.0 * apply(old) - older
            return old, new, total + coefficients[k] * new

        return jax.lax.fori_loop(2, terms.astype(jnp.int32), term, (rho, first, total))[2]

    return jax.lax.fori_loop(0, pieces, piece, values)


def _cosine_transform(samples: Any) -> Any:
    """Chebyshev coefficients of a function known at the Chebyshev points of the first kind."""
    count = samples.shape[0]
    spectrum = jnp.fft.fft(jnp.concatenate([samples, samples[::-1]]))[:count]
    twist = jnp.exp(-0.5j * jnp.pi * jnp.arange(count) / count)
    found = jnp.real(spectrum * twist) / count
    return found.at[0].mul(0.5)
