"""The generator: known answers, distribution, independence, reproducibility.

Statistics are z-scores with fixed seeds, about 150 of them: by Bonferroni, |z| < 5 bounds all of
them together at a false alarm of 150 * 5.7e-7 = 9e-5. A count or a p-value has the bound 1e-5. The
seeds do not change, so that a test which passes goes on passing.
"""

import itertools
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from steepest.errors import ArgumentError
from steepest.random import (
    KINDS,
    Randomness,
    normals_from_words,
    threefry2x32,
    wide_normals_from_words,
)

LIMIT, CHANCE = 5.0, 1e-5
SOURCE = Randomness.from_key(jax.random.key(3))
N = 200_000
DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])


def z_mean(x, mean, variance):
    """How many standard errors the mean of x is from `mean`; exact where the variance is 0."""
    error = abs(np.mean(np.asarray(x, float)) - mean)
    return error / np.sqrt(variance / np.size(x)) if variance else error * 1e9


def z_correlation(x, y):
    """For independent x and y of mean 0 and variance 1."""
    return abs(np.mean(np.asarray(x, float) * np.asarray(y, float))) * np.sqrt(np.size(x))


def assert_independent(x, y, name=""):
    """Of standard normals: signs, sizes, and each with the other."""
    assert not np.array_equal(x, y), name
    size = [(np.asarray(z, float) ** 2 - 1) / np.sqrt(2) for z in (x, y)]
    for a, b in itertools.product((x, size[0]), (y, size[1])):
        assert z_correlation(a, b) < LIMIT, name


# Known answers


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


def test_threefry_is_the_cipher_of_jax():
    key = jax.random.wrap_key_data(jnp.asarray([17, 2**31 + 5], jnp.uint32), impl="threefry2x32")
    data = np.random.default_rng(1).integers(0, 2**32, 1000, dtype=np.uint32)
    # jax.random.fold_in enciphers the block (0, data).
    folded = jax.vmap(lambda x: jax.random.key_data(jax.random.fold_in(key, x)))(data)
    ours = threefry2x32(*jax.random.key_data(key), jnp.zeros(1000, jnp.uint32), jnp.asarray(data))
    np.testing.assert_array_equal(folded.T, ours)


# The transform


def extreme_words(bits=32):
    """Powers of two, their neighbours, and a million others."""
    powers = 2.0 ** np.arange(bits)
    edges = np.concatenate([powers, 2 * powers - 1, [0]])
    inner = np.random.default_rng(0).integers(0, 2**32, 1_000_000)
    return np.concatenate([edges, inner]).astype(np.uint32)


def assert_polar(normals, u, angle, signs, unit):
    """Within `unit` (r + 1/r) of +- r (cos - sin) and +- r (cos + sin), r^2 = -log u."""
    radius = np.sqrt(-np.log(u))
    exact = radius * (np.cos(angle) - np.sin(angle)), radius * (np.cos(angle) + np.sin(angle))
    for z, size, sign in zip(normals, exact, signs, strict=True):
        z = np.asarray(z, float)
        error = np.abs(z - np.where(sign, -size, size)) / (radius + 1 / np.maximum(radius, 1e-30))
        assert np.isfinite(z).all()
        assert error.max() < unit


def test_float32_normals_are_the_polar_formula():
    first, second = extreme_words(), np.random.default_rng(5).permutation(extreme_words())
    u = ((first >> 1) + 0.5) * 2.0**-31
    angle = second.view(np.int32) * (np.pi / 4 * 2.0**-31)
    normals = normals_from_words(jnp.asarray(first), jnp.asarray(second))
    assert_polar(normals, u, angle, (second & 1, first & 1), 3e-7)
    # The last words of the tail: u = 2^-32.
    corner = normals_from_words(jnp.zeros(1, jnp.uint32), jnp.full(1, 2**31, jnp.uint32))
    assert abs(float(corner[0][0]) - np.sqrt(64 * np.log(2))) < 1e-5


def test_float64_normals_are_the_polar_formula():
    words = [np.random.default_rng(k).permutation(extreme_words()) for k in range(4)]

    def uniform(high, low):
        return ((high >> 6) * 2.0**26 + (low >> 6) + 0.5) * 2.0**-52

    normals = wide_normals_from_words(
        tuple(jnp.asarray(w) for w in words[:2]), tuple(jnp.asarray(w) for w in words[2:])
    )
    angle = (uniform(*words[2:]) - 0.5) * (np.pi / 2)
    assert_polar(normals, uniform(*words[:2]), angle, (words[1] & 1, words[1] & 2), 2e-15)


# Distributions


@DTYPES
def test_normals_have_their_moments_their_law_and_their_tails(dtype):
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
    assert scipy.stats.kstest(x, "norm").pvalue > CHANCE
    for level, side in itertools.product((3.0, 4.0, 5.0), (1, -1)):
        expected = scipy.stats.norm.sf(level) * x.size
        count = int((side * x > level).sum())
        assert scipy.stats.poisson.cdf(count, expected) > CHANCE
        assert scipy.stats.poisson.sf(count - 1, expected) > CHANCE


def test_far_tail():
    """Beyond 4, 4.5 and 5 standard deviations, in 2^25 normals: 2125, 228 and 19 are expected."""

    @jax.jit
    def counts(block):
        x = jnp.abs(jnp.concatenate([s.normal((2**20,)) for s in SOURCE.pair(2 * block)]))
        return jnp.asarray([jnp.sum(x > level) for level in (4.0, 4.5, 5.0)])

    total = sum(np.asarray(counts(jnp.uint32(k))) for k in range(16))
    for count, level in zip(total, (4.0, 4.5, 5.0), strict=True):
        expected = 2 * scipy.stats.norm.sf(level) * 2**25
        assert scipy.stats.poisson.cdf(count, expected) > CHANCE
        assert scipy.stats.poisson.sf(count - 1, expected) > CHANCE


@DTYPES
def test_uniform_is_open_and_uniform(dtype):
    u = np.asarray(SOURCE.at(9).uniform((N,), dtype), float)
    assert u.min() > 0 and u.max() < 1
    assert scipy.stats.kstest(u, "uniform").pvalue > CHANCE


def test_bits_and_bytes_are_balanced():
    words = np.asarray(SOURCE.at(4).bits((N,)))
    for bit in range(32):
        assert z_mean((words >> bit) & 1, 0.5, 0.25) < LIMIT
    for byte in range(4):
        counts = np.bincount((words >> (8 * byte)) & 255, minlength=256)
        assert scipy.stats.chisquare(counts).pvalue > CHANCE


@DTYPES
@pytest.mark.parametrize(
    "kind, moments",
    # E x^4, E x^6 and E x^8: order 2 needs the fourth to be 3.
    [("two-point", (1, 1, 1)), ("three-point", (3, 9, 27)), ("normal", (3, 15, 105))],
)
def test_increments_have_the_moments_of_their_weak_order(kind, moments, dtype):
    fourth, sixth, eighth = moments
    x = np.asarray(SOURCE.at(5).increment((N,), dtype, kind), float)
    slack = 1e-6  # the rounding of sqrt 3 in float32
    for power, mean, variance in ((1, 0, 1), (2, 1, fourth - 1), (3, 0, sixth)):
        assert abs(np.mean(x**power) - mean) <= LIMIT * np.sqrt(variance / N) + slack
    assert abs(np.mean(x**4) - fourth) <= LIMIT * np.sqrt((eighth - fourth**2) / N) + slack
    if kind != "normal":
        assert len(np.unique(x)) == {"two-point": 2, "three-point": 3}[kind]


# Independence


@DTYPES
@pytest.mark.parametrize("kind", KINDS)
def test_independence_across_steps_chains_keys_and_streams(kind, dtype):
    def at(step, stream=0, source=SOURCE):
        return np.asarray(source.at(step).increment((N,), dtype, kind, stream), float)

    base = at(10)
    neighbours = {
        "the other half of the pair": at(11),
        "next pair": at(12),
        "far step": at(10 + 2**20),
        "stream": at(10, stream=1),
        "leaf": at(10, stream=16),
        "neighbouring seed": at(10, source=Randomness.from_key(jax.random.key(4))),
        "fold": at(10, source=SOURCE.fold(1)),
        "fold of a fold": at(10, source=SOURCE.fold(1).fold(1)),
        "next chain": np.roll(base, 1),
        "next group of lanes": np.roll(base, 8),
        "next group of words": np.roll(base, 256),
        "chain at distance 1000": np.roll(base, 1000),
    }
    for name, other in neighbours.items():
        if kind == "normal":
            assert_independent(base, other, name)
        else:
            assert not np.array_equal(base, other), name
            assert z_correlation(base, other) < LIMIT, name


@DTYPES
def test_the_two_steps_of_a_pair_are_jointly_normal(dtype):
    """They share one radius and one angle; 16 x 16 cells of quantiles are equally likely."""
    x, y = (np.asarray(SOURCE.at(k).normal((2 * N,), dtype), float) for k in (30, 31))
    cells = [np.clip((16 * scipy.stats.norm.cdf(z)).astype(int), 0, 15) for z in (x, y)]
    counts = np.bincount(16 * cells[0] + cells[1], minlength=256)
    assert scipy.stats.chisquare(counts).pvalue > CHANCE
    # Normal in the directions between the axes too, where a wrong angle would show.
    for angle in (0.3, np.pi / 4, 2.0):
        turned = np.cos(angle) * x + np.sin(angle) * y
        assert scipy.stats.kstest(turned, "norm").pvalue > CHANCE
        assert z_mean(turned**4, 3, 96) < LIMIT


def test_serial_independence_along_one_chain():
    def body(i, x):
        return x.at[i].set(SOURCE.at(i).normal((8,)))

    path = np.asarray(jax.lax.fori_loop(0, 20_000, body, jnp.zeros((20_000, 8), jnp.float32)))
    for lag in (1, 2, 3, 7, 64):
        assert_independent(path[lag:], path[:-lag], f"lag {lag}")


def test_leaves_of_a_tree_are_independent():
    like = {"a": jnp.zeros(N, jnp.float32), "b": (jnp.zeros(N), jnp.zeros((N // 2, 2)))}
    drawn = SOURCE.at(3).like(like)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), drawn) == jax.tree.map(
        lambda x: (x.shape, x.dtype), like
    )
    leaves = [np.asarray(x, float).reshape(-1) for x in jax.tree.leaves(drawn)]
    for x, y in itertools.combinations(leaves, 2):
        assert_independent(x, y)


# Reproducibility


@DTYPES
@pytest.mark.parametrize("shape", [(), (37, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_its_two_steps_compiled_or_not(kind, shape, dtype):
    @jax.jit
    def pair(step):
        return [s.increment(shape, dtype, kind, stream=2) for s in SOURCE.pair(step)]

    single = lambda step: SOURCE.at(step).increment(shape, dtype, kind, stream=2)  # noqa: E731
    for step, drawn in zip((20, 21), pair(20), strict=True):
        assert drawn.shape == shape and drawn.dtype == dtype
        np.testing.assert_array_equal(drawn, single(step))
        np.testing.assert_array_equal(drawn, jax.jit(single)(step))


def test_a_pair_inside_a_loop_is_the_sequence_of_steps():
    def body(block, total):
        for weight, source in zip(
            (1.0, 2.0), SOURCE.pair(2 * block.astype(jnp.uint32)), strict=True
        ):
            # Two draws and a fold, so that what is shared is kept apart.
            total = total + weight * source.normal((300,), stream=1)
            total = total - weight * source.fold(1).normal((300,), stream=1)
        return total

    looped = jax.jit(lambda: jax.lax.fori_loop(0, 3, body, jnp.zeros(300)))()
    expected = np.zeros(300)
    for step in range(6):
        source = SOURCE.at(step)
        difference = source.normal((300,), stream=1) - source.fold(1).normal((300,), stream=1)
        expected += (1 + step % 2) * np.asarray(difference, float)
    # Nine additions in float32 of numbers below 15.
    np.testing.assert_allclose(looped, expected, atol=9 * 15 * 1.2e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_layout_nor_the_number_of_particles_changes_the_numbers(kind):
    first = SOURCE.at(2).increment((5000, 3), kind=kind, axis=0)
    last = SOURCE.at(2).increment((3, 5000), kind=kind, axis=-1)
    fewer = SOURCE.at(2).increment((3, 77), kind=kind, axis=-1)
    np.testing.assert_array_equal(first, last.T)
    np.testing.assert_array_equal(first[:77], fewer.T)


def test_under_vmap_over_keys_and_over_steps():
    keys = jax.random.split(jax.random.key(1), 3)
    draw = lambda key, step: Randomness.from_key(key).at(step).normal((300,))  # noqa: E731
    steps = jnp.arange(5)
    grid = jax.vmap(lambda key: jax.vmap(lambda step: draw(key, step))(steps))(keys)
    for i, step in itertools.product(range(3), range(5)):
        np.testing.assert_array_equal(grid[i, step], draw(keys[i], step))


def test_bits_with_and_without_compilation():
    plain = SOURCE.at(6).bits((1000,))
    compiled = jax.jit(lambda step: SOURCE.at(step).bits((1000,)))(6)
    np.testing.assert_array_equal(plain, compiled)


def test_the_same_numbers_on_eight_devices():
    code = textwrap.dedent("""
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import NamedSharding, PartitionSpec as P
        from steepest.random import KINDS, Randomness
        assert len(jax.devices()) == 8
        mesh = jax.make_mesh((8,), ("chains",))
        source = Randomness.from_key(jax.random.key(3))
        shape = (800, 3)
        def draw(step):
            return [
                (s.bits(shape), s.uniform(shape), [s.increment(shape, kind=k) for k in KINDS])
                for s in source.pair(step)
            ]
        whole = jax.jit(draw)(8)
        parts = jax.jit(draw, out_shardings=NamedSharding(mesh, P("chains")))(8)
        for a, b in zip(*map(jax.tree.leaves, (whole, parts)), strict=True):
            assert len(b.sharding.device_set) == 8
            np.testing.assert_array_equal(a, b)
    """)
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match="kind"):
        SOURCE.at(0).increment((3,), kind="four-point")
    with pytest.raises(ArgumentError, match="shape"):
        SOURCE.at(0).bits((2**16, 2**16))
    with pytest.raises(ArgumentError, match="key"):
        Randomness.from_key(jax.random.split(jax.random.key(0), 3))
