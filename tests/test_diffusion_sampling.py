"""Exact scores, samplers and likelihoods against mixtures whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest import diffusion
from steepest.diffusion import anchored, grids, quality
from steepest.errors import ArgumentError

EDM = diffusion.EDM()


def mixture(d, k=4, seed=0):
    """k full-covariance components in d dimensions, of scale about one."""
    rng = np.random.default_rng(seed)
    means = 2.0 * rng.normal(size=(k, d)) / max(1.0, np.sqrt(d) / 2)
    roots = rng.normal(size=(k, d, 2 * d)) * 0.4 / np.sqrt(2 * d)
    covariances = np.einsum("kij,klj->kil", roots, roots) + 0.004 * np.eye(d)
    scales = np.linalg.cholesky(covariances)
    return st.GaussianMixture(jnp.asarray(0.3 * rng.normal(size=k)), means, jnp.asarray(scales))


@pytest.fixture(scope="module")
def plane():
    return diffusion.ExactMixture(mixture(2))


def noised(law, alpha, sigma):
    """alpha x_0 + sigma noise as a mixture, by its own definition."""
    d = law.dimension

    def scale(component):
        return jnp.linalg.cholesky(alpha**2 * component.covariance + sigma**2 * jnp.eye(d))

    return st.GaussianMixture(law.log_weights, alpha * law.means, law.each(scale))


@pytest.mark.parametrize("diagonal", [False, True])
def test_exact_scores_are_gradients_and_posterior_means(plane, diagonal):
    model = plane
    if diagonal:
        law = st.GaussianMixture(jnp.zeros(3), jnp.eye(3, 2), jnp.full((3, 2), 0.4))
        model = diffusion.ExactMixture(law)
    alpha, sigma = jnp.asarray(0.6), jnp.asarray(0.5)
    x = jax.random.normal(jax.random.key(0), (20, 2))
    law = noised(model.mixture, alpha, sigma)
    logs = jax.vmap(lambda z: model.log_prob(z, alpha, sigma))(x)
    np.testing.assert_allclose(logs, law.log_prob(x), rtol=1e-10)
    scores = jax.vmap(lambda z: model.score(z, alpha, sigma))(x)
    np.testing.assert_allclose(scores, jax.vmap(jax.grad(law.log_prob))(x), atol=1e-9)
    clean = jax.vmap(lambda z: model.denoise(z, alpha, sigma))(x)
    np.testing.assert_allclose(clean, (x + sigma**2 * scores) / alpha, atol=1e-9)  # Tweedie
    mean, covariance = model.moments()
    draws = model.mixture.sample(jax.random.key(1), 20_000)
    np.testing.assert_allclose(mean, draws.mean(0), atol=0.05)
    np.testing.assert_allclose(covariance, np.cov(draws.T), atol=0.15)


def test_the_score_of_finitely_many_points_and_of_a_checkerboard():
    data = jax.random.normal(jax.random.key(2), (30, 2))
    points = diffusion.ExactEmpirical(data)
    alpha, sigma = jnp.asarray(0.8), jnp.asarray(0.3)
    same = st.GaussianMixture(jnp.zeros(30), data, jnp.full((30, 2), 1e-6))  # the same, as limit
    x = data[:8] + 0.4
    one = jax.vmap(lambda z: points.score(z, alpha, sigma))(x)
    np.testing.assert_allclose(
        one, jax.vmap(jax.grad(noised(same, alpha, sigma).log_prob))(x), atol=1e-5
    )
    logs = jax.vmap(lambda z: points.log_prob(z, alpha, sigma))(x)
    np.testing.assert_allclose(logs, noised(same, alpha, sigma).log_prob(x), atol=1e-5)
    board = diffusion.Checkerboard()
    # The noised board against 200,000 of its points: a kernel estimate without bias.
    many = board.sample(jax.random.key(3), 200_000)
    z = jnp.array([[0.2, 0.7], [1.0, -1.9], [2.5, 0.0]])
    squared = jnp.sum((z[:, None] - many) ** 2, -1) / 0.25
    kernel = jnp.exp(-0.5 * squared) / (2 * np.pi * 0.25)
    found = jax.vmap(lambda p: board.log_prob(p, jnp.asarray(1.0), jnp.asarray(0.5)))(z)
    # Relative standard error: std / mean / sqrt(n) below 0.012 at the far point; 4 of them.
    np.testing.assert_allclose(jnp.exp(found), kernel.mean(1), rtol=0.05)
    far = jax.vmap(lambda p: board.score(p, jnp.float32(1.0), jnp.float32(0.01)))
    assert bool(jnp.isfinite(far(jnp.array([[30.0, 0.5]], jnp.float32))).all())


@pytest.fixture(scope="module")
def reference(plane):
    """(start, end) of the probability flow by diffrax at 1e-9, from the prior to no noise."""
    start = diffusion.prior(EDM, (2,), jax.random.key(5), 300, jnp.float64)
    moved = diffusion.transport(EDM, plane, start.positions, 80.0, 2e-3, rtol=1e-9, atol=1e-9)
    last = jax.vmap(lambda x: plane.denoise(x, jnp.asarray(1.0), jnp.asarray(2e-3)))(moved)
    # From r = 0.002 to 0 the flow moves half as far as the denoiser, to order r^4 / width^3.
    return start, 0.5 * (moved + last)


ORDERS = [  # sampler, rule of its grid, its order
    (diffusion.ReverseEuler(churn=0.0), "karras", 1),
    (diffusion.DDIM(), "log-snr", 1),
    (diffusion.Heun(), "karras", 2),
    (diffusion.SingleStep(), "log-snr", 2),
    (diffusion.MultiStep(solver_order=2), "log-snr", 2),
    (diffusion.MultiStep(solver_order=3), "log-snr", 3),
    (anchored.Anchored, "angle", 3),
    (diffusion.UniPC(solver_order=2), "log-snr", 3),
    (diffusion.UniPC(solver_order=3), "log-snr", 4),
]


@pytest.mark.parametrize("scheme, rule, order", ORDERS, ids=[str(i) for i in range(len(ORDERS))])
def test_measured_orders_against_the_probability_flow(plane, reference, scheme, rule, order):
    start, end = reference
    scheme = anchored.Anchored.of(plane, solver_order=2) if isinstance(scheme, type) else scheme
    counts, errors = (100, 200), []
    for steps in counts:
        to_zero = rule == "angle"
        grid = diffusion.times(EDM, steps, scheme, rule=rule, to_zero=to_zero)
        x = diffusion.sample(
            EDM, plane, jax.random.key(0), 300, scheme=scheme, grid=grid, start=start
        )
        if not to_zero:  # the same last half step as the reference
            last = jax.vmap(lambda z: plane.denoise(z, jnp.asarray(1.0), jnp.asarray(2e-3)))(x)
            x = 0.5 * (x + last)
        errors.append(float(jnp.median(jnp.linalg.norm(x - end, axis=1))))
    # Halving the step divides the error by 2^order; half an order is left for the next terms, and
    # more is welcome up to one and a half.
    measured = np.log2(errors[0] / errors[1])
    assert order - 0.5 < measured < order + 1.5, (measured, errors)


def test_unipc_is_its_authors_formula_on_an_uneven_grid():
    # Three values, the matrix form of the paper (R rho = b / B, B = exp(-h) - 1), beside ours.
    from steepest.diffusion.unipc import held

    place, end = np.array([0.3, -0.1, -0.8]), 0.75
    values = np.random.default_rng(0).normal(size=(3, 4))
    y = np.array([1.0, -2.0, 0.5, 0.0])
    h = end - place[0]
    first = np.expm1(-h)
    ratio = (place[1:] - place[0]) / h
    phi = np.array([first / -h - 1, (first / -h - 1) / -h - 0.5])
    rho = np.linalg.solve(np.stack([ratio**0, ratio]), phi * [1, 2] / first)
    slopes = (values[1:] - values[0]) / ratio[:, None]
    expected = np.exp(-h) * y - first * values[0] - first * rho @ slopes
    found = held(y, tuple(map(jnp.asarray, place)), tuple(map(jnp.asarray, values)), end, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    two = held(y, tuple(map(jnp.asarray, place)), tuple(map(jnp.asarray, values)), end, 2)
    bh2 = np.exp(-h) * y - first * (values[0] + 0.5 * slopes[0])
    np.testing.assert_allclose(two, bh2, rtol=1e-12)


ADAPTED = [
    (diffusion.UniPC(), diffusion.VariancePreserving(), "epsilon"),
    (diffusion.MultiStep(solver_order=2, churn=1.0), diffusion.Cosine(), "v_prediction"),
    (diffusion.ReverseEuler(), diffusion.VariancePreserving(), "sample"),
]


@pytest.mark.parametrize("scheme, process, kind", ADAPTED)
def test_the_scheduler_takes_the_steps_of_sample(plane, scheme, process, kind):
    key, n, steps = jax.random.key(3), 5, 8
    begin, draw = jax.random.split(key)
    scheduler = diffusion.Scheduler(process, scheme, kind, draw)
    scheduler.set_timesteps(steps)
    x = diffusion.prior(process, (2,), begin, n).positions
    assert len(scheduler.timesteps) == steps and scheduler.init_noise_sigma > 0
    for t in scheduler.timesteps:
        alpha, sigma = process.alpha(jnp.asarray(t)), process.sigma(jnp.asarray(t))
        clean = jax.vmap(lambda z, a=alpha, s=sigma: plane.denoise(z, a, s))(x)
        noise = (x - alpha * clean) / sigma
        length = jnp.sqrt(alpha**2 + sigma**2)
        out = {"epsilon": noise, "sample": clean,
               "v_prediction": (alpha * noise - sigma * clean) / length}[kind]  # fmt: skip
        step = scheduler.step(out, t, scheduler.scale_model_input(x, t))
        x = step.prev_sample
    mine = diffusion.sample(process, plane, key, n, scheme=scheme, steps=steps)
    # The same operations but for the detour over the network's convention, which loses some digits.
    np.testing.assert_allclose(x, mine, rtol=2e-5, atol=2e-5)


def test_the_scheduler_adds_noise_and_refuses_what_does_not_fit(plane):
    process = diffusion.VariancePreserving()
    scheduler = diffusion.Scheduler(process, diffusion.UniPC())
    x, noise = jax.random.normal(jax.random.key(0), (2, 3, 2))
    t = jnp.array([0.1, 0.5, 0.9])
    alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
    np.testing.assert_array_equal(scheduler.add_noise(x, noise, t), alpha * x + sigma * noise)
    scheduler.set_timesteps(4)
    later = scheduler.timesteps[1]
    for make, word in [
        (lambda: diffusion.Scheduler(process, diffusion.Heun()), "scheme"),
        (lambda: diffusion.Scheduler(process, diffusion.DDIM(), "noise"), "prediction_type"),
        (lambda: scheduler.step(noise, later, x), "timestep"),
        (lambda: scheduler.step(noise[:1], scheduler.timesteps[0], x), "model_output"),
        (lambda: scheduler.add_noise(x, noise, 1.5), "t"),
        (lambda: scheduler.set_timesteps(0), "steps"),
    ]:
        with pytest.raises(ArgumentError) as caught:
            make()
        assert caught.value.argument == word


def test_few_evaluations_suffice_with_the_moments(plane, reference):
    # The rule (order 2 with corrector, uniform angle) against DPM-Solver++ at 5, 10 and 20.
    start, end = reference
    ours = anchored.Anchored.of(plane)

    def error(scheme, steps):
        x = diffusion.sample(
            EDM, plane, jax.random.key(0), 300, scheme=scheme, steps=steps, start=start
        )
        return float(jnp.sqrt(jnp.mean(jnp.sum((x - end) ** 2, axis=1))))

    for steps in (5, 10, 20):
        others = [error(diffusion.MultiStep(solver_order=o), steps) for o in (1, 2, 3)]
        assert error(ours, steps) < min(others), (steps, error(ours, steps), others)


def test_a_gaussian_is_solved_exactly_in_one_step():
    law = st.GaussianMixture(
        jnp.zeros(1), jnp.array([[1.0, -2.0]]), jnp.array([[[0.5, 0.0], [0.3, 1.2]]])
    )
    model = diffusion.ExactMixture(law)
    for process in (EDM, diffusion.VariancePreserving(), diffusion.SubVariancePreserving()):
        start = diffusion.prior(process, (2,), jax.random.key(0), 4, jnp.float64)
        x = diffusion.sample(process, model, jax.random.key(1), 4, steps=1, start=start)
        # The flow of a Gaussian is linear: z = (y - m)/sqrt(S + r^2) stays.
        r = float(process.ratio(jnp.asarray(process.end)))
        y = start.positions / process.alpha(jnp.asarray(process.end)) - law.means[0]
        values, vectors = np.linalg.eigh(law.component(0).covariance)
        expected = (y @ vectors * np.sqrt(values / (values + r**2))) @ vectors.T + law.means[0]
        np.testing.assert_allclose(x, expected, rtol=1e-7, atol=1e-9)


SCHEMES = {
    "reverse SDE, Euler": (diffusion.ReverseEuler(), 250),
    "reverse SDE, exponential": (diffusion.MultiStep(churn=1.0, solver_order=1), 150),
    "reverse SDE, second order": (diffusion.MultiStep(churn=1.0, solver_order=2), 100),
    "predictor-corrector": (diffusion.PredictorCorrector(), 250),
    "probability flow": (None, 30),
}


CASES = [(name, 2) for name in SCHEMES] + [
    ("reverse SDE, exponential", 32),
    ("probability flow", 32),
]


@pytest.mark.parametrize("name, d", CASES)
def test_every_sampler_gives_the_mixture_to_sampling_error(name, d):
    scheme, steps = SCHEMES[name]
    model = diffusion.ExactMixture(mixture(d))
    process = diffusion.VariancePreserving()
    n = 2000
    x = diffusion.sample(process, model, jax.random.key(3), n, scheme=scheme, steps=steps)
    one, two = (model.mixture.sample(jax.random.key(k), n) for k in (10, 11))
    # The floor is what two exact samples show; it fluctuates by a third of itself, and the schemes'
    # own bias must stay below that.
    floor = quality.sliced_wasserstein(one, two)
    assert quality.sliced_wasserstein(x, one) < 1.6 * floor
    accuracy = quality.two_sample_accuracy(x, one)
    assert abs(accuracy - 0.5) < 5 * 0.5 / np.sqrt(n)  # neighbours make votes dependent: 5 not 3


def test_marginals_on_the_way_are_those_of_the_forward_process(plane):
    # Stopped at half the time, both reversals have the law of x_t.
    process = diffusion.VariancePreserving()
    t = 0.35
    law = noised(plane.mixture, process.alpha(t), process.sigma(t))
    one, two = (law.sample(jax.random.key(k), 2000) for k in (1, 2))
    floor = quality.sliced_wasserstein(one, two)
    grid = np.linspace(1.0, t, 151)
    for scheme in (diffusion.ReverseEuler(churn=1.0), diffusion.ReverseEuler(churn=0.0)):
        x = diffusion.sample(process, plane, jax.random.key(4), 2000, scheme=scheme, grid=grid)
        assert quality.sliced_wasserstein(x, one) < 1.6 * floor
    wrong = 1.2 * one  # the same test sees a law that is a fifth too wide
    assert quality.sliced_wasserstein(wrong, one) > 1.6 * floor


def test_a_reverse_flow_runs_under_the_house_schemes(plane):
    # The reversed flow is a Flow: Euler's method of the library, with its ledger, moves it too.
    process = diffusion.VariancePreserving()
    grid = diffusion.times(process, 200, rule="karras")
    flow = diffusion.ReverseFlow(process, plane, grid)
    start = diffusion.prior(process, (2,), jax.random.key(5), 50, jnp.float64)
    run = st.solve(flow, start, scheme=st.Euler(1 / 200), steps=200, save_every=50)
    mine = diffusion.sample(
        process, plane, jax.random.key(0), 50,
        scheme=diffusion.ReverseEuler(churn=0.0), grid=grid, start=start,
    )  # fmt: skip
    np.testing.assert_allclose(run.final.positions, mine, atol=1e-9)
    # dF/du = work - dissipation: the books of the probability flow close with the step.
    closure = np.abs(run.ledger.closure[-1])
    assert closure < 0.1 * np.abs(run.ledger.dissipated[-1])


def test_the_ledger_of_a_sampler_closes_and_its_audit_can_fail(plane):
    # Between two noise levels, 100 steps: heat is taken along the sampler's own displacement.
    process, scheme = diffusion.VariancePreserving(), diffusion.ReverseEuler(0.01)
    flow = diffusion.ReverseFlow(process, plane, [0.9, 0.3], scheme.churn)
    start = diffusion.prior(process, (2,), jax.random.key(5), 50, jnp.float64)
    run = st.solve(flow, start, scheme=scheme, steps=100, save_every=10, key=jax.random.key(0))
    audit = run.audit()
    assert audit.passed and audit["heat balance"].passed, audit
    run.ledger.closure[1:] += 0.1 * run.ledger.dissipated[1:]
    assert run.audit()["heat balance"].passed is False


def test_the_probability_flows_density_is_the_exact_one(plane):
    x = plane.mixture.sample(jax.random.key(7), 40)
    process = diffusion.EDM(start=1e-3, end=80.0)
    law = noised(plane.mixture, 1.0, process.start)  # at the start there is this noise
    # The prior's error is second order in deviation / 80: below 1e-3 nats, and exact with its own
    # mean removed; here the exact law at the end replaces it.
    found = diffusion.log_likelihood(process, plane, x, rtol=1e-8, atol=1e-8)
    d = 2
    prior = -0.5 * jnp.sum((found.latent / 80.0) ** 2, 1) - d * jnp.log(80.0 * np.sqrt(2 * np.pi))
    exact_end = noised(plane.mixture, 1.0, 80.0).log_prob(found.latent)
    np.testing.assert_allclose(found.value - prior + exact_end, law.log_prob(x), atol=1e-4)
    # In the plane a Rademacher probe has two values only: the errors are judged together.
    guessed = diffusion.log_likelihood(process, plane, x, probes=64, key=jax.random.key(1))
    gap, error = guessed.value - found.value, guessed.error
    assert 0.5 < float(jnp.sqrt(jnp.mean(gap**2) / jnp.mean(error**2))) < 2.0
    back = diffusion.transport(process, plane, found.latent, 80.0, 1e-3, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(back, x, atol=1e-4)  # encode, decode


def test_conditioning_on_a_linear_observation_has_the_exact_posterior():
    # One Gaussian: moment matching is exact. A mixture: close where the observation is blurred.
    single = st.GaussianMixture(
        jnp.zeros(1), jnp.array([[0.5, -1.0]]), jnp.array([[[1.0, 0], [0.6, 0.5]]])
    )
    matrix, value, deviation = jnp.array([[1.0, 0.5]]), jnp.array([1.2]), 1.0
    # Of the mixture the matched Gaussian is an approximation: 1.9 floors are measured, and the law
    # without the observation is at 7.7.
    for law, tolerance in ((single, 1.6), (mixture(2, seed=3), 2.6)):
        model = diffusion.ExactMixture(law)
        exact = diffusion.observed_mixture(law, matrix, value, deviation)
        # The exact posterior: Bayes at random points, up to the evidence.
        x = jax.random.normal(jax.random.key(0), (30, 2))
        bayes = law.log_prob(x) - 0.5 * ((x @ matrix[0] - value[0]) / deviation) ** 2
        constant = exact.log_prob(x) - bayes
        np.testing.assert_allclose(constant, constant[0], atol=1e-8)
        observed = diffusion.Observed(model, matrix, value, deviation)
        found = diffusion.sample(EDM, observed, jax.random.key(1), 2000,
                                 scheme=diffusion.MultiStep(), steps=60)  # fmt: skip
        one, two = (exact.sample(jax.random.key(k), 2000) for k in (2, 3))
        floor = quality.sliced_wasserstein(one, two)
        assert quality.sliced_wasserstein(found, one) < tolerance * floor
        free = law.sample(jax.random.key(5), 2000)
        assert quality.sliced_wasserstein(free, one) > 2.6 * floor


def test_float32_stays_float32_and_labels_guide():
    law = st.GaussianMixture(
        jnp.zeros(2, jnp.float32),
        jnp.array([[-2.0], [2.0]], jnp.float32),
        jnp.full((2, 1), 0.3, jnp.float32),
    )
    model = diffusion.ExactMixture(law)
    start = diffusion.prior(EDM, (1,), jax.random.key(0), 100, jnp.float32)
    x = diffusion.sample(EDM, model, jax.random.key(1), 100, steps=12, start=start)
    assert x.dtype == jnp.float32 and bool(jnp.isfinite(x).all())
    assert 0.3 < float((x > 0).mean()) < 0.7


def test_bad_input_is_refused_in_words(plane):
    sample, key = diffusion.sample, jax.random.key(0)
    for make, word in [
        (lambda: sample(EDM, plane, key, 0), "n"),
        (lambda: sample(EDM, plane, key, 5, steps=0), "steps"),
        (lambda: sample(EDM, plane, key, 5, grid=[1.0, 2.0]), "grid"),
        (lambda: sample(EDM, plane, key, 5, grid=[100.0, 2.0]), "t"),
        (lambda: sample(EDM, plane.mixture, key, 5), "model"),
        (lambda: sample(EDM, plane, key, 5, labels=[0, 1]), "labels"),
        (lambda: diffusion.ReverseFlow(EDM, plane, [2.0, 1.0], churn=-1.0), "churn"),
        (lambda: diffusion.ReverseFlow("edm", plane, [2.0, 1.0]), "process"),
        (lambda: diffusion.MultiStep(solver_order=4), "solver_order"),
        (lambda: diffusion.MultiStep(solver_order=3, churn=1.0), "solver_order"),
        (lambda: diffusion.UniPC(solver_order=4), "solver_order"),
        (lambda: grids.times(EDM, 5, rule="fast"), "rule"),
        (lambda: diffusion.log_likelihood(EDM, plane, jnp.zeros((3, 5))), "x"),
        (lambda: diffusion.log_likelihood(EDM, plane, jnp.full((3, 2), jnp.nan)), "x"),
        (lambda: diffusion.log_likelihood(EDM, plane, jnp.zeros((3, 2)), probes=4), "key"),
        (lambda: diffusion.ExactEmpirical(jnp.full((3, 2), jnp.nan)), "data"),
        (lambda: diffusion.Observed(plane, jnp.eye(3), jnp.zeros(3), 0.1), "matrix"),
        (lambda: diffusion.Observed(plane, jnp.eye(2), jnp.zeros(2), 0.0), "deviation"),
        (lambda: st.solve(st.Flow(st.Energy(jnp.sum), st.Euclidean()), jnp.ones(2),
                          scheme=diffusion.DDIM(0.1), steps=2), "flow"),
    ]:  # fmt: skip
        with pytest.raises((ArgumentError, st.ArgumentError)) as caught:
            make()
        assert caught.value.argument == word, caught.value
