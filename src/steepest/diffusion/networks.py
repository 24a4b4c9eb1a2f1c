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


class Convolution(eqx.Module):
    """A 3 x 3 convolution of (height, width, channels) as one matrix product over the nine shifts.

    XLA's own convolutions are many times slower on a CPU inside a loop, and their gradients more.
    """

    weight: Float[Array, "out nine_in"]
    bias: Float[Array, " out"]

    def __init__(self, into: int, out: int, key: Key[Array, ""], dtype: Any):
        bound = 1.0 / math.sqrt(9 * into)
        self.weight = jax.random.uniform(key, (out, 9 * into), dtype or float, -bound, bound)
        self.bias = jnp.zeros(out, dtype)

    def __call__(self, h: Any) -> Any:
        rows, columns, _ = h.shape
        padded = jnp.pad(h, ((1, 1), (1, 1), (0, 0)))
        shifts = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
        return jnp.concatenate(shifts, axis=-1) @ self.weight.T + self.bias


class Norm(eqx.Module):
    """Group normalisation over eight channels at a time, with a gain for each channel."""

    gain: Float[Array, " channels"]

    def __call__(self, h: Any) -> Any:
        groups = h.reshape(*h.shape[:2], -1, 8)
        mean = groups.mean((0, 1, 3), keepdims=True)
        variance = jnp.mean((groups - mean) ** 2, (0, 1, 3), keepdims=True)
        return ((groups - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(h.shape) * self.gain


class Block(eqx.Module):
    """Two convolutions with a residual, shifted and scaled by (noise, label)."""

    first: Convolution
    second: Convolution
    condition: eqx.nn.Linear
    norms: tuple[Norm, Norm]
    skip: Float[Array, "out in"] | None

    def __init__(self, into: int, out: int, width: int, key: Key[Array, ""], dtype: Any):
        a, b, c, d = jax.random.split(key, 4)
        self.first = Convolution(into, out, a, dtype)
        self.second = zeroed(Convolution(out, out, b, dtype))
        self.condition = eqx.nn.Linear(width, 2 * out, key=c, dtype=dtype)
        self.norms = (Norm(jnp.ones(into, dtype)), Norm(jnp.ones(out, dtype)))
        scale = 1.0 / math.sqrt(into)
        skip = scale * jax.random.normal(d, (out, into), dtype or float)
        self.skip = None if into == out else skip

    def __call__(self, h: Any, condition: Any) -> Any:
        scale, shift = jnp.split(self.condition(condition), 2)
        inner = self.first(jax.nn.silu(self.norms[0](h)))
        inner = self.norms[1](inner) * (1.0 + scale) + shift
        inner = self.second(jax.nn.silu(inner))
        return inner + (h if self.skip is None else h @ self.skip.T)


class UNet(eqx.Module):
    """Two resolutions for images (height, width) or (height, width, channels) with even sides.

    Made for small images (8 x 8): one pooling, the halves joined by concatenation.
    """

    embedding: Embedding
    entry: Convolution
    down: Block
    middle: tuple[Block, Block]
    up: Block
    exit: Convolution
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
        if len(shape) not in (2, 3) or shape[0] % 2 or shape[1] % 2:
            raise ArgumentError(
                "shape", shape, "(height, width) or (height, width, channels), even sides"
            )
        if not isinstance(width, (int, np.integer)) or width < 8 or width % 8:
            raise ArgumentError("width", width, "a multiple of 8")
        keys = jax.random.split(key, 7)
        channels = 1 if len(shape) == 2 else shape[2]
        inner = 4 * width
        self.plain = len(shape) == 2
        self.embedding = Embedding(inner, classes, keys[0], dtype)
        self.entry = Convolution(channels, width, keys[1], dtype)
        self.down = Block(width, width, inner, keys[2], dtype)
        self.middle = (
            Block(width, 2 * width, inner, keys[3], dtype),
            Block(2 * width, 2 * width, inner, keys[4], dtype),
        )
        self.up = Block(3 * width, width, inner, keys[5], dtype)
        self.exit = zeroed(Convolution(width, channels, keys[6], dtype))

    def __call__(self, x: Any, noise: Any, label: Any = None) -> Any:
        condition = self.embedding(noise, label)
        fine = self.down(self.entry(x[..., None] if self.plain else x), condition)
        rows, columns, c = fine.shape
        h = fine.reshape(rows // 2, 2, columns // 2, 2, c).mean((1, 3))
        for block in self.middle:
            h = block(h, condition)
        h = jnp.repeat(jnp.repeat(h, 2, axis=0), 2, axis=1)
        h = self.up(jnp.concatenate([h, fine], axis=-1), condition)
        out = self.exit(jax.nn.silu(h))
        return out[..., 0] if self.plain else out


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
