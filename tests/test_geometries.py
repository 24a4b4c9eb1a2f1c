"""The laws of a geometry, run on every one of them, and what is special to each."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import steepest as st
from steepest.geometries.hyperbolic import lift, minkowski

KEYS = jax.random.split(jax.random.key(5), 20)


def metric(x):
    return jnp.eye(3) + jnp.outer(x, x) + 0.2 * jnp.diag(jnp.cos(x))


def spd(key, d=3):
    a = jax.random.normal(key, (d, d))
    return a @ a.T + 0.5 * jnp.eye(d)


VECTOR = jax.random.normal(KEYS[0], (3,))
PHASE = st.Phase(VECTOR, jax.random.normal(KEYS[1], (3,)))
POINTS = {
    "Euclidean": (st.Euclidean(), VECTOR),
    "Riemannian": (st.Riemannian(metric), VECTOR),
    "Riemannian operator": (
        st.Riemannian(lambda x: lx.MatrixLinearOperator(metric(x), lx.positive_semidefinite_tag)),
        VECTOR,
    ),
    "Scaled": (0.3 * st.Riemannian(metric), VECTOR),
    "Sum": (st.Riemannian(metric) + 2.0 * st.Euclidean(), VECTOR),
    "Symplectic": (st.Symplectic(), PHASE),
    "Friction": (st.Friction(0.7), PHASE),
    "Kinetic": (st.Symplectic() + st.Friction(0.7), PHASE),
    "Sphere": (st.Sphere(), st.Sphere().random(KEYS[2], (4,))),
    "Stiefel": (st.Stiefel(), st.Stiefel().random(KEYS[3], 5, 2)),
    "SPD": (st.SymmetricPositiveDefinite(), spd(KEYS[4])),
    "Hyperbolic": (st.Hyperbolic(), lift(VECTOR)),
}
EVERY = pytest.mark.parametrize("name", POINTS)
MANIFOLDS = ["Sphere", "Stiefel", "SPD", "Hyperbolic"]


def like(key, x):
    flat, unravel = ravel_pytree(x)
    return unravel(jax.random.normal(key, flat.shape))


def matrix(map_, x):
    """The matrix of a linear map on the space of x."""
    flat, unravel = ravel_pytree(x)
    columns = [ravel_pytree(map_(unravel(e)))[0] for e in jnp.eye(flat.size)]
    return np.array(columns).T


@EVERY
def test_sharp_is_linear(name):
    geometry, x = POINTS[name]
    a, b = like(KEYS[6], x), like(KEYS[7], x)
    both = jax.tree.map(lambda u, v: 2.0 * u - 3.0 * v, a, b)
    apart = jax.tree.map(lambda u, v: 2.0 * u - 3.0 * v, geometry.sharp(x, a), geometry.sharp(x, b))
    for u, v in zip(jax.tree.leaves(geometry.sharp(x, both)), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(u, v, atol=1e-11)


@EVERY
def test_symmetric_part_is_positive_and_the_rest_conserves(name):
    geometry, x = POINTS[name]
    k = matrix(lambda c: geometry.sharp(x, c), x)
    symmetric = (k + k.T) / 2
    assert np.linalg.eigvalsh(symmetric).min() > -1e-10
    if not geometry.conservative:
        np.testing.assert_allclose(k, k.T, atol=1e-10)
    if not geometry.dissipative:
        np.testing.assert_allclose(k, -k.T, atol=1e-12)
    c = like(KEYS[8], x)
    flat = ravel_pytree(c)[0]
    np.testing.assert_allclose(geometry.norm_sq(x, c), flat @ k @ flat, rtol=1e-10, atol=1e-10)


@EVERY
def test_the_noise_has_covariance_k(name):
    """S S^T = sym K exactly, from the matrix of S on a basis of white noise."""
    geometry, x = POINTS[name]
    k = matrix(lambda c: geometry.sharp(x, c), x)
    zero = jax.tree.map(jnp.zeros_like, x)
    total = 0.0
    for i in range(geometry.noise_terms):
        white = [zero] * geometry.noise_terms

        def kick(w, i=i, white=white):
            white = [*white]
            white[i] = w
            return geometry.sqrt(x, tuple(white))

        s = matrix(kick, x)
        total = total + s @ s.T
    if geometry.noise_terms:
        np.testing.assert_allclose(total, (k + k.T) / 2, atol=1e-10)


@pytest.mark.parametrize("name", ["Euclidean", "Riemannian", "Scaled", "Sum"])
def test_divergence_of_k_by_finite_differences(name):
    geometry, x = POINTS[name]
    h = 1e-5
    expected = np.zeros(3)
    for j, e in enumerate(np.eye(3)):
        up = matrix(lambda c, e=e: geometry.sharp(x + h * e, c), x)
        down = matrix(lambda c, e=e: geometry.sharp(x - h * e, c), x)
        expected += (up - down)[:, j] / (2 * h)
    found = geometry.divergence(x)
    # Central differences of functions with third derivatives of order 10.
    np.testing.assert_allclose(np.zeros(3) if found is None else found, expected, atol=1e-8)


@pytest.mark.parametrize("name", ["Euclidean", "Riemannian", *MANIFOLDS])
def test_length_is_the_inverse_of_k(name):
    geometry, x = POINTS[name]
    c = like(KEYS[9], x)
    np.testing.assert_allclose(
        geometry.length_sq(x, geometry.sharp(x, c)), geometry.norm_sq(x, c), rtol=1e-9
    )


@pytest.mark.parametrize("name", MANIFOLDS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_thousand_random_steps_stay_on_the_manifold(name, dtype):
    geometry, x = POINTS[name]
    x = x.astype(dtype)
    eps = float(jnp.finfo(dtype).eps)

    def body(y, key):
        tangent = geometry.sqrt(y, (0.03 * jax.random.normal(key, y.shape, dtype),))
        return geometry.retract(y, tangent), None

    final, _ = jax.lax.scan(body, x, jax.random.split(KEYS[10], 1000))
    assert final.dtype == dtype and bool(jnp.isfinite(final).all())
    size = max(1.0, float(jnp.max(jnp.abs(final))) ** 2)
    assert float(geometry.defect(final)[0]) < 20 * eps * size
    geometry.check(final)


@pytest.mark.parametrize("name", MANIFOLDS)
def test_retraction_is_of_second_order(name):
    """The curve t -> retract(x, t v) has velocity v and acceleration normal to the manifold."""
    geometry, x = POINTS[name]
    v = geometry.sqrt(x, (like(KEYS[11], x),))
    curve = lambda t: geometry.retract(x, t * v)  # noqa: E731
    velocity = jax.jacfwd(curve)(0.0)
    np.testing.assert_allclose(velocity, v, atol=1e-9)
    acceleration = jax.jacfwd(jax.jacfwd(curve))(0.0)
    if name == "SPD":  # its geodesic equation, V P^-1 V, is not that of the flat space
        np.testing.assert_allclose(acceleration, v @ jnp.linalg.inv(x) @ v, rtol=1e-6, atol=1e-8)
    elif name == "Hyperbolic":
        tangential = acceleration + minkowski(x, acceleration) * x
        np.testing.assert_allclose(tangential, 0.0, atol=1e-6)
    else:
        np.testing.assert_allclose(geometry.gradient(x, acceleration), 0.0, atol=1e-6)


@pytest.mark.parametrize("name", ["Sphere", "SPD", "Hyperbolic"])
def test_exponential_map_has_constant_speed(name):
    geometry, x = POINTS[name]
    v = 0.7 * geometry.sqrt(x, (like(KEYS[12], x),))
    speed_sq = geometry.length_sq(x, v)
    for t in (0.3, 1.0):
        curve = lambda s: geometry.retract(x, s * v)  # noqa: E731
        moved = geometry.length_sq(curve(t), jax.jacfwd(curve)(t))
        np.testing.assert_allclose(moved, speed_sq, rtol=1e-8)


@pytest.mark.parametrize("name", MANIFOLDS)
def test_gradients_are_finite_where_points_coincide(name):
    geometry, x = POINTS[name]
    zero = jnp.zeros_like(x)
    slope = jax.grad(lambda v: jnp.sum(geometry.retract(x, v)))(zero)
    assert bool(jnp.isfinite(slope).all())


def test_riemannian_with_a_constant_metric_is_a_linear_change_of_coordinates():
    """With G = L L^T, y = L^T x turns the flow into the Euclidean one."""
    g = np.asarray(metric(VECTOR))
    lower = np.linalg.cholesky(g)
    a = np.diag([1.0, 2.0, 3.0])
    inverse = np.linalg.inv(lower.T)
    first = st.Flow(st.Energy(lambda x: 0.5 * x @ a @ x), st.Riemannian(lambda x: jnp.asarray(g)))
    second = st.Flow(st.Energy(lambda y: 0.5 * (inverse @ y) @ a @ (inverse @ y)), st.Euclidean())
    x = st.solve(first, VECTOR, scheme=st.Euler(0.05), steps=20).final
    y = st.solve(second, lower.T @ VECTOR, scheme=st.Euler(0.05), steps=20).final
    np.testing.assert_allclose(lower.T @ x, y, rtol=1e-11)


def test_langevin_on_the_circle_is_von_mises():
    """E = -2 x_0 on the circle: density exp(2 cos a), with E[cos a] = I_1(2)/I_0(2)."""
    flow = st.Flow(st.Energy(lambda x: -2.0 * x[0]), st.Sphere(), st.Thermal(1.0))
    x = jax.random.normal(KEYS[13], (4000, 2))
    start = st.Particles.from_positions(x / jnp.linalg.norm(x, axis=1, keepdims=True))
    run = st.solve(flow, start, scheme=st.Euler(0.01), steps=600, save_every=200, key=KEYS[14])
    first = np.asarray(run.final.positions)[:, 0]
    expected = 1.590636854637329 / 2.279585302336067
    # Sampling error, and the order-one bias of the step, below step |E''|.
    assert abs(first.mean() - expected) < 4 * first.std() / np.sqrt(4000) + 0.01
    assert run.audit().passed


def test_langevin_on_positive_numbers_is_log_normal():
    """1 x 1 matrices with E = (log p)^2/2: log p is a line, with standard normal law."""
    flow = st.Flow(
        st.Energy(lambda p: 0.5 * jnp.log(p[0, 0]) ** 2),
        st.SymmetricPositiveDefinite(),
        st.Thermal(1.0),
    )
    start = st.Particles.from_positions(jnp.ones((4000, 1, 1)))
    run = st.solve(flow, start, scheme=st.Euler(0.05), steps=160, save_every=160, key=KEYS[15])
    logs = np.log(np.asarray(run.final.positions)).ravel()
    # Along a geodesic the scheme is Euler on a line, with its exact stationary variance.
    assert abs(logs.var() - 1 / (1 - 0.025)) < 4 * np.sqrt(2 / 4000) * 1.03
    assert abs(logs.mean()) < 4 / np.sqrt(4000)


def test_minimizing_movement_on_a_manifold():
    b = jnp.array([0.0, 0.0, 1.0])
    flow = st.Flow(st.Energy(lambda x: b @ x), st.Sphere())
    x = jnp.array([1.0, 0.0, 0.0])
    run = st.solve(flow, x, scheme=st.MinimizingMovement(0.1), steps=30)
    # Angle a from the pole: da/dt = sin a; implicit Euler on it, a+ = a + h sin(a+), by Newton.
    angle = np.pi / 2
    for _ in range(30):
        new = angle
        for _ in range(50):
            new -= (new - angle - 0.1 * np.sin(new)) / (1 - 0.1 * np.cos(new))
        angle = new
    np.testing.assert_allclose(run.final[2], np.cos(angle), atol=1e-6)
    assert run.audit().passed


@pytest.mark.parametrize(
    "geometry, point, message",
    [
        (st.Sphere(), jnp.array([1.3, 0.0]), "norm"),
        (st.Sphere(), jnp.array(1.0), "unit vector"),
        (st.Stiefel(), jnp.ones((3, 2)), "orthonormalise"),
        (st.Stiefel(), jnp.ones((2, 3)), "n >= p"),
        (st.SymmetricPositiveDefinite(), -jnp.eye(2), "positive eigenvalues"),
        (st.SymmetricPositiveDefinite(), jnp.array([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (st.SymmetricPositiveDefinite(), jnp.ones((2, 3)), "square"),
        (st.Hyperbolic(), jnp.array([2.0, 0.0]), "x_0"),
    ],
)
def test_a_point_off_the_manifold_is_refused(geometry, point, message):
    with pytest.raises(st.ArgumentError, match=message):
        geometry.check(point)


def test_manifolds_do_not_add():
    with pytest.raises(st.ArgumentError, match="manifold"):
        st.Sphere() + st.Euclidean()
