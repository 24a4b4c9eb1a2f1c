"""Reweighting and resampling of particles, and scores without noise (eq. 62, section 6.8)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.schemes.birth_death import resampled

MODES, SHARES = jnp.array([-2.0, 2.0]), jnp.array([0.3, 0.7])


def energy(x):
    return -jax.nn.logsumexp(-0.5 * ((x[0] - MODES) / 0.5) ** 2, b=SHARES)


def test_masses_of_two_modes():
    """From one mode, in time 12: birth and death finds 0.3 : 0.7, Langevin alone stays there.

    The barrier is 8 T, so Kramers' time is far longer. Tolerance: four binomial errors at the
    effective size, plus the bias of the kernel density (a law smoothed by h = 0.2 of 0.5 loses
    about h^2/2 = 2 % in log density, the same in both modes) and of the step, 0.05 in all.
    """
    n = 1000
    state = st.Particles(2.0 + 0.5 * jax.random.normal(jax.random.key(0), (n, 1))).weighted()
    # A few scouts in the other mode: reaction moves mass, it makes no new places.
    state = st.Particles(state.positions.at[:20].add(-4.0), state.log_weights)
    scheme, key = st.Euler(0.05), jax.random.key(1)
    left = lambda s: float(s.expect(lambda x: (x[0] < 0).astype(x.dtype)))  # noqa: E731
    alone = st.solve(
        st.Flow(st.FreeEnergy(energy, 1.0), st.Wasserstein()),
        state,
        scheme=scheme,
        time=12.0,
        save_every=240,
        key=key,
    )
    assert left(alone.final) < 0.1
    flow = st.Flow(st.FreeEnergy(energy, 1.0), st.Wasserstein() + st.FisherRao())
    both = st.Composition(scheme, st.BirthDeath(0.05))
    run = st.solve(flow, state, scheme=both, time=12.0, save_every=24, key=key)
    size = float(run.final.effective_size)
    assert size >= 0.4 * n
    assert abs(left(run.final) - 0.3) < 4 * (0.21 / size) ** 0.5 + 0.05
    audit = run.audit()
    assert audit.passed, str(audit)


def test_resampling_is_unbiased_and_keeps_counts():
    """Every particle is kept floor or ceil of n w times; the mean count over places is n w."""
    logs = jax.random.normal(jax.random.key(0), (50,)) * 2
    state = st.Particles(jnp.arange(50.0)[:, None], logs)
    places = (jnp.arange(2000) + 0.5) / 2000
    picked = jax.vmap(lambda u: resampled(state, u).positions[:, 0])(places)
    counts = jax.vmap(lambda row: jnp.bincount(row.astype(int), length=50))(picked)
    expected = 50 * np.asarray(state.weights)
    assert bool(jnp.all(counts >= jnp.floor(expected - 1e-9)))
    assert bool(jnp.all(counts <= jnp.ceil(expected + 1e-9)))
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=2e-3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_weights_never_underflow(dtype):
    """A particle 10^4 up the energy keeps a finite log-weight, and one that all others lost to."""
    x = jnp.concatenate([jnp.zeros((9, 1), dtype), jnp.full((1, 1), 100.0, dtype)])
    flow = st.Flow(st.ExpectedEnergy(lambda x: jnp.sum(x**2)), st.FisherRao())
    run = st.solve(
        flow, st.Particles(x).weighted(), scheme=st.BirthDeath(1.0, threshold=0.0), steps=50
    )
    assert bool(jnp.all(jnp.isfinite(run.final.log_weights)))
    assert float(run.final.weights[-1]) < 1e-10
    np.testing.assert_allclose(float(run.final.weights[0]), 1 / 9, rtol=1e-6)
    np.testing.assert_allclose(run.ledger.conserved["mass"][1:], 1.0, rtol=1e-5)


def test_reweighting_is_exponentiated_gradient():
    """Without entropy w_t ~ exp(-t E), whatever the steps."""
    x = jax.random.normal(jax.random.key(0), (30, 1))
    flow = st.Flow(st.ExpectedEnergy(lambda x: jnp.sum(x**2)), st.FisherRao())
    run = st.solve(
        flow, st.Particles(x).weighted(), scheme=st.BirthDeath(0.1, threshold=0.0), steps=20
    )
    expected = jax.nn.log_softmax(-2.0 * jnp.sum(x**2, axis=1))
    np.testing.assert_allclose(jax.nn.log_softmax(run.final.log_weights), expected, atol=1e-12)
    assert run.audit().passed, str(run.audit())


def test_bad_input():
    x = st.Particles(jnp.zeros((4, 1)))
    with pytest.raises(st.ArgumentError, match="weighted"):
        st.Flow(st.ExpectedEnergy(energy), st.FisherRao()).bind(x)
    with pytest.raises(st.ArgumentError, match="threshold"):
        st.BirthDeath(0.1, threshold=2.0)
    for logs in ([-jnp.inf] * 4, [0.0, 0.0, -jnp.inf, 0.0], [0.0, jnp.nan, 0.0, 0.0]):
        lost = st.Particles(jnp.zeros((4, 1)), jnp.array(logs))
        flow = st.Flow(st.ExpectedEnergy(energy), st.FisherRao())
        with pytest.raises(st.ArgumentError, match=r"log_weights .* of 4"):
            st.solve(flow, lost, scheme=st.BirthDeath(0.1), steps=1)
    with pytest.raises(st.ArgumentError, match="state"):
        grid = st.Grid(-1.0, 1.0, 8)
        flow = st.Flow(st.ExpectedEnergy(energy), st.FisherRao())
        st.solve(flow, st.Density.uniform(grid), scheme=st.BirthDeath(0.1), steps=1)


# --- scores ----------------------------------------------------------------------------------


def quantile_cloud(n, deviation):
    from scipy.stats import norm

    return jnp.asarray(deviation * norm.ppf((np.arange(n) + 0.5) / n))[:, None]


def slope_of(score, x):
    x, score = np.asarray(x)[:, 0], np.asarray(score)[:, 0]
    return float(x @ score / (x @ x))


def test_the_bias_of_each_score_on_a_gaussian():
    """The score of N(0, s^2) is -x/s^2; the regression slope of each estimate on x, s = 1.5.

    Kernel density at bandwidth h: the differential of <log k * rho>, known in closed form for a
    Gaussian, is integrated here by quadrature of its two terms; agreement to the quantile cloud's
    own 1/n. Then what each estimate loses of the slope, against what its docstring states.
    """
    s, h, n = 1.5, 0.5, 2000
    x = quantile_cloud(n, s)
    state = st.Particles(x)
    y = np.linspace(-9, 9, 4001)
    width = y[1] - y[0]
    rho = np.exp(-0.5 * y**2 / s**2) / (s * np.sqrt(2 * np.pi))
    wide = np.exp(-0.5 * y**2 / (s**2 + h**2)) / np.sqrt(2 * np.pi * (s**2 + h**2))
    points = np.asarray(x)[::100, 0]
    gap = points[:, None] - y[None, :]
    kernel = np.exp(-0.5 * gap**2 / h**2) / (h * np.sqrt(2 * np.pi))
    expected = -points / (s**2 + h**2) + ((-gap / h**2 * kernel) * (rho / wide)).sum(1) * width
    found = st.KernelDensity(h).score(state)
    np.testing.assert_allclose(found[::100, 0][2:-2], expected[2:-2], atol=0.02)
    few = st.Particles(quantile_cloud(300, s))

    def share(estimator):
        """What the estimate loses of the slope."""
        return 1 + s**2 * slope_of(estimator.score(few), few.positions)

    # Of order h^4: (h/s)^4 = 0.012 at h = 0.5, and four times as much at h = 0.71.
    first, second = share(st.KernelDensity(0.5)), share(st.KernelDensity(0.5 * 2**0.5))
    assert 0.3 < first / (h / s) ** 4 < 1.0 and 3.0 < second / first < 5.0
    # A bandwidth in proportion to s: the energy of a cloud scaled by c is less by log c, so the
    # slope is -1/(mean of x^2), whatever the cloud.
    moving = 1 - s**2 / jnp.mean(few.positions**2)
    np.testing.assert_allclose(share(st.KernelDensity()), moving, atol=1e-12)
    # A ridge pulls towards zero, in proportion while it is small.
    losses = [share(st.SteinRidge(ridge, iterations=300)) for ridge in (1e-4, 1e-3, 1e-2)]
    assert 0 < losses[0] < 0.003 and losses[1] < 0.03 and losses[2] < 0.15
    assert losses[0] < losses[1] < losses[2]
    assert abs(share(st.ScoreNetwork())) < 0.1


def test_the_covector_of_a_moving_bandwidth_is_the_differential_of_its_energy():
    """Against central differences of <log k * rho>, in positions and in log-weights.

    Their error is 1e-8 of third derivatives (about 10) and of rounding, 1e-16 / 1e-4.
    """
    keys = jax.random.split(jax.random.key(0), 4)
    x, logs = jax.random.normal(keys[0], (30, 2)), 0.3 * jax.random.normal(keys[1], (30,))
    along, tilt = jax.random.normal(keys[2], (30, 2)), jax.random.normal(keys[3], (30,))
    density, small = st.KernelDensity(), 1e-4

    @jax.jit
    def energy(t):
        state = st.Particles(x + t * along, logs + t * tilt)
        return state.average(density.log_density(state))

    state = st.Particles(x, logs)
    covector = density.covector(state)
    found = jnp.vdot(covector.positions, along) + jnp.vdot(covector.log_weights, tilt)
    np.testing.assert_allclose(found, (energy(small) - energy(-small)) / (2 * small), atol=1e-6)
    score = density.score(state)
    np.testing.assert_allclose(state.weights[:, None] * score, covector.positions, atol=1e-12)


def test_the_ridge_is_the_regression_it_says():
    """-(K + n ridge)^-1 sum_j d_j k, solved whole by numpy."""
    x = np.asarray(jax.random.normal(jax.random.key(0), (40, 2)))
    gap = x[:, None] - x[None]
    kernel = (1 + (gap**2).sum(-1) / 1.3**2) ** -0.5
    slopes = (kernel**3)[..., None] * gap / 1.3**2
    expected = -np.linalg.solve(kernel + 40 * 1e-2 * np.eye(40), slopes.sum(1))
    found = st.SteinRidge(1e-2, 1.3, iterations=200).score(st.Particles(jnp.asarray(x)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_kernel_density_flow_dissipates_its_own_free_energy():
    """It is the exact gradient of <E> + T <log k * rho>: the balance closes, F falls."""
    functional = st.FreeEnergy(lambda x: 0.5 * jnp.sum(x**2), 1.0, st.KernelDensity(0.4))
    state = st.Particles(quantile_cloud(200, 1.0))
    run = st.solve(
        st.Flow(functional, st.Wasserstein()),
        state,
        scheme=st.Euler(0.02),
        steps=800,
        save_every=80,
    )
    audit = run.audit()
    assert audit.passed, str(audit)
    # The best Gaussian's variance, 1 - h^4 + ...; 200 points and their law, which is no Gaussian,
    # differ from it by a fifth of that.
    stated = 0.5 * (1 + (1 + 4 * 0.4**2) ** 0.5) - 0.4**2
    np.testing.assert_allclose(float(jnp.var(run.final.positions)), stated, atol=0.2 * 0.4**4)


def test_an_estimator_without_potential_is_not_judged_by_the_balance():
    functional = st.FreeEnergy(lambda x: 0.5 * jnp.sum(x**2), 1.0, st.SteinRidge())
    state = st.Particles(2.0 * jax.random.normal(jax.random.key(0), (100, 1)))
    run = st.solve(
        st.Flow(functional, st.Wasserstein()), state, scheme=st.Euler(0.05), steps=60, save_every=10
    )
    verdicts = {check.name: check.passed for check in run.audit().checks}
    assert verdicts["balance"] is None
    assert abs(float(run.final.covariance()[0, 0]) - 1.0) < 0.25


def test_duplicated_particles_keep_finite_scores():
    state = st.Particles(jnp.zeros((6, 2)))
    for estimator in (st.KernelDensity(), st.SteinRidge()):
        assert bool(jnp.all(jnp.isfinite(estimator.score(state))))
    with pytest.raises(st.ArgumentError, match="bandwidth"):
        st.KernelDensity("wide")
    with pytest.raises(st.ArgumentError, match="ridge"):
        st.SteinRidge(ridge=0.0)
