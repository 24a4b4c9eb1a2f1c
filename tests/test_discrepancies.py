"""Discrepancies to data: values against definitions, flows that reach the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

import steepest as st


def cloud(n, d=2, seed=0, shift=0.0):
    return shift + jax.random.normal(jax.random.key(seed), (n, d))


def test_mmd_is_the_double_sum():
    x, y = cloud(40), cloud(30, seed=1, shift=0.5)
    for kernel in (st.GaussianKernel(0.8), st.InverseMultiquadric(1.0), st.EnergyDistance()):
        k = lambda a, b: jnp.mean(jax.vmap(lambda p: jax.vmap(lambda q: kernel.pair(p, q))(b))(a))  # noqa: B023, E731
        expected = 0.5 * (k(x, x) - 2 * k(x, y) + k(y, y))
        functional = st.MMD(y, kernel)
        np.testing.assert_allclose(functional(st.Particles(x)), expected, rtol=1e-10)
        np.testing.assert_allclose(functional(st.Particles(y)), 0.0, atol=1e-14)
    # The energy distance on a line is the squared Cramer distance, by an independent route.
    a, b = np.asarray(x)[:, :1], np.asarray(y)[:, :1]
    grid = np.sort(np.concatenate([a[:, 0], b[:, 0]]))
    gap = np.searchsorted(np.sort(a[:, 0]), grid[:-1], "right") / len(a)
    gap = gap - np.searchsorted(np.sort(b[:, 0]), grid[:-1], "right") / len(b)
    expected = np.sum(gap**2 * np.diff(grid))
    value = st.MMD(jnp.asarray(b), st.EnergyDistance())(st.Particles(jnp.asarray(a)))
    np.testing.assert_allclose(value, expected, rtol=1e-10)


def test_sliced_wasserstein_on_a_line_is_wasserstein():
    """In one dimension every slice is the line; equal counts by sorting, others by quantiles."""
    x, y = cloud(50, 1), cloud(50, 1, 1, 0.7)
    expected = 0.5 * jnp.mean((jnp.sort(x[:, 0]) - jnp.sort(y[:, 0])) ** 2)
    np.testing.assert_allclose(st.SlicedWasserstein(y, 3)(st.Particles(x)), expected, rtol=1e-12)
    # Unequal counts: 50 points against each of 25 twice.
    twice = jnp.repeat(y[:25], 2, axis=0)
    a = st.SlicedWasserstein(y[:25], 3)(st.Particles(x))
    b = st.SlicedWasserstein(twice, 3)(st.Particles(x))
    np.testing.assert_allclose(a, b, rtol=1e-10)
    # A point mass: W2 and W1 from it are moments.
    one = st.SlicedWasserstein(jnp.zeros((1, 1)), 1)(st.Particles(x))
    np.testing.assert_allclose(one, 0.5 * jnp.mean(x**2), rtol=1e-12)
    assert wasserstein_distance(np.asarray(x)[:, 0], np.asarray(y)[:, 0]) ** 2 <= 2 * expected


@pytest.mark.parametrize(
    ("make", "step", "steps"),
    [
        (lambda y: st.SlicedWasserstein(y, 32), 0.5, 60),
        (lambda y: st.SinkhornDivergence(y, 0.5), 0.5, 60),
        (lambda y: st.MMD(y, st.EnergyDistance()), 0.4, 120),
    ],
    ids=["sliced", "sinkhorn", "energy distance"],
)
def test_a_flow_reaches_the_data(make, step, steps):
    """Descent, balance, and the mean and covariance of the data at the end, to a few percent."""
    if "sinkhorn" in str(make.__code__.co_names).lower():
        pytest.importorskip("ott")
    data = cloud(80, seed=3) @ jnp.array([[1.0, 0.4], [0.0, 0.6]]) + jnp.array([2.0, -1.0])
    flow = st.Flow(make(data), st.Wasserstein())
    run = st.solve(flow, st.Particles(cloud(80)), scheme=st.Euler(step), steps=steps, save_every=10)
    audit = run.audit()
    assert audit.passed, str(audit)
    np.testing.assert_allclose(run.final.mean(), data.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(run.final.covariance(), jnp.cov(data.T), atol=0.25)


def test_sinkhorn_approaches_the_transport_cost():
    """Two clouds that differ by a shift s: the divergence is |s|^2/2 for every epsilon."""
    pytest.importorskip("ott")
    x = cloud(60)
    shift = jnp.array([1.0, 0.5])
    value = st.SinkhornDivergence(x + shift, 0.3)(st.Particles(x))
    np.testing.assert_allclose(value, 0.5 * jnp.sum(shift**2), rtol=2e-3)


def test_bad_input():
    x = st.Particles(cloud(10))
    with pytest.raises(st.ArgumentError, match="data"):
        st.MMD(jnp.full((4, 2), jnp.nan))
    with pytest.raises(st.ArgumentError, match="data"):
        st.Flow(st.MMD(cloud(10, 3)), st.Wasserstein()).bind(x)
    with pytest.raises(st.ArgumentError, match="kernel"):
        st.MMD(cloud(4), "gaussian")
    with pytest.raises(st.ArgumentError, match="projections"):
        st.SlicedWasserstein(cloud(4), 0)
    with pytest.raises(st.ArgumentError, match="state"):
        grid = st.Grid(-1.0, 1.0, 8)
        st.Flow(st.MMD(cloud(4, 1)), st.Wasserstein()).bind(st.Density.uniform(grid))
