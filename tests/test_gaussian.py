"""The Gaussian family against its textbook formulas in (m, S), and rules against exact moments."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm, sqrtm
from scipy.stats import norm

import steepest as st
from steepest.states.factors import LowRank
from steepest.states.gaussian import Gaussian, bonnet_price, wasserstein_squared
from steepest.states.quadrature import Auto, Cubature, GaussHermite, MonteCarlo, QuasiMonteCarlo

RNG = np.random.default_rng(5)
D = 3


def spd(d, low=0.4):
    a = RNG.normal(size=(d, d))
    return a @ a.T / d + low * np.eye(d)


MEAN, COV, OTHER_COV = RNG.normal(size=D), spd(D), spd(D)
STATE = Gaussian.from_moments(MEAN, COV, quadrature=GaussHermite(6))
OTHER = Gaussian.from_moments(RNG.normal(size=D), OTHER_COV)
DIAGONAL = Gaussian(MEAN, jnp.array([0.5, 1.2, 0.8]), quadrature=GaussHermite(6))
LOW = LowRank(jnp.asarray(RNG.normal(size=(D, 1))), jnp.array([0.5, 1.2, 0.8]))
LOW_RANK = Gaussian(MEAN, LOW, quadrature=GaussHermite(5))
KINDS = {"triangular": STATE, "diagonal": DIAGONAL, "low-rank": LOW_RANK}
WEIGHT = np.array([[1.0, 0.4, 0.0], [0.4, -0.5, 0.2], [0.0, 0.2, 2.0]])


def energy(x):
    return 0.5 * x @ WEIGHT @ x + 0.1 * jnp.sum(x**4) + 0.1 * x[0] * x[1] * x[2]


def functional(g):
    return g.expect(energy) - 0.7 * g.entropy()


@jax.jit
def rates(state, tangent):
    """(m', S') of a tangent."""
    return jax.jvp(lambda g: (g.mean, g.covariance), (state,), (tangent,))[1]


transport = eqx.filter_jit(lambda state, covector, ground: state.transport(covector, ground))
reweight = jax.jit(lambda state, covector: state.reweight(covector))
differential = jax.jit(jax.grad(functional))
COVECTOR = differential(STATE)


def covector_in_moments():
    """(dF/dm, dF/dS) by differentiating in (m, S) itself, symmetric in S."""

    def by_moments(m, s):
        return functional(Gaussian(m, jnp.linalg.cholesky(s), GaussHermite(6)))

    g_m, g_s = jax.jit(jax.grad(by_moments, (0, 1)))(jnp.asarray(MEAN), jnp.asarray(COV))
    return np.asarray(g_m), 0.5 * np.asarray(g_s + g_s.T)


G_MEAN, G_COV = covector_in_moments()


# --- the two motions ------------------------------------------------------------------------------


def test_transport_is_bures_wasserstein():
    m, s = rates(STATE, transport(STATE, COVECTOR, st.Euclidean()))
    np.testing.assert_allclose(m, G_MEAN, rtol=1e-12)
    np.testing.assert_allclose(s, 2 * (G_COV @ COV + COV @ G_COV), atol=1e-12)
    m, s = rates(STATE, transport(STATE, COVECTOR, 0.3 * st.Euclidean()))
    np.testing.assert_allclose(s, 0.6 * (G_COV @ COV + COV @ G_COV), atol=1e-12)


def test_reweight_is_the_natural_gradient():
    m, s = rates(STATE, reweight(STATE, COVECTOR))
    np.testing.assert_allclose(m, COV @ G_MEAN, rtol=1e-12)
    np.testing.assert_allclose(s, 2 * COV @ G_COV @ COV, atol=1e-12)


def test_transport_with_a_metric_constant_or_not():
    """A metric that happens to be constant gives by quadrature what the closed form gives."""
    inverse = np.linalg.inv(OTHER_COV)
    ground = st.Riemannian(lambda x: jnp.asarray(OTHER_COV))
    assert not ground.constant
    m, s = rates(STATE, transport(STATE, COVECTOR, ground))
    np.testing.assert_allclose(m, inverse @ G_MEAN, rtol=1e-11)
    np.testing.assert_allclose(s, 2 * (inverse @ G_COV @ COV + COV @ G_COV @ inverse), atol=1e-12)


def test_a_varying_ground_dissipates_what_it_says():
    """<dF, K dF> = E[ell^T K(x) ell], with ell affine: recomputed from (m, S) alone."""
    ground = st.Riemannian(lambda x: jnp.diag(1.0 + x**2))
    ell = lambda x: 2 * WEIGHT @ x + jnp.array([1.0, 0, 0])  # noqa: E731
    slope_of = jax.jit(jax.grad(lambda g: g.expect(lambda x: x @ WEIGHT @ x + x[0])))
    for state in KINDS.values():
        slope = slope_of(state)
        moved = transport(state, slope, ground)
        rate = sum(
            jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (slope, moved)), strict=True)
        )
        if state is STATE:
            expected = state.expect(lambda x: jnp.sum(ell(x) ** 2 / (1.0 + x**2)))
            np.testing.assert_allclose(rate, expected, rtol=1e-12)
        assert rate > 0


def test_kinetic_transport_is_the_ornstein_uhlenbeck_of_phase_space():
    """m' = A m, S' = A S + S A^T + 2 gamma T on momenta, exactly, for a quadratic energy."""
    cov, gamma, temperature = spd(4), 0.7, 1.3
    stiff = jnp.array([[2.0, 0.3], [0.3, 1.0]])
    state = Gaussian.from_moments(RNG.normal(size=4), cov, phase=True, quadrature=Cubature(3))

    def free(g):
        def h(x):
            return 0.5 * x.position @ stiff @ x.position + 0.5 * x.momentum @ x.momentum

        return g.expect(h) - temperature * g.entropy()

    ground = st.Symplectic() + st.Friction(gamma)
    m, s = rates(state, transport(state, jax.jit(jax.grad(free))(state), ground))
    eye, zero = np.eye(2), np.zeros((2, 2))
    a = np.block([[zero, eye], [-np.asarray(stiff), -gamma * eye]])
    noise = 2 * gamma * temperature * np.diag([0.0, 0, 1, 1])
    np.testing.assert_allclose(-m, a @ state.mean, atol=1e-12)
    np.testing.assert_allclose(-s, a @ cov + cov @ a.T + noise, atol=1e-12)
    with pytest.raises(st.ArgumentError, match="phase=True"):
        STATE.transport(COVECTOR, ground)


NARROW = Gaussian(  # fourteen free numbers for the fifteen of S: a true projection
    jnp.zeros(5),
    LowRank(jnp.asarray(RNG.normal(size=(5, 2))), jnp.linspace(0.5, 1.2, 5)),
    Cubature(3),
)


@pytest.mark.parametrize("state", [STATE, DIAGONAL, LOW_RANK, NARROW])
def test_fisher_projection(state):
    """F(K dF, t) = <dF, t> for every tangent t, F the Fisher metric written in (m, S)."""
    weight = jnp.asarray(RNG.normal(size=(5, 5)))[: state.dimension, : state.dimension]

    @jax.jit
    def both(g):
        covector = jax.grad(lambda h: h.expect(lambda x: x @ weight @ x + x[0]) - h.entropy())(g)
        return covector, g.reweight(covector)

    covector, moved = both(state)
    natural = rates(state, moved)
    precision = np.linalg.inv(state.covariance)
    flat, unravel = ravel_pytree(covector)
    for unit in np.eye(flat.size):
        t = unravel(jnp.asarray(unit))
        if state is STATE:
            t = state.tangent(t.mean, jnp.tril(t.scale))
        m, s = rates(state, t)
        metric = natural[0] @ precision @ m
        metric += 0.5 * np.trace(precision @ natural[1] @ precision @ s)
        np.testing.assert_allclose(metric, flat @ ravel_pytree(t)[0], atol=1e-10)


def test_bures_is_the_infinitesimal_wasserstein_distance():
    """W2(g, g + e v)^2 / e^2 -> <v, K^{-1} v> = <dF, v> for v = K dF; +-e leave an error of e^2."""
    e = 1e-4
    for state in (STATE, DIAGONAL):
        covector = differential(state)
        v = transport(state, covector, st.Euclidean())
        moved = [jax.tree.map(lambda x, y, s=s: x + s * y, state, v) for s in (e, -e)]
        speed = np.mean([wasserstein_squared(state, g) for g in moved]) / e**2
        pairing = ravel_pytree(covector)[0] @ ravel_pytree(v)[0]
        np.testing.assert_allclose(speed, pairing, rtol=1e-6)


def test_low_rank_that_reaches_every_covariance_is_the_full_natural_gradient():
    """d = 2, r = 1 has four numbers for the three of S, so nothing is lost by the projection."""
    low = LowRank(jnp.array([[0.7], [-0.4]]), jnp.array([0.6, 0.9]))
    state = Gaussian(jnp.array([0.3, -0.2]), low, quadrature=GaussHermite(6))

    def objective(g):
        return g.expect(lambda x: x[0] ** 2 + x[0] * x[1] ** 2) - g.entropy()

    full = Gaussian.from_moments(state.mean, state.covariance, quadrature=GaussHermite(6))
    slope = jax.jit(jax.grad(objective))
    found = rates(state, reweight(state, slope(state)))
    expected = rates(full, reweight(full, slope(full)))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-11)


def test_natural_gradient_knows_no_coordinates():
    """The Fisher metric by autodiff of KL in natural parameters (S^{-1} m, S^{-1}): same motion."""
    target = Gaussian.from_moments([0.2, -0.5], [[1.0, 0.3], [0.3, 0.5]])
    state = Gaussian.from_moments([1.0, 0.4], [[0.8, -0.2], [-0.2, 1.5]])
    expected = rates(
        state, jax.jit(lambda g: g.reweight(jax.grad(lambda h: h.kl(target))(g)))(state)
    )

    def chart(t):
        cov = jnp.linalg.inv(jnp.array([[t[2], t[3]], [t[3], t[4]]]))
        return Gaussian(cov @ t[:2], jnp.linalg.cholesky(cov), Cubature(3))

    @jax.jit
    def motion(at):
        fisher = jax.jacfwd(jax.jacfwd(lambda t: chart(jax.lax.stop_gradient(at)).kl(chart(t))))
        slope = jax.grad(lambda t: chart(t).kl(target))(at)
        move = jnp.linalg.solve(fisher(at), slope)
        return jax.jvp(lambda t: (chart(t).mean, chart(t).covariance), (at,), (move,))[1]

    precision = np.linalg.inv(state.covariance)
    entries = [precision[0, 0], precision[0, 1], precision[1, 1]]
    m, s = motion(jnp.array([*(precision @ state.mean), *entries]))
    np.testing.assert_allclose(m, expected[0], atol=1e-10)
    np.testing.assert_allclose(s, expected[1], atol=1e-10)


def test_natural_gradient_is_affine_invariant_and_transport_only_rigidly():
    """The same functional in other coordinates of space, y = A x + b (the rule is exact for it)."""
    turn = np.linalg.qr(RNG.normal(size=(D, D)))[0]
    stretch, shift = RNG.normal(size=(D, D)), RNG.normal(size=D)

    def motions(matrix):
        image = STATE.pushforward(jnp.asarray(matrix), jnp.asarray(shift))
        back = jnp.linalg.inv(matrix)

        @jax.jit
        def pulled(g):
            return g.expect(lambda y: energy(back @ (y - shift))) - 0.7 * g.entropy()

        slope, gaps = jax.jit(jax.grad(pulled))(image), []
        for motion in (lambda g, c: transport(g, c, st.Euclidean()), reweight):
            m, s = rates(image, motion(image, slope))
            n, t = rates(STATE, motion(STATE, COVECTOR))
            gaps.append(max(abs(m - matrix @ n).max(), abs(s - matrix @ t @ matrix.T).max()))
        return gaps

    assert max(motions(turn)) < 1e-11
    moved, weighed = motions(stretch)
    assert weighed < 1e-10 and moved > 1e-2


# --- flows ----------------------------------------------------------------------------------------


def integrate(velocity, start, time):
    """A tight ODE solve of a pytree: DOP853 at 1e-12."""
    flat, unravel = ravel_pytree(start)
    fn = jax.jit(lambda y: ravel_pytree(velocity(unravel(y)))[0])
    found = solve_ivp(lambda _, y: fn(y), (0, time), flat, "DOP853", rtol=1e-12, atol=1e-13)
    return unravel(jnp.asarray(found.y[:, -1]))


TIME = 0.8


def test_bures_flow_of_kl_is_the_ornstein_uhlenbeck_process():
    """m - m* = e^(-tP) (.), S - S* = e^(-tP) (.) e^(-tP), P = S*^{-1}: to 1e-8."""
    kl = st.KL(OTHER)

    def velocity(g):
        return g.transport(jax.grad(lambda h: -kl(h))(g), st.Euclidean())

    slow = integrate(velocity, STATE, TIME)
    decay = expm(-TIME * np.linalg.inv(OTHER_COV))
    np.testing.assert_allclose(slow.mean, OTHER.mean + decay @ (MEAN - OTHER.mean), atol=1e-8)
    expected = OTHER_COV + decay @ (COV - OTHER_COV) @ decay
    np.testing.assert_allclose(slow.covariance, expected, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_fisher_rao_flow_of_kl_is_the_geometric_mean(kind):
    """rho_t ~ rho_0^(e^-t) pi^(1 - e^-t): precisions and precision-means interpolate, to 1e-8.

    With a diagonal target the diagonal family is closed under it; the low-rank family is not, and
    its flow only has to descend.
    """
    state = KINDS[kind]
    target = OTHER if kind != "diagonal" else Gaussian(OTHER.mean, jnp.array([1.5, 0.7, 1.0]))
    end = integrate(lambda g: g.reweight(jax.grad(lambda h: -h.kl(target))(g)), state, TIME)
    if kind == "low-rank":
        assert end.kl(target) < state.kl(target) - 0.1
        return
    share = math.exp(-TIME)
    a, b = (np.linalg.inv(g.covariance) for g in (state, target))
    precision = share * a + (1 - share) * b
    natural = share * a @ state.mean + (1 - share) * b @ target.mean
    np.testing.assert_allclose(end.covariance, np.linalg.inv(precision), atol=1e-8)
    np.testing.assert_allclose(end.mean, np.linalg.solve(precision, natural), atol=1e-8)


def test_flows_to_a_target_that_is_not_gaussian_against_numpy():
    """V = x^4/4 - x^2/2 + x/3 on the line, moments of a Gaussian by hand, to 1e-8."""
    start = Gaussian([1.0], [[0.6]], GaussHermite(6))

    def free(g):
        return g.expect(lambda x: jnp.sum(x**4 / 4 - x**2 / 2 + x / 3)) - g.entropy()

    def slopes(m, s):
        force = m**3 + 3 * m * s - m + 1 / 3  # E[V'], exact
        return force, 0.5 * (3 * (m**2 + s) - 1 - 1 / s)  # dF/dm, dF/dS

    def bures(_, y):
        a, b = slopes(*y)
        return [-a, -4 * b * y[1]]

    def fisher_rao(_, y):
        a, b = slopes(*y)
        return [-y[1] * a, -2 * b * y[1] ** 2]

    velocities = {
        bures: lambda g: g.transport(jax.grad(lambda h: -free(h))(g), st.Euclidean()),
        fisher_rao: lambda g: g.reweight(jax.grad(lambda h: -free(h))(g)),
    }
    for textbook, velocity in velocities.items():
        end = integrate(velocity, start, 2.0)
        known = solve_ivp(textbook, (0, 2.0), [1.0, 0.36], "DOP853", rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(
            [end.mean[0], end.covariance[0, 0]], known.y[:, -1], rtol=0, atol=1e-8
        )


# --- distances ------------------------------------------------------------------------------------


def test_wasserstein_distance():
    root = sqrtm(COV)
    cross = sqrtm(root @ OTHER_COV @ root)
    square = np.sum((MEAN - OTHER.mean) ** 2) + np.trace(COV + OTHER_COV - 2 * cross.real)
    np.testing.assert_allclose(STATE.wasserstein_distance(OTHER) ** 2, square, rtol=1e-10)
    assert STATE.wasserstein_distance(STATE) < 1e-14
    # Two deviations of the line: |m - m'|^2 + |s - s'|^2.
    line = Gaussian([0.0], [2.0]).wasserstein_distance(Gaussian([1.0], [[0.5]]))
    np.testing.assert_allclose(line, math.sqrt(1 + 1.5**2), rtol=1e-14)
    # The envelope derivative: 2 (1 - A) on S is what finite differences of the formula give.
    slope = jax.jit(jax.grad(wasserstein_squared))(STATE, OTHER)
    e, direction = 1e-5, jnp.tril(jnp.asarray(RNG.normal(size=(D, D))))
    shifted = [STATE.tangent(STATE.mean, STATE.scale + s * e * direction) for s in (1, -1)]
    change = (wasserstein_squared(shifted[0], OTHER) - wasserstein_squared(shifted[1], OTHER)) / 2
    np.testing.assert_allclose(jnp.vdot(slope.scale, direction), change / e, rtol=1e-7)


def test_optimal_map_and_geodesic():
    matrix = STATE.optimal_map(OTHER)
    np.testing.assert_allclose(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > 0
    image = STATE.pushforward(matrix, OTHER.mean - matrix @ STATE.mean)
    np.testing.assert_allclose(image.covariance, OTHER_COV, atol=1e-12)
    np.testing.assert_allclose(image.mean, OTHER.mean, atol=1e-12)
    whole = STATE.wasserstein_distance(OTHER)
    part = STATE.geodesic(OTHER, 0.3)
    np.testing.assert_allclose(STATE.wasserstein_distance(part), 0.3 * whole, rtol=1e-12)
    np.testing.assert_allclose(part.wasserstein_distance(OTHER), 0.7 * whole, rtol=1e-12)


def test_kl_in_closed_form_and_by_quadrature():
    precision = np.linalg.inv(OTHER_COV)
    gap = MEAN - np.asarray(OTHER.mean)
    dets = np.linalg.slogdet(OTHER_COV)[1] - np.linalg.slogdet(COV)[1]
    exact = 0.5 * (np.trace(precision @ COV) + gap @ precision @ gap - D + dets)
    np.testing.assert_allclose(STATE.kl(OTHER), exact, rtol=1e-12)
    np.testing.assert_allclose(st.KL(OTHER)(STATE), exact, rtol=1e-12)
    np.testing.assert_allclose(STATE.symmetric_kl(OTHER), exact + OTHER.kl(STATE), rtol=1e-14)
    assert abs(STATE.kl(STATE)) < 1e-14


def test_fisher_rao_distance():
    # On the line geodesics are the half-circles m = sqrt(2) r sin t, s = r cos t.
    r, t = 1.7, 0.9
    ends = [Gaussian([math.sqrt(2) * r * math.sin(u)], [r * math.cos(u)]) for u in (-t, t)]
    length = 2 * math.sqrt(2) * math.atanh(math.sin(t))
    np.testing.assert_allclose(ends[0].fisher_rao_distance(ends[1]), length, rtol=1e-12)
    both = [Gaussian(jnp.tile(g.mean, 2), jnp.tile(g.scale, 2)) for g in ends]
    np.testing.assert_allclose(both[0].fisher_rao_distance(both[1]), 2**0.5 * length, rtol=1e-12)
    same = Gaussian.from_moments(MEAN, OTHER_COV)
    values = np.log(np.linalg.eigvals(np.linalg.solve(COV, OTHER_COV)).real)
    expected = math.sqrt(0.5 * np.sum(values**2))
    np.testing.assert_allclose(STATE.fisher_rao_distance(same), expected, rtol=1e-12)
    with pytest.raises(st.ArgumentError, match="closed form"):
        STATE.fisher_rao_distance(OTHER)


@pytest.mark.parametrize("pair", [(0.0, 1.0, 0.5, 2.0), (0.0, 1.0, 2.0, 1.0), (1.0, 2.0, 1.0, 0.5)])
def test_total_variation_on_the_line(pair):
    a, s, b, t = pair
    exact = quad(lambda x: 0.5 * abs(norm.pdf(x, a, s) - norm.pdf(x, b, t)), -20, 20, limit=400)[0]
    found = Gaussian([a], [s]).total_variation(Gaussian([b], [t]))
    np.testing.assert_allclose(found.value, exact, atol=1e-7)  # quad's own error at the kinks
    assert found.error == 0 and Gaussian([a], [s]).total_variation(Gaussian([a], [s])).value == 0


def test_total_variation_by_sampling():
    """Equal covariances: 2 Phi(delta/2) - 1 with delta the Mahalanobis distance; 4.5 errors."""
    shifted = STATE.tangent(STATE.mean + STATE.lower @ jnp.array([0.6, -0.8, 0.0]), STATE.scale)
    found = STATE.total_variation(shifted, jax.random.key(1), 4000)
    assert abs(found.value - (2 * norm.cdf(0.5) - 1)) < 4.5 * found.error
    assert 0 < found.error < 1 / (2 * math.sqrt(8000))
    # Round laws of the plane, widths 1 and 4: they cross at r^2 = 4 log 4 / (1 - 1/16).
    wide, r2 = Gaussian(jnp.zeros(2), 4 * jnp.ones(2)), 4 * math.log(4) / (1 - 1 / 16)
    found = Gaussian.standard(2).total_variation(wide, jax.random.key(2), 4000)
    assert abs(found.value - (math.exp(-r2 / 32) - math.exp(-r2 / 2))) < 4.5 * found.error
    with pytest.raises(st.ArgumentError, match="key"):
        STATE.total_variation(shifted)


# --- expectations ---------------------------------------------------------------------------------


def moment(powers):
    """E[z^a] = prod (a_i - 1)!!, zero for an odd power."""
    return math.prod(0 if a % 2 else math.prod(range(1, a, 2)) for a in powers)


@pytest.mark.parametrize(
    "rule, degree",
    [
        (Cubature(1), 1),
        (Cubature(3), 3),
        (Cubature(5), 5),
        (GaussHermite(3), 5),
        (QuasiMonteCarlo(64), 3),
        (Auto(), 9),
    ],
)
@pytest.mark.parametrize("d", [1, 2, 4])
def test_degree_of_exactness(rule, degree, d):
    z, w = rule.nodes(d)
    worst = {}
    for powers in itertools.product(range(degree + 3), repeat=d):
        if sum(powers) > degree + 2:
            continue
        error = abs(w @ np.prod(z ** np.array(powers), axis=1) - moment(powers))
        worst[sum(powers)] = max(worst.get(sum(powers), 0), error / (1 + moment(powers)))
    assert max(worst[k] for k in range(degree + 1)) < 1e-12
    if d == 4:  # and no further: the next even degree fails
        assert worst[degree + 1] > 1e-3
    if isinstance(rule, Cubature):
        assert np.abs(w).sum() < 3


def test_degree_five_in_twelve_dimensions_and_its_stability():
    z, w = Cubature(5).nodes(12)
    assert len(w) == 2 * 144 + 1 and np.abs(w).sum() < 3
    np.testing.assert_allclose([w @ z[:, 3] ** 4, w @ (z[:, 3] * z[:, 7]) ** 2], [3, 1], rtol=1e-12)


def test_quasi_monte_carlo_converges_faster_than_monte_carlo():
    """E[cos(a.z + b)] = exp(-|a|^2/2) cos b in 6 dimensions, root mean square over 16 (a, b)."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 16)) / math.sqrt(6), rng.normal(size=16)
    exact = np.exp(-0.5 * np.sum(a**2, axis=0)) * np.cos(b)

    def error(rule):
        z, w = rule.nodes(6)
        return np.sqrt(np.mean((w @ np.cos(z @ a + b) - exact) ** 2))

    few, many = error(QuasiMonteCarlo(512)), error(QuasiMonteCarlo(2**14))
    assert many < few / 32**0.7  # plain sampling would gain 32^0.5
    assert many < 0.2 * error(MonteCarlo(2**14))
    assert error(Auto()) < 5e-3 and error(Cubature(5)) > error(QuasiMonteCarlo(2**14))


def test_expectation_of_any_pytree_and_moments():
    found = STATE.expect(lambda x: {"x": x, "xx": jnp.outer(x - MEAN, x - MEAN), "one": 1.0})
    np.testing.assert_allclose(found["x"], MEAN, rtol=1e-12)
    np.testing.assert_allclose(found["xx"], COV, atol=1e-13)
    np.testing.assert_allclose(found["one"], 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_covariance_entropy_and_density_agree(kind):
    """Every kind of scale against numpy's determinant and solve."""
    state = KINDS[kind]
    cov = np.asarray(state.covariance)
    np.testing.assert_allclose(state.lower @ state.lower.T, cov, atol=1e-13)
    np.testing.assert_allclose(
        state.entropy(), 0.5 * np.linalg.slogdet(2 * np.pi * np.e * cov)[1], rtol=1e-13
    )
    x = RNG.normal(size=(5, D))
    gaps = x - np.asarray(state.mean)
    mahalanobis = np.einsum("ni,ni->n", gaps, np.linalg.solve(cov, gaps.T).T)
    logs = -0.5 * mahalanobis - 0.5 * np.linalg.slogdet(2 * np.pi * cov)[1]

    @jax.jit
    def found(g):
        batch, single = g.log_prob(x), jax.vmap(g.log_prob)(jnp.asarray(x))
        return batch, single, -g.expect(g.log_prob), g.sample(jax.random.key(3), 20_000)

    batch, single, entropy, drawn = found(state)
    np.testing.assert_allclose(batch, logs, rtol=1e-12)
    np.testing.assert_allclose(single, logs, rtol=1e-12)
    np.testing.assert_allclose(entropy, state.entropy(), rtol=1e-12)
    # Entries of a sample covariance have variance (S_ii S_jj + S_ij^2)/n.
    spread = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / 20_000)
    assert (np.abs(np.cov(drawn.T) - cov) < 4.5 * spread).all()
    assert (np.abs(drawn.mean(0) - state.mean) < 4.5 * np.sqrt(np.diag(cov) / 20_000)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_bonnet_and_price_equal_the_derivative_of_the_rule(kind):
    """On a quartic with an exact rule (degree 5 in four coordinates at most)."""
    state = eqx.tree_at(lambda g: g.mean, KINDS[kind], jnp.array([0.3, -0.7, 0.2]))

    def quartic(x):
        return x[0] ** 2 * x[1] * x[2] + x[0] ** 3 + 2.0 * x[1] ** 4 - x[2]

    value, covector = jax.jit(lambda g: bonnet_price(g, quartic))(state)
    by_rule, slope = jax.jit(jax.value_and_grad(lambda g: g.expect(quartic)))(state)
    np.testing.assert_allclose(value, by_rule, rtol=1e-12)
    for a, b in zip(*map(jax.tree.leaves, (covector, slope)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


def test_bonnet_and_price_need_one_node_for_a_quadratic():
    """And no variance with random ones, where the derivative of the rule has some."""
    exact = np.tril(WEIGHT @ np.asarray(STATE.lower))
    quadratic = lambda x: 0.5 * x @ WEIGHT @ x  # noqa: E731
    for rule in (Cubature(1), MonteCarlo(10)):
        found = jax.jit(lambda g, rule=rule: bonnet_price(g, quadratic, rule)[1])(STATE)
        np.testing.assert_allclose(found.scale, exact, atol=1e-13)
    noisy = jax.jit(jax.grad(lambda g: g.expect(quadratic, MonteCarlo(10))))(STATE)
    assert abs(noisy.scale - exact).max() > 1e-2


# --- conversions and structure --------------------------------------------------------------------


def test_fit_and_standard():
    x = RNG.normal(size=(50, D)) @ STATE.lower.T + MEAN
    fitted = Gaussian.fit(x)
    np.testing.assert_allclose(fitted.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(fitted.covariance, np.cov(x.T), rtol=1e-12)
    weighted = st.Particles(jnp.asarray(x), jnp.linspace(0.0, 1.0, 50))
    np.testing.assert_allclose(Gaussian.fit(weighted).covariance, weighted.covariance())
    np.testing.assert_allclose(Gaussian.fit(STATE).covariance, COV, atol=1e-13)
    phase = st.Particles.from_positions(st.Phase(jnp.asarray(x), jnp.asarray(x[::-1])))
    assert Gaussian.fit(phase).phase and Gaussian.fit(phase).dimension == 2 * D
    np.testing.assert_allclose(Gaussian.standard(2).covariance, np.eye(2))


def test_a_gaussian_is_a_pytree():
    doubled = jax.tree.map(lambda x: 2 * x, STATE)
    np.testing.assert_allclose(doubled.mean, 2 * MEAN)
    assert jax.tree.structure(COVECTOR) == jax.tree.structure(STATE)
    stack = jax.tree.map(lambda *x: jnp.stack(x), STATE, doubled)
    entropies = jax.jit(jax.vmap(lambda g: g.entropy()))(stack)
    np.testing.assert_allclose(entropies[1] - entropies[0], D * math.log(2), rtol=1e-12)
    assert not np.triu(COVECTOR.scale, 1).any()
    np.testing.assert_allclose(stack.covariance, [COV, 4 * COV], rtol=1e-12)
    with pytest.raises(st.ArgumentError, match="vmap"):
        stack.entropy()


def test_single_precision_stays_single():
    small = jax.tree.map(lambda x: x.astype(jnp.float32), STATE)
    slope = differential(small)
    for leaf in jax.tree.leaves((slope, reweight(small, slope), small.entropy(), small.kl(small))):
        assert leaf.dtype == jnp.float32
    np.testing.assert_allclose(slope.mean, COVECTOR.mean, rtol=1e-4)
    moved = transport(small, slope, st.Euclidean())
    np.testing.assert_allclose(moved.mean, G_MEAN, rtol=1e-4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Gaussian(jnp.zeros((2, 2)), jnp.eye(2)), "mean"),
        (lambda: Gaussian(jnp.zeros(2), jnp.eye(3)), r"expected \(2, 2\)"),
        (lambda: Gaussian(jnp.zeros(2), jnp.ones((2, 2))), "from_moments"),
        (lambda: Gaussian(jnp.zeros(2), jnp.array([1.0, 0.0])), "smallest deviation 0"),
        (lambda: Gaussian(jnp.zeros(2), jnp.array([1.0, jnp.nan])), "NaN"),
        (lambda: Gaussian(jnp.array([0.0, jnp.inf]), jnp.ones(2)), "mean"),
        (lambda: Gaussian([0.0, 0.0], {"a": jnp.ones(2)}), "one array"),
        (lambda: Gaussian(jnp.zeros(3), jnp.ones(3), phase=True), "even"),
        (lambda: Gaussian(jnp.zeros(3), jnp.ones(3), "best"), "quadrature"),
        (lambda: Gaussian(jnp.zeros(2), LowRank(jnp.ones((3, 1)), jnp.ones(2))), "LowRank"),
        (lambda: Gaussian(jnp.zeros(2), LowRank(jnp.ones((2, 1)), jnp.zeros(2))), "diagonal"),
        (
            lambda: Gaussian.from_moments(jnp.zeros(2), jnp.diag(jnp.array([1.0, -0.5]))),
            "-5.000e-01",
        ),
        (lambda: Gaussian.from_moments(jnp.zeros(2), jnp.ones((2, 2))), "smallest eigenvalue"),
        (lambda: Gaussian.from_moments(jnp.zeros(2), [[1.0, 0.2], [0.0, 1.0]]), "asymmetry"),
        (lambda: Gaussian.from_moments(jnp.zeros(2), jnp.zeros(2)), "square"),
        (lambda: Gaussian.fit(jnp.ones((5, 2))), "more points"),
        (lambda: Gaussian.fit(3.0), "points"),
        (lambda: Gaussian.standard(2).kl(Gaussian.standard(3)), "dimension 3"),
        (lambda: Gaussian.standard(2).kl(3.0), "log_prob"),
        (lambda: Gaussian.standard(2).wasserstein_distance(3.0), "a Gaussian"),
        (lambda: GaussHermite(0), "count"),
        (lambda: Cubature(4), "degree"),
        (lambda: QuasiMonteCarlo(7), "even"),
        (lambda: QuasiMonteCarlo(8).nodes(4), "at least 16"),
        (lambda: GaussHermite(16).nodes(6), "Cubature"),
    ],
)
def test_bad_gaussians(make, message):
    with pytest.raises(st.ArgumentError, match=message):
        make()
