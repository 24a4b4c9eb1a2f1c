"""Functionals: values, differentials, estimates, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import steepest as st
from steepest.functionals import gradient_covariance
from steepest.random import Randomness

X = jnp.array([0.5, -1.2])
ROWS = {"x": jnp.arange(12.0).reshape(6, 2) / 10, "y": jnp.array([1.0, 0, 1, 1, 0, 1])}
SOURCE = Randomness.from_key(jax.random.key(0))
PARTICLES = st.Particles.normal(jax.random.key(1), 500, jnp.zeros(2))
QUADRATIC = st.Energy(lambda x: 0.5 * jnp.sum(x**2))


def loss(theta, row):
    return jax.nn.softplus(row["x"] @ theta) - row["y"] * (row["x"] @ theta)


def row(i):
    return jax.tree.map(lambda leaf: leaf[i], ROWS)


def test_equation_32_risk_is_the_mean_loss():
    risk = st.EmpiricalRisk(loss, ROWS)
    each = [loss(X, row(i)) for i in range(6)]
    np.testing.assert_allclose(risk(X), np.mean(each))
    np.testing.assert_allclose(risk.total()(X), np.sum(each))
    gradients = [jax.grad(loss)(X, row(i)) for i in range(6)]
    np.testing.assert_allclose(risk.gradients(X), gradients)
    np.testing.assert_allclose(risk.differential(X), np.mean(gradients, axis=0))
    expected = np.cov(np.transpose(gradients), bias=True)  # eq. 52
    np.testing.assert_allclose(gradient_covariance(risk, X), expected, rtol=1e-12)
    assert risk.count == 6 and risk.name == "risk(n=6)" and not risk.subsamples


def test_equation_34_differential_by_central_differences():
    """<dF, v> is the derivative along v, for every kind of functional and state."""
    phase = st.Phase(X, 2.0 * X)
    weighted = st.Particles(PARTICLES.positions[:20], jnp.linspace(-1.0, 1.0, 20))
    cases = [
        (st.EmpiricalRisk(loss, ROWS), X),
        (
            2.0 * st.Energy(lambda x: jnp.sum(x["a"] ** 3)) + st.Energy(lambda x: x["a"][0]),
            {"a": X},
        ),
        (st.Hamiltonian(QUADRATIC, mass=jnp.array([1.0, 4.0])), phase),
        (0.5 * st.ExpectedEnergy(lambda x: jnp.sum(jnp.cos(x))), weighted),
        (
            st.ExpectedEnergy(st.Hamiltonian(QUADRATIC)),
            st.Particles(st.Phase(*[weighted.flat()] * 2)),
        ),
    ]
    for functional, state in cases:
        direction = jax.tree.map(lambda leaf: jnp.cos(1.0 + 3.0 * leaf), state)
        ahead = jax.tree.map(lambda a, b: a + 1e-5 * b, state, direction)
        behind = jax.tree.map(lambda a, b: a - 1e-5 * b, state, direction)
        slope = (functional(ahead) - functional(behind)) / 2e-5
        covector = functional.differential(state)
        assert jax.tree.structure(covector) == jax.tree.structure(state)
        pairs = zip(jax.tree.leaves(covector), jax.tree.leaves(direction), strict=True)
        found = sum(jnp.vdot(a, b) for a, b in pairs)
        # h^2 = 1e-10 times a third derivative of order one, and round-off 1e-16/h.
        np.testing.assert_allclose(found, slope, rtol=1e-8, atol=1e-9)


def test_sums_and_multiples():
    f, g = st.Energy(lambda x: jnp.sum(x**2)), st.Energy(lambda x: jnp.sum(jnp.cos(x)))
    both = 2.0 * f + g
    np.testing.assert_allclose(both(X), 2 * f(X) + g(X))
    np.testing.assert_allclose(both.differential(X), 4 * X - jnp.sin(X))
    np.testing.assert_allclose(both.estimate(X, None), both.differential(X))
    assert both.name == "2.0 E + E" and (2.0 * both).name == "2.0 (2.0 E + E)"
    assert len((both + f).parts) == 3
    single = both.differential(X.astype(jnp.float32))
    assert single.dtype == jnp.float32
    batched = 3.0 * st.EmpiricalRisk(loss, ROWS, batch_size=2) + f
    assert batched.subsamples and not both.subsamples
    part = st.EmpiricalRisk(loss, ROWS, batch_size=2).estimate(X, SOURCE.at(4))
    np.testing.assert_allclose(batched.estimate(X, SOURCE.at(4)), 3.0 * part + 2.0 * X)
    with pytest.raises(TypeError):
        f + 1.0


def test_a_parameter_of_an_energy_is_differentiable():
    slope = jax.grad(lambda a: (a * QUADRATIC)(X))(3.0)
    np.testing.assert_allclose(slope, 0.5 * X @ X)


def test_equation_51_an_estimate_of_one_row_is_the_gradient_of_a_uniform_row():
    """Every estimate is one of the rows' own gradients, each as often as any other."""
    risk = st.EmpiricalRisk(loss, ROWS, batch_size=1)
    draws = jax.vmap(lambda k: risk.estimate(X, SOURCE.at(k)))(jnp.arange(3000))
    gaps = np.abs(np.asarray(draws)[:, None] - np.asarray(risk.gradients(X))[None]).sum(axis=-1)
    assert gaps.min(axis=1).max() < 1e-15
    assert scipy.stats.chisquare(np.bincount(gaps.argmin(axis=1), minlength=6)).pvalue > 1e-4
    np.testing.assert_array_equal(risk.estimate(X, None), risk.differential(X))


def test_equation_51_52_minibatch_estimates_are_unbiased_with_covariance_sigma_over_b():
    risk = st.EmpiricalRisk(loss, ROWS, batch_size=3)
    count = 4000
    draws = np.asarray(jax.vmap(lambda k: risk.estimate(X, SOURCE.at(k)))(jnp.arange(count)))
    sigma = np.asarray(gradient_covariance(risk, X)) / 3
    deviation = draws.mean(axis=0) - np.asarray(risk.differential(X))
    assert (np.abs(deviation) < 4.5 * np.sqrt(np.diag(sigma) / count)).all()
    np.testing.assert_allclose(np.cov(draws.T), sigma, rtol=4.5 * np.sqrt(2 / count))
    assert risk.name == "risk(n=6, batch 3)"


def test_rows_of_large_data_are_equally_likely():
    """23 random bits would give every third of these rows 2/8 of the draws, not a third."""
    n, batch = 3 * 2**20, 20_000
    risk = st.EmpiricalRisk(lambda a, r: a * (r == 0), jnp.arange(n) % 3, batch_size=batch)
    share = float(risk.estimate(jnp.ones(()), SOURCE.at(0)))
    assert abs(share - 1 / 3) < 4.5 * np.sqrt(2 / 9 / batch)


def test_equation_29_hamiltonian_with_masses():
    mass = jnp.array([1.0, 4.0])
    h = st.Hamiltonian(st.Energy(lambda q: jnp.sum(q**4)), mass=mass)
    phase = st.Phase(X, jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(h(phase), jnp.sum(X**4) + 0.5 + 0.5)
    exact = h.differential(phase)
    np.testing.assert_allclose(exact.momentum, [1.0, 0.5])
    estimate = h.estimate(phase, None)
    np.testing.assert_allclose(estimate.position, exact.position)
    np.testing.assert_allclose(estimate.momentum, exact.momentum)
    assert h.name == "E + |p|²/2m" and st.Hamiltonian(QUADRATIC).name == "E + |p|²/2"


@pytest.mark.parametrize("mass", [2.0, jnp.array([1.0, 4.0]), {"p": jnp.array([1.0, 4.0])}])
def test_masses_of_many_particles(mass):
    """The kinetic energy of an ensemble, per particle, in both layouts; here n = d as well."""
    h = st.Hamiltonian(QUADRATIC, mass=mass)
    p = jnp.arange(4.0).reshape(2, 2)
    m = mass["p"] if isinstance(mass, dict) else jnp.asarray(mass)
    momentum, turned = ({"p": p}, {"p": p.T}) if isinstance(mass, dict) else (p, p.T)
    expected = np.sum(np.asarray(p) ** 2 / np.asarray(m) / 2, axis=1)
    np.testing.assert_allclose(h.kinetic(momentum, 0), expected)
    np.testing.assert_allclose(h.kinetic(turned, -1), expected)
    one = jax.tree.map(lambda leaf: leaf[1], momentum)
    np.testing.assert_allclose(h.kinetic(one), expected[1])


@pytest.mark.parametrize("axis", [0, -1])
def test_differentials_of_many_states_are_those_of_each(axis):
    """Sums, multiples and a mass along either axis, against NumPy: exact up to rounding."""
    tilt = st.Energy(lambda x: x[0] ** 2 * x[1] - jnp.cos(x[1]))
    energy = st.Hamiltonian(QUADRATIC + 0.5 * tilt, mass=jnp.array([1.0, 4.0]))
    q, p = np.random.default_rng(3).normal(size=(2, 5, 2))
    slope = q + 0.5 * np.stack([2 * q[:, 0] * q[:, 1], q[:, 0] ** 2 + np.sin(q[:, 1])], axis=1)
    turn = (lambda x: x) if axis == 0 else np.transpose
    found = jax.jit(lambda x: energy.differentials(x, axis))(st.Phase(turn(q), turn(p)))
    np.testing.assert_allclose(turn(np.asarray(found.position)), slope, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(turn(np.asarray(found.momentum)), p / [1.0, 4.0], rtol=1e-15)


class Doubled(st.Hamiltonian):
    """With a differential of its own, and nothing said of many states."""

    def differential(self, state):
        return jax.tree.map(lambda x: 2.0 * x, super().differential(state))


def test_a_differential_of_ones_own_is_that_of_many_states():
    x = st.Phase(jnp.ones((3, 2)), jnp.full((3, 2), 4.0))
    found = Doubled(QUADRATIC, 2.0).differentials(x, 0)
    np.testing.assert_array_equal(found.position, 2.0)
    np.testing.assert_array_equal(found.momentum, 4.0)


def test_time_dependent_energy_is_frozen_by_at():
    energy = st.Energy(lambda x, t: t * jnp.sum(x), time_dependent=True)
    later = 3 * float(X.sum())
    assert energy.time_dependent and float(energy.at(3.0)(X)) == pytest.approx(later)
    assert float(energy(X)) == 0.0
    wrapped = [
        (2.0 * energy + QUADRATIC, X, 2 * later + float(QUADRATIC(X))),
        (st.Hamiltonian(energy), st.Phase(X, X), later + float(QUADRATIC(X))),
        (st.ExpectedEnergy(energy), st.Particles(X[None]), later),
        (st.FreeEnergy(energy, 0.0), st.Particles(jnp.stack([X, X])), later),
    ]
    for functional, state, value in wrapped:
        assert functional.time_dependent
        assert float(functional.at(3.0)(state)) == pytest.approx(value)
    assert QUADRATIC.at(3.0) is QUADRATIC and not st.Hamiltonian(QUADRATIC).time_dependent


def test_equation_46_47_67_68_69_free_energy_and_divergence_on_particles():
    entropy = PARTICLES.entropy()
    expected = PARTICLES.expect(QUADRATIC)
    np.testing.assert_allclose(st.NegativeEntropy()(PARTICLES), -entropy)
    free = st.FreeEnergy(QUADRATIC, 0.7)
    np.testing.assert_allclose(free(PARTICLES), expected - 0.7 * entropy, rtol=1e-12)
    # KL(rho | exp(-E)) up to log Z is the free energy at temperature one (eq. 68).
    for target in (lambda x: -QUADRATIC(x), QUADRATIC):
        np.testing.assert_allclose(st.KL(target)(PARTICLES), expected - entropy, rtol=1e-12)
    for functional in (st.NegativeEntropy(), free, st.KL(QUADRATIC)):
        np.testing.assert_allclose(
            functional.per_point(PARTICLES).mean(), functional(PARTICLES), rtol=1e-12
        )
    scheduled = st.FreeEnergy(QUADRATIC, lambda t: 0.1 * t)
    np.testing.assert_allclose(scheduled.at(7.0)(PARTICLES), free(PARTICLES), rtol=1e-12)
    assert scheduled.time_dependent and not free.time_dependent


def test_equation_43_45_entropy_becomes_thermal_noise():
    """The energy and the temperature behind <E> - T S, E_rho[-log pi] - S and -S."""
    cases = [
        (st.FreeEnergy(QUADRATIC, 0.7), 0.7, PARTICLES.positions),
        (st.KL(lambda x: -QUADRATIC(x)), 1.0, PARTICLES.positions),
        (st.KL(QUADRATIC), 1.0, PARTICLES.positions),
        (st.NegativeEntropy(), 1.0, 0.0 * PARTICLES.positions),
    ]
    for functional, temperature, force in cases:
        energy, found = functional.realise()
        assert found == temperature
        np.testing.assert_allclose(500 * energy.differential(PARTICLES).positions, force)
        with pytest.raises(st.ArgumentError, match=r"has no differential; .*FreeEnergy"):
            functional.differential(PARTICLES)
        with pytest.raises(st.ArgumentError, match="has no differential"):
            (st.ExpectedEnergy(QUADRATIC) + 2.0 * functional).differential(PARTICLES)


@pytest.mark.parametrize("functional", [st.FreeEnergy(QUADRATIC), st.KL(QUADRATIC)])
def test_equation_61_flow_of_the_free_energy_is_langevin(functional):
    flow = st.Flow(functional, st.Wasserstein()).bind(PARTICLES)
    other = st.Flow(QUADRATIC, st.Euclidean(), st.Thermal(1.0)).bind(PARTICLES)
    for a, b in zip(flow.slope(PARTICLES, 0.0), other.slope(PARTICLES, 0.0), strict=True):
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-15)
    kicks = [f.fluctuation(PARTICLES, 0.0, 0.1, SOURCE.at(0)).positions for f in (flow, other)]
    np.testing.assert_array_equal(*kicks)


def test_expected_energy_estimates_by_a_minibatch_for_each():
    risk = st.EmpiricalRisk(loss, ROWS, batch_size=2)
    few = st.Particles(PARTICLES.positions[:4], jnp.arange(4.0))
    found = st.ExpectedEnergy(risk).estimate(few, SOURCE.at(3))
    expected = [risk.estimate(x, SOURCE.at(3).of(i)) for i, x in enumerate(few.positions)]
    np.testing.assert_allclose(found.positions, few.weights[:, None] * jnp.stack(expected))
    exact = st.ExpectedEnergy(QUADRATIC)
    np.testing.assert_allclose(
        exact.estimate(few, SOURCE.at(3)).positions, few.weights[:, None] * few.positions
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: st.Energy(3.0), "fn: got float"),
        (lambda: st.Energy(lambda x: x)(X), r"fn: got a value of shape \(2,\).*scalar"),
        (lambda: st.EmpiricalRisk(3.0, ROWS), "loss: got float"),
        (lambda: st.EmpiricalRisk(loss, ROWS, batch_size=7), "batch_size: got 7; .*6 rows"),
        (lambda: st.EmpiricalRisk(loss, ROWS, batch_size=0), "batch_size"),
        (lambda: st.EmpiricalRisk(loss, ROWS, batch_size=2.5), "batch_size: got 2.5"),
        (lambda: st.EmpiricalRisk(loss, {"x": jnp.ones((3, 2)), "y": jnp.ones(4)}), "rows"),
        (lambda: st.EmpiricalRisk(loss, {}), "data"),
        (lambda: st.EmpiricalRisk(loss, ["red", "green"]), "data: .*numeric"),
        (lambda: st.EmpiricalRisk(lambda t, r: t, ROWS)(X), "scalar"),
        (lambda: st.FreeEnergy(QUADRATIC, -1.0), "temperature: got -1.0"),
        (lambda: st.KL(3.0), "target: got float"),
        (lambda: float("nan") * QUADRATIC, "factor"),
        (lambda: jnp.inf * QUADRATIC, "factor"),
        (lambda: "a" * QUADRATIC, "factor"),
        (lambda: st.Hamiltonian(QUADRATIC, mass=-1.0), "mass"),
        (lambda: st.Hamiltonian(QUADRATIC, mass=jnp.array([1.0, 0.0])), "mass"),
        (lambda: st.Hamiltonian(QUADRATIC, jnp.ones(3))(st.Phase(X, X)), r"mass: got shape \(3,\)"),
        (lambda: st.Hamiltonian(QUADRATIC, {"a": 1.0})(st.Phase(X, X)), "mass: got structure"),
    ],
)
def test_bad_functionals(make, message):
    with pytest.raises(st.ArgumentError, match=message):
        make()
