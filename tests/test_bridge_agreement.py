"""The solvers of bridges against each other in a plane, and the limits of low temperature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats

import steepest as st
from steepest.bridges import (
    SchrodingerBridge,
    brownian,
    ledger,
    ornstein_uhlenbeck,
    tabled_pair,
    unexplained,
)


def test_cold_gaussian_bridge_is_the_optimal_map():
    """The mean end is A^{-1/2}(A^{1/2} B A^{1/2})^{1/2}A^{-1/2} x, but for O(temperature)."""
    A = np.asarray([[1.0, 0.3], [0.3, 0.6]])
    B = np.asarray([[0.5, -0.2], [-0.2, 1.4]])
    source = st.Gaussian.from_moments(jnp.zeros(2), jnp.asarray(A))
    target = st.Gaussian.from_moments(jnp.ones(2), jnp.asarray(B))
    root = np.real(scipy.linalg.sqrtm(A))
    back = np.linalg.inv(root)
    M = back @ np.real(scipy.linalg.sqrtm(root @ B @ root)) @ back
    x = jnp.asarray([[1.0, 2.0], [-0.5, 0.3]])
    gaps = []
    for temperature in (1e-3, 1e-5):
        bridge = SchrodingerBridge(brownian(temperature), source, target).solve()
        gaps.append(np.abs(bridge.expected_end(x) - (1.0 + x @ M)).max())
    assert gaps[0] < 1e-2
    assert gaps[0] / gaps[1] == pytest.approx(100.0, rel=0.05)


def test_cold_mixture_is_the_quantile_map_on_a_line():
    """One conditional deviation sqrt(2 T f') = 0.1 about the map, away from its jump at 0."""
    two = st.GaussianMixture(jnp.zeros(2), jnp.asarray([[-2.0], [2.0]]), jnp.full((2, 1), 0.5))
    source = st.Gaussian(jnp.zeros(1), jnp.ones(1))
    problem = SchrodingerBridge(brownian(0.01), source, two)
    bridge = problem.solve("mixture", jax.random.key(0), components=8, steps=600, batch=256)
    x = np.concatenate([-np.linspace(0.4, 1.8, 8), np.linspace(0.4, 1.8, 8)])
    share = scipy.stats.norm.cdf(x)
    cdf = lambda y: 0.5 * sum(scipy.stats.norm.cdf(y, m, 0.5) for m in (-2.0, 2.0))  # noqa: E731
    want = [scipy.optimize.brentq(lambda y, s=s: cdf(y) - s, -9.0, 9.0) for s in share]
    found = bridge.expected_end(jnp.asarray(x)[:, None])[:, 0]
    assert np.abs(found - np.asarray(want)).mean() < 0.1
    # Warm, the ends forget their starts: the mean end is the target's, 0.
    warm = SchrodingerBridge(brownian(300.0), source, two)
    bridge = warm.solve("mixture", jax.random.key(0), components=8, steps=600, batch=256)
    assert np.abs(bridge.expected_end(jnp.asarray(x)[:, None])).max() < 0.2


def test_grid_mixture_sinkhorn_and_networks_agree_in_a_plane():
    """Half-way: moments within sampling of 1000 points, drifts within the same share of theirs.

    Cells of h = 0.375 add h^2/12 = 0.012 to a variance; five standard errors of a mean are 0.16 of
    a deviation, of a variance 0.22 of it.
    """
    grid = st.Grid((-4.5, -4.5), (4.5, 4.5), (24, 24))

    def bumps(x):
        gaps = [jnp.sum((x - jnp.asarray(c)) ** 2) for c in ([1.5, 1.5], [1.5, -1.5], [-1.5, 0.0])]
        return jax.nn.logsumexp(-0.5 * jnp.stack(gaps) / 0.4**2)

    source = st.Density.from_log(grid, lambda x: -0.5 * jnp.sum((x + 0.3) ** 2) / 0.6**2)
    problem = SchrodingerBridge(brownian(0.5), source, st.Density.from_log(grid, bumps))
    exact = problem.solve()
    assert exact.method == "grid"
    middle = exact.marginal(0.5)
    mean, spread = np.asarray(middle.mean()), np.asarray(middle.covariance())
    sd = np.sqrt(np.diag(spread))
    x = middle.sample(jax.random.key(5), 200)
    want = exact.drift(x, 0.5)
    scale = float(jnp.sqrt(jnp.mean(jnp.sum(want**2, 1))))
    for method, options in (
        ("mixture", dict(components=8, steps=600, batch=256)),
        ("sinkhorn", dict(n=1000)),
        ("network", dict(width=32, rounds=2, steps=300, mixture=dict(components=8, steps=200))),
    ):
        bridge = problem.solve(method, jax.random.key(1), **options)
        cloud = np.asarray(bridge.marginal(0.5, jax.random.key(2), 1000).positions)
        assert np.all(np.abs(cloud.mean(0) - mean) < 0.16 * sd), method
        gap = np.abs(np.cov(cloud.T) - spread)
        assert np.all(gap < 0.012 + 0.22 * np.outer(sd, sd)), method
        gap = jnp.sqrt(jnp.mean(jnp.sum((bridge.drift(x, 0.5) - want) ** 2, 1)))
        assert float(gap) < 0.16 * scale, method


def test_grid_and_sinkhorn_on_the_image_of_a_potential_that_no_mixture_has():
    """A ring by quadrature: the grid solver has its drift, Sinkhorn's plan the same mean ends.

    Cells of h = 0.25 and sqrt(2 T) = 1: terms of order h^2 = 0.06 of the slopes in between.
    """
    grid = st.Grid((-4.0, -4.0), (4.0, 4.0), (32, 32))
    potential = lambda y: -4.0 * (jnp.linalg.norm(y) - 2.0) ** 2  # noqa: E731
    pair = tabled_pair(potential, 0.5, grid)
    x = pair.source.sample(jax.random.key(0), 2000)
    y = pair.bridge.sample(x, jax.random.key(1))
    assert abs(float(jnp.linalg.norm(y, axis=1).mean()) - 2.0) < 0.1
    want, spread = pair.bridge.conditional_moments(x[:200])
    ends = pair.bridge.sample(jnp.broadcast_to(x[0], (4000, 2)), jax.random.key(2))
    error = 5 * jnp.sqrt(jnp.diag(spread[0]) / 4000)
    assert jnp.all(jnp.abs(ends.mean(0) - want[0]) < error)
    variance = jnp.sum(jnp.var(y, axis=0))
    cloud = SchrodingerBridge(brownian(0.5), x, y).solve("sinkhorn", tolerance=1e-3)
    # 2000 points tell a mean end to 1/sqrt(2000) deviations times sqrt(exp(I)), I = 1.4 nats here.
    assert float(unexplained(cloud, pair.bridge, x[:200], variance).value) < 2.0
    # E[Y | x] = x + 2 T grad log phi_0(x): of the grid, from its drift; source and target on cells.
    logits = jax.vmap(pair.bridge._logits)(grid.points().reshape(-1, 2))
    start = st.Density.from_log(grid, lambda x: -0.5 * jnp.sum(x**2))
    plan = start.values.reshape(-1, 1) * jax.nn.softmax(logits, axis=1)
    end = st.Density.normalised(grid, plan.sum(0).reshape(grid.shape))
    exact = SchrodingerBridge(brownian(0.5), start, end).solve()
    inner = x[:200][jnp.max(jnp.abs(x[:200]), axis=1) < 2.0]
    gap = inner + exact.drift(inner, 0.0) - pair.bridge.conditional_moments(inner)[0]
    assert float(jnp.sqrt(jnp.mean(jnp.sum(gap**2, 1)) / variance)) < 0.0625


def test_the_ledger_conserves_its_energy_and_adds_up_to_the_divergence():
    """E|v|^2/2 - E|w|^2/2 is one number; the action is the divergence of the two ends' laws.

    KL(P | P_0) = E KL(N(A x + c, S) | N(x, 2 T)) from the coupling alone; 16 Gauss nodes. As T -> 0
    what moves is half the squared Wasserstein distance (Benamou and Brenier), to O(T^2).
    """
    A, B = np.asarray([[1.0, 0.3], [0.3, 0.6]]), np.asarray([[0.5, -0.2], [-0.2, 1.4]])
    source = st.Gaussian.from_moments(jnp.zeros(2), jnp.asarray(A))
    target = st.Gaussian.from_moments(jnp.ones(2), jnp.asarray(B))
    T = 0.4
    bridge = SchrodingerBridge(brownian(T), source, target).solve()
    books = ledger(bridge)
    np.testing.assert_allclose(books.conserved, books.conserved[0], rtol=1e-12)
    _, joint = (np.asarray(part) for part in bridge.coupling())
    gain = joint[2:, :2] @ np.linalg.inv(A)
    S = (B - gain @ joint[:2, 2:]) / (2 * T)
    moved = np.trace((gain - np.eye(2)) @ A @ (gain - np.eye(2)).T) + 2.0  # the means: (1, 1)
    want = 0.5 * (np.trace(S) - 2 - np.linalg.slogdet(S)[1] + moved / (2 * T))
    gap = float(source.entropy() - target.entropy())
    assert float(books.action) + 0.5 * gap == pytest.approx(want, rel=1e-6)
    half = 0.5 * float(source.wasserstein_distance(target)) ** 2
    cold = ledger(SchrodingerBridge(brownian(1e-4), source, target).solve())
    assert float(cold.transport) == pytest.approx(half, rel=1e-6)
    turned = ledger(SchrodingerBridge(ornstein_uhlenbeck(T, 0.7, 0.3), source, target).solve())
    np.testing.assert_allclose(turned.conserved, turned.conserved[0], rtol=1e-12)


def test_the_ledger_on_a_grid_and_its_relative_entropy():
    """In a double well: one energy to the h^2 of central differences, and d/dt KL = E<v, w>/T."""
    grid = st.Grid(-2.0, 2.0, 80)
    flow = st.Flow(lambda x: jnp.sum((x**2 - 1) ** 2), st.Euclidean(), st.Thermal(0.5))
    ends = [
        st.Density.from_log(grid, lambda x, c=c: -2.0 * jnp.sum((x**2 - 1) ** 2) - (x[0] - c) ** 2)
        for c in (-0.7, 0.9)
    ]
    bridge = SchrodingerBridge(flow, *ends).solve()
    books = ledger(bridge)
    size = float(jnp.max(books.kinetic + books.osmotic))
    assert float(jnp.ptp(books.conserved)) < 0.02 * size  # (h/spread)^2 = (0.05/0.35)^2
    laws = [bridge.marginal(time) for time in (0.0, 1.0)]
    m = bridge.gibbs / jnp.sum(bridge.gibbs * grid.cell_volume)
    kl = [float(jnp.sum(law.values * jnp.log(law.values / m)) * grid.cell_volume) for law in laws]
    _, shares = np.polynomial.legendre.leggauss(16)
    assert float(0.5 * shares @ books.growth) == pytest.approx(kl[1] - kl[0], abs=0.02 * size / 0.5)


def test_one_more_iteration_narrows_the_gap_that_a_finite_time_leaves():
    """A diffusion model of finite time is half a bridge: KL(p_T | prior) is left at its end.

    Refitting the forward process to what the model makes is the next iteration, whose Gaussians are
    conditioned here in turn; cells of h = 0.0625 add h^2/12 to variances, 3e-4 of each.
    """
    kl = lambda mean, variance: 0.5 * (mean**2 + variance - 1.0 - np.log(variance))  # noqa: E731
    process, m, s = st.diffusion.VariancePreserving(end=0.4), 0.8, 0.7
    a = float(process.alpha(jnp.asarray(process.end)))
    grid = st.Grid(-5.0, 5.0, 160)
    law = lambda mean, sd: st.Density.from_log(  # noqa: E731
        grid, lambda x: -0.5 * jnp.sum((x - mean) ** 2) / sd**2
    )
    prior = law(0.0, 1.0)
    problem = SchrodingerBridge(ornstein_uhlenbeck(1.0, 1.0), law(m, s), prior, -np.log(a))
    first, second = (problem.solve("grid", most=most).halves for most in (1, 2))
    ends = [prior.values / first.g, prior.values * first.g / second.g]
    found = [float(jnp.sum(end * jnp.log(end / prior.values)) * grid.cell_volume) for end in ends]
    # The end of the reference, then start given end of the reference with the prior as end.
    variance = a**2 * s**2 + 1.0 - a**2
    slope = a * s**2 / variance
    spread = s**2 - a * s**2 * slope + slope**2
    gain = slope / spread  # of the end on the start of that half
    want = [kl(a * m, variance)]
    want.append(kl(gain * slope * a * m, 1.0 - gain * slope + gain**2 * s**2))
    np.testing.assert_allclose(found, want, rtol=5e-3)
    assert want[1] < 0.2 * want[0]
    whole = problem.solve("grid")
    assert float(whole.halves.error) < 1e-8
