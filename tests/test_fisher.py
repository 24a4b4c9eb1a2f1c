"""Natural gradient: solvers against one another, invariance, closed forms, damping."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import steepest as st

KEYS = jax.random.split(jax.random.key(0), 6)
X = jax.random.normal(KEYS[0], (40, 3))
CLASSES = jax.random.randint(KEYS[1], (40,), 0, 4)


def network(theta, x):
    return jnp.tanh(x @ theta["w"] + theta["b"]) @ theta["v"]


THETA = {
    "w": jax.random.normal(KEYS[2], (3, 5)),
    "b": jax.random.normal(KEYS[3], (5,)),
    "v": jax.random.normal(KEYS[4], (5, 4)),
}
MODEL = st.NegativeLogLikelihood(network, (X, CLASSES))


def dense(model, theta, kind):
    """F by its definition: the mean over rows of J^T H J, by jacobians and hessians."""
    flat, unravel = jax.flatten_util.ravel_pytree(theta)

    def one(x, y):
        outputs = lambda t: model.outputs(unravel(t), x)  # noqa: E731
        jacobian = jax.jacobian(outputs)(flat)
        loss = lambda o: -jax.nn.log_softmax(o)[y]  # noqa: E731
        if kind == "empirical":
            g = jax.grad(lambda t: loss(outputs(t)))(flat)
            return jnp.outer(g, g)
        p = jax.nn.softmax(outputs(flat))
        scores = jax.vmap(lambda k: jax.grad(lambda o: jax.nn.log_softmax(o)[k])(outputs(flat)))(
            jnp.arange(p.size)
        )
        h = jax.hessian(loss)(outputs(flat))
        if kind == "exact":  # E_k s_k s_k^T over the model's own classes
            h = jnp.einsum("k,ki,kj->ij", p, scores, scores)
        return jacobian.T @ h @ jacobian

    return jnp.mean(jax.vmap(one)(*model.data), axis=0)


@pytest.mark.parametrize("kind", ["exact", "gauss-newton", "empirical"])
def test_all_solvers_solve_the_same_equation(kind):
    expected = dense(MODEL, THETA, kind)
    damping = 0.1
    c = jax.grad(MODEL)(THETA)
    flat, unravel = jax.flatten_util.ravel_pytree(c)
    solution = jnp.linalg.solve(expected + damping * jnp.eye(flat.size), flat)
    for solver in ("dense", "sample", "cg"):
        fisher = st.Fisher(
            MODEL, kind, damping=damping, solver=solver, iterations=200, tolerance=1e-12
        )
        found = jax.flatten_util.ravel_pytree(fisher.sharp(THETA, c))[0]
        np.testing.assert_allclose(found, solution, rtol=1e-7, atol=1e-9)
    product = jax.flatten_util.ravel_pytree(fisher.product(THETA, unravel(flat)))[0]
    np.testing.assert_allclose(product, expected @ flat, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fisher.matrix(THETA), expected, atol=1e-12)
    length = fisher.length_sq(THETA, unravel(solution))
    np.testing.assert_allclose(length, flat @ solution, rtol=1e-7)


@pytest.mark.parametrize("family", ["bernoulli", "gaussian", "poisson"])
def test_the_families_fisher_matrices(family):
    """B B^T is the Hessian of the output loss, which does not depend on y for these families."""
    y = jnp.array([1.0, 0.0])
    model = st.NegativeLogLikelihood(
        lambda t, x: t * x, (jnp.ones((3, 2)), jnp.ones((3, 2))), family
    )
    o = jnp.array([0.3, -0.8])
    root = model.curvature_root(o)
    np.testing.assert_allclose(root @ root.T, model.curvature(o, y), atol=1e-12)
    v = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(model.curvature_product(o, v), root @ root.T @ v, atol=1e-12)


def test_kronecker_factors_are_exact_for_one_layer_of_unit_curvature():
    """Linear regression with whitened inputs: F = 1 x A, whose factors are exact."""
    white = np.linalg.qr(np.asarray(X))[0] * np.sqrt(40.0)
    y = jax.random.normal(KEYS[5], (40, 2))
    model = st.NegativeLogLikelihood(lambda t, x: x @ t, (jnp.asarray(white), y), "gaussian")
    theta = jnp.zeros((3, 2))
    c = jax.grad(model)(theta)
    found = st.Fisher(model, damping=1e-10, solver="kronecker").sharp(theta, c)
    expected = st.Fisher(model, damping=1e-10, solver="dense").sharp(theta, c)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_natural_gradient_does_not_see_a_linear_change_of_parameters():
    """theta = A phi: the same functions along the whole path, to 1e-6, without damping."""
    data = (X[:, :3], jax.random.randint(KEYS[5], (40,), 0, 2).astype(float)[:, None])
    mix = jax.random.normal(KEYS[4], (3, 3)) + 2 * jnp.eye(3)
    plain = st.NegativeLogLikelihood(lambda t, x: (x @ t)[None], data, "bernoulli")
    mixed = st.NegativeLogLikelihood(lambda t, x: (x @ (mix @ t))[None], data, "bernoulli")

    def path(model, start, geometry):
        flow = st.Flow(model, geometry)
        return np.asarray(st.solve(flow, start, scheme=st.Euler(0.3), steps=12).states)

    start = jnp.array([0.5, -1.0, 0.2])
    one = path(plain, start, st.Fisher(plain, damping=0.0))
    two = path(mixed, jnp.linalg.solve(mix, start), st.Fisher(mixed, damping=0.0))
    np.testing.assert_allclose(two @ np.asarray(mix).T, one, atol=1e-6)
    worse = path(mixed, jnp.linalg.solve(mix, start), st.Euclidean())
    assert np.abs(worse @ np.asarray(mix).T - path(plain, start, st.Euclidean())).max() > 1e-2


def test_a_quadratic_is_solved_in_one_step_and_the_balance_closes():
    y = X @ jnp.array([1.0, -2.0, 0.5]) + 0.1
    model = st.NegativeLogLikelihood(lambda t, x: (x @ t)[None], (X, y[:, None]), "gaussian")
    step = st.as_optax(st.Fisher(model, damping=0.0), 1.0)
    theta = jnp.array([5.0, 5.0, 5.0])
    updates, _ = step.update(jax.grad(model)(theta), step.init(theta), theta)
    np.testing.assert_allclose(theta + updates, jnp.linalg.lstsq(X, y)[0], atol=1e-9)
    flow = st.Flow(MODEL, st.Fisher(MODEL, damping=0.01))
    run = st.solve(flow, THETA, scheme=st.Euler(0.02), steps=40, save_every=2)
    assert run.audit().passed, str(run.audit())


def test_adaptive_damping_follows_the_loss():
    """It shrinks where the loss falls as predicted; a step that raised the loss is taken back."""
    transform = st.as_optax(
        st.Fisher(MODEL, damping=1.0, solver="cg", adaptive_damping=True, rows=30), 1.0
    )

    @jax.jit
    def step(theta, state, extra=0.0):
        value, gradient = jax.value_and_grad(MODEL)(theta)
        updates, state = transform.update(gradient, state, theta, value=value + extra)
        return optax.apply_updates(theta, updates), state, gradient

    theta, state, damping, best = THETA, transform.init(THETA), [], []
    for _ in range(25):
        theta, state, gradient = step(theta, state)
        damping.append(float(state.memory.damping))
        best.append(float(state.memory.last.value))
    assert min(damping) < 0.1 and best == sorted(best, reverse=True)
    assert best[-1] < 0.8 * float(MODEL(THETA))
    # Say that the loss rose, or is no number: the next step starts where the last one did.
    for extra in (10.0, jnp.nan):
        _, after, _ = step(theta, state, extra)
        np.testing.assert_array_equal(after.memory.last.place["w"], state.memory.last.place["w"])
        assert float(after.memory.last.value) == best[-1]
        np.testing.assert_allclose(after.memory.damping, 4.0 * damping[-1])
        moved, after, _ = step(theta, state, extra)
        expected = jax.tree.map(lambda x, v: x - v, after.memory.last.place, after.memory.guess)
        np.testing.assert_allclose(moved["w"], expected["w"], rtol=1e-9)
    with pytest.raises(st.ArgumentError, match="value"):
        transform.update(gradient, state, theta)
    batch = (X[:10], CLASSES[:10])
    on_batch = st.as_optax(st.Fisher(MODEL, damping=0.1), 1.0)
    found, _ = on_batch.update(gradient, on_batch.init(theta), theta, batch=batch)
    small = st.NegativeLogLikelihood(network, batch)
    expected = st.Fisher(small, damping=0.1).sharp(theta, gradient)
    np.testing.assert_allclose(found["w"], -expected["w"], rtol=1e-8)


def test_bad_input():
    few = st.NegativeLogLikelihood(network, (X[:2], CLASSES[:2]))
    cases = [
        (lambda: st.Fisher(lambda t: t), "NegativeLogLikelihood"),
        (lambda: st.Fisher(MODEL, "fast"), "kind"),
        (lambda: st.Fisher(MODEL, solver="magic"), "solver"),
        (lambda: st.Fisher(MODEL, damping=-1.0), "damping"),
        (lambda: st.Fisher(MODEL, rows=1000), "rows"),
        (lambda: st.Fisher(MODEL, iterations=0), "iterations"),
        (lambda: st.Fisher(few, damping=0.0).check(THETA), "rank"),
        (lambda: st.Fisher(MODEL, damping=0.0).check(THETA), "singular"),
        (lambda: st.NegativeLogLikelihood(network, (X, CLASSES), "student"), "family"),
        (lambda: st.NegativeLogLikelihood(network, X), "pair"),
        (lambda: st.NegativeLogLikelihood(3.0, (X, CLASSES)), "apply"),
    ]
    for call, message in cases:
        with pytest.raises(st.ArgumentError, match=message):
            call()
