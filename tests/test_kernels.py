"""Kernels and sums over pairs, against their definitions pair by pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.kernels import AbstractKernel, Displacement, SteinKernel, median_bandwidth, pairs

KERNELS = [
    st.GaussianKernel(0.8),
    st.InverseMultiquadric(0.7),
    st.InverseMultiquadric(1.3, 0.25),
    st.LinearKernel(0.5),
    0.3 * st.GaussianKernel(0.8) + st.LinearKernel(),
    Displacement(lambda z: jnp.cos(z[0]) * jnp.exp(-jnp.sum(z**2))),
]
SINGULAR = [st.EnergyDistance(), st.Logarithmic(), Displacement(lambda z: jnp.sqrt(jnp.sum(z**2)))]


def cloud(n, d, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, d)))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
@pytest.mark.parametrize("d", [2, 5])
def test_closed_forms_are_what_differentiation_gives(kernel, d):
    """rows, sums and stein of each kernel against the base class, which goes pair by pair."""
    x, y, s, t = (cloud(n, d, seed) for seed, n in enumerate((7, 9, 7, 9)))
    weights, values = jnp.asarray(np.random.default_rng(8).uniform(size=9)), cloud(9, 3, 9)

    @jax.jit
    def both(x, y, s, t):
        plain = AbstractKernel.stein(kernel, x, s, y, t)
        ours = kernel.rows(x, y, values, weights), kernel.sums(x, y, weights)
        ours += kernel.potential(x, y, weights), kernel.stein(x, s, y, t)
        theirs = AbstractKernel.rows(kernel, x, y, values, weights)
        theirs = theirs, AbstractKernel.sums(kernel, x, y, weights)
        theirs += AbstractKernel.potential(kernel, x, y, weights), plain
        summed = kernel.stein_potential(x, s, y, t, weights)
        return (*ours, summed), (*theirs, plain @ weights)

    ours, theirs = both(x, y, s, t)
    for one, other, atol in zip(ours, theirs, (1e-12, 1e-12, 1e-12, 1e-11, 1e-11), strict=True):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, atol=atol)


@pytest.mark.parametrize("kernel", KERNELS + SINGULAR, ids=lambda k: k.name)
def test_sums_over_pairs_and_their_derivatives(kernel, monkeypatch):
    """Blocks of 5 rows of 23, so that the last one is padded, against dense sums and autodiff."""
    monkeypatch.setattr(pairs, "ENTRIES", 5 * 23)
    x, y = cloud(23, 2), cloud(23, 2, 1)
    w, v = (jax.nn.softmax(cloud(23, 1, s)[:, 0]) for s in (2, 3))
    c = cloud(23, 1, 4)[:, 0]

    def ours(x, y, v):
        return c @ pairs.potential(kernel, x, y, v)

    def plain(x, y, v):
        return c @ jax.vmap(lambda a: jax.vmap(lambda b: kernel.pair(a, b))(y))(x) @ v

    def agree(fn, other, *at):
        """Values and all derivatives, each by one program."""
        both = [jax.jit(jax.value_and_grad(f, tuple(range(len(at)))))(*at) for f in (fn, other)]
        np.testing.assert_allclose(both[0][0], both[1][0], rtol=1e-12)
        for a, b in zip(both[0][1], both[1][1], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)

    agree(ours, plain, x, y, v)

    def energy(x, w):
        matrix = jax.vmap(lambda a: jax.vmap(lambda b: kernel.pair(a, b))(x))(x)
        return w @ matrix @ w

    agree(lambda x, w: pairs.energy(kernel, x, w), energy, x, w)


@pytest.mark.parametrize("kernel", SINGULAR, ids=lambda k: k.name)
def test_coinciding_points_exert_no_force(kernel):
    x = jnp.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.5]])
    value, slope = pairs.sums(kernel, x, x, jnp.full(3, 1 / 3))
    assert bool(jnp.all(jnp.isfinite(value)) & jnp.all(jnp.isfinite(slope)))
    np.testing.assert_allclose(slope[0], slope[1])
    np.testing.assert_allclose(jnp.sum(slope, 0), 0.0, atol=1e-15)


def test_a_cloud_far_from_the_origin_keeps_its_digits():
    """In float32, 10^3 away: distances about the mean lose nothing; |x|^2 - 2 x.y would."""
    near = np.asarray(cloud(200, 8), np.float32)
    far = near + np.float32(1024.0)
    kernel = st.GaussianKernel(1.0)
    exact = kernel.block(jnp.asarray(far - np.float32(1024.0)), jnp.asarray(far - 1024.0))
    np.testing.assert_allclose(kernel.block(jnp.asarray(far), jnp.asarray(far)), exact, atol=2e-5)


@pytest.mark.parametrize("kernel", [st.GaussianKernel(2.0), st.InverseMultiquadric()])
def test_memory_is_linear_in_the_number_of_particles(kernel):
    """What the compiler sets aside for the force on n points and for their Stein sums.

    A matrix of all pairs would take 4 n^2 bytes, 1.6 GB at 20,000: eight blocks of 2^20 entries
    are allowed, and a megabyte for vectors.
    """
    d = 4
    for n in (10_000, 20_000):
        x, w = jnp.zeros((n, d), jnp.float32), jnp.full(n, 1 / n, jnp.float32)
        stein = lambda x, w: pairs.potential(SteinKernel(kernel), x, x, w)  # noqa: E731
        force = jax.grad(lambda x, w: pairs.energy(kernel, x, w))
        for fn, points in ((force, x), (stein, SteinKernel.lift(x, -x))):
            analysis = jax.jit(fn).lower(points, w).compile().memory_analysis()
            allowed = 8 * 4 * pairs.ENTRIES + 2**20
            assert analysis.temp_size_in_bytes < allowed < 4 * n**2


def test_the_median_heuristic():
    x = cloud(200, 3)
    square = np.asarray(jnp.sum((x[:, None] - x[None]) ** 2, -1))[np.triu_indices(200, 1)]
    expected = np.sqrt(np.median(square) / (2 * np.log(201)))
    np.testing.assert_allclose(median_bandwidth(x), expected, rtol=1e-3)
    assert float(median_bandwidth(jnp.zeros((5, 2)))) == 1.0  # all points coincide


def test_the_stein_kernel_has_mean_zero_under_its_target():
    """E u(x, .) = 0 for every x, by Gauss-Hermite quadrature of the standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    y, w = jnp.asarray(nodes)[:, None], jnp.asarray(weights / weights.sum())
    x = jnp.linspace(-2, 2, 5)[:, None]
    for kernel in (st.InverseMultiquadric(3.0), st.LinearKernel(), st.GaussianKernel(2.0)):
        stein = SteinKernel(kernel)
        block = stein.block(SteinKernel.lift(x, -x), SteinKernel.lift(y, -y))
        np.testing.assert_allclose(np.asarray(block) @ w, 0.0, atol=1e-8)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bandwidth_is_a_positive_number(bad):
    with pytest.raises(st.ArgumentError, match="bandwidth"):
        st.GaussianKernel(bad)
    with pytest.raises(st.ArgumentError, match="bandwidth"):
        st.InverseMultiquadric(bad)
    with pytest.raises(st.ArgumentError, match="exponent"):
        st.InverseMultiquadric(1.0, 1.5)
