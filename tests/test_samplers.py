"""SGD as a sampler: its covariance, temperature and current; SGLD and SGHMC."""

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


def long_run(loss, target, start, step, batch, chains=128, steps=1500, burn=400):
    """Second moments of hand-written SGD around `start`, with their standard error over chains."""
    gradient = jax.vmap(jax.grad(loss), (None, 0))

    @jax.jit
    def run(key):
        def body(theta, k):
            index = jax.random.randint(k, (chains, batch), 0, 60)
            g = jax.vmap(lambda t, i: jnp.mean(gradient(t, (X[i], target[i])), 0))(theta, index)
            return theta - step * g, theta

        theta = jnp.broadcast_to(start, (chains, 3))
        return jax.lax.scan(body, theta, jax.random.split(key, steps))[1][burn:]

    return np.asarray(run(jax.random.key(1)))


@pytest.mark.parametrize("batch", [4, 16])
@pytest.mark.parametrize("step", [0.05, 0.15, 0.3])
def test_the_covariance_of_sgd_on_a_quadratic_finite_steps_included(batch, step):
    """Each of the six moments within 3 standard errors (4 for the worst of six); without the
    finite-step correction the largest step is off by far more."""
    draws = long_run(squared, Y, STAR, step, batch) - np.asarray(STAR)
    each = np.einsum("tci,tcj->cij", draws, draws) / len(draws)
    error = each.std(axis=0) / len(each) ** 0.5
    predicted = st.stationary(RISK, STAR, step, batch)
    score = np.abs(each.mean(axis=0) - np.asarray(predicted.covariance)) / error
    assert score.max() < 4.0 and np.median(score) < 2.0
    if step == 0.3:
        naive = st.stationary(RISK, STAR, step, batch, finite_step=False).covariance
        assert (np.abs(each.mean(axis=0) - np.asarray(naive)) / error).max() > 20
    late = float(np.einsum("tci,ij,tcj->", draws, predicted.hessian, draws)) / draws.size
    np.testing.assert_allclose(late, predicted.temperature, rtol=0.1)


def test_the_covariance_around_the_minimum_of_a_logistic_regression():
    """Linear response: to 15 %, for fluctuations of a few hundredths where it curves little."""
    risk = st.EmpiricalRisk(logistic, (X, LABELS))
    flow = st.Flow(risk, st.Euclidean())
    star = st.solve(flow, jnp.zeros(3), scheme=st.Euler(1.0), steps=2000, save_every=2000).final
    draws = long_run(logistic, LABELS, star, 0.1, 16, steps=4000, burn=1500)
    flat = draws.reshape(-1, 3)
    predicted = st.stationary(risk, star, 0.1, 16).covariance
    np.testing.assert_allclose(np.cov(flat.T), predicted, rtol=0.15, atol=0.02 * predicted.max())


def test_the_diffusion_in_sgds_own_clock_has_the_continuous_covariance():
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
    draws = long_run(squared, Y, STAR, step, batch, chains=256, steps=4000) - np.asarray(STAR)
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


def test_sgld_reaches_the_posterior_where_sgd_does_not():
    """The posterior of linear regression is N(theta*, (X^T X)^{-1}). SGLD's covariance at step h is
    the discrete Lyapunov solution with the minibatches' noise added, which we predict as well."""
    batch, step = 20, 2e-3
    hessian = np.asarray(X.T @ X)
    posterior = np.linalg.inv(hessian)
    risk = st.EmpiricalRisk(squared, (X, Y), batch)
    chains = st.Particles(jnp.broadcast_to(STAR, (800, 3)))

    def covariance(risk):
        flow, scheme = st.sgld(risk, step)
        run = st.solve(
            flow, chains, scheme=scheme, steps=600, save_every=600, key=jax.random.key(0),
            ledger="saves",
        )  # fmt: skip
        return np.cov(np.asarray(run.final.positions).T)

    def predicted(noise):
        a, c = np.eye(3) - step * hessian, np.zeros((3, 3))
        for _ in range(3000):
            c = a @ c @ a.T + 2 * step * np.eye(3) + step**2 * noise
        return c

    sigma = 60**2 * np.asarray(st.gradient_noise(RISK, STAR, batch).covariance)
    plain, controlled = covariance(risk), covariance(risk.around(STAR))
    np.testing.assert_allclose(np.diag(plain), np.diag(predicted(sigma)), rtol=0.2)
    np.testing.assert_allclose(np.diag(controlled), np.diag(predicted(0 * sigma)), rtol=0.2)
    # The bias that control variates remove, and what is left of it at this step.
    assert np.trace(plain) > np.trace(controlled) and np.trace(controlled) < 1.3 * np.trace(
        posterior
    )
    # SGD of the same rate has the law predicted above, which is not the posterior.
    sgd = np.asarray(st.stationary(RISK, STAR, 60 * step, batch).covariance)
    ratio = np.diag(sgd) / np.diag(posterior)
    assert ratio.max() / ratio.min() > 1.3 or abs(ratio.mean() - 1) > 0.3


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
