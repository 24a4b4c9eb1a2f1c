"""Forward processes: kernels against the equations of their moments, and against their flows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest import diffusion
from steepest.diffusion import processes
from steepest.errors import ArgumentError

ALL = [
    diffusion.VariancePreserving(),
    diffusion.Cosine(),
    diffusion.SubVariancePreserving(),
    diffusion.VarianceExploding(0.05, 8.0),
    diffusion.EDM(end=5.0),
]
IDS = [type(process).__name__ for process in ALL]


@pytest.mark.parametrize("process", ALL, ids=IDS)
def test_the_kernel_solves_the_moment_equations(process):
    """The mean and variance of dx = f x dt + g dW (eq. 70)."""
    # d alpha/dt = f alpha, d sigma^2/dt = 2 f sigma^2 + g^2: derivatives by AD, double precision.
    t = jnp.linspace(0.02, 0.98, 9) * process.end
    alpha, variance = process.alpha, lambda s: process.sigma(s) ** 2
    f, g2 = process.drift(t), process.diffusion_squared(t)
    np.testing.assert_allclose(jax.vmap(jax.grad(alpha))(t), f * alpha(t), rtol=1e-9, atol=1e-12)
    rate = jax.vmap(jax.grad(variance))(t)
    np.testing.assert_allclose(rate, 2 * f * variance(t) + g2, rtol=1e-9, atol=1e-12)
    # g^2 = -2 sigma^2 dlambda/dt, the relation that every sampler leans on.
    slope = jax.vmap(jax.grad(process.log_snr))(t)
    np.testing.assert_allclose(g2, -2 * variance(t) * slope, rtol=1e-8)


@pytest.mark.parametrize("process", ALL, ids=IDS)
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float64, 1e-9), (jnp.float32, 1e-4)])
def test_times_are_found_back_from_their_noise(process, dtype, tolerance):
    t = jnp.geomspace(process.start, process.end, 20).astype(dtype)
    back = process.time_of(process.ratio(t))
    assert back.dtype == dtype
    np.testing.assert_allclose(back, t, rtol=tolerance)


@pytest.mark.parametrize("process", ALL, ids=IDS)
def test_the_lifted_flow_has_the_kernel_as_its_law(process):
    """A Gaussian stays one: moments m alpha and S alpha^2 + sigma^2 (eq. 45, 70)."""
    mean, deviation = jnp.array([1.5, -0.5]), jnp.array([0.3, 0.8])
    start, end = 0.01 * process.end, 0.6 * process.end
    a0, a1 = process.alpha(start), process.alpha(end)
    s0, s1 = process.sigma(start), process.sigma(end)
    law = st.Gaussian(a0 * mean, jnp.sqrt(a0**2 * deviation**2 + s0**2))
    run = st.solve(
        process.flow().lift(),
        law,
        scheme=st.RungeKutta(rtol=1e-9, atol=1e-11),
        time=end - start,
        steps=1,
        start=start,
    )
    found = run.final
    np.testing.assert_allclose(found.mean, a1 * mean, rtol=1e-6)
    expected = jnp.diag(a1**2 * deviation**2 + s1**2)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-6, atol=1e-9)


def test_stationary_laws_are_what_the_flows_say():
    for process in ALL[:2]:
        law = process.flow().equilibrium()
        assert law.kind == "gibbs"
        x = jnp.array([0.3, -1.2])
        np.testing.assert_allclose(jax.grad(law.log_density)(x), -x)  # N(0, I)
        assert "a(t)" in process.flow().card()["geometry"]
    # A bath that warms has no Gibbs law on the way, but tends to the same one.
    assert ALL[2].flow().equilibrium().kind == "unknown"
    assert abs(float(ALL[2].sigma(1.0)) - 1.0) < 1e-4
    # Nothing holds a free particle: the force is zero.
    assert float(jnp.abs(ALL[3].flow().velocity(jnp.ones(2), 0.5)).max()) == 0.0


@pytest.fixture(scope="module")
def damped():
    return diffusion.CriticallyDamped(1, end=0.8)


def test_critical_damping_is_a_flow_with_its_kernel(damped):
    # The kernel by matrix exponentials against the flow of the law, solved on a Gaussian.
    law = st.GaussianMixture(jnp.zeros(1), jnp.array([[1.5]]), jnp.array([[0.3]]))
    start = damped.lift_data(law)
    phase = st.Gaussian(start.means[0], start.scales[0], phase=True)
    run = st.solve(damped.flow().lift(), phase, scheme=st.RungeKutta(rtol=1e-9), time=0.8, steps=1)
    found = damped.law(start, 0.8).component(0)
    np.testing.assert_allclose(run.final.mean, found.mean, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(run.final.covariance, found.covariance, rtol=1e-6, atol=1e-9)
    # Critical: the two rates coincide, so A has one double eigenvalue and no rotation.
    rates = jnp.linalg.eigvals(damped.matrix)
    assert float(jnp.abs(rates.imag).max()) < 1e-3 * float(jnp.abs(rates.real).max())
    np.testing.assert_allclose(damped.stationary, jnp.diag(jnp.array([1.0, 0.25])), atol=1e-12)


@pytest.mark.parametrize("noise", [True, False])
def test_critical_damping_runs_backwards(damped, noise):
    # From the exact law at the end back to the data: moments of 4000 points; the standard error of
    # a mean is 0.02 and of a variance (kurtosis of two modes below 3) under 0.05.
    data = st.GaussianMixture(jnp.zeros(2), jnp.array([[-1.0], [1.5]]), jnp.full((2, 1), 0.4))
    start = damped.lift_data(data)
    flow = damped.reverse(start, noise=noise)
    far = damped.law(start, damped.end).sample(jax.random.key(0), 4000)
    points = st.Particles.from_positions(st.Phase(far[:, :1], far[:, 1:]))
    run = st.solve(flow, points, scheme=st.Euler(0.004), steps=200, key=jax.random.key(1),
                   save_every=200, ledger="saves")  # fmt: skip
    q = run.final.positions.position[:, 0]
    assert abs(float(q.mean()) - 0.25) < 0.08
    assert abs(float(q.var()) - (0.16 + 1.25**2)) < 0.15
    assert abs(float((q > 0.25).mean()) - 0.5) < 0.04


def test_any_linear_flow_makes_a_process():
    flow = st.Flow(
        st.Energy(lambda x: x[0] ** 2 + 0.25 * x[1] ** 2), 0.7 * st.Euclidean(), st.Thermal(0.5)
    )
    process = diffusion.LinearProcess.from_flow(flow, jnp.zeros(2), end=2.0)
    moved, spread = process.kernel(0.9)  # two independent Ornstein-Uhlenbeck processes
    rates = np.array([1.4, 0.35])
    np.testing.assert_allclose(moved, np.diag(np.exp(-0.9 * rates)), atol=1e-12)
    stationary = 0.5 * 0.7 / rates
    np.testing.assert_allclose(spread, np.diag(stationary * (1 - np.exp(-1.8 * rates))), atol=1e-12)
    with pytest.raises(ArgumentError, match="linear"):
        quartic = st.Flow(st.Energy(lambda x: jnp.sum(x**4)), st.Euclidean(), st.Thermal(1.0))
        diffusion.LinearProcess.from_flow(quartic, jnp.zeros(2), end=1.0)


def test_bad_processes_are_refused_in_words():
    for make, word in [
        (lambda: diffusion.VariancePreserving(beta_min=0.0), "beta_min"),
        (lambda: diffusion.VariancePreserving(beta_min=-1.0), "beta_min"),
        (lambda: diffusion.VariancePreserving(beta_min=3.0, beta_max=2.0), "beta_max"),
        (lambda: diffusion.SubVariancePreserving(beta_max=float("nan")), "beta_max"),
        (lambda: diffusion.VarianceExploding(sigma_min=0.0), "sigma_min"),
        (lambda: diffusion.EDM(end=1e-4), "end"),
        (lambda: diffusion.Cosine(end=1.0), "end"),
        (lambda: diffusion.CriticallyDamped(0), "dimension"),
        (lambda: diffusion.VariancePreserving().check_time(1.5), "t"),
        (lambda: diffusion.VariancePreserving().check_time(float("nan")), "t"),
    ]:
        with pytest.raises(ArgumentError) as caught:
            make()
        assert caught.value.argument == word
    assert processes.quadratic(jnp.array([1.0, 1.0])) == 1.0
