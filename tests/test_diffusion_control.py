"""Sampling by a drift and the books of the forward flow, where log Z and every law are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest import diffusion
from steepest.errors import ArgumentError

KEY = jax.random.key(0)
LOG_Z = 1.7


def gaussian(mean, scale):
    return st.GaussianMixture(jnp.zeros(1), jnp.asarray([mean]), jnp.asarray([scale]))


def energy_of(law):
    """-log rho - log Z of a normalised law, so that Z is known."""
    return lambda x: -law.log_prob(x) - LOG_Z


@pytest.fixture(scope="module")
def pair():
    """Two unequal Gaussians in the plane."""
    means = jnp.array([[-2.0, 0.0], [1.5, 1.0]])
    scales = jnp.array([[[0.5, 0.0], [0.3, 0.4]], [[0.3, 0.0], [-0.2, 0.7]]])
    return st.GaussianMixture(jnp.array([0.0, 0.7]), means, scales)


@pytest.mark.parametrize("process", [diffusion.VariancePreserving(), diffusion.EDM()])
def test_a_gaussian_is_reached_without_loss_in_three_steps(process):
    # The steps of the controlled path are the exact posteriors, so that w = log Z on every path.
    law = gaussian([1.0, -2.0], [[0.5, 0.0], [0.3, 1.2]])
    found = diffusion.steer(process, diffusion.ExactMixture(law), energy_of(law), KEY, 64, steps=3)
    np.testing.assert_allclose(found.log_ratios, LOG_Z, atol=1e-6)
    assert found.kl < 1e-6 and found.effective_share > 1 - 1e-6


def test_log_z_of_a_mixture_is_bracketed_and_a_worse_drift_opens_the_bracket(pair):
    process = diffusion.VariancePreserving()
    draws = pair.sample(jax.random.key(1), 1000)
    wrong = st.GaussianMixture(pair.log_weights, pair.means + 0.5, pair.scales)
    exact, poor = (
        diffusion.steer(
            process, diffusion.ExactMixture(law), energy_of(pair), KEY, 1000, steps=60, draws=draws
        )
        for law in (pair, wrong)
    )
    for found in (exact, poor):
        assert found.lower < LOG_Z < found.upper
        assert abs(found.estimate - LOG_Z) < 5 * found.standard_error
    assert "weights" not in exact.assumption
    assert exact.kl < 0.2 < 0.5 < poor.kl and exact.effective_share > 0.8
    # Weighted, the samples of the wrong drift have the mean of the target. Kish's size says how
    # far sampling moves it: 5 standard errors.
    mean = diffusion.ExactMixture(pair).moments()[0]
    sd = jnp.sqrt(jnp.diag(diffusion.ExactMixture(pair).moments()[1]))
    size = float(poor.particles.effective_size)
    assert (jnp.abs(poor.particles.mean() - mean) < 5 * sd / np.sqrt(size)).all()
    plain = jnp.mean(poor.particles.positions, axis=0)
    assert (jnp.abs(plain - mean) > 5 * sd / np.sqrt(1000)).any()  # unweighted it is seen


def test_a_learned_drift_brackets_log_z(pair):
    data = pair.sample(jax.random.key(2), 4000).astype(jnp.float32)
    process = diffusion.EDM(start=0.01, end=20.0)
    network = diffusion.Perceptron(2, KEY, width=32, depth=2, dtype=jnp.float32)
    # This loss needs no clean points, and the way down starts from draws of the way up.
    fitted = diffusion.fit(
        process, network, data, KEY, steps=200, learning_rate=5e-3, loss="implicit"
    )
    found = diffusion.steer(process, fitted.model, energy_of(pair), KEY, 1000, steps=60)
    assert found.lower < LOG_Z < found.upper and found.kl < 3.0, found
    assert "weights of the way up" in found.assumption


def gap(mean, variance):
    """KL(N(mean, variance) || N(0, 1)), d = 1."""
    return 0.5 * (mean**2 + variance - 1.0 - np.log(variance))


def test_entropy_production_and_the_half_bridge_of_a_gaussian():
    mean, scale, n = 0.8, 0.7, 20_000
    law = gaussian([mean], [scale])
    truth, x = diffusion.ExactMixture(law), law.sample(KEY, n)
    process = diffusion.VariancePreserving(end=0.4)
    made = diffusion.entropy_production(process, truth, x, jax.random.key(1), levels=16)
    alpha, sigma = (np.asarray(f(jnp.asarray(made.times))) for f in (process.alpha, process.sigma))
    kl = gap(alpha * mean, alpha**2 * scale**2 + sigma**2)
    # The mean is the fall of KL to the stationary law: four standard errors.
    assert (np.abs(made.mean - (kl[0] - kl)) <= 4 * made.error + 1e-12).all()
    assert made.error[-1] < 0.01 < 0.3 < made.mean[-1]
    value, error = made.fluctuation
    assert abs(value - 1.0) < 4 * error
    # Without the heat it does not hold, and the test sees it.
    assert abs(np.exp(-made.system[-1]).mean() - 1.0) > 8 * error
    # A free particle gives no heat: what is made is the growth of entropy.
    free = diffusion.entropy_production(diffusion.EDM(end=3.0), truth, x, KEY, levels=8)
    assert not free.medium.any()
    grown = 0.5 * np.log((scale**2 + free.times**2) / (scale**2 + free.times[0] ** 2))
    assert (np.abs(free.mean - grown) <= 4 * free.error + 1e-12).all()
    # A bath that warms: the rule in 2 f/g^2 sees it, to second order in the spacing of the levels.
    warming = diffusion.SubVariancePreserving(end=0.4, start=0.02)
    warm = diffusion.entropy_production(warming, truth, x, KEY, levels=128)
    value, error = warm.fluctuation
    assert abs(value - 1.0) < 4 * error + 0.01
    # Finite T: KL(p_T || prior), reported where there is a stationary law and where there is none.
    for end in (process, diffusion.EDM(end=3.0)):
        books = diffusion.forward_books(end, truth, x, KEY, levels=3)
        a, s = (float(f(jnp.asarray(end.end))) for f in (end.alpha, end.sigma))
        exact = gap(a * mean / s, (a**2 * scale**2 + s**2) / s**2)
        value, error = books.half_bridge
        assert abs(value - exact) < 4 * error < 0.1 * exact, (value, exact, error)


def test_bad_input_is_refused_in_words(pair):
    process, model, energy = diffusion.EDM(), diffusion.ExactMixture(pair), energy_of(pair)
    for make, word in [
        (lambda: diffusion.steer(process, model, energy, KEY, 5), "n"),
        (lambda: diffusion.steer(process, model, 3.0, KEY, 50), "energy"),
        (lambda: diffusion.steer(process, model, energy, KEY, 50, steps=0), "steps"),
        (lambda: diffusion.steer(process, pair, energy, KEY, 50), "model"),
        (lambda: diffusion.steer(process, model, energy, KEY, 50, steps=2, draws=jnp.ones((50, 3))),
         "draws"),
    ]:  # fmt: skip
        with pytest.raises(ArgumentError) as caught:
            make()
        assert caught.value.argument == word
