"""Gaussian mixtures: their Gaussians move, their weights reweight; fits, distances, collapse."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import steepest as st
from steepest.states.gaussian import Gaussian
from steepest.states.maximum_likelihood import fit_mixture
from steepest.states.mixture import GaussianMixture
from steepest.states.quadrature import GaussHermite

KEY = jax.random.key(4)
LOGS = jnp.array([0.3, -0.5, 1.0])
MEANS = jnp.array([[-2.0, 0.5], [1.5, 1.0], [0.0, -2.0]])
SCALES = jnp.array([[[0.8, 0], [0.3, 0.6]], [[1.1, 0], [-0.4, 0.5]], [[0.5, 0], [0.0, 0.9]]])
STATE = GaussianMixture(LOGS, MEANS, SCALES, GaussHermite(12))
W = np.asarray(jax.nn.softmax(LOGS))
# On the line, where integrals can be done by hand.
LINE = GaussianMixture([0.2, -0.3], [[-1.0], [1.2]], [[0.7], [0.5]], GaussHermite(64))
OTHER_LINE = GaussianMixture([0.0, 0.5], [[-0.5], [1.5]], [[[0.9]], [[0.6]]], GaussHermite(64))


def energy(x):
    return x[0] ** 2 * x[1] + x[0] ** 2 + 0.5 * x[1] ** 4


def expected_energy(state):
    return state.expect(energy)


def line_integral(fn):
    return quad(lambda x: float(fn(np.array([x]))), -9, 9, epsabs=1e-11, limit=200)[0]


def density(state):
    """exp(log_prob) in numpy, from the formula."""
    w = np.exp(state.log_weights) / np.exp(state.log_weights).sum()
    m, s = np.ravel(state.means), np.ravel(state.scales)

    def fn(x):
        return np.sum(w * np.exp(-0.5 * ((x - m) / s) ** 2) / (s * math.sqrt(2 * math.pi)))

    return fn


def test_moments_are_those_of_total_variance():
    mean = W @ np.asarray(MEANS)
    np.testing.assert_allclose(STATE.mean(), mean, rtol=1e-13)
    parts = np.einsum("kij,klj->kil", SCALES, SCALES)
    gaps = np.asarray(MEANS) - mean
    cov = np.einsum("k,kij->ij", W, parts + gaps[:, :, None] * gaps[:, None, :])
    np.testing.assert_allclose(STATE.covariance(), cov, rtol=1e-13)
    np.testing.assert_allclose(STATE.expect(lambda x: x), mean, rtol=1e-12)
    drawn = np.asarray(STATE.sample(KEY, 40_000))
    assert (np.abs(drawn.mean(0) - mean) < 4.5 * np.sqrt(np.diag(cov) / 40_000)).all()
    fourth = np.mean((drawn - mean) ** 4, axis=0)
    spread = np.sqrt((fourth - np.diag(cov) ** 2) / 40_000)
    assert (np.abs(drawn.var(0) - np.diag(cov)) < 4.5 * spread).all()


def test_density_entropy_and_divergences_on_the_line():
    """Against adaptive integration in numpy; Gauss-Hermite with 64 nodes is off by 1e-7."""
    p, q = density(LINE), density(OTHER_LINE)
    x = jnp.linspace(-3, 3, 7)[:, None]

    @jax.jit
    def found(a, b):
        exact = a.log_prob(x), jax.vmap(b.log_prob)(x), a.entropy(), a.kl(b)
        return exact, [
            a.kl_estimate(b, KEY, 20_000),
            a.symmetric_kl(b, KEY, 20_000),
            a.total_variation(b, KEY, 20_000),
        ]

    (first, second, entropy, divergence), sampled = found(LINE, OTHER_LINE)
    np.testing.assert_allclose(first, [math.log(p(y)) for y in x], rtol=1e-12)
    np.testing.assert_allclose(second, [math.log(q(y)) for y in x], rtol=1e-12)
    exact = line_integral(lambda y: -p(y) * math.log(p(y)))
    np.testing.assert_allclose(entropy, exact, atol=1e-6)
    kl = line_integral(lambda y: p(y) * math.log(p(y) / q(y)))
    back = line_integral(lambda y: q(y) * math.log(q(y) / p(y)))
    np.testing.assert_allclose(divergence, kl, atol=1e-6)
    gap = line_integral(lambda y: 0.5 * abs(p(y) - q(y)))
    for estimate, value in zip(sampled, (kl, kl + back, gap), strict=True):
        assert abs(estimate.value - value) < 4.5 * estimate.error
        assert 0 < estimate.error < 0.02


def test_one_component_is_the_gaussian():
    gaussian = Gaussian(MEANS[0], SCALES[0], GaussHermite(12))
    mixture = GaussianMixture.from_gaussian(gaussian)

    @jax.jit
    def motions(state):
        covector = jax.grad(lambda s: s.expect(energy) - 0.7 * s.entropy())(state)
        return state.entropy(), state.transport(covector, 0.5 * st.Euclidean())

    entropy, moved = motions(mixture)
    expected, single = motions(gaussian)
    np.testing.assert_allclose(entropy, expected, rtol=1e-12)
    np.testing.assert_allclose(moved.means[0], single.mean, rtol=1e-10)
    np.testing.assert_allclose(moved.scales[0], single.scale, atol=1e-10)
    assert not moved.log_weights.any()


def test_the_covector_of_an_expectation_and_its_two_motions():
    """dF = (w_i (E_i f - <f>), w_i E_i grad f, ...): psi is read off, components move alone."""
    slope_of = jax.jit(jax.grad(expected_energy))
    covector = slope_of(STATE)
    values = STATE.each(expected_energy)
    np.testing.assert_allclose(covector.log_weights, W * (values - W @ values), atol=1e-13)
    growth = STATE.reweight(covector)
    np.testing.assert_allclose(growth.log_weights, values - W @ values, atol=1e-12)
    assert not growth.means.any() and not growth.scales.any()
    transport = jax.jit(lambda state, covector: state.transport(covector, st.Euclidean()))
    moved = transport(STATE, covector)
    for i in range(3):
        alone = STATE.component(i)
        single = transport(alone, slope_of(alone))
        np.testing.assert_allclose(moved.means[i], single.mean, atol=1e-11)
        np.testing.assert_allclose(moved.scales[i], single.scale, atol=1e-11)
    diagonal = GaussianMixture(LOGS, MEANS, jnp.ones((3, 2)), GaussHermite(6))
    slope = slope_of(diagonal)
    moved = transport(diagonal, slope)
    np.testing.assert_allclose(moved.scales, slope.scales / W[:, None], rtol=1e-12)


def test_entropy_has_the_right_derivative():
    """jax.grad of the quadrature against central differences of the integral, on the line."""
    slope = jax.jit(jax.grad(lambda m: m.entropy()))(LINE)
    h = 1e-4
    for name in ("log_weights", "means", "scales"):
        ends = []
        for sign in (1, -1):
            parts = {k: np.array(getattr(LINE, k)) for k in ("log_weights", "means", "scales")}
            parts[name].reshape(-1)[0] += sign * h
            p = density(GaussianMixture(**parts))
            ends.append(line_integral(lambda y, p=p: -p(y) * math.log(p(y))))
        change = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(np.ravel(getattr(slope, name))[0], change, atol=1e-5)


def test_free_energy_falls_along_both_motions_to_the_equilibrium():
    """Euler on a bimodal target from one split Gaussian: F falls until the rule's own error."""
    target = GaussianMixture([0.0, 0.7], [[-2.0], [2.0]], [[0.6], [0.6]])
    start = GaussianMixture.from_gaussian(Gaussian([0.0], [[1.5]], GaussHermite(20)), 2, 0.7)
    kl = st.KL(target)

    @jax.jit
    def run(state):
        def step(state, _):
            value, covector = jax.value_and_grad(kl)(state)
            still, grown = state.transport(covector, st.Euclidean()), state.reweight(covector)
            return jax.tree.map(lambda x, a, b: x - 0.05 * (a + b), state, still, grown), value

        return jax.lax.scan(step, state, None, 300)

    end, values = run(start)
    assert (np.diff(values[:100]) < 0).all() and values[0] > 0.5
    assert abs(values[-1]) < 1e-6  # 20 nodes; the target is in the family, so the least KL is zero
    np.testing.assert_allclose(end.weights, target.weights, atol=1e-3)
    np.testing.assert_allclose(np.ravel(end.means), [-2.0, 2.0], atol=1e-3)


def test_split_keeps_mean_and_covariance():
    gaussian = Gaussian.from_moments([1.0, -2.0, 0.5], np.diag([4.0, 1.0, 0.25]) + 0.1)
    for components, spread in ((1, 0.5), (2, 0.9), (10, 0.3)):
        mixture = GaussianMixture.from_gaussian(gaussian, components, spread)
        assert mixture.count == components
        np.testing.assert_allclose(mixture.mean(), gaussian.mean, atol=1e-13)
        np.testing.assert_allclose(mixture.covariance(), gaussian.covariance, atol=1e-13)


# --- distances ------------------------------------------------------------------------------------


def test_mixture_wasserstein_distance():
    order = jnp.array([2, 0, 1])
    shuffled = GaussianMixture(LOGS[order], MEANS[order], SCALES[order])
    assert STATE.mixture_wasserstein_distance(shuffled) < 1e-7  # root of a linear program's 1e-15
    shift = jnp.array([0.3, -0.4])
    moved = GaussianMixture(LOGS, MEANS + shift, SCALES)
    np.testing.assert_allclose(STATE.mixture_wasserstein_distance(moved), 0.5, rtol=1e-9)
    # Equal weights: the best of all permutations.
    a = GaussianMixture(jnp.zeros(3), MEANS, SCALES)
    b = GaussianMixture(jnp.zeros(3), MEANS[::-1] + 0.4, 1.3 * SCALES)
    cost = np.array(
        [
            [a.component(i).wasserstein_distance(b.component(j)) ** 2 for j in range(3)]
            for i in range(3)
        ]
    )
    best = min(np.mean([cost[i, p[i]] for i in range(3)]) for p in itertools.permutations(range(3)))
    np.testing.assert_allclose(a.mixture_wasserstein_distance(b) ** 2, best, rtol=1e-9)
    # Weights that differ: mass must be split; W2 of the means alone is a lower bound.
    found = STATE.mixture_wasserstein_distance(b)
    assert found >= np.linalg.norm(STATE.mean() - b.mean())
    np.testing.assert_allclose(found, b.mixture_wasserstein_distance(STATE), rtol=1e-9)


# --- fits -----------------------------------------------------------------------------------------

POINTS = STATE.sample(KEY, 4000)


def test_fit_recovers_the_mixture():
    """2 n KL(true || fit) is about chi^2 of the 17 free numbers: below 60 with p = 1e-6."""
    fitted = GaussianMixture.fit(POINTS, 3, jax.random.key(1), quadrature=GaussHermite(12))
    assert 2 * 4000 * STATE.kl(fitted) < 60
    np.testing.assert_allclose(np.sort(fitted.weights), np.sort(W), atol=0.04)
    one = GaussianMixture.fit(POINTS, 1, KEY)
    np.testing.assert_allclose(one.means[0], POINTS.mean(0), rtol=1e-10)
    np.testing.assert_allclose(one.covariance(), np.cov(POINTS.T, bias=True), rtol=1e-10)


def test_likelihood_never_falls():
    x, w = POINTS[:310], jnp.full(310, 1 / 310)
    values = [
        fit_mixture(x, w, 2, KEY, iterations=n, tolerance=-1.0).likelihood for n in (1, 2, 3, 5, 9)
    ]
    assert (np.diff(values) >= 0).all() and values[-1] > values[0]


def test_collapse_is_held_at_the_floor():
    """Ten equal points far away take a component: its variances are the floor, exactly."""
    x = jnp.concatenate([POINTS[:300], jnp.full((10, 2), 30.0)])
    variance = np.mean(np.var(x, axis=0))
    for floor in (1e-5, 1e-3):
        fitted = GaussianMixture.fit(x, 2, KEY, floor=floor)
        spike = int(np.argmin(fitted.weights))
        np.testing.assert_allclose(fitted.weights[spike], 10 / 310, rtol=1e-6)
        np.testing.assert_allclose(fitted.means[spike], [30.0, 30.0], rtol=1e-12)
        covariance = fitted.component(spike).covariance
        np.testing.assert_allclose(covariance, floor * variance * np.eye(2), atol=1e-12)
    # More components than different points: nothing is lost, nothing is NaN.
    twice = GaussianMixture.fit(jnp.array([[0.0], [1.0], [1.0]]), 3, KEY)
    assert jnp.isfinite(twice.log_prob(jnp.array([0.5])))


def test_fit_to_weighted_particles_and_to_phase_space():
    weights = jnp.where(POINTS[:, 0] > 0, 0.0, -40.0)
    right = GaussianMixture.fit(st.Particles(POINTS, weights), 1, KEY)
    kept = POINTS[POINTS[:, 0] > 0]
    np.testing.assert_allclose(right.means[0], kept.mean(0), rtol=1e-10)
    phase = st.Particles.from_positions(st.Phase(POINTS[:, :1], POINTS[:, 1:]))
    found = GaussianMixture.fit(phase, 1, KEY)
    kinetic = found.expect(lambda x: jnp.sum(x.momentum**2))
    np.testing.assert_allclose(kinetic, np.mean(POINTS[:, 1] ** 2), rtol=1e-10)
    assert found.sample(KEY, 5).position.shape == (5, 1)


# --- structure ------------------------------------------------------------------------------------


def test_a_mixture_is_a_pytree_in_both_precisions():
    stack = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), LINE)
    assert jax.vmap(lambda m: m.mean())(stack).shape == (2, 1)
    with pytest.raises(st.ArgumentError, match="vmap"):
        stack.mean()
    small = jax.tree.map(lambda x: x.astype(jnp.float32), LINE)

    @jax.jit
    def motion(m):
        value, slope = jax.value_and_grad(lambda m: m.entropy())(m)
        return value, slope, m.transport(slope, st.Euclidean())

    value, slope, moved = motion(small)
    assert {x.dtype for x in jax.tree.leaves((slope, moved))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(value, LINE.entropy(), rtol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GaussianMixture(LOGS, MEANS[0], SCALES), "means"),
        (lambda: GaussianMixture(LOGS[:2], MEANS, SCALES), "log_weights"),
        (lambda: GaussianMixture(LOGS, MEANS, SCALES[:2]), "scales"),
        (lambda: GaussianMixture(LOGS, MEANS, 0 * SCALES), r"scales\[0\]"),
        (lambda: GaussianMixture(LOGS, MEANS, SCALES.swapaxes(1, 2)), r"from_moments"),
        (lambda: GaussianMixture(LOGS / 0, MEANS, SCALES), "log_weights"),
        (lambda: GaussianMixture(LOGS, MEANS, SCALES, "best"), "quadrature"),
        (lambda: GaussianMixture.from_gaussian(Gaussian.standard(2), 0), "components"),
        (lambda: GaussianMixture.from_gaussian(Gaussian.standard(2), 2, 1.0), "spread"),
        (lambda: GaussianMixture.fit(POINTS, 0, KEY), "components"),
        (lambda: GaussianMixture.fit(POINTS[:2], 3, KEY), "n = 2"),
        (lambda: GaussianMixture.fit(jnp.ones((9, 2)), 2, KEY), "equal points"),
        (lambda: GaussianMixture.fit(POINTS, 2, KEY, floor=0.0), "floor"),
        (lambda: STATE.kl(3.0), "log_prob"),
        (lambda: STATE.symmetric_kl(3.0, KEY), "log_prob and sample"),
        (lambda: STATE.symmetric_kl(STATE, None), "key"),
        (lambda: STATE.kl_estimate(STATE, KEY, 1), "two draws"),
        (lambda: STATE.mixture_wasserstein_distance(LINE), "mixture in 2-D"),
        (lambda: jax.jit(lambda m: STATE.mixture_wasserstein_distance(m))(STATE), "traced"),
    ],
)
def test_bad_mixtures(make, message):
    with pytest.raises(st.ArgumentError, match=message):
        make()
