"""Placeholder until the fused generator lands: the interface only."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("normal", "two-point", "three-point")


def _rotl(x, r):
    return (x << np.uint32(r)) | (x >> np.uint32(32 - r))


def threefry2x32(k0, k1, x0, x1):
    ks = [k0, k1, k0 ^ k1 ^ np.uint32(0x1BD11BDA)]
    rot = [[13, 15, 26, 6], [17, 29, 16, 24]]
    x0 = x0 + ks[0]
    x1 = x1 + ks[1]
    for i in range(5):
        for r in rot[i % 2]:
            x0 = x0 + x1
            x1 = _rotl(x1, r) ^ x0
        x0 = x0 + ks[(i + 1) % 3]
        x1 = x1 + ks[(i + 2) % 3] + np.uint32(i + 1)
    return x0, x1


class Randomness(eqx.Module):
    key0: Any
    key1: Any
    step: Any = None
    word: Any = None

    @classmethod
    def from_key(cls, key):
        data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
        return cls(data[0].astype(jnp.uint32), data[1].astype(jnp.uint32))

    def at(self, step):
        step = jnp.asarray(step, jnp.uint32)
        return Randomness(self.key0, self.key1, step, step & 1)

    def pair(self, step):
        step = jnp.asarray(step, jnp.uint32)
        return (Randomness(self.key0, self.key1, step, 0), Randomness(self.key0, self.key1, step, 1))

    def fold(self, i):
        a, b = threefry2x32(self.key0, self.key1, jnp.uint32(i), jnp.uint32(0xF01D))
        return Randomness(a, b, self.step, self.word)

    def bits(self, shape, stream=0):
        k0, k1 = threefry2x32(self.key0, self.key1, jnp.uint32(stream), jnp.uint32(0x5EED))
        index = jnp.zeros(shape, jnp.uint32)
        size = 1
        for axis in reversed(range(len(shape))):
            index = index + jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(size)
            size *= shape[axis]
        a, b = threefry2x32(k0, k1, index, jnp.broadcast_to(self.step >> 1, shape))
        if isinstance(self.word, int):
            return b if self.word else a
        return jnp.where(self.word == 1, b, a)

    def uniform(self, shape, dtype=jnp.float32, stream=0):
        bits = self.bits(shape, stream)
        u = (bits >> np.uint32(9)).astype(jnp.float32) * np.float32(2.0**-23) + np.float32(2.0**-24)
        return u.astype(dtype)

    def normal(self, shape, dtype=jnp.float32, stream=0):
        bits = self.bits(shape, stream)
        u = (bits.astype(jnp.int32)).astype(jnp.float32) * np.float32(2.0**-31) + np.float32(2.0**-32)
        u = jnp.clip(u, -0.99999994, 0.99999994)
        return (np.float32(np.sqrt(2)) * jax.lax.erf_inv(u)).astype(dtype)

    def like(self, tree, kind="normal", stream=0):
        leaves, structure = jax.tree.flatten(tree)
        return jax.tree.unflatten(
            structure,
            [self.normal(x.shape, x.dtype, stream + 16 * i) for i, x in enumerate(leaves)],
        )
