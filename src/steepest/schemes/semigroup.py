"""exp(t A) rho for the generator A of a reversible flow on a grid.

On a line: the rational approximation of exp on the negative axis that Caratheodory and Fejer's
theorem makes nearly the best, error about 9.3^-n with n poles, so a handful of complex tridiagonal
solves serve every t. In two and three dimensions: the Chebyshev series on the interval of the
spectrum, sqrt(t |A|) products.
Sources: Trefethen, Weideman and Schmelzer, BIT 46 (2006) 653; Tal-Ezer and Kosloff, J. Chem. Phys.
81 (1984) 3967.
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
    leaving = jnp.zeros_like(values)
    for axis, (up, down) in enumerate(zip(generator.up, generator.down, strict=True)):
        if up is not None and down is not None:
            leaving = leaving + up + jnp.roll(down, 1, axis)
    radius = jnp.max(leaving)  # the spectrum lies in [-2 radius, 0] (Gershgorin)
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
