"""States know themselves: moments, entropy, weights, and their two motions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st

KEY = jax.random.key(2)
X = jax.random.normal(KEY, (30, 2))
WEIGHTED = st.Particles(X, jnp.linspace(-1.0, 2.0, 30))


def test_weighted_moments_against_numpy():
    w = np.exp(np.linspace(-1, 2, 30))
    w /= w.sum()
    np.testing.assert_allclose(WEIGHTED.weights, w)
    np.testing.assert_allclose(WEIGHTED.mean(), w @ np.asarray(X))
    np.testing.assert_allclose(WEIGHTED.covariance(), np.cov(X.T, aweights=w), rtol=1e-12)
    np.testing.assert_allclose(WEIGHTED.effective_size, 1 / np.sum(w**2))
    np.testing.assert_allclose(WEIGHTED.expect(lambda x: x[0] * x[1]), w @ (X[:, 0] * X[:, 1]))
    turned = WEIGHTED.turned(-1)
    np.testing.assert_allclose(turned.mean(), WEIGHTED.mean())
    np.testing.assert_allclose(turned.flat(), WEIGHTED.flat())


def test_weights_never_underflow():
    extreme = st.Particles(jnp.zeros((2, 1)), jnp.array([0.0, -1e6]))
    np.testing.assert_array_equal(extreme.weights, [1.0, 0.0])
    assert np.isfinite(extreme.effective_size)


def test_entropy_of_a_gaussian_and_of_a_cube():
    n = 4000
    gaussian = st.Particles.from_positions(2.0 * jax.random.normal(KEY, (n, 2)))
    exact = np.log(2 * np.pi * np.e) + 2 * np.log(2.0)
    # Var(-log rho) = d/2 = 1; the neighbour estimate adds Var(log of a unit exponential) = pi^2/6.
    assert abs(gaussian.entropy("nearest-neighbour") - exact) < 4 * np.sqrt((1 + 1.65) / n) + 0.02
    assert abs(gaussian.entropy("gaussian") - exact) < 4 * np.sqrt(1 / n)
    cube = st.Particles.from_positions(jax.random.uniform(KEY, (n, 2)))
    assert abs(cube.entropy("nearest-neighbour")) < 4 * np.sqrt(1.65 / n) + 0.02  # edge bias
    assert cube.entropy("gaussian") > 0.1  # an upper bound, and not a tight one


def test_gaussian_entropy_is_unbiased_for_few_points():
    """Mean over 400 samples of 12 points in 5 dimensions; the plain estimate is off by -1.6."""
    x = jax.random.normal(KEY, (400, 12, 5))
    values = jax.vmap(lambda y: st.Particles.from_positions(y).entropy("gaussian"))(x)
    exact = 2.5 * np.log(2 * np.pi * np.e)
    assert abs(values.mean() - exact) < 4 * values.std() / 20


def test_the_covector_of_particles_is_jax_grad():
    """dF = (w_i grad psi(x_i), w_i (psi_i - <psi>)) for F = <psi>, as the design's table says."""
    functional = st.ExpectedEnergy(st.Energy(lambda x: jnp.sum(jnp.sin(x))))
    by_grad = jax.grad(functional)(WEIGHTED)
    own = functional.differential(WEIGHTED)
    np.testing.assert_allclose(own.positions, by_grad.positions, atol=1e-15)
    np.testing.assert_allclose(own.log_weights, by_grad.log_weights, atol=1e-15)
    moved = WEIGHTED.transport(by_grad, st.Euclidean())
    np.testing.assert_allclose(moved.positions, np.cos(X), rtol=1e-12)
    assert not moved.log_weights.any()
    psi = np.sin(X).sum(axis=1)
    growth = WEIGHTED.reweight(by_grad).log_weights
    np.testing.assert_allclose(growth, psi - WEIGHTED.weights @ psi, atol=1e-12)


def test_normal_and_sample():
    like = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(())}
    many = st.Particles.normal(KEY, 5000, like)
    assert many.positions["a"].shape == (5000, 2, 3) and many.count == 5000
    assert abs(many.positions["b"].mean()) < 4 / np.sqrt(5000)
    drawn = WEIGHTED.sample(KEY, 20_000)
    spread = np.sqrt(np.diag(WEIGHTED.covariance()) / 20_000)
    assert (np.abs(drawn.mean(axis=0) - WEIGHTED.mean()) < 4.5 * spread).all()


def test_thermal_phase():
    phase = st.Phase.thermal(KEY, jnp.zeros(20_000), temperature=0.25)
    assert abs(phase.momentum.var() - 0.25) < 4 * 0.25 * np.sqrt(2 / 20_000)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: st.Particles.normal(KEY, 0, jnp.zeros(2)), "at least one"),
        (lambda: st.Particles(X, jnp.zeros(3)), "log_weights"),
        (lambda: WEIGHTED.entropy("best"), "estimator"),
        (lambda: WEIGHTED.log_prob(X[0]), "no density"),
        (lambda: st.Phase(jnp.ones(2), {"p": jnp.ones(2)}), "structure"),
        (lambda: st.Particles.from_positions(X).reweight(st.Particles(X)), "weighted"),
    ],
)
def test_bad_states(make, message):
    with pytest.raises(st.ArgumentError, match=message):
        make()
