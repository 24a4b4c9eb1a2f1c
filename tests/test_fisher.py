"""Natural gradient: solvers against one another, invariance, closed forms, damping."""

import equinox as eqx
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
    """Against F by its definition, for its product with a vector too."""
    damping = 0.1

    @jax.jit
    def all_of_them(theta):
        expected = dense(MODEL, theta, kind)
        c = jax.grad(MODEL)(theta)
        flat, unravel = jax.flatten_util.ravel_pytree(c)
        solution = jnp.linalg.solve(expected + damping * jnp.eye(flat.size), flat)
        found = {}
        for solver in ("dense", "sample", "cg"):
            fisher = st.Fisher(
                MODEL, kind, damping=damping, solver=solver, iterations=200, tolerance=1e-12
            )
            found[solver] = jax.flatten_util.ravel_pytree(fisher.sharp(theta, c))[0]
        product = jax.flatten_util.ravel_pytree(fisher.product(theta, c))[0]
        length = fisher.length_sq(theta, unravel(solution))
        others = fisher.matrix(theta), product, length
        return found, others, solution, (expected, expected @ flat, flat @ solution)

    found, others, solution, expected = all_of_them(THETA)
    for solver, direction in found.items():
        np.testing.assert_allclose(direction, solution, rtol=1e-7, atol=1e-9, err_msg=solver)
    for one, two in zip(others, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("family", ["bernoulli", "gaussian", "poisson"])
def test_the_families_fisher_matrices(family):
    """B B^T is the Hessian of the output loss, which does not depend on y for these families."""
    y = jnp.array([1.0, 0.0])
    model = st.NegativeLogLikelihood(
        lambda t, x: t * x, (jnp.ones((3, 2)), jnp.ones((3, 2))), family
    )

    @jax.jit
    def both(o, v):
        root = model.curvature_root(o)
        square = root @ root.T
        return (square, square @ v), (model.curvature(o, y), model.curvature_product(o, v))

    for one, two in zip(*both(jnp.array([0.3, -0.8]), jnp.array([1.0, 2.0])), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-12)


def test_kronecker_factors_are_exact_for_one_layer_of_unit_curvature():
    """Linear regression with whitened inputs: F = 1 x A, whose factors are exact."""
    white = np.linalg.qr(np.asarray(X))[0] * np.sqrt(40.0)
    y = jax.random.normal(KEYS[5], (40, 2))
    model = st.NegativeLogLikelihood(lambda t, x: x @ t, (jnp.asarray(white), y), "gaussian")
    theta = jnp.zeros((3, 2))
    c = jax.grad(model)(theta)
    found, expected = (
        eqx.filter_jit(st.Fisher(model, damping=1e-10, solver=solver).sharp)(theta, c)
        for solver in ("kronecker", "dense")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def trained(function, transform, theta, steps):
    """All states of an optimizer, compiled as one loop."""

    def step(carry, _):
        theta, state = carry
        updates, state = transform.update(jax.grad(function)(theta), state, theta)
        new = optax.apply_updates(theta, updates), state
        return new, theta

    def run(theta):
        return jax.lax.scan(step, (theta, transform.init(theta)), None, length=steps)[1]

    return jax.jit(run)(theta)


def test_natural_gradient_does_not_see_a_linear_change_of_a_networks_parameters():
    """theta = A phi: the same functions along the whole path, to 1e-6, without damping.

    Rounding is amplified by the condition numbers of F, 1e5, and of A, 40, a few times: 1e-9.
    """
    noise = 0.3 * jax.random.normal(KEYS[5], (40, 4))
    target = jax.vmap(lambda x: network(THETA, x))(X) + noise
    flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda x: 1.2 * x, THETA))
    mix = 0.3 * jax.random.normal(KEYS[4], (flat.size, flat.size)) + 2 * jnp.eye(flat.size)
    plain = st.NegativeLogLikelihood(lambda t, x: network(unravel(t), x), (X, target), "gaussian")
    mixed = st.NegativeLogLikelihood(
        lambda t, x: network(unravel(mix @ t), x), (X, target), "gaussian"
    )
    there = jnp.linalg.solve(mix, flat)
    one = trained(plain, st.as_optax(st.Fisher(plain, damping=0.0), 0.3), flat, 13)
    two = trained(mixed, st.as_optax(st.Fisher(mixed, damping=0.0), 0.3), there, 13)
    assert float(plain(one[-1])) < 0.7 * float(plain(flat))
    np.testing.assert_allclose(two @ mix.T, one, atol=1e-6)
    descent = st.as_optax(st.Euclidean(), 0.03)
    worse = trained(mixed, descent, there, 13) @ mix.T
    assert float(jnp.abs(worse - trained(plain, descent, flat, 13)).max()) > 1e-2


def test_a_quadratic_is_solved_in_one_step():
    y = X @ jnp.array([1.0, -2.0, 0.5]) + 0.1
    model = st.NegativeLogLikelihood(lambda t, x: (x @ t)[None], (X, y[:, None]), "gaussian")
    path = trained(model, st.as_optax(st.Fisher(model, damping=0.0), 1.0), jnp.full(3, 5.0), 2)
    np.testing.assert_allclose(path[1], jnp.linalg.lstsq(X, y)[0], atol=1e-9)


def test_the_balance_closes_between_natural_gradient_and_descent():
    """The interpolation is a number; its metric's rate is what the loss falls by."""
    fisher = st.Fisher(MODEL, damping=0.1, solver="cg", iterations=100, tolerance=1e-10)
    flow = st.Flow(MODEL, 0.3 * fisher + 0.7 * st.Euclidean())
    run = st.solve(flow, THETA, scheme=st.Euler(0.02), steps=21)
    assert run.audit().passed, str(run.audit())


def test_adaptive_damping_follows_the_loss():
    """It shrinks where the loss falls as predicted; a step that raised the loss is taken back."""
    transform = st.as_optax(
        st.Fisher(MODEL, damping=1.0, solver="cg", adaptive_damping=True, rows=30), 1.0
    )

    @jax.jit
    def step(theta, state, extra):
        value, gradient = jax.value_and_grad(MODEL)(theta)
        updates, state = transform.update(gradient, state, theta, value=value + extra)
        return optax.apply_updates(theta, updates), state, gradient

    theta, state, damping, best = THETA, transform.init(THETA), [], []
    for _ in range(25):
        theta, state, gradient = step(theta, state, 0.0)
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
    found, _ = jax.jit(on_batch.update)(gradient, on_batch.init(theta), theta, batch=batch)
    small = st.NegativeLogLikelihood(network, batch)
    expected = eqx.filter_jit(st.Fisher(small, damping=0.1).sharp)(theta, gradient)
    np.testing.assert_allclose(found["w"], -expected["w"], rtol=1e-8)


def test_bad_input():
    few = st.NegativeLogLikelihood(network, (X[:2], CLASSES[:2]))
    cases = [
        (lambda: st.Fisher(lambda t: t), "NegativeLogLikelihood"),
        (lambda: st.Fisher(MODEL, "fast"), "kind"),
        (lambda: st.Fisher(MODEL, solver="magic"), "solver"),
        (lambda: st.Fisher(MODEL, damping=-1.0), "damping"),
        (lambda: st.Fisher(MODEL, rows=1000), "rows"),
        (lambda: st.Fisher(MODEL, adaptive_damping=2.0), "adaptive_damping"),
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
