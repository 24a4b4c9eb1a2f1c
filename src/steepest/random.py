"""Random numbers by random access: a function of (seed, step, stream, element) and nothing else.

Threefry-2x32 (20 rounds), unrolled into elementwise integer operations that XLA fuses, and the
method of Box and Muller by polynomials: with u uniform in (0, 1), delta uniform in [-pi/4, pi/4)
and two random signs,

    +- sqrt(-log u) (cos delta - sin delta)   and   +- sqrt(-log u) (cos delta + sin delta)

are independent standard normals, one for the even step and one for the odd step of a pair: one
64-bit block serves an element for two steps, without a table, a branch or a library function.

What is reproducible: the words are the same on every device, compiled or not, and under any
sharding. float32 normals are a fixed sequence of additions, multiplications and square roots of
them, ended by an integer operation so that nothing of the caller is merged into it. On one machine
they are the same bits in every context that is tested (eager, compiled, paired, sharded); a backend
that contracts a * b + c otherwise may differ in the last places.
Sources: Salmon et al., SC 2011 (Threefry, Crush-resistant from 13 rounds); Box and Muller, Ann.
Math. Statist. 29 (1958) 610. The float32 coefficients are our own minimax fits; those of sine and
cosine in float64 are fdlibm's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key, UInt32

from .errors import ArgumentError

KINDS = ("normal", "two-point", "three-point")
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_STREAM, _FOLD, _PARTICLE = 0x53545245, 0x464F4C44, 0x50415254  # tags, so that these never meet
_LANES = 8  # neighbours that take the same digit of different words

# log(1 + m) = m - m^2 L(m) on [-1/3, 1/3], relative error 2e-7;
# cos x = 1 + y C(y), sin x = x + x y S(y), y = x^2, |x| <= pi/4, errors 4e-8 and 2e-9.
_LOG = (
    0.49999961256980896,
    -0.33336734771728516,
    0.2500632405281067,
    -0.19818152487277985,
    0.16440793871879578,
    -0.16990689933300018,
    0.15266935527324677,
)
_COS = (-0.49999895691871643, 0.04165629297494888, -0.0013597822980955243)
_SIN = (-0.16666650772094727, 0.00833197869360447, -0.000194956359337084)
# The same in float64, errors below 1e-16.
_COS_WIDE = (
    -0.5,
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
)
_SIN_WIDE = (
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)


def threefry2x32(key0: Any, key1: Any, counter0: Any, counter1: Any) -> tuple[Any, Any]:
    """The block cipher (key, counter) -> two uint32 words, elementwise."""
    keys = (key0, key1, key0 ^ key1 ^ np.uint32(0x1BD11BDA))
    a, b = counter0 + keys[0], counter1 + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            a = a + b
            b = (b << np.uint32(rotation)) | (b >> np.uint32(32 - rotation))
            b = b ^ a
        a = a + keys[(group + 1) % 3]
        b = b + keys[(group + 2) % 3] + np.uint32(group + 1)
    return a, b


def normals_from_words(
    first: UInt32[Array, "..."], second: UInt32[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Two independent float32 normals from two words.

    31 bits of `first` are the radius, all of `second` the angle, the lowest bit of each a sign. The
    error is below 3e-7 (r + 1/r) at r = sqrt(-log u): 3e-7 relative to the radius, save that u is
    rounded to 2^-24 near 1. The largest modulus is sqrt(64 log 2) = 6.66.
    """
    units = (first >> np.uint32(1)).astype(jnp.int32).astype(jnp.float32) + np.float32(0.5)
    # units = 2^exponent (1 + m) with |m| <= 1/3, and u = 2^-31 units.
    shifted = _reinterpret(units, jnp.int32) - np.int32(0x3F2AAAAB)  # the bits of 2/3
    exponent = (shifted >> np.int32(23)).astype(jnp.float32)
    mantissa = (shifted & np.int32(0x7FFFFF)) + np.int32(0x3F2AAAAB)
    m = _reinterpret(mantissa, jnp.float32) - np.float32(1.0)
    minus_log = (np.float32(31.0) - exponent) * np.float32(math.log(2.0)) - m
    radius = jnp.sqrt(minus_log + m * m * _polynomial(_LOG, m))
    x = second.astype(jnp.int32).astype(jnp.float32) * np.float32(math.pi / 4 * 2.0**-31)
    y = x * x
    cosine = np.float32(1.0) + y * _polynomial(_COS, y)
    sine = x + x * y * _polynomial(_SIN, y)
    return (
        _flip(radius * (cosine - sine), second << np.uint32(31)),
        _flip(radius * (cosine + sine), first << np.uint32(31)),
    )


def wide_normals_from_words(
    first: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    second: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Two independent float64 normals from two blocks of two words, 52 bits of each used.

    Within 2e-15 (r + 1/r) of the exact formula, r = sqrt(-log u); the largest modulus is 8.57.
    """
    radius = jnp.sqrt(-jnp.log(_wide_uniform(*first)))
    x = (_wide_uniform(*second) - 0.5) * (math.pi / 2)
    y = x * x
    cosine = 1.0 + y * _polynomial(_COS_WIDE, y)
    sine = x + x * y * _polynomial(_SIN_WIDE, y)
    # The six lowest bits of a word are in neither uniform.
    one, other = first[1] & np.uint32(1) == 0, first[1] & np.uint32(2) == 0
    return (
        jnp.where(one, radius, -radius) * (cosine - sine),
        jnp.where(other, radius, -radius) * (cosine + sine),
    )


class _Shared:
    """What the two steps of a pair have in common: the normals drawn so far, by their use."""

    def __init__(self) -> None:
        self.drawn: dict[Any, Any] = {}


class Randomness(eqx.Module):
    """The source that a scheme draws from at one step.

    `block` = step // 2 and `word` = step % 2 say which half of which pair a step uses. Every use
    within a step has its own `stream`. `path` are the folds so far, `shared` is for pairs.
    """

    key0: UInt32[Array, ""]
    key1: UInt32[Array, ""]
    step: Any = 0
    block: Any = 0
    word: Any = 0
    path: tuple[int, ...] = eqx.field(static=True, default=())
    shared: _Shared | None = eqx.field(static=True, default=None)

    @classmethod
    def from_key(cls, key: Key[Array, ""] | UInt32[Array, " 2"]) -> Randomness:
        """From `jax.random.key(seed)` (or a raw pair of words)."""
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.key_data(key)
        if key.ndim != 1 or key.shape[0] < 2:
            raise ArgumentError("key", f"shape {key.shape}", "a single key, jax.random.key(seed)")
        if isinstance(key, Tracer):
            words = key.astype(jnp.uint32)
            return cls(words[0], words[1])
        # Read on the host: two numbers are not worth a program each.
        words = np.asarray(key).astype(np.uint32)
        return cls(jnp.asarray(words[0]), jnp.asarray(words[1]))

    def at(self, step: Any) -> Randomness:
        """The source of one step."""
        step = jnp.asarray(step, jnp.uint32)
        return Randomness(self.key0, self.key1, step, step >> 1, step & 1)

    def pair(self, step: Any) -> tuple[Randomness, Randomness]:
        """The sources of an even step and of the next, which share every block.

        For use within one trace: the first to draw computes the normals of both.
        """
        step, shared = jnp.asarray(step, jnp.uint32), _Shared()
        return (
            Randomness(self.key0, self.key1, step, step >> 1, 0, (), shared),
            Randomness(self.key0, self.key1, step + np.uint32(1), step >> 1, 1, (), shared),
        )

    def fold(self, index: int) -> Randomness:
        """An independent source at the same step."""
        key0, key1 = threefry2x32(self.key0, self.key1, np.uint32(index), np.uint32(_FOLD))
        path = (*self.path, index)
        return Randomness(key0, key1, self.step, self.block, self.word, path, self.shared)

    def of(self, particle: Any) -> Randomness:
        """An independent source for one particle, whose number may be traced."""
        number = jnp.asarray(particle).astype(jnp.uint32)
        key0, key1 = threefry2x32(self.key0, self.key1, number, np.uint32(_PARTICLE))
        return Randomness(key0, key1, self.step, self.block, self.word)

    def bits(self, shape: tuple[int, ...], stream: int = 0, axis: int = 0) -> UInt32[Array, "..."]:
        """32 uniform bits an element; `axis` (0 or -1) is where the shape counts particles.

        An element's number is the same for both layouts: particle-major.
        """
        first, second = _words(self.key0, self.key1, self.block, shape, stream, axis)
        if isinstance(self.word, int):
            return second if self.word else first
        return jnp.where(self.word == 1, second, first)

    def uniform(
        self, shape: tuple[int, ...], dtype: Any = jnp.float32, stream: int = 0, axis: int = 0
    ) -> Float[Array, "..."]:
        """Uniform in the open interval (0, 1), of 23 (float32) or 52 (float64) bits."""
        if jnp.dtype(dtype) == jnp.float64:
            return _wide_uniform(*_words(self.key0, self.key1, self.step, shape, stream, axis))
        bits = (self.bits(shape, stream, axis) >> np.uint32(9)).astype(jnp.int32)
        return ((bits.astype(jnp.float32) + np.float32(0.5)) * np.float32(2.0**-23)).astype(dtype)

    def normal(
        self, shape: tuple[int, ...], dtype: Any = jnp.float32, stream: int = 0, axis: int = 0
    ) -> Float[Array, "..."]:
        """Standard normal."""
        wide = jnp.dtype(dtype) == jnp.float64
        use = (self.path, shape, wide, stream, axis)
        drawn = {} if self.shared is None else self.shared.drawn
        if use not in drawn:
            block = jnp.asarray(self.block, jnp.uint32)
            drawn[use] = _normals(self.key0, self.key1, block, shape, stream, axis, wide)
        both = drawn[use]
        if isinstance(self.word, int):
            return (jnp.imag(both) if self.word else jnp.real(both)).astype(dtype)
        return jnp.where(self.word == 1, jnp.imag(both), jnp.real(both)).astype(dtype)

    def increment(
        self,
        shape: tuple[int, ...],
        dtype: Any = jnp.float32,
        kind: str = "normal",
        stream: int = 0,
        axis: int = 0,
    ) -> Float[Array, "..."]:
        """A kick of mean 0 and variance 1: `"normal"`; `"two-point"` +-1 (weak order 1);
        `"three-point"` +-sqrt 3 with probability 1/6 each, else 0 (weak order 2).
        """
        if kind == "normal":
            return self.normal(shape, dtype, stream, axis)
        if kind == "two-point":
            # A bit each.
            bit = self._digits(shape, np.arange(32), jnp.right_shift, stream, axis)
            return _flip(jnp.ones(shape, jnp.float32), bit << np.uint32(31)).astype(dtype)
        if kind == "three-point":
            # A digit in base 6 each; four of them in a word are even to 6^4 / 2^32 = 3e-7.
            digit = self._digits(shape, 6 ** np.arange(4), jnp.multiply, stream, axis)
            sixth = 2**32 // 6
            size = jnp.asarray(math.sqrt(3.0), dtype)
            low = jnp.where(digit < np.uint32(sixth), size, jnp.zeros((), dtype))
            return jnp.where(digit >= np.uint32(2**32 - sixth), -size, low)
        raise ArgumentError("kind", repr(kind), f"one of {KINDS}")

    def like(self, tree: Any, kind: str = "normal", stream: int = 0, axis: int = 0) -> Any:
        """Independent increments with the structure, shapes and dtypes of `tree`."""
        leaves, structure = jax.tree.flatten(tree)
        drawn = [
            self.increment(x.shape, x.dtype, kind, stream + 16 * i, axis)
            for i, x in enumerate(leaves)
        ]
        return jax.tree.unflatten(structure, drawn)

    def _digits(
        self,
        shape: tuple[int, ...],
        table: np.ndarray,
        digit: Callable[[Any, Any], Any],
        stream: int,
        axis: int,
    ) -> UInt32[Array, "..."]:
        """digit(word, table[k]) for every element, so that a word serves len(table) particles.

        Particle p takes word 8 (p // 8 len) + p % 8 and k = (p // 8) % len: eight neighbours at a
        time, as vector units like it, and the same for any number of particles.
        """
        if not shape:
            return self._digits((1,), table, digit, stream, 0)[0]
        count, rest = (shape[-1], shape[:-1]) if axis == -1 else (shape[0], shape[1:])
        groups = -(-count // (_LANES * len(table)))
        join = (lambda *x: (*rest, *x)) if axis == -1 else (lambda *x: (*x, *rest))
        whole = join(groups * _LANES)
        words = _one_kernel(
            lambda: self.bits(whole, stream, axis), jnp.asarray(self.block, jnp.uint32), whole
        )
        ones = (1,) * len(rest)
        column = (len(table), 1) if axis == -1 else (len(table), 1, *ones)
        words = words.reshape(join(groups, 1, _LANES))
        digits = digit(words, jnp.asarray(table.reshape(column), jnp.uint32))
        digits = digits.reshape(join(groups * len(table) * _LANES))
        return digits[..., :count] if axis == -1 else digits[:count]


# Compiled also where it is called outside a trace: fast, and the same contractions.
_compiled = functools.partial(jax.jit, inline=True)


@functools.partial(_compiled, static_argnums=(3, 4, 5))
def _words(
    key0: Any, key1: Any, counter: Any, shape: tuple[int, ...], stream: int, axis: int
) -> tuple[Any, Any]:
    """The block `counter` of every element, under the key of the stream."""
    if math.prod(shape) >= 2**32:
        raise ArgumentError("shape", shape, "at most 2^32 - 1 random numbers in one draw")
    key0, key1 = threefry2x32(key0, key1, np.uint32(stream), np.uint32(_STREAM))
    order = list(range(len(shape)))
    if axis == -1 and len(shape) > 1:
        order = [order[-1], *order[:-1]]
    index: Any = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for dimension in reversed(order):
        iota = jax.lax.broadcasted_iota(jnp.uint32, shape, dimension)
        index = index + iota * np.uint32(stride)
        stride *= shape[dimension]
    counter = jnp.asarray(counter, jnp.uint32)
    return threefry2x32(key0, key1, index, jnp.broadcast_to(counter, shape))


@functools.partial(_compiled, static_argnums=(3, 4, 5, 6))
def _normals(
    key0: Any, key1: Any, block: Any, shape: tuple[int, ...], stream: int, axis: int, wide: bool
) -> Any:
    """The normals of both steps of a pair, as the parts of a complex array."""

    def draw() -> Any:
        words = lambda counter: _words(key0, key1, counter, shape, stream, axis)  # noqa: E731
        if wide:
            even = block << np.uint32(1)
            pair = wide_normals_from_words(words(even), words(even + np.uint32(1)))
        else:
            pair = normals_from_words(*words(block))
        return jax.lax.complex(*pair)

    return _one_kernel(draw, block, shape)


def _one_kernel(draw: Callable[[], Any], block: Any, shape: tuple[int, ...]) -> Any:
    """`draw()`, made once by one kernel.

    XLA on a CPU would rather make the numbers again in every kernel that reads them; it does not
    look into the branch of a condition that it cannot decide (a block is below 2^31).
    """
    dtype = jax.eval_shape(draw).dtype
    never = lambda: jnp.zeros(shape, dtype)  # noqa: E731
    guarded = lambda: jax.lax.cond(block < np.uint32(2**31), draw, never)  # noqa: E731
    return jax.lax.platform_dependent(cpu=guarded, default=draw)


def _wide_uniform(high: Any, low: Any) -> Any:
    """52 bits of two words as a float64 in (0, 1)."""
    top = (high >> np.uint32(6)).astype(jnp.int32).astype(jnp.float64)
    rest = (low >> np.uint32(6)).astype(jnp.int32).astype(jnp.float64)
    return (top * 2.0**26 + rest + 0.5) * 2.0**-52


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """sum_k c_k x^k by halves (Estrin), which waits less than Horner's chain."""
    terms: list[Any] = [np.asarray(c, x.dtype) for c in coefficients]
    while len(terms) > 1:
        pairs = [a + b * x for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[2 * len(pairs) :]
        x = x * x
    return terms[0]


def _reinterpret(x: Any, dtype: Any) -> Any:
    return jax.lax.bitcast_convert_type(x, dtype)


def _flip(x: Float[Array, "..."], sign: UInt32[Array, "..."]) -> Float[Array, "..."]:
    """x with the sign bit changed where that of `sign` is set."""
    return _reinterpret(_reinterpret(x, jnp.uint32) ^ sign, jnp.float32)
