"""Networks for scores: a perceptron for vectors, a small U-Net for images, and other people's.

A network maps (x, noise, label) to an output of the shape of x. `noise` is a number, log(r)/4 with
r the noise relative to the data; `label` an integer, `classes` standing for "none given".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError

FEATURES = 32


def noise_features(noise: Any) -> Float[Array, " 32"]:
    """sin and cos of the noise at geometric frequencies."""
    frequencies = jnp.asarray(np.geomspace(0.5, 40.0, FEATURES // 2), jnp.result_type(noise))
    return jnp.concatenate([jnp.sin(frequencies * noise), jnp.cos(frequencies * noise)])


class Embedding(eqx.Module):
    """(noise, label) -> a vector."""

    first: eqx.nn.Linear
    second: eqx.nn.Linear
    labels: Float[Array, "classes width"] | None

    def __init__(self, width: int, classes: int, key: Key[Array, ""], dtype: Any):
        a, b, c = jax.random.split(key, 3)
        self.first = eqx.nn.Linear(FEATURES, width, key=a, dtype=dtype)
        self.second = eqx.nn.Linear(width, width, key=b, dtype=dtype)
        # The last row stands for "no label".
        table = jax.random.normal(c, (classes + 1, width), dtype) if classes else None
        self.labels = table

    def __call__(self, noise: Any, label: Any) -> Float[Array, " width"]:
        hidden = jax.nn.silu(self.first(noise_features(noise).astype(self.first.weight.dtype)))
        hidden = self.second(hidden)
        if self.labels is not None:
            hidden = hidden + self.labels[-1 if label is None else label]
        return jax.nn.silu(hidden)


class Perceptron(eqx.Module):
    """Residual blocks for points of shape (d,), each shifted and scaled by (noise, label)."""

    embedding: Embedding
    entry: eqx.nn.Linear
    blocks: tuple[tuple[eqx.nn.Linear, eqx.nn.Linear, eqx.nn.Linear], ...]
    exit: eqx.nn.Linear

    def __init__(
        self,
        dimension: int,
        key: Key[Array, ""],
        *,
        width: int = 128,
        depth: int = 3,
        classes: int = 0,
        dtype: Any = None,
    ):
        for name, value in (("dimension", dimension), ("width", width), ("depth", depth)):
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ArgumentError(name, value, "an integer >= 1")
        a, b, c, *rest = jax.random.split(key, 3 + 3 * depth)
        linear = lambda i, o, k: eqx.nn.Linear(i, o, key=k, dtype=dtype)  # noqa: E731
        self.embedding = Embedding(width, classes, a, dtype)
        self.entry = linear(dimension, width, b)
        self.blocks = tuple(
            (
                linear(width, width, rest[3 * i]),
                linear(width, 2 * width, rest[3 * i + 1]),
                zeroed(linear(width, width, rest[3 * i + 2])),
            )
            for i in range(depth)
        )
        self.exit = zeroed(linear(width, dimension, c))

    def __call__(self, x: Any, noise: Any, label: Any = None) -> Any:
        condition = self.embedding(noise, label)
        h = self.entry(x)
        for into, condition_to, out in self.blocks:
            scale, shift = jnp.split(condition_to(condition), 2)
            inner = jax.nn.silu(into(jax.nn.silu(h)) * (1.0 + scale) + shift)
            h = h + out(inner)
        return self.exit(jax.nn.silu(h))


class Block(eqx.Module):
    """Two convolutions with a residual, shifted and scaled by (noise, label)."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    condition: eqx.nn.Linear
    norms: tuple[eqx.nn.GroupNorm, eqx.nn.GroupNorm]
    skip: eqx.nn.Conv2d | None

    def __init__(self, into: int, out: int, width: int, key: Key[Array, ""], dtype: Any):
        a, b, c, d = jax.random.split(key, 4)
        self.first = eqx.nn.Conv2d(into, out, 3, padding=1, key=a, dtype=dtype)
        self.second = zeroed(eqx.nn.Conv2d(out, out, 3, padding=1, key=b, dtype=dtype))
        self.condition = eqx.nn.Linear(width, 2 * out, key=c, dtype=dtype)
        group = lambda n: eqx.nn.GroupNorm(math.gcd(n, 8), n, dtype=dtype)  # noqa: E731
        self.norms = (group(into), group(out))
        self.skip = None if into == out else eqx.nn.Conv2d(into, out, 1, key=d, dtype=dtype)

    def __call__(self, h: Any, condition: Any) -> Any:
        scale, shift = jnp.split(self.condition(condition)[:, None, None], 2)
        inner = self.first(jax.nn.silu(self.norms[0](h)))
        inner = self.norms[1](inner) * (1.0 + scale) + shift
        inner = self.second(jax.nn.silu(inner))
        return inner + (h if self.skip is None else self.skip(h))


class UNet(eqx.Module):
    """Two resolutions for images (height, width) or (channels, height, width) with even sides.

    Made for small images (8 x 8): one pooling, the halves joined by concatenation.
    """

    embedding: Embedding
    entry: eqx.nn.Conv2d
    down: Block
    middle: tuple[Block, Block]
    up: Block
    exit: eqx.nn.Conv2d
    plain: bool = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, ...],
        key: Key[Array, ""],
        *,
        width: int = 32,
        classes: int = 0,
        dtype: Any = None,
    ):
        if len(shape) not in (2, 3) or shape[-1] % 2 or shape[-2] % 2:
            raise ArgumentError(
                "shape", shape, "(height, width) or (channels, height, width), even sides"
            )
        if not isinstance(width, (int, np.integer)) or width < 8 or width % 8:
            raise ArgumentError("width", width, "a multiple of 8")
        keys = jax.random.split(key, 7)
        channels = 1 if len(shape) == 2 else shape[0]
        inner = 4 * width
        self.plain = len(shape) == 2
        self.embedding = Embedding(inner, classes, keys[0], dtype)
        conv = lambda i, o, k: eqx.nn.Conv2d(i, o, 3, padding=1, key=k, dtype=dtype)  # noqa: E731
        self.entry = conv(channels, width, keys[1])
        self.down = Block(width, width, inner, keys[2], dtype)
        self.middle = (
            Block(width, 2 * width, inner, keys[3], dtype),
            Block(2 * width, 2 * width, inner, keys[4], dtype),
        )
        self.up = Block(3 * width, width, inner, keys[5], dtype)
        self.exit = zeroed(conv(width, channels, keys[6]))

    def __call__(self, x: Any, noise: Any, label: Any = None) -> Any:
        condition = self.embedding(noise, label)
        h = self.entry(x[None] if self.plain else x)
        fine = self.down(h, condition)
        c, a, b = fine.shape
        h = fine.reshape(c, a // 2, 2, b // 2, 2).mean((2, 4))
        for block in self.middle:
            h = block(h, condition)
        h = jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)
        h = self.up(jnp.concatenate([h, fine]), condition)
        out = self.exit(jax.nn.silu(h))
        return out[0] if self.plain else out


class Applied(eqx.Module):
    """A network of another library: apply(variables, x, noise, label), e.g. a Flax module's."""

    apply: Callable[..., Any] = eqx.field(static=True)
    variables: Any

    def __call__(self, x: Any, noise: Any, label: Any = None) -> Any:
        return self.apply(self.variables, x, noise, label)


def zeroed(layer: Any) -> Any:
    """The layer with zero weights: the block starts as the identity, the network as zero."""
    layer = eqx.tree_at(lambda m: m.weight, layer, jnp.zeros_like(layer.weight))
    return eqx.tree_at(lambda m: m.bias, layer, jnp.zeros_like(layer.bias))
