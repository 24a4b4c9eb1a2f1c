"""States know themselves: moments, entropy, weights, and their two motions (eq. 58, 63)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import steepest as st

KEY = jax.random.key(2)
X = jax.random.normal(KEY, (30, 2))
WEIGHTED = st.Particles(X, jnp.linspace(-1.0, 2.0, 30))
W = np.exp(np.linspace(-1, 2, 30)) / np.exp(np.linspace(-1, 2, 30)).sum()


def test_weighted_moments_against_numpy():
    np.testing.assert_allclose(WEIGHTED.weights, W)
    np.testing.assert_allclose(WEIGHTED.mean(), W @ np.asarray(X))
    np.testing.assert_allclose(WEIGHTED.covariance(), np.cov(X.T, aweights=W), rtol=1e-12)
    np.testing.assert_allclose(WEIGHTED.effective_size, 1 / np.sum(W**2))
    np.testing.assert_allclose(WEIGHTED.expect(lambda x: x[0] * x[1]), W @ (X[:, 0] * X[:, 1]))
    equal = st.Particles.from_positions(X)
    np.testing.assert_allclose(equal.covariance(), np.cov(X.T), rtol=1e-12)
    assert equal.effective_size == pytest.approx(30) and equal.weighted().weights[0] == 1 / 30
    shifted = st.Particles(X, WEIGHTED.log_weights + 700.0)  # weights need no normalisation
    np.testing.assert_allclose(shifted.weights, W, rtol=1e-12)


def test_moments_of_structured_particles():
    """A pytree of leaves of several shapes is one vector for covariance, entropy and `flat`."""
    phase = st.Phase({"a": X[:, :1], "b": X[:, 1]}, {"a": 2 * X[:, :1], "b": -X[:, 1]})
    particles = st.Particles(phase, WEIGHTED.log_weights)
    columns = np.stack([X[:, 0], X[:, 1], 2 * X[:, 0], -X[:, 1]], axis=1)
    np.testing.assert_array_equal(particles.flat(), columns)
    np.testing.assert_allclose(
        particles.covariance(), np.cov(columns.T, aweights=W), rtol=1e-12, atol=1e-15
    )
    mean = particles.mean()
    np.testing.assert_allclose(mean.momentum["b"], -W @ np.asarray(X)[:, 1])
    value = particles.expect(lambda x: {"q": x.position["a"], "p": x.momentum["b"] ** 2})
    np.testing.assert_allclose(value["p"], W @ np.asarray(X)[:, 1] ** 2)
    assert value["q"].shape == (1,)


def test_the_layout_of_particles_does_not_matter():
    """Counting particles along the last axis is the same measure."""
    turned = WEIGHTED.turned(-1)
    assert turned.positions.shape == (2, 30) and turned.count == 30
    assert turned.turned(-1) is turned
    np.testing.assert_allclose(turned.mean(), WEIGHTED.mean())
    np.testing.assert_allclose(turned.flat(), WEIGHTED.flat())
    np.testing.assert_allclose(turned.covariance(), WEIGHTED.covariance())
    energy = st.ExpectedEnergy(lambda x: jnp.sum(jnp.sin(x)))
    for motion in (lambda p, c: p.transport(c, st.Euclidean()), lambda p, c: p.reweight(c)):
        here = motion(WEIGHTED, energy.differential(WEIGHTED))
        there = motion(turned, energy.differential(turned)).turned(0)
        np.testing.assert_allclose(there.positions, here.positions, atol=1e-14)
        np.testing.assert_allclose(there.log_weights, here.log_weights, atol=1e-14)
    np.testing.assert_array_equal(turned.sample(KEY, 7), WEIGHTED.sample(KEY, 7))


def test_weights_never_underflow():
    """A particle too light for a float has weight zero, stands still and spoils nothing."""
    extreme = st.Particles(jnp.array([[0.5], [0.7]]), jnp.array([0.0, -1e6]))
    np.testing.assert_array_equal(extreme.weights, [1.0, 0.0])
    assert extreme.effective_size == 1.0
    covector = jax.grad(lambda p: p.expect(lambda x: jnp.sum(x**2)))(extreme)
    moved = extreme.transport(covector, st.Euclidean()).positions
    np.testing.assert_allclose(moved, [[1.0], [0.0]])
    np.testing.assert_array_equal(extreme.reweight(covector).log_weights, [0.0, 0.0])
    light = st.Particles(X, jnp.full(30, -1e6).at[:10].set(0.0))
    assert np.isfinite(entropy(light, "nearest-neighbour"))


GAUSSIAN = np.log(2 * np.pi * np.e)  # of a standard normal in the plane


@functools.partial(jax.jit, static_argnums=1)
def entropy(particles, estimator):
    return particles.entropy(estimator)


def test_entropy_of_a_gaussian_and_of_a_cube():
    n = 3000
    gaussian = st.Particles.from_positions(2.0 * jax.random.normal(KEY, (n, 2)))
    exact = GAUSSIAN + 2 * np.log(2.0)
    # Var(-log rho) = d/2 = 1; the neighbour estimate adds Var(log of a unit exponential) = pi^2/6.
    # Its bias is of order n^(-2/d) log n = 2e-3, and more at an edge (surface times spacing).
    assert abs(entropy(gaussian, "nearest-neighbour") - exact) < 4 * np.sqrt((1 + 1.65) / n) + 0.02
    assert abs(entropy(gaussian, "gaussian") - exact) < 4 * np.sqrt(1 / n)
    assert entropy(gaussian, "auto") == entropy(gaussian, "nearest-neighbour")
    cube = st.Particles.from_positions(jax.random.uniform(KEY, (n, 2)))
    assert abs(entropy(cube, "nearest-neighbour")) < 4 * np.sqrt(1.65 / n) + 0.02
    # The Gaussian with variance 1/12 in each direction is an upper bound, and not a tight one.
    bound = GAUSSIAN - np.log(12.0)
    assert abs(entropy(cube, "gaussian") - bound) < 4 * np.sqrt(1 / n)
    wide = st.Particles.from_positions(jax.random.normal(KEY, (50, 5)))
    assert entropy(wide, "auto") == entropy(wide, "gaussian")


def test_entropy_counts_the_weights():
    """Points from N(0, 4) with weights N(0, 1) / N(0, 4) are a sample of N(0, 1)."""
    n = 3000
    x = 2.0 * jax.random.normal(KEY, (n, 2))
    particles = st.Particles(x, -0.375 * jnp.sum(x**2, axis=1))
    size = float(particles.effective_size)
    # E w^2 = int N(0,1)^2 / N(0,4) = (16/7) / n in the plane.
    assert abs(size * 16 / 7 / n - 1) < 0.1
    for estimator, variance in (("nearest-neighbour", 1 + 1.65), ("gaussian", 1.0)):
        slack = 4 * np.sqrt(variance / size) + 0.03
        assert abs(entropy(particles, estimator) - GAUSSIAN) < slack, estimator
    # Equal weights change nothing.
    equal, weighted = st.Particles(x), st.Particles(x, jnp.full(n, 3.0))
    for estimator in ("nearest-neighbour", "gaussian"):
        np.testing.assert_allclose(
            entropy(equal, estimator), entropy(weighted, estimator), rtol=1e-11
        )


def test_gaussian_entropy_is_unbiased_for_few_points():
    """Mean over 400 samples of 12 points in 5 dimensions; the plain estimate is off by -1.6."""
    x = jax.random.normal(KEY, (400, 12, 5))
    estimate = jax.jit(jax.vmap(lambda y: st.Particles(y).entropy("gaussian")))
    values = estimate(x)
    exact = 2.5 * np.log(2 * np.pi * np.e)
    assert abs(values.mean() - exact) < 4 * values.std() / 20
    assert np.isnan(
        st.Particles(x[0, :6]).entropy("gaussian")
    )  # six points span no volume to trust


def test_entropy_moves_with_the_measure():
    """S(a x + b) = S(x) + d log|a|, exactly, for both estimators; float32 follows float64."""
    x = st.Particles(X)
    moved = st.Particles(3.0 * X + 7.0)
    single = st.Particles(X.astype(jnp.float32))
    for estimator in ("nearest-neighbour", "gaussian"):
        here = entropy(x, estimator)
        np.testing.assert_allclose(entropy(moved, estimator), here + 2 * np.log(3), atol=1e-9)
        assert entropy(single, estimator).dtype == jnp.float32
        np.testing.assert_allclose(entropy(single, estimator), here, atol=1e-4)


def test_the_covector_of_particles_is_jax_grad():
    """dF = (w_i grad psi(x_i), w_i (psi_i - <psi>)) for F = <psi>, in log-weights."""
    functional = st.ExpectedEnergy(st.Energy(lambda x: jnp.sum(jnp.sin(x))))
    by_grad = jax.grad(functional)(WEIGHTED)
    own = functional.differential(WEIGHTED)
    np.testing.assert_allclose(own.positions, by_grad.positions, atol=1e-15)
    np.testing.assert_allclose(own.log_weights, by_grad.log_weights, atol=1e-15)
    moved = WEIGHTED.transport(by_grad, st.Euclidean())
    np.testing.assert_allclose(moved.positions, np.cos(X), rtol=1e-12)
    assert not moved.log_weights.any()
    psi = np.sin(X).sum(axis=1)
    growth = WEIGHTED.reweight(by_grad)
    np.testing.assert_allclose(growth.log_weights, psi - W @ psi, atol=1e-12)
    assert not growth.positions.any()
    # In the weights themselves that is w_i (psi_i - <psi>), which keeps their sum.
    rate = jax.jvp(jax.nn.softmax, (WEIGHTED.log_weights,), (growth.log_weights,))[1]
    np.testing.assert_allclose(rate, W * (psi - W @ psi), atol=1e-14)


def interaction(p):
    """F = 1/2 sum w_i w_j k(x_i - x_j), whose first variation is psi(y) = sum_j w_j k(y - x_j)."""
    gaps = p.positions[:, None] - p.positions[None]
    return 0.5 * p.weights @ jnp.exp(-jnp.sum(gaps**2, axis=-1)) @ p.weights


def test_equation_57_58_first_variation_of_an_interaction():
    """Not an expectation: transport still gives grad psi(x_i), reweight psi_i - <psi>."""
    psi = lambda y: W @ jnp.exp(-jnp.sum((y - X) ** 2, axis=-1))  # noqa: E731
    covector = jax.grad(interaction)(WEIGHTED)
    moved = WEIGHTED.transport(covector, st.Euclidean())
    np.testing.assert_allclose(moved.positions, jax.vmap(jax.grad(psi))(X), atol=1e-14)
    values = jax.vmap(psi)(X)
    growth = WEIGHTED.reweight(covector)
    np.testing.assert_allclose(growth.log_weights, values - W @ values, atol=1e-14)


def test_both_motions_lower_the_functional_at_the_rate_of_their_pairing():
    """dF/dt along -motion is -<dF, motion> <= 0, by central differences."""
    covector = jax.grad(interaction)(WEIGHTED)
    for motion in (WEIGHTED.transport(covector, st.Euclidean()), WEIGHTED.reweight(covector)):
        along = lambda t, v=motion: interaction(  # noqa: E731
            jax.tree.map(lambda x, u: x - t * u, WEIGHTED, v)
        )
        rate = (along(1e-5) - along(-1e-5)) / 2e-5
        pairing = sum(
            jnp.vdot(a, b)
            for a, b in zip(jax.tree.leaves(covector), jax.tree.leaves(motion), strict=True)
        )
        assert pairing > 0
        np.testing.assert_allclose(rate, -pairing, rtol=1e-6)


def test_normal_and_sample():
    like = {"a": jnp.zeros((2, 3)), "b": jnp.zeros((), jnp.float32)}
    many = st.Particles.normal(KEY, 5000, like)
    assert many.positions["a"].shape == (5000, 2, 3) and many.count == 5000
    assert many.positions["b"].dtype == jnp.float32
    flat = np.asarray(many.flat())
    assert np.abs(flat.mean(axis=0)).max() < 4.5 / np.sqrt(5000)
    assert np.abs(np.cov(flat.T) - np.eye(7)).max() < 4.5 * np.sqrt(2 / 5000)
    assert scipy.stats.kstest(flat.ravel(), "norm").pvalue > 1e-4


def test_sampling_frequencies_are_the_weights():
    labelled = st.Particles({"i": jnp.arange(30.0)}, WEIGHTED.log_weights)
    drawn = np.asarray(labelled.sample(KEY, 20_000)["i"]).astype(int)
    counts = np.bincount(drawn, minlength=30)
    assert scipy.stats.chisquare(counts, 20_000 * W).pvalue > 1e-4
    assert labelled.sample(KEY, 3)["i"].shape == (3,)


def test_phase():
    """Position and momentum of one structure, at rest or thermal (eq. 7)."""
    phase = st.Phase.thermal(KEY, jnp.zeros(20_000), temperature=0.25)
    assert abs(phase.momentum.var() - 0.25) < 4 * 0.25 * np.sqrt(2 / 20_000)
    rest = st.Phase.at_rest({"a": jnp.ones(2), "b": 1.0})
    assert not rest.momentum["a"].any() and rest.momentum["b"] == 0.0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: st.Particles.normal(KEY, 0, jnp.zeros(2)), "n: got 0; at least one"),
        (lambda: st.Particles.from_positions(jnp.zeros((0, 2))), "at least one"),
        (lambda: st.Particles.from_positions("here"), "positions.*array"),
        (lambda: st.Particles(X, jnp.zeros(3)), r"log_weights: got shape \(3,\); expected \(30,\)"),
        (lambda: st.Particles({"a": X, "b": X[:4]}), "positions.*same leading axis"),
        (lambda: st.Particles(jnp.zeros(())), "leading axis"),
        (lambda: WEIGHTED.entropy("best"), "estimator: got best; 'auto'"),
        (lambda: WEIGHTED.log_prob(X[0]), "no density"),
        (lambda: st.Phase(jnp.ones(2), {"p": jnp.ones(2)}), "momentum.*structure"),
        (lambda: st.Phase(jnp.ones(2), jnp.ones(3)), r"shape \(3,\); position has shape \(2,\)"),
        (lambda: st.Phase.at_rest("here"), "position"),
        (lambda: st.Particles.from_positions(X).reweight(st.Particles(X)), "weighted"),
    ],
)
def test_bad_states(make, message):
    with pytest.raises(st.ArgumentError, match=message):
        make()
