"""Schemes of mechanics: orders, symplecticity, long runs, friction, constraints, collisions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import steepest as st
from steepest import problems
from steepest.audit import symplectic_defect
from steepest.mechanics import Lagrangian, action, momentum_map


def henon_heiles(q):
    return 0.5 * jnp.sum(q**2) + q[0] ** 2 * q[1] - q[1] ** 3 / 3.0


STAR = st.Flow(st.Energy(henon_heiles), st.Symplectic())
FLAT = st.Flow(st.Energy(henon_heiles), st.Euclidean())
START = st.Phase(jnp.array([0.1, -0.2]), jnp.array([0.35, 0.2]))
SCHEMES = [
    st.Leapfrog(0.1),
    st.McLachlan(0.1),
    st.Yoshida(0.1),
    st.McLachlan(0.1, 4),
    st.ForestRuth(0.1),
    st.Yoshida(0.1, 6),
    st.Variational(0.1),
    st.Variational(0.1, 4),
    st.Variational(0.1, 6),
    st.Variational(0.1, 4, "lobatto"),
    st.DiscreteGradient(0.1),
]


def advance(flow, scheme, state, step, count):
    """The scheme alone, without the driver."""

    def one(_, carry):
        state, memory = carry
        new, memory, _ = scheme.advance(flow, state, memory, 0.0, step, None)
        return new, memory

    start = (state, scheme.init(flow, state, 0.0, None))
    return jax.lax.fori_loop(0, count, one, start)[0]


@pytest.fixture(scope="module")
def reference():
    """(q, p) of the star at time 2, by scipy's DOP853 at the tightest tolerance it takes."""

    def field(t, y):
        q, p = y[:2], y[2:]
        return [*p, -q[0] - 2 * q[0] * q[1], -q[1] - q[0] ** 2 + q[1] ** 2]

    start = np.concatenate([START.position, START.momentum])
    return solve_ivp(field, (0, 2), start, "DOP853", rtol=1e-13, atol=1e-13).y[:, -1]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_orders_and_symplecticity(scheme, reference):
    """Error against DOP853 at two steps; and M^T J M = J to 1e-12 of every symplectic scheme."""
    move = jax.jit(
        lambda step, count: (
            advance(STAR, scheme, START, step, count),
            symplectic_defect(STAR, scheme, START)[0],
        )
    )
    errors = []
    for count in (10, 20):
        end, defect = move(2.0 / count, count)
        errors.append(np.abs(np.concatenate([end.position, end.momentum]) - reference).max())
    measured = np.log2(errors[0] / errors[1])
    assert abs(measured - scheme.order) < 0.1, (errors, measured)
    assert scheme.symplectic == (not isinstance(scheme, st.DiscreteGradient))
    if scheme.symplectic:
        assert float(defect) < 1e-12
    else:
        assert float(defect) > 1e-7  # of a discrete gradient, order step^3


def test_verlet_is_the_lobatto_scheme_of_order_2():
    one = advance(STAR, st.Leapfrog(0.1), START, 0.1, 3)
    two = advance(STAR, st.Variational(0.1, 2, "lobatto"), START, 0.1, 3)
    np.testing.assert_allclose(one.position, two.position, rtol=1e-14)
    np.testing.assert_allclose(one.momentum, two.momentum, rtol=1e-14)


def test_what_is_not_symplectic_is_seen():
    """Euler's map expands area by 1 + step^2 d^2E."""
    assert float(symplectic_defect(STAR, st.Euler(0.1), START)[0]) > 1e-3
    with pytest.raises(st.ArgumentError, match="Phase"):
        symplectic_defect(
            st.Flow(st.Energy(henon_heiles), st.Euclidean()), st.Euler(0.1), START.position
        )


def test_a_fine_run_agrees_with_dop853_to_its_own_accuracy(reference):
    """Order 6 at step 0.01 errs by 1e-6 of its error at 0.1, 1e-9: what is left is DOP853's."""
    end = advance(STAR, st.Variational(0.01, 6), START, 0.01, 200)
    got = np.concatenate([end.position, end.momentum])
    np.testing.assert_allclose(got, reference, atol=2e-13)


def test_the_scheme_makes_the_discrete_action_stationary():
    """Midpoints: dS_d/dq_k = 0 along its positions (discrete Euler-Lagrange, eq. 15, 22)."""
    one = lambda x, _: (advance(STAR, st.Variational(0.1), x, 0.1, 1), x)  # noqa: E731
    states = jax.lax.scan(one, START, None, length=21)[1]
    path, times = states.position, 0.1 * jnp.arange(21)
    star = Lagrangian(lambda q, v: 0.5 * jnp.sum(v**2) - henon_heiles(q))
    gradient = jax.jit(jax.grad(lambda p: action(star, p, times)))
    slope = gradient(path)
    assert float(jnp.abs(slope[1:-1]).max()) < 1e-14
    # At the ends it is the momentum: -dS/dq_0 = p_0 and dS/dq_N = p_N.
    np.testing.assert_allclose(-slope[0], states.momentum[0], atol=1e-13)
    np.testing.assert_allclose(slope[-1], states.momentum[-1], atol=1e-13)
    assert float(jnp.abs(gradient(path + 1e-3 * path**2)[1:-1]).max()) > 1e-6


def rotation(s, q):
    x, y = q["q"]
    return {"q": jnp.stack([jnp.cos(s) * x - jnp.sin(s) * y, jnp.sin(s) * x + jnp.cos(s) * y])}


@pytest.fixture(scope="module")
def planet():
    problem = problems.kepler(0.6, dtype=jnp.float64)
    flow = st.Flow(problem.functional, st.Symplectic())
    return flow, st.Phase(problem.start, problem.momentum)


def test_kepler_for_a_million_steps(planet):
    """Energy bounded without trend; angular momentum, by Noether's theorem, to round-off.

    A million roundings of size eps, at random, add up to 1e3 eps = 2e-13. A translation is no
    symmetry of the sun's pull, and the audit says so.
    """
    flow, start = planet
    shift = momentum_map(lambda s, q: {"q": q["q"] + jnp.array([s, 0.0])})
    flow = flow.conserving({"angular momentum": momentum_map(rotation), "momentum": shift})
    run = st.solve(flow, start, scheme=st.Leapfrog(0.01), steps=10**6, save_every=500)
    energy = run.ledger.functional - run.ledger.functional[0]
    first, last = np.abs(energy[:400]).max(), np.abs(energy[-400:]).max()
    assert last < 4e-4 and last < 1.05 * first
    moved = run.ledger.conserved["angular momentum"]
    assert np.abs(moved - moved[0]).max() < 2e-13
    audit = run.audit()
    assert [c.name for c in audit.checks if c.passed is False] == ["symmetry of momentum"]
    assert audit["conservation of angular momentum"].passed
    assert audit["symplecticity"].residual < 1e-12
    # A column that was tampered with is not forgiven.
    run.ledger.conserved["angular momentum"][5] += 1e-9
    assert run.audit()["conservation of angular momentum"].passed is False


class Drifting(type(st.Leapfrog(0.01))):
    """Leapfrog that loses a share of the momentum at every step, and says that it is symplectic."""

    def advance(self, flow, state, memory, time, step, randomness):
        new, memory, entry = super().advance(flow, state, memory, time, step, randomness)
        momentum = jax.tree.map(lambda p: (1.0 - 2e-7) * p, new.momentum)
        return st.Phase(new.position, momentum), memory, entry


def drifting(step):
    """With the fields of leapfrog."""
    whole = st.Leapfrog(step)
    scheme = object.__new__(Drifting)
    for field in dataclasses.fields(whole):
        object.__setattr__(scheme, field.name, getattr(whole, field.name))
    return scheme


def test_energy_that_drifts_under_a_scheme_called_symplectic_is_found(planet):
    # Bounded errors pass, held to their size in the first quarter; those that add up do not,
    # although the errors of single steps account for all of them.
    flow, start = planet
    flow = flow.conserving({"H": flow.functional})
    for scheme, passed in ((st.Leapfrog(0.01), True), (drifting(0.01), False)):
        run = st.solve(flow, start, scheme=scheme, steps=20_000, save_every=10)
        for name in ("energy conservation", "conservation of H"):
            check = run.audit()[name]
            assert check.passed is passed, check
            assert check.tolerance < 4 * check.residual or not passed


def test_noether_of_a_lagrangian():
    """L of a magnetic particle in an axial field turns with it: J = dL/dv . xi is not q x v."""
    field = 1.7
    charge = Lagrangian(
        lambda q, v: 0.5 * jnp.sum(v**2) + 0.5 * field * (q[0] * v[1] - q[1] * v[0])
    )
    turn = momentum_map(
        lambda s, q: jnp.array([[jnp.cos(s), -jnp.sin(s)], [jnp.sin(s), jnp.cos(s)]]) @ q
    )
    q, v = jnp.array([0.3, -0.8]), jnp.array([1.1, 0.4])
    expected = q[0] * v[1] - q[1] * v[0] + 0.5 * field * jnp.sum(q**2)
    np.testing.assert_allclose(turn.of(charge, q, v), expected, rtol=1e-14)
    assert abs(float(turn.change(charge, q, v))) < 1e-14
    slanted = Lagrangian(lambda q, v: 0.5 * jnp.sum(v**2) - q[0] ** 2)
    assert abs(float(turn.change(slanted, q, v))) > 0.1
    phase = st.Phase(q, charge.momentum(q, v))
    np.testing.assert_allclose(turn(phase), expected, rtol=1e-14)


def test_a_general_hamiltonian_by_lagrangian_or_by_hand():
    """The double pendulum: its Lagrangian's own flow, and H written out, are one motion."""
    m1, m2, l1, l2, g = 1.0, 1.0, 1.0, 1.0, 9.81

    def fn(q, v):
        (a, b), (u, w) = q["angle"], v["angle"]
        kinetic = 0.5 * m1 * (l1 * u) ** 2 + 0.5 * m2 * (
            (l1 * u) ** 2 + (l2 * w) ** 2 + 2 * l1 * l2 * u * w * jnp.cos(a - b)
        )
        height = (m1 + m2) * l1 * (1 - jnp.cos(a)) + m2 * l2 * (1 - jnp.cos(b))
        return kinetic - g * height

    problem = problems.double_pendulum((1.0, 1.5), dtype=jnp.float64)
    state = st.Phase(problem.start, {"angle": jnp.array([0.3, -0.2])})
    own, other = Lagrangian(fn).flow(), st.Flow(problem.functional, st.Symplectic())

    @jax.jit
    def both(x):
        step = st.Variational(0.02).advance(own, x, None, 0.0, 0.02, None)[0]
        again = st.Variational(0.02).advance(other, x, None, 0.0, 0.02, None)[0]
        return own.value(x), other.value(x), step, again

    values = both(state)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-13)
    for x, y in zip(jax.tree.leaves(values[2]), jax.tree.leaves(values[3]), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)
    with pytest.raises(st.ArgumentError, match="a splitting needs"):
        st.solve(other, state, scheme=st.Leapfrog(0.1), steps=1)


def test_discrete_gradients_keep_the_balance_at_every_friction():
    """H(0) - H(t) = dissipated, to round-off of 400 steps; at gamma = 0 nothing moves at all."""

    def run(gamma):
        flow = st.Flow(st.Energy(henon_heiles), st.Symplectic() + st.Friction(gamma))
        return st.solve(flow, START, scheme=st.DiscreteGradient(0.05), steps=400, save_every=4)

    for gamma in (0.0, 0.01, 1.0, 100.0):
        ledger = run(jnp.asarray(gamma)).ledger
        fallen = ledger.functional[0] - ledger.functional
        np.testing.assert_allclose(fallen, ledger.dissipated, atol=2e-14)
        assert (np.diff(ledger.functional) <= 2e-16).all()
        assert (fallen[-1] > 1e-3) == (gamma > 0)


def test_the_dial_ends_in_gradient_flow():
    """The position after gamma t is the gradient flow's at t, but for 1/gamma^2."""
    target = st.solve(
        FLAT,
        START.position,
        scheme=st.RungeKutta("dopri8", rtol=1e-11, atol=1e-12),
        time=1.0,
        steps=1,
    ).final
    flow = lambda g: st.Flow(st.Energy(henon_heiles), st.Symplectic() + st.Friction(g))  # noqa: E731
    scheme = st.Variational(1.0, 6)
    move = jax.jit(
        lambda g: advance(flow(g), scheme, st.Phase.at_rest(START.position), g / 200, 200)
    )
    gaps = [float(jnp.abs(move(g).position - target).max()) for g in (10.0, 40.0)]
    assert gaps[1] < 1e-3 and abs(gaps[0] / gaps[1] - 16) < 1.6, gaps


@pytest.mark.parametrize("gamma", [0.1, 3.0])
def test_baoab_is_conformally_symplectic_with_noise(gamma):
    """M^T J M = exp(-gamma step) J, at every friction, noise included."""
    flow = st.Flow(st.Energy(henon_heiles), st.Symplectic() + st.Friction(gamma), st.Thermal(0.3))
    defect = jax.jit(lambda f: symplectic_defect(flow, st.BAOAB(0.1), START, factor=f)[0])
    assert float(defect(np.exp(-gamma * 0.1))) < 1e-12
    assert float(defect(1.0)) > 1e-3


def test_an_ensemble_moves_as_its_points():
    starts = START.position + 0.01 * jnp.arange(6.0).reshape(3, 2)
    many = st.Particles.from_positions(st.Phase(starts, jnp.tile(START.momentum, (3, 1))))
    run = st.solve(STAR, many, scheme=st.Variational(0.1, 4), steps=4)
    one = advance(STAR, st.Variational(0.1, 4), st.Phase(starts[1], START.momentum), 0.1, 4)
    np.testing.assert_allclose(run.final.positions.position[1], one.position, rtol=1e-13)


def test_rattle_stays_on_the_sphere():
    """A spherical pendulum: constraint and its rate to round-off, order 2, vertical momentum."""
    g, mass = 9.81, 1.7
    surface = st.Holonomic(lambda q: 0.5 * (jnp.sum(q**2) - 1.0), mass)
    flow = st.Flow(st.Hamiltonian(st.Energy(lambda q: mass * g * q[2]), mass), surface)
    start = st.Phase(jnp.array([np.sin(1.0), 0.0, -np.cos(1.0)]), mass * jnp.array([0.0, 2.0, 0.0]))
    # The Dirac bracket's velocity is the constrained Lagrangian's acceleration.
    rod = Lagrangian(
        lambda q, v: 0.5 * mass * jnp.sum(v**2) - mass * g * q[2], constraint=surface.level
    )
    velocity = flow.velocity(start)
    a = rod.acceleration(start.position, start.momentum / mass)
    np.testing.assert_allclose(velocity.momentum, mass * a, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(velocity.position, start.momentum / mass, rtol=1e-12, atol=1e-12)
    ends = []
    for count in (25, 50, 100):
        run = st.solve(flow, start, scheme=st.Rattle(1.0 / count), steps=count)
        q, p = np.asarray(run.states.position), np.asarray(run.states.momentum)
        assert np.abs((q**2).sum(1) - 1).max() < 1e-14 and np.abs((q * p).sum(1)).max() < 1e-14
        turning = q[:, 0] * p[:, 1] - q[:, 1] * p[:, 0]
        assert np.abs(turning - turning[0]).max() < 1e-13
        ends.append(q[-1])
    ratio = np.abs(ends[0] - ends[1]).max() / np.abs(ends[1] - ends[2]).max()
    assert abs(ratio - 4) < 0.2
    with pytest.raises(st.ArgumentError, match="on the surface"):
        st.solve(flow, st.Phase(start.position, start.position), scheme=st.Rattle(0.1), steps=1)
    with pytest.raises(st.ArgumentError, match="Holonomic"):
        st.solve(STAR, START, scheme=st.Rattle(0.1), steps=1)


def test_rattle_is_as_good_as_float32_is_at_low_speed_and_short_steps():
    """Round-off of the constraint, eps/step, is then more than sqrt(eps)/100 of the multiplier."""
    flow = st.Flow(
        st.Hamiltonian(st.Energy(lambda q: 0.1 * q[0])),
        st.Holonomic(lambda q: 0.5 * (jnp.sum(q**2) - 1.0)),
    )
    start = st.Phase(jnp.array([-1.0, 0.0], jnp.float32), jnp.array([0.0, 0.1], jnp.float32))
    run = st.solve(flow, start, scheme=st.Rattle(0.01), steps=64, save_every=8)
    radius = np.linalg.norm(run.states.position, axis=1)
    # At most one rounding of q and one of q.q a step is left by the last Newton step.
    np.testing.assert_allclose(radius, 1.0, rtol=0, atol=8 * np.finfo(np.float32).eps)


def test_a_collision_stops_the_run_with_time_and_state():
    """Free fall from distance 1 reaches the sun at pi / sqrt(8) = 1.1107."""
    problem = problems.kepler(0.6, collision=0.02, dtype=jnp.float64)
    flow = st.Flow(problem.functional, st.Symplectic())
    fall = st.Phase.at_rest({"q": jnp.array([1.0, 0.0])})
    with pytest.raises(st.Diverged) as caught:
        st.solve(flow, fall, scheme=st.Leapfrog(1e-3), time=2.0)
    assert abs(caught.value.time - np.pi / np.sqrt(8)) < 5e-3
    last = caught.value.trajectory.final
    assert 0.02 < float(last.position["q"][0]) < 0.1 and np.isfinite(last.momentum["q"]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: st.Yoshida(0.1, 5), "order"),
        (lambda: st.McLachlan(0.1, 6), "order"),
        (lambda: st.Variational(0.1, 3), "accuracy"),
        (lambda: st.Variational(0.1, 2, "simpson"), "quadrature"),
        (lambda: st.Splitting(0.1, "BAB", (0.5, 1.0)), "one for each letter"),
        (lambda: st.Splitting(0.1, "BAB", (0.5, 1.0, 0.6)), "add to 1"),
        (lambda: st.Phase(jnp.ones(2), jnp.ones(3)), "momentum"),
        (lambda: STAR.conserving({"energy": 3.0}), "function of a state"),
        (lambda: momentum_map(3.0), "symmetry"),
        (lambda: st.solve(STAR, jnp.ones(3), scheme=st.Variational(0.1), steps=1), "Phase"),
        (
            lambda: st.solve(
                st.Flow(st.Energy(henon_heiles), st.Euclidean()),
                jnp.ones(2),
                scheme=st.Variational(0.1, 2, "lobatto"),
                steps=1,
            ),
            "needs a Phase",
        ),
        (lambda: problems.kepler(1.2), "eccentricity"),
        (lambda: problems.henon_heiles(0.2), "energy"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(st.ArgumentError, match=message):
        make()
