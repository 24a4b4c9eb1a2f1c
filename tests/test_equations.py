"""The survey's equations, each against something that does not use the code under test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import steepest as st

A = np.array([[2.0, 0.5], [0.5, 1.0]])
START = np.array([1.0, -2.0])


def quadratic(x):
    return 0.5 * x @ jnp.asarray(A) @ x


def test_equation_33_64_gradient_flow_of_a_quadratic_is_the_matrix_exponential():
    flow = st.Flow(st.Energy(quadratic), st.Euclidean())
    run = st.solve(flow, START, scheme=st.RungeKutta("tsit5", 1e-10, 1e-12), time=1.5, steps=3)
    exact = scipy.linalg.expm(-1.5 * A) @ START
    # rtol 1e-10 a step, about 100 steps, a contracting flow.
    np.testing.assert_allclose(run.final, exact, atol=1e-8)


def test_equation_33_euler_is_first_order():
    flow = st.Flow(st.Energy(quadratic), st.Euclidean())
    exact = scipy.linalg.expm(-A) @ START
    errors = [
        np.linalg.norm(st.solve(flow, START, scheme=st.Euler(h), time=1.0).final - exact)
        for h in (0.02, 0.01, 0.005)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 1.0, atol=0.05)


def test_equation_30_31_34_35_energy_falls_at_the_squared_gradient():
    def energy(x):
        return jnp.sum(jnp.cos(x)) + 0.1 * jnp.sum(x**4)

    flow = st.Flow(st.Energy(energy), st.Euclidean())
    x = jnp.array([0.7, -1.3, 2.0])
    np.testing.assert_allclose(
        flow.dissipation_rate(x), np.sum(np.asarray(jax.grad(energy)(x)) ** 2), rtol=1e-14
    )
    run = st.solve(flow, x, scheme=st.RungeKutta("dopri8", 1e-11, 1e-13), time=2e-3, steps=2)
    e = run.ledger.functional
    centred = (e[2] - e[0]) / 2e-3  # error 1e-6/6 times the third derivative, of order 100
    np.testing.assert_allclose(-centred, run.ledger.dissipation_rate[1], rtol=1e-4)
    assert (np.diff(e) < 0).all()


def test_equation_36_minimizing_movement_of_a_quadratic_is_the_resolvent():
    flow = st.Flow(st.Energy(quadratic), st.Euclidean())
    run = st.solve(flow, START, scheme=st.MinimizingMovement(0.3), steps=4)
    resolvent = np.linalg.inv(np.eye(2) + 0.3 * A)
    exact = np.linalg.matrix_power(resolvent, 4) @ START
    # Four inner problems solved to 1e-8 relative in the velocity, times the step 0.3.
    np.testing.assert_allclose(run.final, exact, atol=5e-8)
    assert run.audit()["De Giorgi inequality"].passed


def test_equation_36_37_minimizing_movements_converge_at_order_one():
    def energy(x):
        return 0.25 * jnp.sum(x**4) + 0.5 * jnp.sum((x - 1) ** 2)

    flow = st.Flow(st.Energy(energy), st.Euclidean())
    x = jnp.array([2.0, -1.0])
    exact = st.solve(flow, x, scheme=st.RungeKutta("dopri8", 1e-11, 1e-13), time=0.8).final
    errors = [
        np.linalg.norm(st.solve(flow, x, scheme=st.MinimizingMovement(h), time=0.8).final - exact)
        for h in (0.04, 0.02, 0.01)
    ]
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 1.0, atol=0.1)


def metric(x):
    return jnp.array([[2.0 + x[0] ** 2, 0.3], [0.3, 1.0 + x[1] ** 2]])


def test_equation_38_riemannian_gradient_represents_the_differential():
    flow = st.Flow(st.Energy(quadratic), st.Riemannian(metric))
    x, v = jnp.array([0.4, -0.9]), jnp.array([1.3, 0.2])
    gradient = -flow.velocity(x)
    np.testing.assert_allclose(gradient @ metric(x) @ v, jnp.vdot(A @ x, v), rtol=1e-13)


def test_equation_39_40_41_riemannian_flow_dissipates_the_metric_norm():
    flow = st.Flow(st.Energy(quadratic), st.Riemannian(metric))
    x = jnp.array([0.4, -0.9])
    g = A @ x
    np.testing.assert_allclose(flow.velocity(x), -np.linalg.inv(metric(x)) @ g, rtol=1e-12)
    np.testing.assert_allclose(
        flow.dissipation_rate(x), g @ np.linalg.inv(metric(x)) @ g, rtol=1e-12
    )
    run = st.solve(flow, x, scheme=st.RungeKutta("dopri8", 1e-11, 1e-13), time=1.0, steps=10)
    assert np.abs(run.ledger.closure).max() < 1e-9
    assert run.audit().passed


def test_equation_40_on_the_sphere_the_gradient_is_the_projection():
    b = jnp.array([0.3, -0.5, 1.0])
    flow = st.Flow(st.Energy(lambda x: b @ x), st.Sphere())
    x = jnp.array([2.0, -1.0, 2.0]) / 3
    np.testing.assert_allclose(-flow.velocity(x), b - (x @ b) * x, atol=1e-14)
    run = st.solve(flow, x, scheme=st.Euler(0.05), steps=400)
    np.testing.assert_allclose(np.linalg.norm(run.states, axis=1), 1.0, atol=1e-14)
    np.testing.assert_allclose(run.final, -b / jnp.linalg.norm(b), atol=1e-6)


def ornstein_uhlenbeck(temperature, step, steps, save_every, chains=2000, seed=0):
    flow = st.Flow(
        st.Energy(lambda x: 0.5 * jnp.sum(x**2)), st.Euclidean(), st.Thermal(temperature)
    )
    start = st.Particles.from_positions(
        np.sqrt(temperature) * jax.random.normal(jax.random.key(seed), (chains, 1))
    )
    key = jax.random.key(seed + 1)
    return st.solve(flow, start, scheme=st.Euler(step), steps=steps, save_every=save_every, key=key)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_equation_43_44_langevin_reaches_gibbs_with_the_bias_the_audit_predicts(beta):
    step = 0.2
    run = ornstein_uhlenbeck(1 / beta, step, 4000, 20)
    late = np.asarray(run.states.positions)[50:, :, 0]
    predicted = 1 / (beta * (1 - step / 2))
    # 151 saves every 4 units of time of a process with unit correlation time: independent.
    error = predicted * np.sqrt(2 / late.size)
    assert abs(late.var() - predicted) < 4 * error
    assert abs(late.var() - 1 / beta) > 10 * error  # the bias is there, and seen
    check = run.audit(bias_tolerance=0.2)["equipartition"]
    assert check.passed
    said = float(check.why.split("predicted ")[1].split()[0])
    np.testing.assert_allclose(said, predicted, rtol=0.01)  # itself measured: 2/sqrt(size)


def test_equation_42_any_diffusion():
    """dx = -x dt + sigma dW has stationary variance sigma^2 / (2 (1 - step/2)) under Euler."""
    sigma, step = 0.7, 0.1
    flow = st.Flow(st.Energy(lambda x: 0.5 * jnp.sum(x**2)), st.Euclidean(), st.Diffusion(sigma))
    start = st.Particles.from_positions(jnp.zeros((4000, 1)))
    run = st.solve(flow, start, scheme=st.Euler(step), steps=200, key=jax.random.key(0))
    variance = float(np.var(run.final.positions))
    exact = sigma**2 / 2 / (1 - step / 2)
    assert abs(variance - exact) < 4 * exact * np.sqrt(2 / 4000)


def kinetic(friction, temperature=1.0, energy=None):
    energy = energy or (lambda q: 0.5 * jnp.sum(q**2))
    return st.Flow(
        st.Energy(energy), st.Symplectic() + st.Friction(friction), st.Thermal(temperature)
    )


def phase_start(chains, seed=0, temperature=1.0):
    q, p = np.sqrt(temperature) * jax.random.normal(jax.random.key(seed), (2, chains, 1))
    return st.Particles.from_positions(st.Phase(q, p))


@pytest.mark.parametrize("scheme", [st.BAOAB, st.OBABO])
def test_equation_53_underdamped_langevin_reaches_gibbs_in_both_variables(scheme):
    temperature = 0.5

    def energy(q):
        return 0.25 * jnp.sum(q**4)

    flow = kinetic(1.0, temperature, energy)
    run = st.solve(
        flow,
        phase_start(4000, temperature=temperature),
        scheme=scheme(0.1),
        steps=4000,
        save_every=40,
        key=jax.random.key(2),
    )
    assert run.audit().passed
    q = np.asarray(run.states.positions.position)[25:].ravel()
    p = np.asarray(run.states.positions.momentum)[25:].ravel()
    grid = np.linspace(-6, 6, 20001)
    weight = np.exp(-(grid**4) / 4 / temperature)
    second = np.sum(grid**2 * weight) / np.sum(weight)
    # 76 saves 4 units apart of 4000 chains; a correlation time of about 1 leaves half of them.
    assert abs((q**2).mean() - second) < 4 * (q**2).std() / np.sqrt(q.size / 2) + 0.1**2 / 4
    assert abs((p**2).mean() - temperature) < 4 * (p**2).std() / np.sqrt(p.size / 2) + 0.1**2 / 4


def test_equation_53_large_friction_is_overdamped_in_the_rescaled_clock_and_frozen_without():
    """E[q(t) q(0)] = exp(-t/gamma) T as gamma -> infinity, so time must be scaled by gamma."""
    gamma, chains = 20.0, 4000
    run = st.solve(
        kinetic(gamma),
        phase_start(chains),
        scheme=st.BAOAB(0.01),
        time=20.0,
        save_every=100,
        key=jax.random.key(3),
    )
    q = np.asarray(run.states.positions.position)[..., 0]
    correlation = (q * q[0]).mean(axis=1)
    # The exact slow rate of the damped oscillator is (gamma - sqrt(gamma^2 - 4))/2 = 0.0501.
    slow = (gamma - np.sqrt(gamma**2 - 4)) / 2
    # BAOAB runs its own clock, fast by (gamma h/2) coth(gamma h/2) = 1.0033 at gamma h = 0.2.
    error = 4 * np.sqrt(1 / chains) + 1 / gamma**2
    assert abs(correlation[-1] - np.exp(-slow * 20.0)) < error  # t = gamma: one unit of descent
    assert abs(correlation[-1] - np.exp(-1.0)) < error + 0.01
    assert correlation[1] > 0.9  # t = 1: frozen


def test_equation_29_conservative_flow_keeps_the_energy_at_the_order_of_the_scheme():
    flow = st.Flow(st.Energy(lambda q: 0.25 * jnp.sum(q**4)), st.Symplectic())
    start = st.Phase(jnp.array([1.0]), jnp.array([0.5]))
    worst = [
        np.ptp(st.solve(flow, start, scheme=st.Leapfrog(h), time=20.0).ledger.conserved["energy"])
        for h in (0.1, 0.05, 0.025)
    ]
    np.testing.assert_allclose(np.log2(np.array(worst[:-1]) / worst[1:]), 2.0, atol=0.15)


def test_equation_29_no_energy_trend_over_a_million_steps():
    flow = st.Flow(st.Energy(lambda q: 0.25 * jnp.sum(q**4)), st.Symplectic())
    start = st.Phase(jnp.array([1.0]), jnp.array([0.5]))
    run = st.solve(flow, start, scheme=st.Leapfrog(0.05), steps=1_000_000, save_every=1000)
    energy = run.ledger.conserved["energy"]
    assert np.ptp(energy) < 0.05**2  # bounded by step^2 with a constant below one
    assert run.audit()["energy drift"].passed
    assert run.audit().passed


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0])
def test_geometry_dial_the_ledger_closes_at_every_friction(gamma):
    """H(0) - H(t) = what friction took, from mechanics to descent; the rest is of order step^2."""

    def energy(q):
        return 0.25 * jnp.sum((q**2 - 1) ** 2)

    flow = st.Flow(st.Energy(energy), st.Symplectic() + st.Friction(gamma))
    start = st.Phase(jnp.array([2.0, -0.3]), jnp.array([0.0, 1.0]))
    runs = [
        st.solve(flow, start, scheme=st.BAOAB(h), time=20.0, save_every=4) for h in (0.02, 0.01)
    ]
    closures = [np.abs(run.ledger.closure).max() for run in runs]
    assert closures[0] < 20 * 0.02**2
    assert 3.0 < closures[0] / closures[1] < 5.0  # order 2
    audit = runs[0].audit()
    assert audit.passed, str(audit)
    if gamma == 0:
        assert np.abs(runs[0].ledger.dissipated).max() == 0
    if gamma >= 0.5:
        assert runs[0].ledger.functional[-1] < 0.05 * runs[0].ledger.functional[0]


def test_equation_45_61_the_lift_names_the_free_energy_and_runs_on_particles():
    flow = st.Flow(st.Energy(lambda x: 0.5 * jnp.sum(x**2)), st.Euclidean(), st.Thermal(0.5))
    law = flow.lift()
    assert isinstance(law.functional, st.FreeEnergy) and isinstance(law.geometry, st.Wasserstein)
    start = st.Particles.normal(jax.random.key(0), 100, jnp.zeros(2))
    options = dict(scheme=st.Euler(0.1), steps=20, key=jax.random.key(1))
    a, b = st.solve(flow, start, **options), st.solve(law, start, **options)
    np.testing.assert_array_equal(a.final.positions, b.final.positions)


def test_equation_63_an_ensemble_is_its_independent_copies_without_noise():
    flow = st.Flow(st.Energy(quadratic), st.Euclidean())
    many = st.Particles.normal(jax.random.key(0), 5, jnp.zeros(2))
    together = st.solve(flow, many, scheme=st.Euler(0.1), steps=10).final.positions
    for x, y in zip(many.positions, together, strict=True):
        np.testing.assert_allclose(st.solve(flow, x, scheme=st.Euler(0.1), steps=10).final, y)


def test_equation_51_65_minibatch_gradients_are_unbiased_in_the_flow():
    """SGD on a quadratic risk has mean the gradient flow's Euler iterate, exactly."""
    data = jnp.linspace(-1.0, 2.0, 50)
    risk = st.EmpiricalRisk(lambda x, y: 0.5 * jnp.sum((x - y) ** 2), data, batch_size=2)
    flow = st.Flow(risk, st.Euclidean(), st.Minibatch())
    exact = 3.0
    for _ in range(20):
        exact -= 0.1 * (exact - float(data.mean()))
    finals = [
        float(
            st.solve(
                flow,
                jnp.array(3.0),
                scheme=st.Euler(0.1),
                steps=20,
                key=jax.random.key(k),
                save_every=20,
            ).final
        )
        for k in range(60)
    ]
    # Stationary variance step/2 * var(data)/2; 60 independent runs.
    assert abs(np.mean(finals) - exact) < 4 * np.sqrt(0.05 * float(data.var()) / 2 / 60)


def test_equation_55_position_dependent_diffusion_keeps_gibbs():
    """A metric G(x) = 1 + x^2 in one dimension: the drift temperature dK/dx keeps exp(-E/T)."""
    flow = st.Flow(
        st.Energy(lambda x: 0.5 * jnp.sum(x**2)),
        st.Riemannian(lambda x: jnp.eye(1) * (1 + x[0] ** 2)),
        st.Thermal(1.0),
    )
    start = st.Particles.normal(jax.random.key(0), 4000, jnp.zeros(1))
    run = st.solve(
        flow,
        start,
        scheme=st.Metropolis(st.Euler(0.1)),
        steps=400,
        save_every=40,
        key=jax.random.key(1),
    )
    x = np.asarray(run.final.positions).ravel()
    assert abs((x**2).mean() - 1) < 4 * np.sqrt(2 / 4000)
    # Unadjusted, at a step where the order-one bias is below the sampling error.
    run = st.solve(
        flow, start, scheme=st.Euler(0.01), steps=600, save_every=600, key=jax.random.key(2)
    )
    x = np.asarray(run.final.positions).ravel()
    assert abs((x**2).mean() - 1) < 4 * np.sqrt(2 / 4000) + 0.01
