"""Functionals: values, differentials, estimates, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.functionals import gradient_covariance
from steepest.random import Randomness

X = jnp.array([0.5, -1.2])
ROWS = {"x": jnp.arange(12.0).reshape(6, 2) / 10, "y": jnp.array([1.0, 0, 1, 1, 0, 1])}


def loss(theta, row):
    return jax.nn.softplus(row["x"] @ theta) - row["y"] * (row["x"] @ theta)


def test_equation_32_risk_is_the_mean_loss():
    risk = st.EmpiricalRisk(loss, ROWS)
    each = [loss(X, jax.tree.map(lambda leaf, i=i: leaf[i], ROWS)) for i in range(6)]
    np.testing.assert_allclose(risk(X), np.mean(each))
    np.testing.assert_allclose(risk.total()(X), np.sum(each))


def test_sums_and_multiples():
    f, g = st.Energy(lambda x: jnp.sum(x**2)), st.Energy(lambda x: jnp.sum(jnp.cos(x)))
    both = 2.0 * f + g
    np.testing.assert_allclose(both(X), 2 * f(X) + g(X))
    np.testing.assert_allclose(both.differential(X), 4 * X - jnp.sin(X))
    assert both.name == "2.0 E + E"


def test_equation_51_minibatch_estimates_are_unbiased_with_covariance_sigma_over_b():
    risk = st.EmpiricalRisk(loss, ROWS, batch_size=3)
    source = Randomness.from_key(jax.random.key(0))
    count = 4000
    draws = np.asarray(jax.vmap(lambda k: risk.estimate(X, source.at(k)))(jnp.arange(count)))
    sigma = np.asarray(gradient_covariance(risk, X)) / 3
    deviation = draws.mean(axis=0) - np.asarray(risk.differential(X))
    assert (np.abs(deviation) < 4.5 * np.sqrt(np.diag(sigma) / count)).all()
    np.testing.assert_allclose(np.cov(draws.T), sigma, rtol=4.5 * np.sqrt(2 / count))


def test_hamiltonian_with_masses():
    h = st.Hamiltonian(st.Energy(lambda q: jnp.sum(q**4)), mass=jnp.array([1.0, 4.0]))
    phase = st.Phase(X, jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(h(phase), jnp.sum(X**4) + 0.5 + 0.5)
    exact = h.differential(phase)
    np.testing.assert_allclose(exact.momentum, [1.0, 0.5])
    estimate = h.estimate(phase, None)
    np.testing.assert_allclose(estimate.position, exact.position)
    np.testing.assert_allclose(estimate.momentum, exact.momentum)


def test_time_dependent_energy_is_frozen_by_at():
    energy = st.Energy(lambda x, t: t * jnp.sum(x), time_dependent=True)
    assert energy.time_dependent and float(energy.at(3.0)(X)) == pytest.approx(3 * float(X.sum()))


def test_equation_46_47_67_69_free_energy_and_divergence_on_particles():
    particles = st.Particles.normal(jax.random.key(1), 500, jnp.zeros(2))
    energy = st.Energy(lambda x: 0.5 * jnp.sum(x**2))
    free = st.FreeEnergy(energy, 0.7)
    np.testing.assert_allclose(
        free(particles), particles.expect(energy) - 0.7 * particles.entropy(), rtol=1e-12
    )
    np.testing.assert_allclose(st.NegativeEntropy()(particles), -particles.entropy())
    # KL(rho | exp(-E)) up to log Z is the free energy at temperature one (eq. 68).
    divergence = st.KL(lambda x: -energy(x))
    np.testing.assert_allclose(divergence(particles), st.FreeEnergy(energy, 1.0)(particles))
    # And its flow on particles is Langevin at temperature one.
    flow = st.Flow(divergence, st.Wasserstein())
    other = st.Flow(energy, st.Euclidean(), st.Thermal(1.0))
    options = dict(scheme=st.Euler(0.1), steps=6, key=jax.random.key(0))
    np.testing.assert_allclose(
        st.solve(flow, particles, **options).final.positions,
        st.solve(other, particles, **options).final.positions,
        atol=1e-13,
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: st.EmpiricalRisk(loss, ROWS, batch_size=7), "batch_size"),
        (lambda: st.EmpiricalRisk(loss, ROWS, batch_size=0), "batch_size"),
        (lambda: st.EmpiricalRisk(loss, {"x": jnp.ones((3, 2)), "y": jnp.ones(4)}), "rows"),
        (lambda: st.EmpiricalRisk(lambda t, r: t, ROWS)(X), "scalar"),
        (lambda: st.Energy(lambda x: x)(X), "scalar"),
        (lambda: st.FreeEnergy(st.Energy(jnp.sum), -1.0), "temperature"),
        (lambda: st.KL(3.0), "target"),
        (lambda: float("nan") * st.Energy(jnp.sum), "factor"),
        (lambda: st.Hamiltonian(st.Energy(jnp.sum), mass=-1.0), "mass"),
    ],
)
def test_bad_functionals(make, message):
    with pytest.raises(st.ArgumentError, match=message):
        make()
