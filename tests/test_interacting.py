"""Particles that interact, against self-consistency, densities and closed forms (section 6.8)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ive

import steepest as st


def normal(shape):
    """Draws that compile nothing."""
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


def spring(z):
    return 0.5 * jnp.sum(z**2)


def double_well(x):
    return jnp.sum(x**4) / 4 - jnp.sum(x**2) / 2


def self_consistent(temperature, coupling=1.0):
    """m = <x> under exp(-(V + coupling (x - m)^2/2)/T), by quadrature, from m = 1."""
    x = np.linspace(-4, 4, 4001)
    m = 1.0
    for _ in range(3000):
        logs = -(x**4 / 4 - x**2 / 2 + 0.5 * coupling * (x - m) ** 2) / temperature
        p = np.exp(logs - logs.max())
        m = float(np.sum(x * p) / np.sum(p))
    return m


@pytest.mark.parametrize(("temperature", "ordered"), [(0.25, True), (1.0, False)])
def test_desai_zwanzig_on_both_sides_of_its_transition(temperature, ordered):
    """The mean from particles, from the density, and from self-consistency.

    The density's tolerance: order 2 of the grid, (6/200)^2. The particles': 4 standard errors over
    12 runs of 400, plus the O(1/n) bias of n interacting particles and the O(step) of Euler.
    """
    expected = self_consistent(temperature)
    assert (expected > 0.3) == ordered and (ordered or abs(expected) < 1e-3)
    functional = st.FreeEnergy(double_well, temperature) + st.InteractionEnergy(spring)
    flow = st.Flow(functional, st.Wasserstein())
    grid = st.Grid(-3.0, 3.0, 200)
    start = st.Density.from_log(grid, lambda x: -jnp.sum((x - 0.8) ** 2) / 0.3)
    law = st.solve(flow, start, scheme=st.FiniteVolume(0.05, 2), time=20.0, save_every=400).final
    np.testing.assert_allclose(float(law.mean()[0]), expected, atol=2e-3)

    def final_mean(key):
        first, run = jax.random.split(key)
        state = st.Particles(0.8 + 0.4 * jax.random.normal(first, (400, 1)))
        scheme = st.Euler(0.02)
        trajectory = st.solve(
            flow, state, scheme=scheme, steps=800, save_every=800, key=run, ledger="saves"
        )
        return trajectory.final.mean()[0]

    means = jax.jit(lambda keys: jax.lax.map(final_mean, keys))(
        jax.random.split(jax.random.key(1), 12)
    )
    error = float(means.std(ddof=1)) / 12**0.5
    assert abs(float(means.mean()) - expected) < 4 * error + 0.02


@pytest.mark.parametrize(("temperature", "ordered"), [(0.25, True), (1.0, False)])
def test_kuramoto_on_both_sides_of_its_transition(temperature, ordered):
    """r = |<exp(i theta)>| solves r = I_1(r/T)/I_0(r/T); the transition is at T = 1/2."""
    expected = 1.0
    for _ in range(2000):
        expected = float(ive(1, expected / temperature) / ive(0, expected / temperature))
    assert (expected > 0.5) == ordered and (ordered or expected < 1e-6)

    def attraction(z):
        return -jnp.cos(z[0])

    functional = st.FreeEnergy(lambda x: 0.0 * x[0], temperature)
    flow = st.Flow(functional + st.InteractionEnergy(attraction), st.Wasserstein())
    grid = st.Grid(-np.pi, np.pi, 128, boundary="periodic")
    start = st.Density.from_log(grid, lambda x: jnp.cos(x[0]))
    law = st.solve(flow, start, scheme=st.FiniteVolume(0.1, 2), time=40.0, save_every=400).final
    order = float(law.expect(lambda x: jnp.cos(x[0])))
    np.testing.assert_allclose(order, expected, atol=2e-3)
    n = 250
    state = st.Particles(0.5 * normal((n, 1)))
    run = st.solve(
        flow, state, scheme=st.Euler(0.05), time=100.0, save_every=20, key=jax.random.key(1)
    )
    late = np.asarray(run.states.positions)[21:, :, 0]
    square = np.abs(np.exp(1j * late).mean(axis=1)) ** 2
    # <r^2> over time, its error from eight stretches. Without order it is not zero but
    # 1/(n (1 - 1/(2T))): the exact mean square of the linear fluctuations (2/n here). The slack is
    # for Euler's order in step (1/2 V'' step = 2 %) of what is there.
    spread = square.reshape(8, -1).mean(axis=1)
    error = spread.std(ddof=1) / 8**0.5
    wanted = expected**2 if ordered else 1 / (n * (1 - 0.5 / temperature))
    assert abs(square.mean() - wanted) < 4 * error + 0.03 * wanted
    assert run.audit().passed, str(run.audit())


@pytest.mark.parametrize(("strength", "concentrates"), [(0.5, False), (4.0, True)])
def test_keller_segel_spreads_or_concentrates(strength, concentrates):
    """W = chi/(2 pi) log|z| with chi = 8 pi T strength: the plane's critical mass is at 1.

    d<|x|^2>/dt = 4 T - chi/(2 pi)(1 - 1/n), exactly, in expectation: below the critical mass the
    cloud spreads at this rate. Tolerance: 4 standard errors of sum |x|^2, plus the step. Above, the
    audit says that the mass concentrates, and nothing becomes NaN.
    """
    n, temperature, step, time = 500, 1.0, 1e-3, 0.25
    chi = 8 * np.pi * temperature * strength
    energy = st.InteractionEnergy((chi / (2 * np.pi)) * st.Logarithmic())
    flow = st.Flow(energy, st.Wasserstein(), st.Thermal(temperature))
    state = st.Particles(normal((n, 2)))
    run = st.solve(
        flow, state, scheme=st.Euler(step), time=time, save_every=50, key=jax.random.key(1)
    )
    verdicts = {check.name: check.passed for check in run.audit().checks}
    assert verdicts["concentration"] is (not concentrates)
    assert bool(jnp.all(jnp.isfinite(run.final.positions)))
    if not concentrates:
        square = np.sum(np.asarray(run.states.positions) ** 2, axis=2)
        grown = square[-1] - square[0]
        rate = 4 * temperature - chi / (2 * np.pi) * (1 - 1 / n)
        assert abs(grown.mean() - rate * time) < 4 * grown.std() / n**0.5 + 0.02


def test_interaction_and_noise_close_the_balance_on_phase_space():
    functional = st.ExpectedEnergy(double_well) + st.InteractionEnergy(spring)
    geometry = st.Wasserstein(st.Symplectic() + st.Friction(1.0))
    x = normal((300, 1))
    state = st.Particles(st.Phase(x, jnp.zeros_like(x)))
    flow = st.Flow(functional, geometry, st.Thermal(0.5))
    run = st.solve(
        flow, state, scheme=st.BAOAB(0.05), steps=400, save_every=20, key=jax.random.key(1)
    )
    audit = run.audit()
    assert audit.passed, str(audit)
    still = st.Flow(functional, st.Wasserstein(st.Symplectic()))
    run = st.solve(still, state, scheme=st.Leapfrog(0.02), steps=500, save_every=10)
    audit = run.audit()
    assert audit.passed, str(audit)


class Wrong(st.InteractionEnergy):
    """An interaction whose differential has an error of a tenth."""

    def differential(self, state):
        return jax.tree.map(lambda x: 1.1 * x, super().differential(state))


def test_a_wrong_force_between_particles_fails_the_audit():
    flow = st.Flow(Wrong(spring), st.Wasserstein())
    state = st.Particles(normal((100, 2)))
    run = st.solve(flow, state, scheme=st.Euler(0.01), steps=100, save_every=10)
    failed = [check.name for check in run.audit().checks if check.passed is False]
    assert "order of the balance" in failed


def test_random_batches_are_unbiased_with_the_stated_variance():
    """Over 4000 batches of p = 4 partners among 40; the mean within 5 errors, variances to 15 %."""
    n, p = 40, 4
    state = st.Particles(normal((n, 2)))
    energy = st.InteractionEnergy(st.GaussianKernel(1.0), batch_size=p)
    from steepest.random import Randomness

    source = Randomness.from_key(jax.random.key(7))
    draw = jax.vmap(lambda k: energy.estimate(state, source.at(k)).positions * n)
    draws = np.asarray(jax.jit(draw)(jnp.arange(4000, dtype=jnp.uint32)))
    exact = jax.jit(energy.differential)(state).positions * n
    error = draws.std(axis=0) / 4000**0.5
    assert np.max(np.abs(draws.mean(axis=0) - exact) / error) < 5.0
    gradient = jax.vmap(jax.vmap(jax.grad(energy.kernel)))
    slope = np.asarray(jax.jit(gradient)(state.positions[:, None] - state.positions))
    others = slope.sum(axis=1) / (n - 1)
    spread = (slope**2).sum(axis=1) / (n - 1) - others**2
    stated = (1 / p) * (1 - p / (n - 1)) * spread * (n - 1) / (n - 2) * (1 - 1 / n) ** 2
    np.testing.assert_allclose(draws.var(axis=0).sum(), stated.sum(), rtol=0.15)


def test_the_standard_error_of_an_interaction_energy():
    """The ledger's error of F against the spread of F over 300 samples of 200 particles."""
    energy = st.InteractionEnergy(st.GaussianKernel(1.0))

    def one(key):
        state = st.Particles(jax.random.normal(key, (200, 2)))
        terms = energy.per_point(state)
        return jnp.mean(terms), jnp.std(terms) / 200**0.5, energy(state)

    mean, error, value = jax.lax.map(one, jax.random.split(jax.random.key(0), 300))
    np.testing.assert_allclose(mean, value, rtol=1e-12)
    np.testing.assert_allclose(float(error.mean()), float(value.std()), rtol=0.2)


def test_any_function_of_the_measure():
    """F(rho) = 1/2 (<x> - 2)^2 moves every particle with velocity 2 - <x>: exponential, exactly."""
    flow = st.Flow(
        st.MeasureFunctional(lambda rho: 0.5 * jnp.sum((rho.mean() - 2.0) ** 2)), st.Wasserstein()
    )
    x = normal((50, 1))
    run = st.solve(
        flow, st.Particles(x), scheme=st.RungeKutta(rtol=1e-9, atol=1e-11), time=1.5, steps=10
    )
    expected = 2.0 + (float(x.mean()) - 2.0) * np.exp(-1.5)
    np.testing.assert_allclose(float(run.final.mean()[0]), expected, rtol=1e-8)
    np.testing.assert_allclose(run.final.positions - run.final.mean(), x - x.mean(), atol=1e-12)
    assert run.audit().passed, str(run.audit())


def test_weights_are_multiplicities():
    """Three particles of weights 1, 2, 3 sixths move as six equal ones, two and three together.

    Forces of pairs, of an energy and of a discrepancy to data, under Wasserstein().
    """
    x = normal((3, 2))
    weighted = st.Particles(x, jnp.log(jnp.array([1.0, 2.0, 3.0])))
    places = jnp.array([0, 1, 1, 2, 2, 2])
    functional = (
        st.ExpectedEnergy(double_well)
        + st.InteractionEnergy(st.GaussianKernel(1.0))
        + st.MMD(x + 1.0, st.GaussianKernel(0.8))
    )
    flow = st.Flow(functional, st.Wasserstein())
    both = jax.jit(lambda state: (flow.velocity(state).positions, functional(state)))
    (few, value), (many, other) = both(weighted), both(st.Particles(x[places]))
    np.testing.assert_allclose(few[places], many, atol=1e-13)
    np.testing.assert_allclose(value, other, rtol=1e-13)


def test_bad_input():
    state = st.Particles(normal((10, 2)))
    bind = lambda f: st.Flow(f, st.Wasserstein()).bind(state)  # noqa: E731
    with pytest.raises(st.ArgumentError, match="symmetric"):
        bind(st.InteractionEnergy(lambda z: z[0]))
    with pytest.raises(st.ArgumentError, match="kernel"):
        st.InteractionEnergy(3.0)
    with pytest.raises(st.ArgumentError, match="kernel"):
        bind(st.InteractionEnergy(lambda z: z))
    with pytest.raises(st.ArgumentError, match="batch_size"):
        st.InteractionEnergy(spring, batch_size=3)
    with pytest.raises(st.ArgumentError, match="batch_size"):
        bind(st.InteractionEnergy(spring, batch_size=10))
    with pytest.raises(st.ArgumentError, match="function"):
        st.MeasureFunctional(3.0)
    with pytest.raises(st.ArgumentError, match="mesh"):
        flow = st.Flow(st.InteractionEnergy(spring), st.Wasserstein())
        st.solve(flow, state, scheme=st.Euler(0.1), steps=1, mesh="all")
