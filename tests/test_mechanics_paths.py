"""Boundary-value problems, Morse indices, transition paths, flow maps (eq. 1-3, 12-22)."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import ellipk

import steepest as st
from steepest.mechanics import (
    FlowMap,
    Lagrangian,
    action,
    contrast,
    first_variation,
    minimum_energy_path,
    onsager_machlup,
    stationary_path,
    transition_path,
    variation_terms,
)

ROOT = Path(__file__).parent.parent
OSCILLATOR = Lagrangian(lambda q, v: 0.5 * v**2 - 0.5 * q**2)
PENDULUM = Lagrangian(lambda q, v: 0.5 * v**2 + jnp.cos(q))


def oscillation(t, q0, q1, end):
    return q0 * np.cos(t) + (q1 - q0 * np.cos(end)) / np.sin(end) * np.sin(t)


@pytest.mark.parametrize("order", [2, 4, 6])
def test_the_oscillator_joins_its_ends_at_the_order_asked_for(order):
    errors = []
    for nodes in (9, 17):
        found = stationary_path(OSCILLATOR, 0.3, 0.9, 0.0, 2.0, nodes, order)
        gap = found.path - oscillation(np.asarray(found.times), 0.3, 0.9, 2.0)
        errors.append(np.abs(gap).max())
        assert found.residual < 1e-12 and found.morse_index == 0
    assert abs(np.log2(errors[0] / errors[1]) - order) < 0.1, errors
    # p = dL/dv at the ends, from the action alone: -S_0 and S_1 (Hamilton-Jacobi).
    speed = (0.9 - 0.3 * np.cos(2.0)) / np.sin(2.0)
    np.testing.assert_allclose(found.momenta[0], speed, rtol=100 * errors[1])


@pytest.mark.parametrize(("end", "index"), [(2.0, 0), (4.0, 1), (7.5, 2), (10.5, 3)])
def test_morse_index_counts_the_conjugate_points(end, index):
    """sin t vanishes at multiples of pi (eq. 22); the midpoint's clock is late by step^2/24."""
    found = stationary_path(OSCILLATOR, 0.0, 1.0, 0.0, end, 401)
    assert found.morse_index == index
    step = end / 400
    expected = np.pi * np.arange(1, index + 1)
    assert (np.abs(found.conjugate_times - expected) <= step + expected * step**2).all()
    assert found.kind == ("minimum" if index == 0 else f"saddle of index {index}")
    # The action is that of the exact path, cot(T)/2.
    np.testing.assert_allclose(found.action, 0.5 / np.tan(end), rtol=2 * step**2 * end**2)


def test_two_dimensions_count_twice():
    """An isotropic oscillator refocuses in both directions at once: index 2 beyond pi."""
    plane = Lagrangian(lambda q, v: 0.5 * jnp.sum(v**2) - 0.5 * jnp.sum(q**2))
    found = stationary_path(plane, jnp.zeros(2), jnp.array([1.0, 0.5]), 0.0, 4.0, 101, 4)
    assert found.morse_index == 2 and len(found.conjugate_times) == 2
    exact = np.sin(found.times)[:, None] / np.sin(4.0) * np.array([1.0, 0.5])
    np.testing.assert_allclose(found.path, exact, atol=1e-6)


def test_several_paths_from_several_guesses():
    """A pendulum, at the bottom at 0 and 8: it may hang (index 2), or swing once (index 1)."""
    hang = stationary_path(PENDULUM, 0.0, 0.0, 0.0, 8.0, 201)
    swing = stationary_path(
        PENDULUM, 0.0, 0.0, 0.0, 8.0, 201, guess=lambda t: 2.4 * jnp.sin(2 * jnp.pi * t / 8.0)
    )
    # Conjugate at multiples of pi: pi and 2 pi lie before 8.
    assert hang.morse_index == 2 and float(jnp.abs(hang.path).max()) == 0.0
    # One period is 4 K(m) = 8 with m = sin^2(amplitude / 2); the midpoint rule errs by step^2.
    m = brentq(lambda m: ellipk(m) - 2.0, 0.0, 0.99)
    amplitude = 2 * np.arcsin(np.sqrt(m))
    assert swing.morse_index == 1
    np.testing.assert_allclose(float(jnp.abs(swing.path).max()), amplitude, atol=0.04**2)
    assert swing.action < hang.action - 1.0
    # From a straight line Newton's method gets lost in so long a time; not from shorter ones.
    far = stationary_path(PENDULUM, 0.0, 1.0, 0.0, 4.0, 201)
    assert far.morse_index == 0 and far.residual < 1e-9
    # Both are motions: the energy at the ends and in the middle is the same.
    v = jnp.gradient(swing.path, swing.times[1] - swing.times[0])
    energy = 0.5 * v[2:-2] ** 2 - jnp.cos(swing.path[2:-2])
    assert float(jnp.ptp(energy)) < 0.02


def test_the_brachistochrone_is_a_cycloid():
    """Least time as a geodesic of dx^2/(2 g y), in u = sqrt(y), where the cusp is smooth."""
    gravity, radius, angle = 9.81, 0.5, 2.4
    optical = Lagrangian(lambda q, v: ((v[0] / q[1]) ** 2 + 4 * v[1] ** 2) / (4 * gravity))
    end = jnp.array([radius * (angle - np.sin(angle)), np.sqrt(radius * (1 - np.cos(angle)))])
    found = stationary_path(
        optical, jnp.zeros(2), end, 0.0, 1.0, 41, 4, guess=lambda t: end * jnp.stack([t**2, t])
    )
    s = np.asarray(found.times) * angle
    x, y = radius * (s - np.sin(s)), radius * (1 - np.cos(s))
    assert found.morse_index == 0
    np.testing.assert_allclose(found.path[:, 0], x, atol=1e-6)
    np.testing.assert_allclose(found.path[:, 1] ** 2, y, atol=1e-6)
    # S = time^2 / 2 along a geodesic run through in unit parameter.
    np.testing.assert_allclose(np.sqrt(2 * found.action), angle * np.sqrt(radius / gravity), 1e-6)


def test_action_and_first_variation():
    """Of sin t over [0, 2]: S = sin(4)/4 by quadrature, to step^2 by straight pieces (eq. 12)."""
    times = jnp.linspace(0.0, 2.0, 201)
    smooth = action(OSCILLATOR, jnp.sin, times)
    np.testing.assert_allclose(smooth, np.sin(4.0) / 4, rtol=1e-12)
    pieces = action(OSCILLATOR, jnp.sin(times), times)
    assert 1e-6 < abs(float(pieces - smooth)) < 1e-4
    motion = first_variation(OSCILLATOR, jnp.sin(times), times) / 0.01
    other = first_variation(OSCILLATOR, jnp.sin(2 * times), times) / 0.01
    assert float(jnp.abs(motion).max()) < 1e-4
    # dL/dq - d/dt dL/dv = -q - a = 3 sin 2t there.
    np.testing.assert_allclose(other[1:-1], 3 * jnp.sin(2 * times[1:-1]), atol=1e-3)


def test_equation_8_9_any_integrand_makes_a_functional_of_curves():
    """J[y] = integral y^2: 1 - sin(4)/4 for the sine on [0, 2], four times that for twice it."""
    square = Lagrangian(lambda y, v: y**2)
    times = jnp.linspace(0.0, 2.0, 21)
    np.testing.assert_allclose(action(square, jnp.sin, times), 1 - np.sin(4.0) / 4, rtol=1e-12)
    twice = action(square, lambda t: 2 * jnp.sin(t), times)
    np.testing.assert_allclose(twice, 4 - np.sin(4.0), rtol=1e-12)


def test_equation_14_15_16_17_18_19_20_the_first_variation_three_ways():
    """L = v^2/2 - q^4/4 along sin t, varied by t (2 - t), which vanishes at both ends.

    The slope of S[q + s eta] in s; both slopes of L by hand under Gauss' rule; and, after the
    integration by parts, the residual of the library against eta. On straight pieces to step^2.
    """
    quartic = Lagrangian(lambda q, v: 0.5 * v**2 - 0.25 * q**4)
    eta = lambda t: t * (2.0 - t)  # noqa: E731
    times = jnp.linspace(0.0, 2.0, 41)
    varied = lambda s: action(quartic, lambda t: jnp.sin(t) + s * eta(t), times)  # noqa: E731
    slope = jax.grad(varied)(0.0)
    node, weight = np.polynomial.legendre.leggauss(30)
    t = 1.0 + node
    by_position = weight @ (-(np.sin(t) ** 3) * eta(t))
    by_velocity = weight @ (np.cos(t) * (2.0 - 2.0 * t))
    np.testing.assert_allclose(slope, by_position + by_velocity, rtol=1e-12)
    terms = variation_terms(quartic, jnp.sin, eta, times)
    np.testing.assert_allclose(terms, (by_position, by_velocity), rtol=1e-12)
    np.testing.assert_allclose(by_velocity, -weight @ (-np.sin(t) * eta(t)), rtol=1e-12)  # by parts
    residual = jax.vmap(quartic.euler_lagrange_residual)(jnp.sin(t), jnp.cos(t), -jnp.sin(t))
    np.testing.assert_allclose(slope, weight @ (np.asarray(residual) * eta(t)), rtol=1e-12)
    found = first_variation(quartic, jnp.sin(times), times)
    assert found[0] == 0.0 and found[-1] == 0.0
    np.testing.assert_allclose(jnp.sum(found * eta(times)), slope, atol=0.05**2)


MUELLER = [
    (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
    (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
    (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
    (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
]


def mueller_brown(p):
    height, a, b, c, x0, y0 = jnp.asarray(MUELLER).T
    x, y = p[0] - x0, p[1] - y0
    return jnp.sum(height * jnp.exp(a * x**2 + b * x * y + c * y**2))


MINIMA = jnp.array([-0.55822363, 1.44172584]), jnp.array([0.62349941, 0.02803776])


@pytest.fixture(scope="module")
def crossing():
    """(minimum energy path, flow) from one minimum of Müller and Brown's potential to another."""
    curve = minimum_energy_path(mueller_brown, *MINIMA, 61, tolerance=0.03)
    return curve, st.Flow(st.Energy(mueller_brown), st.Euclidean(), st.Thermal(10.0))


def test_the_transition_path_of_mueller_and_brown(crossing):
    """Saddle and energies of the literature; S is what is climbed: 106.03 to it, then 8.52.

    Published (Müller and Brown, 1979): minima -146.700, -80.768, -108.167; saddles -40.665,
    -72.249. In a time of 1, some 400 relaxations, S - climbed = exp(-400) and it is order 2 in the
    points; it falls with the time.
    """
    curve, flow = crossing
    np.testing.assert_allclose(curve.saddle, [-0.822, 0.624], atol=1e-3)
    np.testing.assert_allclose(curve.barrier, 146.700 - 40.665, atol=2e-3)
    climbed = (146.700 - 40.665) + (80.768 - 72.249)
    paths = {n: transition_path(flow, *MINIMA, 1.0, n, guess=curve) for n in (251, 501)}
    assert all(path.morse_index == 0 for path in paths.values())
    coarse, fine = (float(paths[n].action) for n in (251, 501))
    assert abs(fine - climbed) < 0.01 and abs((climbed - coarse) / (climbed - fine) - 4) < 0.6
    heights = jax.vmap(mueller_brown)(paths[501].path)
    np.testing.assert_allclose(heights.max(), -40.665, atol=0.1)
    # It waits longest where the curve passes a saddle and a minimum, not at its ends.
    waits = np.diff(np.asarray(paths[501].times))
    places = np.asarray(paths[501].path)[np.argsort(waits)[-4:]]
    for known in ([-0.822, 0.624], [-0.050, 0.467]):
        assert np.linalg.norm(places - known, axis=1).min() < 0.02
    assert waits[-1] < waits.max() / 2


def test_curve_and_clock_agree_with_newtons_method_in_time(crossing):
    """At 0.05, where round-off does not decide yet, S, path and momenta are those of order 6."""
    curve, flow = crossing
    found = transition_path(flow, *MINIMA, 0.05, 1001, guess=curve)
    times = jnp.linspace(0.0, 0.05, 501)
    at = jax.vmap(lambda c: jnp.interp(times, found.times, c), 1, 1)(found.path)
    lagrangian = onsager_machlup(flow, entropic=False)
    exact = stationary_path(lagrangian, *MINIMA, 0.0, 0.05, 501, 6, at)
    # Order 2: 0.029 at 501 points, of which a quarter is left.
    np.testing.assert_allclose(found.action, exact.action, atol=0.01)
    assert exact.morse_index == found.morse_index == 0
    assert float(jnp.abs(at - exact.path).max()) < 4e-4
    for one, two in zip(found.momenta, exact.momenta, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-3)


@pytest.mark.parametrize("time", [5.0, 20.0])
def test_a_long_wait_is_shared_as_the_conserved_energy_says(time):
    """One dimension, by quadrature: t = int dx/sqrt(E'^2 + c) gives c, then S and when it crosses.

    At time 20 c is 8e-6: S is that of an endless time to 1e-6, and the saddle is passed at 9.6.
    """
    slope = lambda x: x**3 - x + 0.1  # noqa: E731
    energy = lambda x: x**4 / 4 - x**2 / 2 + x / 10  # noqa: E731
    low, top, high = np.sort(np.roots([1.0, 0.0, -1.0, 0.1]).real)
    between = lambda fn, a, b: quad(fn, a, b, epsabs=0, epsrel=1e-11, limit=400)[0]  # noqa: E731
    passing = lambda l, a, b: between(lambda x: (slope(x) ** 2 + np.exp(l)) ** -0.5, a, b)  # noqa: E731, E741
    log_c = brentq(lambda l: passing(l, low, top) + passing(l, top, high) - time, -30, 3)  # noqa: E741
    speed = lambda x: np.sqrt(slope(x) ** 2 + np.exp(log_c))  # noqa: E731
    travelled = between(speed, low, top) + between(speed, top, high)
    exact = 0.5 * (travelled + energy(high) - energy(low)) - 0.25 * np.exp(log_c) * time
    flow = st.Flow(st.Energy(lambda x: jnp.sum(energy(x))), st.Euclidean(), st.Thermal(0.1))
    found = transition_path(flow, jnp.array([low]), jnp.array([high]), time, 401)
    np.testing.assert_allclose(found.action, exact, atol=2e-5)
    crossed = np.interp(top, found.path[:, 0], found.times)
    # Where between two points the force vanishes is known to 1 % of their distance, and with it the
    # share of a wait of log(1/0.01)/rate around it.
    np.testing.assert_allclose(crossed, passing(log_c, low, top), atol=0.05)
    with pytest.raises(st.NotConverged, match="only waits"):
        transition_path(flow, jnp.array([low]), jnp.array([high]), 1e4, 401)


def test_kinetic_paths_of_an_oscillator_have_the_exponent_of_its_transition_law():
    """dx = A x dt + (0, sqrt(2 gamma T)) dW is Gaussian: S/T = d . C^-1 d / 2, order 4 in the step.

    Its covariance C by the matrix exponential (Van Loan); momenta are its slopes in both ends.
    """
    k, mass, friction, temperature, time = 1.3, 0.8, 0.6, 0.7, 2.0
    energy = st.Hamiltonian(st.Energy(lambda x: 0.5 * k * jnp.sum(x**2)), mass)
    geometry = st.Symplectic() + st.Friction(friction)
    flow = st.Flow(energy, geometry, st.Thermal(temperature))
    a, b = np.array([0.5, -0.3]), np.array([1.1, 0.4])
    field = np.array([[0.0, 1 / mass], [-k, -friction / mass]])
    noise = np.diag([0.0, 2 * friction * temperature])
    both = scipy.linalg.expm(np.block([[-field, noise], [np.zeros((2, 2)), field.T]]) * time)
    move = both[2:, 2:].T
    force = np.linalg.solve(move @ both[:2, 2:], b - move @ a)
    exact = 0.5 * (b - move @ a) @ force
    point = lambda x: st.Phase(jnp.array(x[:1]), jnp.array(x[1:]))  # noqa: E731
    errors = []
    for n in (17, 33):
        guess = jnp.linspace(0.5, 1.1, n)[:, None]
        found = transition_path(flow, point(a), point(b), time, n, guess=guess)
        assert found.morse_index == 0
        errors.append(float(found.action) / temperature - exact)
    assert 0 < errors[1] < 1e-6 and abs(np.log2(errors[0] / errors[1]) - 4) < 0.1
    ends = [np.concatenate([p.position, p.momentum]) for p in found.momenta]
    np.testing.assert_allclose(ends[0], move.T @ force * temperature, rtol=1e-5)
    np.testing.assert_allclose(ends[1], force * temperature, rtol=1e-5)


def test_kinetic_paths_climb_as_they_fell_and_pay_the_barrier():
    """(x^2 - 1)^2: up to the saddle the noise undoes twice the friction, down it does nothing.

    S falls to the barrier, 1, with the time; friction 10 costs what the overdamped flow does in the
    clock t/gamma, but for 1/gamma^2 of a relative change in rates.
    """
    energy = st.Energy(lambda x: jnp.sum((x**2 - 1) ** 2))
    ends = jnp.array([-1.0]), jnp.array([1.0])
    flow = lambda g: st.Flow(energy, st.Symplectic() + st.Friction(g), st.Thermal(0.1))  # noqa: E731
    short, long = (transition_path(flow(1.0), *ends, t, 401) for t in (6.0, 12.0))
    assert 1.0 < long.action < 1.1 < short.action and long.morse_index == 0
    q, v = np.asarray(long.path.position)[:, 0], np.asarray(long.path.momentum)[:, 0]
    push = np.gradient(v, np.asarray(long.times)) + 4 * q * (q**2 - 1) + v
    # v (a + dE) is the rate of H: S = H at the top + what is not 2 v on the way up + all on the way
    # down, by differences of second order in the step of 0.03. Falling up would pay 1 more.
    off = np.where(q < 0, push - 2 * v, push)
    rest = np.trapezoid(0.25 * off**2, long.times)
    top = 1.0 + 0.5 * np.interp(0.0, q, v) ** 2
    np.testing.assert_allclose(rest, float(long.action) - top, atol=2e-3)
    assert rest < 0.1
    thick = transition_path(flow(10.0), *ends, 20.0, 401)
    over = st.Flow(energy, st.Euclidean(), st.Thermal(0.1))
    plain = transition_path(over, *ends, 2.0, 401, 4, guess=jnp.linspace(-1, 1, 401)[:, None])
    np.testing.assert_allclose(thick.action, plain.action, rtol=0.1)


def test_the_onsager_machlup_lagrangian_of_an_ornstein_uhlenbeck_process():
    """dx = -k x dt + sqrt(2 T / m) ...: the exact transition law is Gaussian, and exp(-S/T) of the
    most probable path has its exponent; the divergence shifts S by -T k time / 2."""
    k, temperature, time, scale = 1.3, 0.7, 2.0, 1.6
    energy = st.Energy(lambda x: 0.5 * k * scale * jnp.sum(x**2))
    flow = st.Flow(energy, st.Riemannian(lambda x: scale * jnp.eye(1)), st.Thermal(temperature))
    options = dict(order=6, guess=lambda t: jnp.array([0.5]) + 0.3 * t)
    found = transition_path(flow, jnp.array([0.5]), jnp.array([1.1]), time, 41, **options)
    variance = temperature / (k * scale) * (1 - np.exp(-2 * k * time))
    mean = 0.5 * np.exp(-k * time)
    np.testing.assert_allclose(
        found.action / temperature, (1.1 - mean) ** 2 / (2 * variance), rtol=1e-8
    )
    flat = st.Flow(st.Energy(lambda x: 0.5 * k * jnp.sum(x**2)), st.Euclidean(), st.Thermal(0.7))
    x, v = jnp.array([0.4]), jnp.array([-0.2])
    gap = onsager_machlup(flat)(x, v) - onsager_machlup(flat, entropic=False)(x, v)
    np.testing.assert_allclose(gap, -0.5 * 0.7 * k, rtol=1e-12)


def test_flow_maps():
    """Group property; exp(t A) of a linear field; its velocity is the field (eq. 1-3, 5-6)."""
    matrix = jnp.array([[-0.2, 1.0], [-1.0, -0.1]])
    linear = FlowMap(lambda x: matrix @ x)
    x = jnp.array([1.0, 0.3])
    exact = jax.scipy.linalg.expm(1.7 * matrix)
    np.testing.assert_allclose(linear(x, 1.7), exact @ x, atol=1e-9)
    np.testing.assert_allclose(linear.tangent(x, 1.7), exact, atol=1e-9)
    np.testing.assert_allclose(linear(linear(x, 1.7), 0.0, 1.7), x, atol=1e-9)
    curve = linear.path(x, jnp.array([0.0, 1.699, 1.7, 1.701]))
    # Central difference: step^2/6 |A^3 x| = 2e-7, and 1e-9 of the solver over the step, 1e-6.
    rate = (curve[3] - curve[1]) / 2e-3
    np.testing.assert_allclose(rate, linear.velocity(curve[2], 1.7), atol=3e-6)
    assert float(linear.group_defect(x, 0.6, 1.1)) < 1e-9
    clock = FlowMap(lambda x, t: jnp.cos(t) * x)
    np.testing.assert_allclose(clock(x, 2.0, 0.5), x * np.exp(np.sin(2.0) - np.sin(0.5)), rtol=1e-9)
    # An autonomous map applied to a field that knows the time is no group in its duration.
    assert abs(float(clock(clock(x, 1.0), 2.0)[0] - clock(x, 3.0)[0])) > 1e-2


def test_lyapunov_exponents_of_lorenz():
    """0.906 and 0 of the literature, here to the sampling error of a short run; the sum exactly."""
    lorenz = FlowMap(
        lambda s: jnp.stack(
            [10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]]
        ),
        rtol=1e-7,
        atol=1e-7,
    )
    found = lorenz.lyapunov_exponents(jnp.array([1.0, 1.0, 20.0]), 100.0, 100, 10.0)
    np.testing.assert_allclose(found.sum(), -(10 + 1 + 8 / 3), rtol=1e-5)
    assert abs(found[0] - 0.906) < 0.06 and abs(found[1]) < 0.03


def test_the_table_of_section_4_5():
    found = contrast(lambda q: 0.5 * jnp.sum(q**2) + 0.25 * q[0] ** 4, jnp.array([1.0, 0.5]), 3.0)
    number = found.numbers
    assert number["change of F"][0] < 1e-12 and number["change of F"][1] > 0.8
    assert number["largest rise of F"][1] <= 0.0
    assert number["Euler-Lagrange residual"][0] < 1e-4 < 1 < number["Euler-Lagrange residual"][1]
    assert abs(number["volume"][0] - 1) < 1e-9 and number["volume"][1] < np.exp(-2 * 3.0)
    assert number["form"][0] < 1e-9 and number["way back"][0] < 1e-9 < 1 < number["way back"][1]
    assert "symplectic" in str(found)


SPEED = Lagrangian(lambda q, v: -jnp.sqrt(1 - jnp.sum(v**2)))
THERMAL = st.Flow(st.Energy(lambda x: jnp.sum(x**2)), st.Euclidean(), st.Thermal(1.0))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        # At T = pi every path from 0 comes back to 0: none reaches 1.
        (
            lambda: stationary_path(OSCILLATOR, 0.0, 1.0, 0.0, np.pi, 401),
            st.NotConverged,
            "conjugate",
        ),
        # Faster than light.
        (
            lambda: stationary_path(SPEED, jnp.zeros(1), jnp.ones(1) * 3, 0.0, 1.0, 11),
            st.ArgumentError,
            "guess",
        ),
        (lambda: stationary_path(PENDULUM, 0.0, 0.0, 1.0, 0.0, 11), st.ArgumentError, "t0 < t1"),
        (lambda: stationary_path(PENDULUM, 0.0, 0.0, 0.0, 1.0, 2), st.ArgumentError, "nodes"),
        (lambda: stationary_path(PENDULUM, 0.0, 0.0, 0.0, 1.0, 9, 3), st.ArgumentError, "order"),
        (
            lambda: stationary_path(PENDULUM, 0.0, jnp.ones(2), 0.0, 1.0, 9),
            st.ArgumentError,
            "q1",
        ),
        (
            lambda: stationary_path(PENDULUM, 0.0, 1.0, 0.0, 1.0, 9, guess=jnp.ones(5)),
            st.ArgumentError,
            "guess",
        ),
        (
            lambda: action(PENDULUM, jnp.ones(3), jnp.array([0.0, 2.0, 1.0])),
            st.ArgumentError,
            "increase",
        ),
        (
            lambda: onsager_machlup(st.Flow(st.Energy(jnp.sum), st.Euclidean())),
            st.ArgumentError,
            "Thermal",
        ),
        (
            lambda: onsager_machlup(
                st.Flow(st.Energy(jnp.sum), st.Symplectic() + st.Friction(1.0), st.Thermal(1.0))
            ),
            st.ArgumentError,
            "every coordinate",
        ),
        (
            lambda: transition_path(
                st.Flow(st.Energy(jnp.sum), st.Symplectic(), st.Thermal(1.0)), 0.0, 1.0, 1.0, 9
            ),
            st.ArgumentError,
            "friction",
        ),
        (
            lambda: transition_path(THERMAL, jnp.zeros(1), jnp.ones(1), -1.0, 9),
            st.ArgumentError,
            "time",
        ),
        (lambda: minimum_energy_path(jnp.sum, jnp.ones(2), jnp.ones(2), 3), st.ArgumentError, "5"),
        (lambda: FlowMap(THERMAL), st.ArgumentError, "noisy"),
        (lambda: FlowMap(3.0), st.ArgumentError, "vector_field"),
    ],
)
def test_bad_input_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_examples_of_stationary_action(tmp_path):
    """The slide against its cycloid by bisection; the learned potential against 1 - cos."""
    namespace = runpy.run_path(str(ROOT / "examples" / "mechanics.py"))
    _, fast, slow = namespace["brachistochrone"](1.0, 0.6)
    angle = brentq(lambda a: (a - np.sin(a)) / (1 - np.cos(a)) - 1.0 / 0.6, 0.1, 6.0)
    np.testing.assert_allclose(fast, angle * np.sqrt(0.6 / (1 - np.cos(angle)) / 9.81), rtol=1e-7)
    assert fast < slow
    _, found, true = namespace["learned_lagrangian"]()
    assert np.abs(found - true).max() < 0.03
