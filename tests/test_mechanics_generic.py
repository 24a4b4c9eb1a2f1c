"""Metriplectic flows: both laws of thermodynamics, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest import problems
from steepest.audit.conservation import conservation_checks
from steepest.audit.context import Context
from steepest.mechanics import Metriplectic

MASS, STIFFNESS, FRICTION, CAPACITY = 1.3, 2.0, 0.4, 3.0


def heat(s):
    """U(s) of the bath; its temperature is exp(s / CAPACITY)."""
    return CAPACITY * jnp.exp(s / CAPACITY)


def oscillator_energy(x):
    q, p, s = x
    return p**2 / (2 * MASS) + 0.5 * STIFFNESS * q**2 + heat(s)


def rubbing(x):
    """The friction matrix: kinetic energy goes into the bath, none is lost."""
    temperature = jnp.exp(x[2] / CAPACITY)
    w = jnp.stack([jnp.zeros_like(x[1]), jnp.ones_like(x[1]), -x[1] / (MASS * temperature)])
    return FRICTION * temperature * jnp.outer(w, w)


def turning(x):
    return jnp.zeros((x.size, x.size)).at[0, 1].set(1.0).at[1, 0].set(-1.0)


def gas(s, volume):
    """U of an ideal monatomic gas; its temperature is 2 U / 3."""
    return volume ** (-2 / 3) * jnp.exp(2 * s / 3)


def containers_energy(x):
    """A piston of mass 1 between two gases that share a volume of 2."""
    q, p, s1, s2 = x
    return 0.5 * p**2 + gas(s1, q) + gas(s2, 2.0 - q)


def leaking(x):
    q, _, s1, s2 = x
    zero = jnp.zeros_like(q)
    w = jnp.stack([zero, zero, 1.5 / gas(s1, q), -1.5 / gas(s2, 2.0 - q)])
    return 0.5 * jnp.outer(w, w)


CASES = {
    "oscillator": (oscillator_energy, lambda x: x[2], rubbing, [1.0, 0.5, 0.2], 0.1, 1500),
    "containers": (
        containers_energy,
        lambda x: x[2] + x[3],
        leaking,
        [1.0, 2.0, 0.1, 0.9],
        0.02,
        3000,
    ),
}


@pytest.fixture(scope="module", params=list(CASES))
def case(request):
    energy, entropy, friction, start, step, steps = CASES[request.param]
    flow = Metriplectic(energy, entropy, turning, friction)
    scheme = st.DiscreteGradient(step)
    run = st.solve(flow, jnp.asarray(start), scheme=scheme, steps=steps)
    return request.param, flow, run


def test_energy_stays_and_entropy_grows_at_every_step(case):
    name, flow, run = case
    energy = np.asarray(run.ledger.conserved["energy"])
    assert np.abs(np.diff(energy)).max() <= 1e-13
    entropy = np.asarray(jax.vmap(flow.entropy)(run.states))
    assert (np.diff(entropy) >= 0).all(), np.diff(entropy).min()
    assert entropy[-1] > entropy[0] + 0.5
    # The ledger's dissipation is the entropy made, but for round-off of so many steps.
    made = entropy - entropy[0]
    np.testing.assert_allclose(run.ledger.dissipated, made, atol=1e-12)
    if name == "oscillator":  # all mechanical energy ends as heat
        np.testing.assert_allclose(heat(run.final[2]), energy[0], rtol=1e-7)
    else:  # one temperature; exchange has become slow, the piston still swings
        q, _, s1, s2 = run.final
        assert abs(gas(s1, q) / gas(s2, 2.0 - q) - 1) < 0.2


def test_degeneracy_at_every_save(case):
    _, flow, run = case
    off = jax.jit(jax.vmap(lambda x: jnp.stack([t.degeneracy(x) for t in flow.geometry.terms])))
    assert float(off(run.states).max()) <= 1e-14


def test_the_audit_passes_and_the_flow_says_what_it_keeps(case):
    name, flow, run = case
    assert flow.card()["conserves"] == "E=" + flow.energy.fn.__name__
    if name == "oscillator":
        checks = conservation_checks(Context(run))
        assert [c.name for c in checks] == ["symmetry of energy", "conservation of energy"]
        assert all(c.passed for c in checks), checks


def test_the_velocity_is_that_of_mechanics_and_heat():
    """dq = p/m, dp = -k q - gamma p/m, ds = gamma (p/m)^2 / temperature."""
    flow = Metriplectic(oscillator_energy, lambda x: x[2], turning, rubbing)
    q, p, s = 0.7, -0.9, 0.3
    found = flow.velocity(jnp.array([q, p, s]))
    v, temperature = p / MASS, np.exp(s / CAPACITY)
    expected = [v, -STIFFNESS * q - FRICTION * v, FRICTION * v**2 / temperature]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_the_named_systems_are_those_above():
    """Velocity and energy at one point each, of `problems` against the functions of this file."""
    bath = (
        problems.heat_bath(1.0, MASS, STIFFNESS, FRICTION, CAPACITY, dtype=jnp.float64),
        Metriplectic(oscillator_energy, lambda x: x[2], turning, rubbing),
    )
    gases = (
        problems.gas_containers(dtype=jnp.float64),
        Metriplectic(containers_energy, lambda x: x[2] + x[3], turning, leaking),
    )
    for problem, flow in (bath, gases):
        x = problem.start["state"] + 0.1 * jnp.arange(1, 1 + problem.start["state"].size)
        found = problem.flow.velocity({"state": x})["state"]
        np.testing.assert_allclose(found, flow.velocity(x), rtol=1e-12)
        np.testing.assert_allclose(problem.flow.energy({"state": x}), flow.energy(x), rtol=1e-13)


def test_a_free_rigid_body_keeps_energy_and_casimir():
    """Lie-Poisson: dx/dt = x x dH, without friction; |x|^2 is a Casimir."""
    inertia = jnp.array([1.0, 2.0, 3.5])
    energy = st.Energy(lambda x: 0.5 * jnp.sum(x**2 / inertia))
    cross = lambda x: jnp.array([[0, -x[2], x[1]], [x[2], 0, -x[0]], [-x[1], x[0], 0]])  # noqa: E731
    casimir = st.Energy(lambda x: 0.5 * jnp.sum(x**2))
    flow = st.Flow(energy, st.Poisson(lambda x: cross(x), (casimir,)))
    run = st.solve(flow, jnp.array([0.3, 1.2, 0.4]), scheme=st.DiscreteGradient(0.1), steps=200)
    assert np.abs(run.ledger.functional - run.ledger.functional[0]).max() < 1e-14
    size = jax.vmap(casimir)(run.states)
    assert float(jnp.abs(size - size[0]).max()) < 1e-14
    velocity = flow.velocity(jnp.array([0.3, 1.2, 0.4]))
    x = np.array([0.3, 1.2, 0.4])
    np.testing.assert_allclose(velocity, np.cross(x, x / np.asarray(inertia)), rtol=1e-13)


@pytest.mark.parametrize(
    ("poisson", "friction", "message"),
    [
        (None, None, "at least one"),
        (lambda x: jnp.eye(3), rubbing, "antisymmetric"),
        (turning, lambda x: -rubbing(x), "semi-definite"),
        (turning, lambda x: jnp.eye(3), "degeneracy"),
        (turning, lambda x: jnp.eye(2), "shape"),
        (lambda x: turning(x) + jnp.eye(3, k=2) - jnp.eye(3, k=-2), rubbing, "degeneracy"),
        (3.0, rubbing, "matrix"),
    ],
)
def test_brackets_that_break_the_laws_are_refused(poisson, friction, message):
    with pytest.raises(st.ArgumentError, match=message):
        flow = Metriplectic(oscillator_energy, lambda x: x[2], poisson, friction)
        st.solve(flow, jnp.array([1.0, 0.5, 0.2]), scheme=st.DiscreteGradient(0.1), steps=1)
