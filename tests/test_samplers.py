"""SGD as a sampler: its covariance, temperature and current; SGLD and SGHMC."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.samplers import entropy_production, gaussian_of_iterates

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(60, 3)) * [1.0, 0.6, 1.5])
Y = jnp.asarray(
    X @ np.array([1.0, -2.0, 0.5]) + 0.8 * RNG.normal(size=60) * (1 + 0.5 * np.abs(X[:, 0]))
)
LABELS = jnp.asarray((RNG.uniform(size=60) < 1 / (1 + np.exp(-np.asarray(X[:, 0])))) * 1.0)


def squared(theta, row):
    x, y = row
    return 0.5 * (x @ theta - y) ** 2


def logistic(theta, row):
    x, y = row
    return jax.nn.softplus(x @ theta) - y * (x @ theta) + 0.05 * jnp.sum(theta**2)


STAR = jnp.linalg.solve(X.T @ X, X.T @ Y)
RISK = st.EmpiricalRisk(squared, (X, Y))


@functools.partial(jax.jit, static_argnames=("loss", "batch", "chains", "steps", "burn"))
def long_run(loss, target, start, step, batch, chains=128, steps=1500, burn=400):
    """Hand-written SGD from `start`: (steps - burn, chains, 3). One program for all step sizes."""
    gradient = jax.vmap(jax.grad(loss), (None, 0))

    def body(theta, k):
        index = jax.random.randint(k, (chains, batch), 0, 60)
        g = jax.vmap(lambda t, i: jnp.mean(gradient(t, (X[i], target[i])), 0))(theta, index)
        return theta - step * g, theta

    theta = jnp.broadcast_to(start, (chains, 3))
    return jax.lax.scan(body, theta, jax.random.split(jax.random.key(1), steps))[1][burn:]


UPPER = np.triu_indices(3)


def second_moments(draws, star):
    """The six second moments around `star`, and their standard errors over chains."""
    away = np.asarray(draws) - np.asarray(star)
    each = np.einsum("tci,tcj->cij", away, away)[:, *UPPER] / len(away)
    return each.mean(axis=0), each.std(axis=0) / len(each) ** 0.5


@pytest.mark.parametrize("batch", [4, 16])
@pytest.mark.parametrize("step", [0.05, 0.15, 0.3])
def test_the_covariance_of_sgd_on_a_quadratic_finite_steps_included(batch, step):
    """All six moments within 3 standard errors over chains (36 in all: one in ten seeds has one
    beyond); without the finite-step correction the largest step is off by far more."""
    draws = long_run(squared, Y, STAR, step, batch)
    found, error = second_moments(draws, STAR)
    predicted = st.stationary(RISK, STAR, step, batch)
    assert np.max(np.abs(found - np.asarray(predicted.covariance)[UPPER]) / error) < 3.0
    if step == 0.3:
        naive = st.stationary(RISK, STAR, step, batch, finite_step=False).covariance
        assert (np.abs(found - np.asarray(naive)[UPPER]) / error).max() > 20
    away = np.asarray(draws) - np.asarray(STAR)
    each = np.einsum("tci,ij,tcj->c", away, predicted.hessian, away) / (3 * len(away))
    assert abs(each.mean() - predicted.temperature) < 3.0 * each.std() / len(each) ** 0.5


def test_the_covariance_around_the_minimum_of_a_logistic_regression():
    """Linear response within 3 standard errors, of 1 % each for the variances: fluctuations are
    of 0.06, over which the curvature changes by a thousandth."""
    risk = st.EmpiricalRisk(logistic, (X, LABELS))
    newton = lambda _, t: t - jnp.linalg.solve(jax.hessian(risk)(t), jax.grad(risk)(t))  # noqa: E731
    star = jax.jit(lambda t: jax.lax.fori_loop(0, 20, newton, t))(jnp.zeros(3))
    draws = long_run(logistic, LABELS, star, 0.2, 16, steps=4000, burn=500)
    found, error = second_moments(draws, star)
    predicted = np.asarray(st.stationary(risk, star, 0.2, 16).covariance)[UPPER]
    assert (error / predicted)[[0, 3, 5]].max() < 0.02
    assert np.max(np.abs(found - predicted) / error) < 3.0
    # Noise of the wrong size is seen: batches of 14 rows for 16.
    wrong = np.asarray(st.stationary(risk, star, 0.2, 14).covariance)[UPPER]
    assert np.max(np.abs(found - wrong) / error) > 5.0


def test_equation_52_66_the_diffusion_in_sgds_own_clock_has_the_continuous_covariance():
    """Euler of step h/20 on d theta = -grad E dt + sqrt(h Sigma/b) dW, frozen noise: H C + C H = h
    Sigma/b. 1000 chains: 4.5 % of a variance; three of them."""
    step, batch = 0.2, 8
    flow = st.sgd_as_langevin(RISK, step, batch, at=STAR)
    chains = st.Particles(jnp.broadcast_to(STAR, (1000, 3)))
    run = st.solve(
        flow, chains, scheme=st.Euler(0.05), time=20.0, save_every=400, key=jax.random.key(0),
        ledger="saves",
    )  # fmt: skip
    continuous = st.stationary(RISK, STAR, step, batch, finite_step=False).covariance
    found = np.cov(np.asarray(run.final.positions).T)
    np.testing.assert_allclose(np.diag(found), np.diag(continuous), rtol=0.15)
    moving = st.sgd_as_langevin(RISK, step, batch)
    assert bool(jnp.all(jnp.isfinite(moving.velocity(STAR))))


def test_gradient_noise_in_its_three_forms():
    """Full: the covariance over all n^b batches, here by b = 1; low rank keeps the diagonal."""
    rows = np.asarray(jax.vmap(jax.grad(squared), (None, 0))(STAR + 0.3, (X, Y)))
    expected = np.cov(rows.T, bias=True) / 4
    full = st.gradient_noise(RISK, STAR + 0.3, 4)
    np.testing.assert_allclose(full.covariance, expected, atol=1e-12)
    np.testing.assert_allclose(full.mean, rows.mean(axis=0), atol=1e-12)
    diagonal = st.gradient_noise(RISK, STAR + 0.3, 4, kind="diagonal")
    np.testing.assert_allclose(diagonal.covariance, np.diag(np.diag(expected)), atol=1e-12)
    low = st.gradient_noise(RISK, STAR + 0.3, 4, kind=1).covariance
    np.testing.assert_allclose(np.diag(low), np.diag(expected), atol=1e-12)
    top = np.linalg.eigh(expected)[1][:, -1]
    factor = st.gradient_noise(RISK, STAR + 0.3, 4, kind=1).factor[:, 0]
    largest = np.linalg.eigvalsh(expected)[-1]
    np.testing.assert_allclose(np.abs(factor @ top), largest**0.5, rtol=1e-9)


def test_a_current_and_its_entropy_production():
    """Sigma = c H gives an equilibrium; else a current, seen in moments one update apart.

    E[x_{k+1} x_k^T] = (1 - hH) C exactly for a quadratic, so its antisymmetric part is -h Q.
    """
    step, batch = 0.15, 4
    law = st.stationary(RISK, STAR, step, batch)
    draws = np.asarray(long_run(squared, Y, STAR, step, batch, chains=256, steps=4000))
    draws = draws - np.asarray(STAR)
    lag = np.einsum("tci,tcj->cij", draws[1:], draws[:-1]) / (len(draws) - 1)
    odd = 0.5 * (lag - lag.transpose(0, 2, 1)) / -step
    error = odd.std(axis=0) / len(odd) ** 0.5
    upper = np.triu_indices(3, 1)
    score = np.abs(odd.mean(axis=0) - np.asarray(law.current))[upper] / error[upper]
    assert score.max() < 4.0
    assert (np.abs(law.current)[upper] / error[upper]).max() > 5.0, "the current must be visible"
    rate, jackknife = entropy_production(RISK, STAR, step, batch)
    np.testing.assert_allclose(rate, law.entropy_production, rtol=1e-8)
    assert rate > 0 and jackknife > 0
    # Homoscedastic in the limit: rows +-e_i with residuals +-1 have Sigma = H exactly.
    rows = jnp.concatenate([jnp.eye(3) * 3**0.5] * 2)
    target = jnp.concatenate([jnp.ones(3), -jnp.ones(3)])
    fair = st.EmpiricalRisk(squared, (rows, target))
    calm = st.stationary(fair, jnp.zeros(3), 0.1, 2)
    np.testing.assert_allclose(calm.entropy_production, 0.0, atol=1e-12)


def test_the_gaussian_of_the_iterates():
    flow = st.Flow(st.EmpiricalRisk(squared, (X, Y), 8), st.Euclidean(), st.Minibatch())
    run = st.solve(
        flow, STAR, scheme=st.Euler(0.2), steps=40_000, save_every=10, key=jax.random.key(0)
    )
    law = gaussian_of_iterates(run)
    predicted = st.stationary(RISK, STAR, 0.2, 8).covariance
    np.testing.assert_allclose(jnp.diagonal(law.covariance), jnp.diagonal(predicted), rtol=0.15)
    low = gaussian_of_iterates(run, rank=1)
    np.testing.assert_allclose(
        jnp.diagonal(low.covariance), jnp.diagonal(law.covariance), rtol=1e-3
    )


def test_sgld_reaches_the_posterior_where_sgd_of_the_same_temperature_does_not():
    """SGLD at SGD's own effective temperature samples exp(-risk/T), whose covariance is T H^{-1};
    SGD has the covariance of its discrete Lyapunov equation instead.

    All within 3 standard errors of their predictions. SGLD's has finite steps and minibatches in it
    too: C = A C A + 2 h T + h^2 (noise), A = 1 - hH, so its bias is predicted, measured, and with
    control variates mostly gone.
    """
    batch, step, chains = 20, 0.05, 2000
    hessian = np.asarray(X.T @ X) / 60
    law = st.stationary(RISK, STAR, step, batch)
    temperature = float(law.temperature)
    gibbs = temperature * np.linalg.inv(hessian)
    risk = st.EmpiricalRisk(squared, (X, Y), batch)
    start = st.Particles(jnp.broadcast_to(STAR, (chains, 3)))
    own = np.einsum("ni,nj->nij", X, X) - hessian

    def score(moments, error, expected):
        return np.max(np.abs(moments - expected[UPPER]) / error)

    def sampled(risk):
        flow, scheme = st.sgld(risk, step / 60, temperature=60 * temperature)
        run = st.solve(
            flow, start, scheme=scheme, steps=400, save_every=400, key=jax.random.key(0),
            ledger="saves",
        )  # fmt: skip
        return second_moments(np.asarray(run.final.positions)[None], STAR)

    def predicted(noise):
        a, c = np.eye(3) - step * hessian, gibbs
        for _ in range(400):
            spread = np.einsum("nij,jk,nkl->il", own, c, own) / (60 * batch)
            c = a @ c @ a.T + 2 * step * temperature * np.eye(3) + step**2 * (noise + spread)
        return c

    sigma = np.asarray(st.gradient_noise(RISK, STAR, batch).covariance)
    plain, controlled = sampled(risk), sampled(risk.around(STAR))
    assert score(*plain, predicted(sigma)) < 3.0
    assert score(*controlled, predicted(0 * sigma)) < 3.0
    bias = [np.abs(predicted(noise) / gibbs - 1)[0, 0] for noise in (sigma, 0 * sigma)]
    assert bias[1] < 0.05 < bias[0]
    assert score(*plain, gibbs) > 5.0
    sgd = second_moments(long_run(squared, Y, STAR, step, batch, steps=3000), STAR)
    assert score(*sgd, np.asarray(law.covariance)) < 3.0
    assert score(*sgd, gibbs) > 10.0


def test_sghmc_on_phase_space():
    risk = st.EmpiricalRisk(squared, (X, Y), 20)
    flow, scheme = st.sghmc(risk.around(STAR), 0.02, friction=5.0)
    state = st.Particles(st.Phase.at_rest(jnp.broadcast_to(STAR, (600, 3))))
    run = st.solve(flow, state, scheme=scheme, steps=800, save_every=800, key=jax.random.key(0))
    posterior = np.linalg.inv(np.asarray(X.T @ X))
    found = np.cov(np.asarray(run.final.positions.position).T)
    np.testing.assert_allclose(np.diag(found), np.diag(posterior), rtol=0.25)


def test_bad_input():
    cases = [
        (lambda: st.gradient_noise(RISK, STAR, 100), "batch_size"),
        (lambda: st.gradient_noise(RISK, STAR), "batch_size"),
        (lambda: st.gradient_noise(RISK, STAR, 4, kind="thick"), "kind"),
        (lambda: st.gradient_noise(lambda t: t, STAR, 4), "risk"),
        (lambda: st.stationary(RISK, STAR, 50.0, 4), "stable"),
        (lambda: st.stationary(RISK, STAR, -1.0, 4), "step"),
        (lambda: st.sgld(RISK, 0.1), "batch_size"),
        (lambda: entropy_production(RISK, STAR, 0.1, 4, groups=1), "groups"),
    ]
    for call, message in cases:
        with pytest.raises(st.ArgumentError, match=message):
            call()
    flat = st.EmpiricalRisk(lambda t, row: 0.5 * (t[0] - row) ** 2, Y)
    with pytest.raises(st.ArgumentError, match="minimum"):
        st.stationary(flat, jnp.zeros(2), 0.1, 4)
