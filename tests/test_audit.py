"""Every check of the audit, failed by a flow that is wrong in the way the check is about."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.geometries import AbstractGeometry, Euclidean
from steepest.schemes.proximal import Movement

KEY = jax.random.key(7)


def energy(x):
    return 0.25 * jnp.sum(x**4) + 0.5 * jnp.sum(x**2)


def chains(count=2000, d=2):
    return st.Particles.normal(jax.random.key(0), count, jnp.zeros(d))


def langevin(geometry, noise=None, scheme=None, **options):
    flow = st.Flow(st.Energy(energy), geometry, noise or st.Thermal(1.0))
    options = dict(steps=1500, save_every=10, key=KEY) | options
    return st.solve(flow, chains(), scheme=scheme or st.Euler(0.02), **options)


class Sheared(AbstractGeometry):
    """K with an antisymmetric part that it does not confess."""

    def sharp(self, state, covector):
        return covector + 0.5 * jnp.roll(covector, 1) * jnp.array([1.0, -1.0])

    def sqrt(self, state, white):
        return white[0]


class Hot(Euclidean):
    """Noise of twice the temperature that the flow declares."""

    def sqrt(self, state, white):
        return jnp.sqrt(2.0) * white[0]


class WrongSign(st.Energy):
    """An energy whose differential has the wrong sign."""

    def differential(self, state):
        return -jax.grad(self)(state)


class HalfGradient(st.Energy):
    def differential(self, state):
        return 0.5 * jax.grad(self)(state)


class WrongForce(st.Hamiltonian):
    """The force of another energy: H is not conserved."""

    def differential(self, state):
        exact = jax.grad(self)(state)
        return st.Phase(1.1 * exact.position, exact.momentum)


class Leaky(st.Hamiltonian):
    """A small force along the velocity: energy creeps in, step after step."""

    def differential(self, state):
        exact = jax.grad(self)(state)
        return st.Phase(exact.position - 1e-5 * state.momentum, exact.momentum)


def test_the_right_flow_passes_every_check():
    run = langevin(st.Euclidean())
    audit = run.audit(equilibrium=True)
    assert audit.passed, str(audit)
    assert {
        "onsager symmetry",
        "fluctuation-dissipation",
        "heat balance",
        "order of the balance",
        "free energy descent",
        "stationarity",
        "equipartition",
        "configurational temperature",
        "discretisation bias",
    } <= {check.name for check in audit.checks}
    assert "audit passed" in str(audit)


def test_a_metric_that_is_not_symmetric_fails_onsager_symmetry():
    flow = st.Flow(st.Energy(energy), Sheared())
    audit = st.solve(flow, jnp.ones(2), scheme=st.Euler(0.02), steps=50).audit()
    assert audit["onsager symmetry"].passed is False
    assert not audit.passed


def test_a_negative_metric_fails_onsager_symmetry():
    class Negative(Euclidean):
        def sharp(self, state, covector):
            return -covector

    flow = st.Flow(st.Energy(energy), Negative())
    audit = st.solve(flow, 0.1 * jnp.ones(2), scheme=st.Euler(0.02), steps=20).audit()
    assert audit["onsager symmetry"].passed is False
    assert audit["monotone descent"].passed is False


def test_noise_at_the_wrong_temperature_fails_three_checks():
    audit = langevin(Hot()).audit(equilibrium=True)
    for name in ("fluctuation-dissipation", "equipartition", "configurational temperature"):
        assert audit[name].passed is False, str(audit)


class Relative(st.geometries.AbstractGeometry):
    """K = diag(x^2), whose divergence is 2 x; `share` of it is what the geometry says."""

    share: float

    def sharp(self, state, covector):
        return state**2 * covector

    def sqrt(self, state, white):
        return state * white[0]

    def divergence(self, state):
        return self.share * 2.0 * state


@pytest.mark.parametrize("share, defect", [(1.0, 0.0), (0.9, 0.1), (0.0, 1.0)])
def test_a_bath_without_the_divergence_of_k_fails_the_audit(share, defect):
    flow = st.Flow(st.Energy(energy), Relative(share), st.Thermal(0.1))
    run = st.solve(flow, jnp.ones(2), scheme=st.Euler(1e-3), steps=4, key=KEY)
    check = run.audit()["divergence of K"]
    np.testing.assert_allclose(check.residual, defect, atol=1e-12)
    assert check.passed is (share == 1.0)


def test_a_field_that_would_hide_a_method_is_refused_at_once():
    with pytest.raises(st.ArgumentError, match=r"Paced\.rate: .* has a method"):

        class Paced(Euclidean):
            rate: float


def test_kinetic_noise_at_the_wrong_temperature_fails_the_kinetic_temperature():
    class HotBath(st.Thermal):
        def at(self, time):
            return HotBath(1.5)

    flow = st.Flow(st.Energy(energy), st.Symplectic() + st.Friction(1.0), HotBath(1.0))
    start = st.Particles.from_positions(st.Phase.at_rest(chains().positions))
    run = st.solve(flow, start, scheme=st.BAOAB(0.1), steps=1500, save_every=10, key=KEY)
    declared = st.Flow(st.Energy(energy), st.Symplectic() + st.Friction(1.0), st.Thermal(1.0))
    audit = dataclasses.replace(run, flow=declared).audit(equilibrium=True)
    for name in ("kinetic temperature", "equipartition", "configurational temperature"):
        assert audit[name].passed is False, str(audit)


@pytest.mark.parametrize("wrong", [WrongSign, HalfGradient])
def test_a_wrong_gradient_fails_the_order_of_the_balance(wrong):
    flow = st.Flow(wrong(energy), st.Euclidean())
    run = st.solve(flow, 0.5 * jnp.ones(2), scheme=st.Euler(0.01), steps=60)
    audit = run.audit()
    assert audit["order of the balance"].passed is False, str(audit)
    if wrong is WrongSign:
        assert audit["monotone descent"].passed is False
        assert audit["energy-dissipation balance"].passed is False


def test_a_wrong_gradient_fails_the_heat_balance_order_with_noise():
    flow = st.Flow(HalfGradient(energy), st.Euclidean(), st.Thermal(1.0))
    for start in (jnp.ones(2), chains(100)):
        run = st.solve(flow, start, scheme=st.Euler(0.01), steps=400, key=KEY)
        assert run.audit(equilibrium=False)["order of the balance"].passed is False


def test_a_ledger_that_was_tampered_with_fails_the_balance():
    flow = st.Flow(st.Energy(energy), st.Euclidean())
    run = st.solve(flow, jnp.ones(2), scheme=st.Euler(0.01), steps=100)
    broken = dataclasses.replace(run.ledger, closure=run.ledger.closure + 0.2)
    assert run.audit().passed
    audit = dataclasses.replace(run, ledger=broken).audit()
    assert audit["energy-dissipation balance"].passed is False


def test_adaptive_steps_close_to_their_tolerance_and_a_wrong_gradient_does_not():
    options = dict(scheme=st.RungeKutta(), time=1.0)
    assert (
        st.solve(st.Flow(st.Energy(energy), st.Euclidean()), jnp.ones(2), **options).audit().passed
    )
    audit = st.solve(st.Flow(HalfGradient(energy), st.Euclidean()), jnp.ones(2), **options).audit()
    assert audit["energy-dissipation balance"].passed is False


def test_a_wrong_force_fails_energy_conservation():
    start = st.Phase(jnp.ones(2), jnp.zeros(2))
    right = st.Flow(st.Energy(energy), st.Symplectic())
    assert st.solve(right, start, scheme=st.Leapfrog(0.05), steps=2000).audit().passed
    wrong = st.Flow(WrongForce(st.Energy(energy)), st.Symplectic())
    audit = st.solve(wrong, start, scheme=st.Leapfrog(0.05), steps=2000).audit()
    assert audit["order of the balance"].passed is False


def test_a_creeping_energy_fails_the_drift():
    start = st.Phase(jnp.ones(2), jnp.zeros(2))
    wrong = st.Flow(Leaky(st.Energy(energy)), st.Symplectic())
    run = st.solve(wrong, start, scheme=st.Leapfrog(0.05), steps=20000, save_every=10)
    assert run.audit()["energy drift"].passed is False


def test_de_giorgi_fails_where_the_inner_problem_went_uphill():
    flow = st.Flow(st.Energy(energy), st.Euclidean())
    run = st.solve(flow, jnp.ones(2), scheme=st.MinimizingMovement(0.1), steps=20)
    assert run.audit()["De Giorgi inequality"].passed
    # A metric that understates its own cost lets the step go further than the inequality allows.
    worse = dataclasses.replace(run.ledger, violation=run.ledger.violation + 0.5)
    assert dataclasses.replace(run, ledger=worse).audit()["De Giorgi inequality"].passed is False

    class Uphill(st.MinimizingMovement):
        def _minimise(self, problem):
            old, new = problem.functional(problem.state), problem.state + 0.3
            cost = 0.5 * 0.09 / problem.step
            return Movement(new, problem.functional(new) - old + cost, jnp.array(0.0))

    audit = st.solve(flow, jnp.ones(2), scheme=Uphill(0.1), steps=5).audit()
    assert audit["De Giorgi inequality"].passed is False
    assert audit["monotone descent"].passed is False


def test_a_rising_free_energy_fails_the_second_law():
    """Started from its Gibbs law, an ensemble that is heated leaves it."""
    start = st.solve(
        st.Flow(st.Energy(energy), st.Euclidean(), st.Thermal(0.2)),
        chains(),
        scheme=st.Euler(0.02),
        steps=500,
        key=KEY,
        save_every=500,
    ).final
    heated = st.Flow(st.Energy(energy), st.Euclidean(), st.Thermal(3.0))
    run = st.solve(heated, start, scheme=st.Euler(0.02), steps=400, save_every=10, key=KEY)
    assert run.audit(equilibrium=False)["free energy descent"].passed
    declared = st.Flow(st.Energy(energy), st.Euclidean(), st.Thermal(0.2))
    audit = dataclasses.replace(run, flow=declared).audit(equilibrium=False)
    assert audit["free energy descent"].passed is False


def test_a_run_that_still_relaxes_fails_stationarity_only_when_asked():
    far = st.Particles.from_positions(5.0 + chains().positions)
    flow = st.Flow(st.Energy(lambda x: 0.05 * jnp.sum(x**2)), st.Euclidean(), st.Thermal(0.1))
    run = st.solve(flow, far, scheme=st.Euler(0.05), steps=200, key=KEY)
    assert run.audit(equilibrium=True)["stationarity"].passed is False
    assert run.audit()["stationarity"].passed is None
    assert "stationarity" not in run.audit(equilibrium=False)


def test_a_step_whose_bias_is_too_large_fails_the_bias_check():
    run = langevin(st.Euclidean(), scheme=st.Euler(0.06), steps=1000)
    audit = run.audit(equilibrium=True, bias_tolerance=0.05)
    assert audit["discretisation bias"].passed is False
    assert (
        langevin(st.Euclidean(), scheme=st.Metropolis(st.Euler(0.06)), steps=1000)
        .audit(equilibrium=True, bias_tolerance=0.05)
        .passed
    )


def test_a_chain_that_hardly_moves_fails_the_rejection_check():
    stiff = st.Flow(st.Energy(lambda x: 1e4 * energy(x)), st.Euclidean(), st.Thermal(1.0))
    run = st.solve(
        stiff, chains(50), scheme=st.Metropolis(st.Euler(0.02)), steps=200, save_every=10, key=KEY
    )
    assert run.audit()["rejection"].passed is False
    fine = langevin(st.Euclidean(), scheme=st.Metropolis(st.Euler(0.02)), steps=100)
    assert fine.audit()["rejection"].passed


def test_what_cannot_be_judged_says_why():
    data = jnp.linspace(-1, 1, 20)
    risk = st.EmpiricalRisk(lambda x, y: 0.5 * jnp.sum((x - y) ** 2), data, batch_size=4)
    flow = st.Flow(risk, st.Euclidean(), st.Minibatch())
    audit = st.solve(flow, jnp.ones(()), scheme=st.Euler(0.1), steps=64, key=KEY).audit()
    assert audit["balance"].passed is None and "subsampled" in audit["balance"].why
    assert audit["equilibrium"].passed is None
    assert "not judged" in str(audit)
    run = langevin(st.Euclidean(), steps=100, ledger="saves")
    assert run.audit()["balance"].passed is None


def test_an_audit_without_judged_checks_does_not_pass():
    from steepest.audit import Audit, Check

    assert not Audit((Check.undecided("x", "no reason"),)).passed
    assert not Audit((Check.compare("x", np.nan, 1.0, ""),)).passed
    with pytest.raises(KeyError):
        Audit(())["nothing"]
