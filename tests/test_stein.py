"""SVGD as a flow: its dissipation, its fixed points, and its discrepancy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st

COVARIANCE = jnp.array([[1.5, 0.6], [0.6, 0.8]])
PRECISION = jnp.linalg.inv(COVARIANCE)
MEAN = jnp.array([0.5, -1.0])


def energy(x):
    return 0.5 * (x - MEAN) @ PRECISION @ (x - MEAN)


def cloud(n=60, d=2, seed=0):
    return st.Particles(jax.random.normal(jax.random.key(seed), (n, d)))


@pytest.mark.parametrize("temperature", [1.0, 0.4])
@pytest.mark.parametrize(
    "geometry",
    [
        st.Stein(),
        st.Stein(st.InverseMultiquadric(0.9), None),
        st.Stein(st.InverseMultiquadric() + st.LinearKernel(), 0.7, COVARIANCE),
    ],
    ids=lambda g: g.name,
)
def test_dissipation_is_the_squared_stein_discrepancy(geometry, temperature):
    """<dF, K dF> = T^2 KSD^2 (eq. 40), the discrepancy taken pair by pair in whitened space."""
    state = cloud()
    flow = st.Flow(st.FreeEnergy(energy, temperature), geometry)
    x = state.positions
    factor = jnp.linalg.cholesky(COVARIANCE) if geometry.factor_of is not None else jnp.eye(2)
    white = jnp.linalg.solve(factor, x.T).T
    score = -jax.vmap(jax.grad(energy))(x) @ factor / temperature
    kernel = geometry.on(white)

    def u(a, s, b, t):
        left, right = jax.grad(kernel.pair, (0, 1))(a, b)
        mixed = jnp.trace(jax.jacfwd(jax.grad(kernel.pair, 0), 1)(a, b))
        return kernel.pair(a, b) * (s @ t) + s @ right + t @ left + mixed

    matrix = jax.vmap(lambda a, s: jax.vmap(lambda b, t: u(a, s, b, t))(white, score))(white, score)
    expected = temperature**2 * jnp.mean(matrix)
    np.testing.assert_allclose(flow.dissipation_rate(state), expected, rtol=1e-8)


def test_with_a_linear_kernel_kl_falls_at_exactly_that_rate():
    """Velocities are affine, so KL(N(mean, cov of the particles) || target) is F along the flow.

    A Runge-Kutta run at 1e-10; dKL/dt by central differences of the saves, error h^2/6 KL''' about
    1e-6, against -KSD^2 of the particles.
    """
    flow = st.Flow(st.FreeEnergy(energy, 1.0), st.Stein(st.LinearKernel(), None))
    scheme = st.RungeKutta(rtol=1e-10, atol=1e-12)
    run = st.solve(flow, cloud(), scheme=scheme, time=0.2, steps=200)

    def kl(i):
        x = np.asarray(run.at(i).positions)
        mean, cov = x.mean(0), np.cov(x.T, bias=True)
        gap = mean - np.asarray(MEAN)
        trace = np.trace(np.asarray(PRECISION) @ cov) + gap @ np.asarray(PRECISION) @ gap
        return 0.5 * (trace - 2 - np.linalg.slogdet(cov @ np.asarray(PRECISION))[1])

    for i in (20, 100, 180):
        slope = (kl(i + 1) - kl(i - 1)) / 2e-3
        np.testing.assert_allclose(-slope, run.ledger.dissipation_rate[i], rtol=2e-5)


def test_fixed_points():
    """With the linear kernel the stationary mean and covariance (by 1/n) are the target's, and the
    discrepancy is zero; with a Gaussian kernel the covariance is short, which is SVGD's known bias.
    """
    flow = st.Flow(st.FreeEnergy(energy, 1.0), st.Stein(st.LinearKernel(), None))
    run = st.solve(flow, cloud(), scheme=st.Euler(0.1), steps=400, save_every=400)
    x = np.asarray(run.final.positions)
    np.testing.assert_allclose(x.mean(0), MEAN, atol=1e-9)
    np.testing.assert_allclose(np.cov(x.T, bias=True), COVARIANCE, atol=1e-9)
    assert abs(run.ledger.dissipation_rate[-1]) < 1e-14
    flow = st.Flow(st.FreeEnergy(energy, 1.0), st.Stein(st.GaussianKernel(), 1.0))
    run = st.solve(flow, cloud(), scheme=st.Euler(0.1), steps=3000, save_every=3000)
    x = np.asarray(run.final.positions)
    np.testing.assert_allclose(x.mean(0), MEAN, atol=1e-2)  # a slow mode is left
    assert np.trace(np.cov(x.T, bias=True)) < np.trace(np.asarray(COVARIANCE))
    velocity = flow.velocity(run.final)
    assert float(jnp.max(jnp.abs(velocity.positions))) < 1e-3


def test_the_stationary_particles_of_svgd_satisfy_steins_identity_on_the_kernel_span():
    """At a fixed point sum_j w_j [k(x_i, x_j) score_j + d_j k(x_i, x_j)] = 0 at every particle: the
    witness of the discrepancy applied to itself vanishes, KSD = 0 (V-statistic)."""
    state = cloud(5)
    flow = st.Flow(st.FreeEnergy(energy, 1.0), st.Stein(st.GaussianKernel(), 1.0))
    run = st.solve(flow, state, scheme=st.Euler(0.2), steps=4000, save_every=4000)
    moved = flow.velocity(run.final).positions
    assert float(jnp.max(jnp.abs(moved))) < 1e-9


def test_balance_and_structure_of_a_run():
    run = st.solve(
        st.Flow(st.KL(lambda x: -energy(x)), st.Stein()),
        cloud(),
        scheme=st.Euler(0.05),
        steps=200,
        save_every=10,
    )
    audit = run.audit()
    assert audit.passed, str(audit)
    names = {check.name for check in audit.checks}
    assert {"onsager symmetry", "heat balance", "order of the balance"} <= names


class Lopsided(st.Stein):
    """A Stein geometry with an error: its K is not symmetric."""

    def sharp(self, state, covector):
        tangent = super().sharp(state, covector)
        v = tangent.positions
        turned = jnp.flip(v, 1 if state.axis == 0 else 0)
        sign = jnp.array([0.0, 1.0])
        return state.tangent(v + 0.3 * turned * (sign if state.axis == 0 else sign[:, None]))


def test_a_kernel_that_is_not_symmetric_fails_the_audit():
    flow = st.Flow(st.KL(lambda x: -energy(x)), Lopsided(st.GaussianKernel(), 1.0))
    state = cloud(40)
    context = st.solve(flow, state, scheme=st.Euler(0.01), steps=2)
    failed = [check.name for check in context.audit().checks if check.passed is False]
    assert "onsager symmetry" in failed


def test_discrepancy_at_its_null_level_and_away_from_it():
    """1000 draws of the target lie within 4 null deviations of zero, 1000 of a wrong law do not."""
    key = jax.random.key(3)
    white = jax.random.normal(key, (1000, 2))
    right = st.Particles(MEAN + white @ jnp.linalg.cholesky(COVARIANCE).T)
    wrong = st.Particles(MEAN + 1.3 * white @ jnp.linalg.cholesky(COVARIANCE).T)
    functional = st.SteinDiscrepancy(energy)
    found = functional.measure(right)
    assert abs(found.value) < 4 * found.null
    found = functional.measure(wrong)
    assert found.value > 10 * found.null and found.value > 4 * found.error


def test_the_null_level_is_that_of_repeats():
    """Over 200 samples of 100 draws the statistic has mean zero and the stated deviation (10 %)."""
    functional = st.SteinDiscrepancy(energy)
    factor = jnp.linalg.cholesky(COVARIANCE)

    def one(key):
        found = functional.measure(st.Particles(MEAN + jax.random.normal(key, (100, 2)) @ factor.T))
        return found.value, found.null

    value, null = jax.vmap(one)(jax.random.split(jax.random.key(0), 200))
    assert abs(float(value.mean())) < 4 * float(value.std()) / 200**0.5
    np.testing.assert_allclose(float(value.std()), float(null.mean()), rtol=0.25)


def test_descent_of_the_discrepancy():
    """The Wasserstein flow of KSD^2 (its covector needs Hessians): descent and balance hold."""
    flow = st.Flow(st.SteinDiscrepancy(energy), st.Wasserstein())
    run = st.solve(flow, cloud(), scheme=st.Euler(0.02), steps=100, save_every=10)
    audit = run.audit()
    assert audit.passed, str(audit)
    assert run.ledger.functional[-1] < 0.2 * run.ledger.functional[0]


def test_bad_input():
    with pytest.raises(st.ArgumentError, match="kernel"):
        st.Stein(lambda x: x)
    with pytest.raises(st.ArgumentError, match="bandwidth"):
        st.Stein(bandwidth="mean")
    with pytest.raises(st.ArgumentError, match="preconditioner"):
        st.Stein(preconditioner=jnp.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(st.ArgumentError, match="preconditioner"):
        st.Flow(st.KL(energy), st.Stein(preconditioner=jnp.eye(3))).bind(cloud())
    with pytest.raises(st.ArgumentError, match="state"):
        st.Flow(st.KL(energy), st.Stein()).bind(st.Gaussian(jnp.zeros(2), jnp.eye(2)))
