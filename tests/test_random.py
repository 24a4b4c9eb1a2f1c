"""The generator: known answers, distribution, independence, reproducibility.

Statistics are z-scores of about 60 tests with fixed seeds: |z| < 4.5 bounds all of them together at
a false alarm of 4e-4, and the seeds do not change.
"""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from steepest.random import Randomness, normal_from_bits, threefry2x32

LIMIT = 4.5
SOURCE = Randomness.from_key(jax.random.key(3))
N = 200_000


def z_mean(x, mean, variance):
    return abs((np.mean(x) - mean) / np.sqrt(variance / np.size(x)))


@pytest.mark.parametrize(
    "key, counter, expected",
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_known_answers(key, counter, expected):
    """The vectors of the Random123 distribution."""
    words = threefry2x32(*(jnp.uint32(x) for x in (*key, *counter)))
    assert tuple(int(w) for w in words) == expected


def test_normal_is_the_quantile_function():
    edges = np.concatenate([2.0 ** np.arange(32), 2.0 ** np.arange(1, 32) - 1])
    inner = np.random.default_rng(0).integers(0, 2**32, 400_000)
    bits = np.unique(np.concatenate([edges, inner]).astype(np.uint32))
    z = np.asarray(normal_from_bits(jnp.asarray(bits)), float)
    magnitude = (bits >> 1).astype(np.int32).astype(np.float32)
    tail = np.float64((magnitude + np.float32(0.5)) * np.float32(2.0**-31))
    exact = -scipy.special.ndtri(tail / 2) * np.where(bits & 1, -1, 1)
    far = np.abs(exact) > 1e-3
    assert np.abs(z[far] / exact[far] - 1).max() < 2e-6
    assert np.abs(z - exact).max() < 1e-5
    assert 6.3 < np.abs(z).max() < 6.4 and np.isfinite(z).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_moments_and_kolmogorov_smirnov(dtype):
    x = np.concatenate([np.asarray(SOURCE.at(k).normal((N,), dtype), float) for k in range(5)])
    # E z^k and the variance of z^k, k = 1..6.
    for power, mean, variance in (
        (1, 0, 1),
        (2, 1, 2),
        (3, 0, 15),
        (4, 3, 96),
        (5, 0, 945),
        (6, 15, 10395 - 225),
    ):
        assert z_mean(x**power, mean, variance) < LIMIT
    # Kolmogorov: P(sqrt(n) D > 2.2) = 1.2e-4.
    assert scipy.stats.kstest(x, "norm").statistic * np.sqrt(x.size) < 2.2
    for level in (3.0, 4.0, 5.0):
        p = 2 * scipy.stats.norm.sf(level)
        # A Poisson count; its two-sided probability.
        count = int((np.abs(x) > level).sum())
        assert scipy.stats.poisson.cdf(count, p * x.size) > 1e-4
        assert scipy.stats.poisson.sf(count - 1, p * x.size) > 1e-4


def test_uniform_is_open_and_uniform():
    for dtype in (jnp.float32, jnp.float64):
        u = np.asarray(SOURCE.at(9).uniform((N,), dtype), float)
        assert u.min() > 0 and u.max() < 1
        assert scipy.stats.kstest(u, "uniform").statistic * np.sqrt(N) < 2.2


def test_bits_and_bytes_are_balanced():
    words = np.asarray(SOURCE.at(4).bits((N,)))
    for bit in range(32):
        assert z_mean((words >> bit) & 1, 0.5, 0.25) < LIMIT
    counts = np.bincount(words.view(np.uint8), minlength=256)
    assert scipy.stats.chisquare(counts).pvalue > 1e-5


def correlation_z(x, y):
    return abs(np.mean(np.asarray(x, float) * np.asarray(y, float))) * np.sqrt(np.size(x))


def test_independence_across_steps_chains_keys_and_streams():
    at = lambda step, stream=0, key=SOURCE: np.asarray(key.at(step).normal((N,), stream=stream))  # noqa: E731
    base = at(10)
    neighbours = {
        "the other word of the block": at(11),
        "next block": at(12),
        "far step": at(10 + 2**20),
        "stream": at(10, stream=1),
        "leaf": at(10, stream=16),
        "neighbouring seed": at(10, key=Randomness.from_key(jax.random.key(4))),
        "fold": np.asarray(SOURCE.at(10).fold(1).normal((N,))),
        "next chain": np.roll(base, 1),
        "chain at distance 1000": np.roll(base, 1000),
    }
    for name, other in neighbours.items():
        assert not np.array_equal(base, other), name
        assert correlation_z(base, other) < LIMIT, name
        # Squares too: dependence of size without sign.
        assert correlation_z((base**2 - 1) / np.sqrt(2), (other**2 - 1) / np.sqrt(2)) < LIMIT, name


def test_serial_independence_along_one_chain():
    def body(i, x):
        return x.at[i].set(SOURCE.at(i).normal((8,)))

    path = np.asarray(jax.lax.fori_loop(0, 20_000, body, jnp.zeros((20_000, 8), jnp.float32)))
    for lag in (1, 2, 3, 7, 64):
        assert correlation_z(path[lag:], path[:-lag]) < LIMIT


@pytest.mark.parametrize(
    "kind, fourth", [("two-point", 1.0), ("three-point", 3.0), ("normal", 3.0)]
)
def test_increments_have_the_moments_of_their_weak_order(kind, fourth):
    x = np.asarray(SOURCE.at(5).increment((N,), jnp.float64, kind))
    assert z_mean(x, 0, 1) < LIMIT
    assert abs(np.mean(x**2) - 1) < LIMIT * np.sqrt(max(fourth - 1, 1e-9) / N)
    assert abs(np.mean(x**4) - fourth) < LIMIT * np.sqrt(100 / N)
    if kind != "normal":
        assert len(np.unique(x)) == {"two-point": 2, "three-point": 3}[kind]


def test_a_pair_is_its_two_steps():
    @jax.jit
    def both(step):
        first, second = SOURCE.pair(step)
        return first.normal((64, 3)), second.normal((64, 3)), first.uniform((5,), stream=3)

    x, y, u = both(jnp.uint32(20))
    # The same words through the same polynomial: contraction may differ in the last places.
    np.testing.assert_allclose(x, SOURCE.at(20).normal((64, 3)), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(y, SOURCE.at(21).normal((64, 3)), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(u, SOURCE.at(20).uniform((5,), stream=3))


def test_layout_does_not_change_the_numbers():
    first = SOURCE.at(2).normal((50, 3), axis=0)
    last = SOURCE.at(2).normal((3, 50), axis=-1)
    np.testing.assert_array_equal(first, last.T)


def test_bits_with_and_without_compilation():
    plain = SOURCE.at(6).bits((1000,))
    compiled = jax.jit(lambda step: SOURCE.at(step).bits((1000,)))(6)
    np.testing.assert_array_equal(plain, compiled)


def test_the_same_bits_on_eight_devices():
    code = textwrap.dedent("""
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import NamedSharding, PartitionSpec as P
        from steepest.random import Randomness
        assert len(jax.devices()) == 8
        mesh = jax.make_mesh((8,), ("chains",))
        source = Randomness.from_key(jax.random.key(3))
        draw = lambda step: (source.at(step).bits((800, 3)), source.at(step).normal((800, 3)))
        whole = jax.jit(draw)(7)
        parts = jax.jit(draw, out_shardings=NamedSharding(mesh, P("chains")))(7)
        assert len(parts[0].sharding.device_set) == 8
        np.testing.assert_array_equal(whole[0], parts[0])
        np.testing.assert_allclose(whole[1], parts[1], rtol=1e-6)
    """)
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
