"""Lagrangians: Euler-Lagrange equations, momenta, Legendre transforms, constraints (eq. 10-29)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.mechanics import Lagrangian

# Two pendulums of masses m1, m2 and lengths l1, l2 under gravity g.
M1, M2, L1, L2, G = 1.3, 0.7, 0.9, 1.1, 9.81


def double_pendulum(q, v):
    (a, b), (u, w) = q, v
    kinetic = 0.5 * M1 * (L1 * u) ** 2 + 0.5 * M2 * (
        (L1 * u) ** 2 + (L2 * w) ** 2 + 2 * L1 * L2 * u * w * jnp.cos(a - b)
    )
    return kinetic + (M1 + M2) * G * L1 * jnp.cos(a) + M2 * G * L2 * jnp.cos(b)


def double_pendulum_by_hand(q, v):
    """The textbook's two equations, solved by Cramer's rule."""
    (a, b), (u, w) = q, v
    s, c = np.sin(a - b), np.cos(a - b)
    m = np.array([[(M1 + M2) * L1, M2 * L2 * c], [L1 * c, L2]])
    f = [-M2 * L2 * w**2 * s - (M1 + M2) * G * np.sin(a), L1 * u**2 * s - G * np.sin(b)]
    det = m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]
    return np.array([m[1, 1] * f[0] - m[0, 1] * f[1], m[0, 0] * f[1] - m[1, 0] * f[0]]) / det


def kepler(q, v):
    return 0.5 * jnp.sum(v**2) + 1.0 / jnp.sqrt(jnp.sum(q**2))


FIELD = jnp.array([0.3, -0.2, 1.7])


def magnetic(q, v, t):
    """A charge in the vector potential B x q / 2 and a potential that grows with time."""
    return 0.5 * jnp.sum(v**2) + 0.5 * jnp.dot(jnp.cross(FIELD, q), v) - t * q[0]


def magnetic_by_hand(q, v, t):
    return np.cross(v, FIELD) - np.array([t, 0.0, 0.0])


ACCELERATIONS = {
    fn: jax.jit(Lagrangian(fn).acceleration) for fn in (double_pendulum, kepler, magnetic)
}
POINT = np.random.default_rng(0)


def draw(size):
    return POINT.standard_normal(size), POINT.standard_normal(size)


@pytest.mark.parametrize("seed", range(3))
def test_accelerations_are_those_derived_by_hand(seed):
    q, v = draw(2)
    found = ACCELERATIONS[double_pendulum](q, v)
    np.testing.assert_allclose(found, double_pendulum_by_hand(q, v), rtol=1e-12, atol=1e-12)
    q, v = draw(3)
    found = ACCELERATIONS[kepler](q, v)
    np.testing.assert_allclose(found, -q / np.linalg.norm(q) ** 3, rtol=1e-12, atol=1e-12)
    found = ACCELERATIONS[magnetic](q, v, 0.4)
    np.testing.assert_allclose(found, magnetic_by_hand(q, v, 0.4), rtol=1e-12, atol=1e-12)


def test_the_residual_of_eq_13_at_any_acceleration():
    """dL/dq - d/dt dL/dv = M (a_motion - a), whatever a is (eq. 13, 21)."""
    lagrangian = Lagrangian(double_pendulum)
    (q, v), (a, _) = draw(2), draw(2)
    mass = lagrangian.mass_matrix(q, v)
    residual = lagrangian.euler_lagrange_residual(q, v, a)
    expected = mass @ (double_pendulum_by_hand(q, v) - a)
    np.testing.assert_allclose(residual, expected, rtol=1e-12, atol=1e-12)
    # Of a moving magnetic particle the explicit time and the curl both enter.
    (q, v), (a, _) = draw(3), draw(3)
    residual = Lagrangian(magnetic).euler_lagrange_residual(q, v, a, 0.4)
    np.testing.assert_allclose(residual, magnetic_by_hand(q, v, 0.4) - a, rtol=1e-12, atol=1e-12)


def test_newtons_law_from_the_running_example_by_symbols():
    """Eq. 10-11, 23-28: sympy gives m x'' = -V'(x) from L = m x'^2/2 - V(x); autodiff agrees."""
    sympy = pytest.importorskip("sympy")
    t, m = sympy.symbols("t m", positive=True)
    x = sympy.Function("x")(t)
    potential = sympy.Function("V")
    lagrangian = m * x.diff(t) ** 2 / 2 - potential(x)
    equation = lagrangian.diff(x) - lagrangian.diff(x.diff(t)).diff(t)
    assert sympy.simplify(equation - (-potential(x).diff(x) - m * x.diff(t, 2))) == 0
    # With V = x^4 - cos 3x at numbers, the symbolic equation against the automatic one.
    special = lagrangian.subs(potential(x), x**4 - sympy.cos(3 * x)).doit()
    symbols = sympy.symbols("q v a")
    expression = special.diff(x) - special.diff(x.diff(t)).diff(t)
    expression = expression.subs(x.diff(t, 2), symbols[2]).subs(x.diff(t), symbols[1])
    numbers = dict(zip(symbols, (0.7, -0.4, 1.9), strict=True)) | {m: 2.5}
    expected = float(expression.subs(x, symbols[0]).subs(numbers))
    own = Lagrangian(lambda q, v: 0.5 * 2.5 * v**2 - q**4 + jnp.cos(3 * q))
    at = jnp.asarray(0.7), jnp.asarray(-0.4), jnp.asarray(1.9)
    np.testing.assert_allclose(own.euler_lagrange_residual(*at), expected, rtol=1e-13)
    # Term by term: -V' = -4 x^3 - 3 sin 3x, m v and m a, of the particle's Lagrangian.
    particle = Lagrangian.particle(lambda q: q**4 - jnp.cos(3 * q), 2.5)
    np.testing.assert_allclose(particle(*at[:2]), own(*at[:2]), rtol=1e-14)
    force = -4 * 0.7**3 - 3 * np.sin(3 * 0.7)
    np.testing.assert_allclose(particle.pull(*at[:2]), force, rtol=1e-13)
    np.testing.assert_allclose(particle.momentum(*at[:2]), 2.5 * -0.4, rtol=1e-14)
    np.testing.assert_allclose(particle.momentum_rate(*at), 2.5 * 1.9, rtol=1e-14)
    np.testing.assert_allclose(particle.acceleration(*at[:2]), force / 2.5, rtol=1e-13)


def test_legendre_transforms_there_and_back():
    lagrangian = Lagrangian(double_pendulum)
    q, v = draw(2)
    p = jax.jit(lagrangian.momentum)(q, v)
    np.testing.assert_allclose(p, jax.jit(lagrangian.mass_matrix)(q, v) @ v, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(lagrangian.velocity)(q, p), v, rtol=1e-12)
    energy = jax.jit(lagrangian.energy)(q, v)
    np.testing.assert_allclose(jax.jit(lagrangian.hamiltonian)(q, p), energy, rtol=1e-12)
    back = Lagrangian.from_hamiltonian(lambda q, p: jnp.sqrt(4 + jnp.sum(p**2)))
    slow = jnp.array([0.6, -0.3])
    expected = -2.0 * jnp.sqrt(1 - jnp.sum(slow**2))
    np.testing.assert_allclose(jax.jit(back.__call__)(slow, slow), expected, rtol=1e-10)
    # A kinetic energy that is not quadratic: H = sqrt(m^2 + p^2) of a relativistic particle.
    fast = Lagrangian(lambda q, v: -2.0 * jnp.sqrt(1 - jnp.sum(v**2)))
    speed = jnp.array([0.6, -0.3])
    momentum = fast.momentum(q, speed)
    np.testing.assert_allclose(fast.velocity(q, momentum), speed, rtol=1e-10)
    root = np.sqrt(4 + np.sum(momentum**2))
    np.testing.assert_allclose(fast.hamiltonian(q, momentum), root, rtol=1e-12)


def test_the_differential_of_h_is_that_of_automatic_differentiation():
    functional = Lagrangian(double_pendulum).flow().functional
    phase = st.Phase(*draw(2))
    both = jax.jit(lambda x: (functional.differential(x), jax.grad(functional)(x)))
    own, automatic = both(phase)
    np.testing.assert_allclose(own.position, automatic.position, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(own.momentum, automatic.momentum, rtol=1e-10, atol=1e-10)


def test_pytrees_and_single_precision():
    """A configuration is any coordinates, in any structure (eq. 4)."""

    def fn(q, v):
        return 0.5 * jnp.sum(v["a"] ** 2) + v["b"] ** 2 - jnp.sum(q["a"]) * q["b"]

    q = {"a": jnp.ones(2, jnp.float32), "b": jnp.float32(2.0)}
    found = Lagrangian(fn).acceleration(q, q)
    assert found["a"].dtype == jnp.float32
    np.testing.assert_allclose(found["a"], [-2.0, -2.0], rtol=1e-6)
    np.testing.assert_allclose(found["b"], -1.0, rtol=1e-6)


def test_friction_and_force():
    """m a = -k q - c v + f, and the energy falls at v . (c v - f)."""
    damped = Lagrangian(
        lambda q, v: 0.5 * 2.0 * v**2 - 0.5 * 3.0 * q**2,
        rayleigh=lambda q, v, t: 0.5 * 0.4 * v**2,
        force=lambda q, v, t: jnp.cos(t),
    )
    q, v, t = jnp.asarray(0.8), jnp.asarray(-1.1), 0.3
    expected = (-3.0 * 0.8 + 0.4 * 1.1 + np.cos(0.3)) / 2.0
    np.testing.assert_allclose(damped.acceleration(q, v, t), expected, rtol=1e-13)
    rate = 0.4 * 1.1**2 + np.cos(0.3) * 1.1
    np.testing.assert_allclose(damped.dissipation_rate(q, v, t), rate, rtol=1e-13)


def test_a_constraint_gives_the_pendulum():
    """A bead on a circle of radius 2: the angle's equation and the tension of the rod."""
    rod = Lagrangian(
        lambda q, v: 0.5 * jnp.sum(v**2) - G * q[1],
        constraint=lambda q: 0.5 * (jnp.sum(q**2) - 4.0),
    )
    angle, turn = 0.7, 1.3
    q = 2.0 * jnp.array([np.sin(angle), -np.cos(angle)])
    along, inward = jnp.array([np.cos(angle), np.sin(angle)]), -q / 2.0
    a = rod.acceleration(q, 2.0 * turn * along)
    np.testing.assert_allclose(jnp.dot(a, along), -G * np.sin(angle), rtol=1e-12)
    np.testing.assert_allclose(jnp.dot(a, inward), 2.0 * turn**2, rtol=1e-12)
    tension = 2.0 * turn**2 + G * np.cos(angle)
    np.testing.assert_allclose(rod.multipliers(q, 2.0 * turn * along) * -2.0, [tension], rtol=1e-12)


def flattened(q, v):
    """No kinetic energy of the second coordinate."""
    return v[0] ** 2 - q[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lagrangian(3.0), "fn"),
        (lambda: Lagrangian(lambda q: q), "1 arguments"),
        (lambda: Lagrangian(kepler, force=2.0), "force"),
        (lambda: Lagrangian(lambda q, v: v)(jnp.ones(2), jnp.ones(2)), "scalar"),
        (
            lambda: Lagrangian(lambda q, v: v[0] ** 2 - q[1]).acceleration(
                jnp.ones(2), jnp.ones(2)
            ),
            "rank 1 of 2.*degenerate",
        ),
        (
            lambda: Lagrangian(flattened).velocity(jnp.ones(2), jnp.ones(2)),
            "no velocity has this momentum",
        ),
        (lambda: Lagrangian(kepler, rayleigh=lambda q, v, t: 0.0).flow(), "Friction"),
    ],
)
def test_bad_lagrangians_are_refused(make, message):
    with pytest.raises(st.ArgumentError, match=message):
        make()
