"""Random numbers by random access: a function of (seed, step, stream, element) and nothing else.

Threefry-2x32 (20 rounds), unrolled into elementwise integer operations, so that XLA fuses the
generator into the step: a normal costs arithmetic, no memory. One 64-bit block serves an element
for two steps: the first word at the even step, the second at the odd one. The words are the same on
every device and under any sharding; the transform to normals is a fixed polynomial in float32,
which a compiler may contract, so that normals agree to a few units in the last place between
backends. Sources: Salmon et al., SC 2011 (Threefry, Crush-resistant from 13 rounds); the form of
the inverse error function (two polynomials in -log(1 - x^2)) is Giles, GPU Computing Gems 2 (2011)
109; the coefficients are our own fit down to the tail 2^-32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

from .errors import ArgumentError

KINDS = ("normal", "two-point", "three-point")
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_STREAM, _FOLD = 0x53545245, 0x464F4C44  # two tags, so that streams and folds never meet

# sqrt(2) erfinv(x) / x in w - 2.5 for w = -log(1 - x^2) < 5, relative error 2.7e-7, and in
# sqrt(w) - 3.4357679 up to w = 21.5 (probability 2^-32), relative error 4.1e-7.
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


def normal_from_bits(bits: UInt32[Array, "..."]) -> Float[Array, "..."]:
    """A float32 normal from 32 bits: sign, and 31 bits of tail probability down to 2^-32.

    Relative error of the quantile below 2e-6 (tested against scipy); largest modulus 6.34.
    """
    magnitude = (bits >> np.uint32(1)).astype(jnp.int32).astype(jnp.float32)
    tail = (magnitude + np.float32(0.5)) * np.float32(2.0**-31)  # P(|Z| > |z|), in (0, 1]
    # tail (2 - tail) = 1 - x^2 keeps its relative accuracy where x = 1 - tail loses it.
    w = -jnp.log(tail * (np.float32(2.0) - tail))
    central = w < np.float32(5.0)
    u = jnp.where(central, w - np.float32(2.5), jnp.sqrt(w) - np.float32(3.4357679))
    value = jnp.where(central, np.float32(_CENTRE[-1]), np.float32(_TAIL[-1]))
    for a, b in zip(_CENTRE[-2::-1], _TAIL[-2::-1], strict=True):
        value = value * u + jnp.where(central, np.float32(a), np.float32(b))
    value = value * (np.float32(1.0) - tail)
    return jnp.where((bits & np.uint32(1)) == 0, value, -value)


class Randomness(eqx.Module):
    """The source that a scheme draws from at one step.

    `block` and `word` say which half of which block float32 numbers use; float64 numbers use both
    words of block `step`. Every use within a step has its own `stream`. `path` are the folds so
    far, and `shared` holds the normals that the two steps of a pair have in common.
    """

    key0: UInt32[Array, ""]
    key1: UInt32[Array, ""]
    step: Any = 0
    block: Any = 0
    word: Any = 0
    path: tuple[int, ...] = eqx.field(static=True, default=())
    shared: dict[Any, Any] | None = eqx.field(static=True, default=None)

    @classmethod
    def from_key(cls, key: Key[Array, ""] | UInt32[Array, " 2"]) -> Randomness:
        """From `jax.random.key(seed)` (or a raw pair of words)."""
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.key_data(key)
        if key.ndim != 1 or key.shape[0] < 2:
            raise ArgumentError("key", f"shape {key.shape}", "a single key, jax.random.key(seed)")
        words = key.astype(jnp.uint32)
        return cls(words[0], words[1])

    def at(self, step: Any) -> Randomness:
        """The source of one step."""
        step = jnp.asarray(step, jnp.uint32)
        return Randomness(self.key0, self.key1, step, step >> 1, step & 1)

    def pair(self, step: Any) -> tuple[Randomness, Randomness]:
        """The sources of an even step and of the next, which share every block.

        For use within one trace: the first to draw computes the normals of both.
        """
        step, shared = jnp.asarray(step, jnp.uint32), {}
        return (
            Randomness(self.key0, self.key1, step, step >> 1, 0, (), shared),
            Randomness(self.key0, self.key1, step + np.uint32(1), step >> 1, 1, (), shared),
        )

    def fold(self, index: int) -> Randomness:
        """An independent source at the same step."""
        key0, key1 = threefry2x32(self.key0, self.key1, np.uint32(index), np.uint32(_FOLD))
        path = (*self.path, index)
        return Randomness(key0, key1, self.step, self.block, self.word, path, self.shared)

    def words(
        self, shape: tuple[int, ...], counter: Any, stream: int = 0, axis: int = 0
    ) -> tuple[Any, Any]:
        """Two words for every element; `axis` (0 or -1) is where the shape counts particles.

        The element's number is the same for both layouts: particle-major.
        """
        if math.prod(shape) >= 2**32:
            raise ArgumentError("shape", shape, "at most 2^32 - 1 random numbers in one draw")
        key0, key1 = threefry2x32(self.key0, self.key1, np.uint32(stream), np.uint32(_STREAM))
        order = list(range(len(shape)))
        if axis == -1 and len(shape) > 1:
            order = [order[-1], *order[:-1]]
        index: Any = jnp.zeros(shape, jnp.uint32)
        stride = 1
        for dimension in reversed(order):
            iota = jax.lax.broadcasted_iota(jnp.uint32, shape, dimension)
            index = index + iota * np.uint32(stride)
            stride *= shape[dimension]
        return threefry2x32(key0, key1, index, jnp.broadcast_to(counter, shape))

    def bits(self, shape: tuple[int, ...], stream: int = 0, axis: int = 0) -> UInt32[Array, "..."]:
        """32 uniform bits an element."""
        first, second = self.words(shape, jnp.asarray(self.block, jnp.uint32), stream, axis)
        if isinstance(self.word, int):
            return second if self.word else first
        return jnp.where(self.word == 1, second, first)

    def uniform(
        self, shape: tuple[int, ...], dtype: Any = jnp.float32, stream: int = 0, axis: int = 0
    ) -> Float[Array, "..."]:
        """Uniform in the open interval (0, 1), of 23 (float32) or 52 (float64) bits."""
        if jnp.dtype(dtype) == jnp.float64:
            high, low = self.words(shape, jnp.asarray(self.step, jnp.uint32), stream, axis)
            top = (high >> np.uint32(6)).astype(jnp.float64)
            rest = (low >> np.uint32(6)).astype(jnp.float64)
            return (top * 2.0**26 + rest + 0.5) * 2.0**-52
        bits = (self.bits(shape, stream, axis) >> np.uint32(9)).astype(jnp.int32)
        return ((bits.astype(jnp.float32) + np.float32(0.5)) * np.float32(2.0**-23)).astype(dtype)

    def normal(
        self, shape: tuple[int, ...], dtype: Any = jnp.float32, stream: int = 0, axis: int = 0
    ) -> Float[Array, "..."]:
        """Standard normal."""
        if jnp.dtype(dtype) == jnp.float64:

            def precise() -> Any:
                uniform = self.uniform(shape, dtype, stream, axis)
                return math.sqrt(2.0) * jax.lax.erf_inv(2.0 * uniform - 1.0)

            return self._one_kernel(precise)
        if self.shared is None:
            single = lambda: normal_from_bits(self.bits(shape, stream, axis))  # noqa: E731
            return self._one_kernel(single).astype(dtype)
        use = (self.path, shape, stream, axis)
        if use not in self.shared:

            def both_steps() -> Any:
                words = self.words(shape, jnp.asarray(self.block, jnp.uint32), stream, axis)
                return jax.lax.complex(*(normal_from_bits(word) for word in words))

            self.shared[use] = self._one_kernel(both_steps)
        both = self.shared[use]
        return (jnp.imag(both) if self.word else jnp.real(both)).astype(dtype)

    def _one_kernel(self, draw: Callable[[], Array]) -> Array:
        """The array that `draw` makes, by one kernel of its own.

        XLA would rather make the numbers again in every kernel that reads them; it does not look
        into the branch of a condition that it cannot decide (a block is below 2^31).
        """
        shape = jax.eval_shape(draw)
        never = lambda: jnp.zeros(shape.shape, shape.dtype)  # noqa: E731
        return jax.lax.cond(jnp.asarray(self.block, jnp.uint32) < np.uint32(2**31), draw, never)

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
        bits = self.bits(shape, stream, axis)
        if kind == "two-point":
            return jnp.where(bits >> np.uint32(31) == 0, 1.0, -1.0).astype(dtype)
        if kind == "three-point":
            sixth = np.uint32(2**32 // 6)
            up, down = bits < sixth, bits >= np.uint32(2**32 - 2**32 // 6)
            return (jnp.sqrt(3.0) * (up.astype(dtype) - down.astype(dtype))).astype(dtype)
        raise ArgumentError("kind", repr(kind), f"one of {KINDS}")

    def like(self, tree: Any, kind: str = "normal", stream: int = 0, axis: int = 0) -> Any:
        """Independent increments with the structure, shapes and dtypes of `tree`."""
        leaves, structure = jax.tree.flatten(tree)
        drawn = [
            self.increment(x.shape, x.dtype, kind, stream + 16 * i, axis)
            for i, x in enumerate(leaves)
        ]
        return jax.tree.unflatten(structure, drawn)
