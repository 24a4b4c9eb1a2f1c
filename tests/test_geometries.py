"""The laws of a geometry, held against every one of them; what each flat and kinetic one is."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import steepest as st
from steepest import geometries
from steepest.schemes.splitting import friction_of

KEYS = jax.random.split(jax.random.key(5), 20)


def metric(x):
    return jnp.eye(3) + jnp.outer(x, x) + 0.2 * jnp.diag(jnp.cos(x))


def rotation(x):
    """The bracket of a rigid body: c -> x cross c."""
    return jnp.cross(jnp.eye(3), x)


def operator(x):
    return lx.MatrixLinearOperator(metric(x), lx.positive_semidefinite_tag)


def pytree_metric(x):
    return metric(jnp.append(x["a"], x["b"]))


def vector(key):
    return jax.random.normal(key, (3,))


def pytree(key):
    x = vector(key)
    return {"a": x[:2], "b": x[2]}


def phase(key):
    return st.Phase(vector(key), vector(jax.random.fold_in(key, 1)))


def spd(key):
    a = jax.random.normal(key, (3, 3))
    return a @ a.T + 0.5 * jnp.eye(3)


def two_points(key):
    return {"a": st.Sphere().random(key, (2,)), "b": st.Sphere().random(KEYS[0], (2, 2))}


def two_parts(key):
    return {"a": vector(key), "b": st.Sphere().random(key, (2,))}


def particles(key):
    return st.Particles(jax.random.normal(key, (4, 3)))


def weighted(key):
    return st.Particles(jax.random.normal(key, (4, 3)), jnp.linspace(-1.0, 1.0, 4))


def kinetic_particles(key):
    return st.Particles(st.Phase(*jax.random.normal(key, (2, 3, 2))), jnp.linspace(0.0, 1.0, 3))


KINETIC = st.Symplectic() + st.Friction(0.7)
TABLE = {
    "Euclidean": (st.Euclidean(), pytree),
    "Riemannian": (st.Riemannian(metric), vector),
    "Riemannian pytree": (st.Riemannian(pytree_metric), pytree),
    "Riemannian operator": (st.Riemannian(operator), vector),
    "Scaled": (0.3 * st.Riemannian(metric), vector),
    "Sum": (st.Riemannian(metric) + 2.0 * st.Euclidean(), vector),
    "Scaled sum": (0.5 * (st.Riemannian(metric) + st.Euclidean()), vector),
    "Symplectic": (st.Symplectic(), phase),
    "Friction": (st.Friction(0.7), phase),
    "Kinetic": (KINETIC, phase),
    "Poisson": (st.Poisson(rotation), vector),
    "Onsager": (st.Onsager(metric), vector),
    "Sphere": (st.Sphere(), two_points),
    "Stiefel": (st.Stiefel(), lambda key: st.Stiefel().random(key, (4, 2))),
    "SymmetricPositiveDefinite": (st.SymmetricPositiveDefinite(), spd),
    "Hyperbolic": (st.Hyperbolic(), lambda key: st.Hyperbolic().lift(vector(key))),
    "Bregman": (st.Bregman("hyperbolic"), vector),
    "Product": (st.Product({"a": st.Euclidean(), "b": st.Sphere()}), two_parts),
    "Wasserstein": (st.Wasserstein(), particles),
    "Wasserstein weighted": (st.Wasserstein(st.Riemannian(metric)), weighted),
    "Wasserstein kinetic": (st.Wasserstein(KINETIC), kinetic_particles),
}
MEASURES = [name for name in TABLE if name.startswith("Wasserstein")]
POINTS = [name for name in TABLE if name not in MEASURES]
NO_LENGTH = {"Sum", "Scaled sum", "Symplectic", "Friction", "Kinetic", "Wasserstein kinetic"}
NO_LENGTH |= {"Poisson", "Onsager"}
LENGTHS = [name for name in TABLE if name not in NO_LENGTH]
EVERY = pytest.mark.parametrize("name", TABLE)
# Brackets take no bath (`Flow` refuses it): nothing fluctuates, and no drift is owed to noise.
BRACKETS = ("Poisson", "Onsager")
NOISY = pytest.mark.parametrize("name", [n for n in TABLE if n not in BRACKETS])
STATES = [KEYS[1], KEYS[2]]


def ravel(x):
    return ravel_pytree(x)[0]


def normal_like(key, x):
    flat, unravel = ravel_pytree(x)
    return unravel(jax.random.normal(key, flat.shape, flat.dtype))


def matrix(linear, x):
    """The matrix of a linear map on the space of x, column by column."""
    flat, unravel = ravel_pytree(x)
    basis = jnp.eye(flat.size, dtype=flat.dtype)
    return jax.vmap(lambda e: ravel(linear(unravel(e))), out_axes=1)(basis)


def onsager(geometry, x):
    """K(x) as a matrix."""
    return matrix(lambda c: geometry.sharp(x, c), x)


def noise(geometry, x):
    """S(x), one block of columns for each white noise."""
    zero = jax.tree.map(jnp.zeros_like, x)

    def block(i):
        def kick(w):
            white = [w if i == j else zero for j in range(geometry.noise_terms)]
            return geometry.sqrt(x, tuple(white))

        return matrix(kick, x)

    return jnp.concatenate([block(i) for i in range(geometry.noise_terms)], axis=1)


class Measured(NamedTuple):
    """What a geometry does at a state x and with one covector c."""

    x: Any
    c: Any
    k: np.ndarray
    s: np.ndarray | None
    sharp: np.ndarray
    norm_sq: float
    lengths: list[float] | None
    rate: float
    fall: float | None


SMALL = 1e-4


def energy(x):
    """Some function of the state."""
    flat = ravel(x)
    return jnp.sum(jnp.sin(flat * jnp.linspace(0.5, 1.5, flat.size, dtype=flat.dtype)))


@functools.cache
def measured(name, dtype=jnp.float64):
    """At two random states, in one compilation."""
    geometry, make = TABLE[name]

    @jax.jit
    def everything(x, c):
        s = noise(geometry, x) if geometry.noise_terms else None
        v, lengths = geometry.sharp(x, c), None
        if name in LENGTHS:
            double = jax.tree.map(lambda u: 2 * u, v)
            lengths = [geometry.length_sq(x, v), geometry.length_sq(x, double)]
        slope = jax.grad(energy)(x)
        down = geometry.sharp(x, slope)
        there = lambda t: energy(geometry.retract(x, jax.tree.map(lambda u: t * u, down)))  # noqa: E731
        ahead, behind = there(-SMALL), there(SMALL)
        # In float32 the quotient is round-off.
        fall = (behind - ahead) / (2 * SMALL) if dtype == jnp.float64 else None
        rate = geometry.norm_sq(x, slope)
        k, norm_sq = onsager(geometry, x), geometry.norm_sq(x, c)
        return Measured(x, c, k, s, ravel(v), norm_sq, lengths, rate, fall)

    found = []
    for key in STATES:
        x = make(key)
        x, c = jax.tree.map(lambda leaf: leaf.astype(dtype), (x, normal_like(KEYS[3], x)))
        found.append(everything(x, c))
    return found


def test_every_geometry_is_in_the_table():
    exported = {
        getattr(geometries, name)
        for name in dir(geometries)
        if isinstance(getattr(geometries, name), type)
        and issubclass(getattr(geometries, name), geometries.AbstractGeometry)
    }
    abstract = {geometries.AbstractGeometry, geometries.Manifold}
    abstract |= {geometries.FisherRao}  # of laws: tests/test_density.py, tests/test_law.py
    abstract |= {geometries.Stein}  # tests/test_stein.py
    abstract |= {geometries.Norm}  # not linear: tests/test_norms_and_potentials.py
    abstract |= {geometries.Fisher, geometries.Diagonal}  # of a model, of an Adaptive state
    abstract |= {geometries.Parametric}  # of laws: tests/test_variational.py
    abstract |= {geometries.Isokinetic}  # keeps no bracket, a thermostat: tests/test_chains.py
    abstract |= {geometries.Holonomic}  # on a surface: tests/test_mechanics_lagrangian.py
    assert exported - abstract <= {type(geometry) for geometry, _ in TABLE.values()}


@EVERY
def test_sharp_is_linear_in_the_covector(name):
    """The matrix K, built from a basis, gives sharp of any covector."""
    for m in measured(name):
        np.testing.assert_allclose(m.sharp, m.k @ ravel(m.c), atol=1e-11)


@EVERY
def test_equation_39_along_the_flow_an_energy_falls_at_its_rate(name):
    """-dE/dt = <dE, K dE> by a central difference along the geometry's own step, K's part that
    conserves included: errors of 1e-8 of third derivatives and of 1e-16 / 1e-4 of the energy."""
    for m in measured(name):
        np.testing.assert_allclose(m.fall, m.rate, rtol=1e-5, atol=1e-7)


@EVERY
def test_equation_40_symmetric_part_is_positive_and_the_rest_conserves(name):
    geometry, _ = TABLE[name]
    for m in measured(name):
        k = np.asarray(m.k)
        size = np.abs(k).max()
        assert np.linalg.eigvalsh((k + k.T) / 2).min() > -1e-13 * size
        if not geometry.conservative:
            np.testing.assert_allclose(k, k.T, atol=1e-13 * size)
        if not geometry.dissipative:
            np.testing.assert_array_equal(k, -k.T)
        rate = ravel(m.c) @ k @ ravel(m.c)
        np.testing.assert_allclose(m.norm_sq, rate, rtol=1e-12, atol=1e-13 * size)


@pytest.mark.parametrize("name", [n for n in POINTS if n not in BRACKETS])
def test_equation_43_noise_has_covariance_k(name):
    """S S^T = sym K, exactly, from the matrix of S on a basis of white noise."""
    for m in measured(name):
        k = np.asarray(m.k)
        covariance = np.zeros_like(k) if m.s is None else m.s @ m.s.T
        np.testing.assert_allclose(covariance, (k + k.T) / 2, atol=1e-13 * np.abs(k).max())


@pytest.mark.parametrize("name", MEASURES)
def test_noise_of_a_measure_is_that_of_the_ground(name):
    """K has 1/w_i where the covector of an expectation has w_i: S S^T = w_i sym K per particle."""
    for m in measured(name):
        x, k, s = m.x, np.asarray(m.k), np.asarray(m.s)
        w = [np.repeat(x.weights, p.shape[1]) for p in jax.tree.leaves(x.positions)]
        w = np.append(np.concatenate(w), np.zeros(0 if x.log_weights is None else x.count))
        np.testing.assert_allclose(s @ s.T, np.diag(w) @ (k + k.T) / 2, atol=1e-12)


@NOISY
def test_divergence_of_k_by_central_differences(name):
    """(div K)_i = sum_j d_j K_ij; manifolds offer none, their noise follows the volume."""
    geometry, make = TABLE[name]
    x = make(STATES[0])
    found = geometry.divergence(x)
    if geometry.curved or geometry.constant:
        assert found is None
        return
    flat, unravel = ravel_pytree(x)
    h = 1e-5
    shifts = h * jnp.eye(flat.size)
    slices = jax.jit(jax.vmap(lambda d: onsager(geometry, unravel(flat + d))))
    slope = (slices(shifts) - slices(-shifts)) / (2 * h)
    expected = jnp.einsum("jij->i", slope)
    if name in MEASURES:  # per particle: K carries 1/w_i, which temperature w_i takes away
        expected = expected[:-4] * jnp.repeat(x.weights, 3)
        found = found.positions
    # h^2/6 times a third derivative of order 10, and round-off 1e-16/h.
    np.testing.assert_allclose(ravel(found), expected, atol=1e-8)


@pytest.mark.parametrize("name", LENGTHS)
def test_equation_38_length_is_measured_by_the_inverse_of_k(name):
    """<K^-1 v, v> = <c, K c> for v = K c, and it is quadratic."""
    for m in measured(name):
        np.testing.assert_allclose(m.lengths[0], m.norm_sq, rtol=1e-11)
        np.testing.assert_allclose(m.lengths[1], 4 * m.lengths[0], rtol=1e-12)


@pytest.mark.parametrize("name", ["Euclidean", "Riemannian", "Riemannian operator", "Scaled"])
def test_log_volume_is_half_the_log_determinant_of_k(name):
    geometry, _ = TABLE[name]
    a, b = measured(name)
    found = geometry.log_volume(a.x) - geometry.log_volume(b.x)
    expected = (np.linalg.slogdet(a.k)[1] - np.linalg.slogdet(b.k)[1]) / 2
    np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("name", ["Scaled sum", "Kinetic", "Wasserstein weighted"])
def test_flat_retraction_is_a_straight_line(name):
    geometry, make = TABLE[name]
    x = make(STATES[0])
    v = geometry.sharp(x, normal_like(KEYS[6], x))
    np.testing.assert_array_equal(ravel(geometry.retract(x, v)), ravel(x) + ravel(v))


@EVERY
def test_float32_is_kept(name):
    geometry, make = TABLE[name]
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), make(STATES[0]))

    def all_of_it(x):
        out = [geometry.sharp(x, x), geometry.norm_sq(x, x), geometry.retract(x, x)]
        if geometry.noise_terms:
            out.append(geometry.sqrt(x, (x,) * geometry.noise_terms))
        if name in LENGTHS:
            out.append(geometry.length_sq(x, x))
        return [*out, geometry.divergence(x)]

    for leaf in jax.tree.leaves(jax.eval_shape(all_of_it, single)):
        assert leaf.dtype == jnp.float32


@pytest.mark.parametrize("name", ["Riemannian operator", "Stiefel", "Hyperbolic", "Wasserstein"])
def test_float32_agrees_with_float64(name):
    for low, high in zip(measured(name, jnp.float32), measured(name), strict=True):
        kept = high._replace(fall=None)
        for a, b in zip(jax.tree.leaves(low), jax.tree.leaves(kept), strict=True):
            assert a.dtype == jnp.float32
            # Condition numbers here are below 100, and 100 eps is 1e-5.
            np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()))


def test_geometries_add_and_scale():
    """K, the covariance of the noise and the divergence add and scale."""
    x = vector(KEYS[8])
    a, b = st.Riemannian(metric), st.Riemannian(lambda x: 2.0 * metric(jnp.sin(x)))
    both = 0.5 * a + 2.0 * b

    @jax.jit
    def of(x):
        return [(onsager(g, x), noise(g, x), g.divergence(x), g.sharp(x, x)) for g in (a, b, both)]

    (ka, sa, da, _), (kb, sb, db, _), (k, s, d, _) = of(x)
    np.testing.assert_allclose(k, 0.5 * ka + 2.0 * kb, rtol=1e-13)
    np.testing.assert_allclose(s @ s.T, 0.5 * sa @ sa.T + 2.0 * sb @ sb.T, atol=1e-14)
    np.testing.assert_allclose(d, 0.5 * da + 2.0 * db, rtol=1e-13)
    assert both.noise_terms == 2 and both.terms[0].factor == 0.5
    assert (a + b).name == "Riemannian + Riemannian"
    assert (2 * KINETIC).name == "2 Symplectic + 2 Friction(0.7)"
    assert (0.0 * a).length_sq(x, x) == jnp.inf


def test_a_scaled_sum_keeps_its_bath():
    """2 (K + L) is 2 K + 2 L: a splitting finds the friction and the noise inside, to the bit."""
    energy = st.Energy(lambda q: 0.5 * jnp.sum(q**2))
    start = st.Phase(jnp.ones(3), jnp.zeros(3))
    whole = 2.0 * (st.Symplectic() + st.Friction(0.5))
    apart = 2.0 * st.Symplectic() + st.Friction(1.0)
    ends = [
        st.solve(
            st.Flow(energy, geometry, st.Thermal(1.0)),
            start, scheme=st.BAOAB(0.05), time=1.0, key=jax.random.key(0),
        ).final.position
        for geometry in (whole, apart)
    ]  # fmt: skip
    np.testing.assert_array_equal(*ends)
    for ground in (2.0 * st.Wasserstein(st.Symplectic() + st.Friction(0.5)), st.Wasserstein(whole)):
        assert friction_of(ground) == 1.0


def test_equation_29_53_the_kinetic_velocity():
    """-K dH = (dH/dp, -dH/dq - gamma dH/dp)."""
    x, c = phase(KEYS[9]), phase(KEYS[10])
    v = KINETIC.sharp(x, c)
    np.testing.assert_allclose(-v.position, c.momentum)
    np.testing.assert_allclose(-v.momentum, -c.position - 0.7 * c.momentum)


def test_frictions_may_follow_a_schedule():
    x = phase(KEYS[9])
    geometry = 2.0 * (st.Symplectic() + st.Friction(lambda t: 1.0 + t))
    frozen = 2.0 * (st.Symplectic() + st.Friction(4.0))
    for g, h in ((geometry, frozen), (st.Wasserstein(geometry), st.Wasserstein(frozen))):
        y = x if not g.on_measures else st.Particles(jax.tree.map(lambda u: u[None], x))
        np.testing.assert_array_equal(ravel(g.at(3.0).sharp(y, y)), ravel(h.sharp(y, y)))
    assert "γ(t)" in geometry.name and not st.Friction(0.0).dissipative


def test_equation_38_gradient_is_the_representative_of_the_differential():
    """g(grad E, v) = dE(v) for every v."""
    x = vector(KEYS[11])
    energy = st.Energy(lambda x: jnp.sum(jnp.sin(x)) + x[0] * x[1] ** 2)
    gradient = st.Riemannian(metric).sharp(x, energy.differential(x))
    for v in np.eye(3):
        slope = jax.jvp(energy, (x,), (jnp.asarray(v),))[1]
        np.testing.assert_allclose(gradient @ metric(x) @ v, slope, atol=1e-14)


def test_riemannian_geometry_is_a_change_of_coordinates():
    """y = psi(x) pulls the flat metric back to J^T J: velocities, lengths and noise agree."""
    psi = lambda x: x + 0.3 * jnp.sin(x @ jnp.arange(9.0).reshape(3, 3))  # noqa: E731
    x, c = vector(KEYS[12]), vector(KEYS[13])
    jacobian = jax.jacfwd(psi)(x)
    geometry = st.Riemannian(lambda x: jax.jacfwd(psi)(x).T @ jax.jacfwd(psi)(x))
    velocity = geometry.sharp(x, jacobian.T @ c)
    np.testing.assert_allclose(jacobian @ velocity, c, atol=1e-12)
    np.testing.assert_allclose(geometry.length_sq(x, velocity), c @ c, rtol=1e-12)
    s = jacobian @ noise(geometry, x)
    np.testing.assert_allclose(s @ s.T, np.eye(3), atol=1e-12)


def test_riemannian_with_a_constant_metric_is_euclidean_after_a_linear_map():
    """With G = L L^T, y = L^T x turns every step of the flow into the Euclidean one."""
    g = np.asarray(metric(vector(KEYS[14])))
    lower = np.linalg.cholesky(g)
    a, inverse = np.diag([1.0, 2.0, 3.0]), np.linalg.inv(lower.T)
    first = st.Flow(lambda x: 0.5 * x @ a @ x, st.Riemannian(lambda x: jnp.asarray(g)))
    second = st.Flow(lambda y: 0.5 * (inverse @ y) @ a @ (inverse @ y), st.Euclidean())
    x = vector(KEYS[15])
    y = lower.T @ x
    for _ in range(3):
        x, y = x + 0.1 * first.velocity(x), y + 0.1 * second.velocity(y)
        np.testing.assert_allclose(lower.T @ x, y, rtol=1e-12)
    np.testing.assert_allclose(first.dissipation_rate(x), second.dissipation_rate(y), rtol=1e-12)


DIAGONAL = jnp.array([1.0, 2.0, 4.0])
OFF = jnp.array([0.5, -0.3])
TRIDIAGONAL = np.diag(DIAGONAL) + np.diag(OFF, 1) + np.diag(OFF, -1)


@pytest.mark.parametrize(
    "operator, dense",
    [
        (lx.DiagonalLinearOperator(DIAGONAL), np.diag(DIAGONAL)),
        (lx.MatrixLinearOperator(jnp.asarray(TRIDIAGONAL)), TRIDIAGONAL),
        (lx.TridiagonalLinearOperator(DIAGONAL, OFF, OFF), TRIDIAGONAL),
        (
            lx.FunctionLinearOperator(
                lambda v: jnp.asarray(TRIDIAGONAL) @ v,
                jax.ShapeDtypeStruct((3,), jnp.float64),
                lx.positive_semidefinite_tag,
            ),
            TRIDIAGONAL,
        ),
    ],
    ids=["diagonal", "matrix", "tridiagonal", "function"],
)
def test_a_lineax_metric_is_its_matrix(operator, dense):
    geometry, x = st.Riemannian(lambda x: operator), vector(KEYS[16])
    geometry.check(x)
    np.testing.assert_allclose(geometry.sharp(x, x), np.linalg.solve(dense, x), rtol=1e-13)
    s = jax.jit(lambda x: noise(geometry, x))(x)
    np.testing.assert_allclose(s @ s.T, np.linalg.inv(dense), atol=1e-14)


def test_equation_56_58_particles_move_along_the_ground_geometry():
    """x_i' = -K(x_i) grad psi(x_i), whatever the weights, for F = <psi>."""
    x = weighted(KEYS[17])
    psi = lambda y: jnp.sum(jnp.sin(y)) * y[0]  # noqa: E731
    geometry = st.Wasserstein(st.Riemannian(metric))
    v = geometry.sharp(x, jax.grad(lambda s: s.expect(psi))(x))
    expected = [np.linalg.solve(metric(y), jax.grad(psi)(y)) for y in x.positions]
    np.testing.assert_allclose(v.positions, expected, rtol=1e-11)
    assert not v.log_weights.any()
    assert geometry.name == "Wasserstein(Riemannian)" and st.Wasserstein().name == "Wasserstein()"


POINT = jnp.ones(3)
MANY = st.Particles(jnp.ones((2, 3)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: st.Riemannian(jnp.eye(3)), "metric: got .*a function"),
        (lambda: st.Riemannian(lambda x: jnp.eye(2)).check(POINT), r"metric.*\(2, 2\).*\(3, 3\)"),
        (lambda: st.Riemannian(lambda x: x).check(POINT), "metric.*expected"),
        (
            lambda: st.Riemannian(lambda x: lx.DiagonalLinearOperator(jnp.ones(2))).check(POINT),
            "metric: got an operator of size 2; expected 3",
        ),
        (lambda: st.Riemannian(lambda x: -jnp.eye(3)).check(POINT), "positive definite"),
        (lambda: st.Riemannian(lambda x: jnp.nan * jnp.eye(3)).check(POINT), "metric"),
        (lambda: st.Riemannian(lambda x: jnp.eye(3) + jnp.eye(3, k=1)).check(POINT), "symmetric"),
        (lambda: st.Friction(-1.0), "gamma: got -1.0"),
        (lambda: st.Friction(float("inf")), "gamma"),
        (lambda: st.Friction("high"), "gamma: got high"),
        (lambda: st.Friction(jnp.ones(2)), "gamma"),
        (lambda: -1.0 * st.Euclidean(), "factor: got -1.0"),
        (lambda: st.Euclidean() * jnp.asarray(-1.0), "factor"),
        (lambda: float("nan") * st.Euclidean(), "factor"),
        (lambda: "a" * st.Euclidean(), "factor: got a"),
        (lambda: st.Symplectic().check(POINT), r"Phase\(position, momentum\)"),
        (lambda: KINETIC.check(POINT), "Phase"),
        (lambda: st.Wasserstein().check(POINT), "Particles"),
        (lambda: st.Wasserstein(KINETIC).check(MANY), "Phase"),
        (lambda: st.Wasserstein(st.Wasserstein()), "ground"),
        (lambda: st.Wasserstein("flat"), "ground: got flat"),
        (lambda: st.Euclidean().check([1.0]), "float arrays"),
        (lambda: st.Euclidean() + st.Symplectic(), "same kind of state"),
        (lambda: st.Euclidean() + st.Wasserstein(), "same kind of state"),
        (lambda: st.Sphere() + st.Euclidean(), "manifold cannot be added"),
        (lambda: st.Sphere() + st.Sphere(), "manifold cannot be added"),
        (lambda: st.Symplectic().sqrt(phase(KEYS[0]), ()), "no square root"),
        (lambda: KINETIC.length_sq(phase(KEYS[0]), phase(KEYS[0])), "measures no length"),
        (lambda: st.Sphere().log_volume(POINT), "flat or Riemannian"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(st.ArgumentError, match=message):
        make()


def test_a_run_refuses_a_metric_that_is_not_symmetric():
    skew = st.Riemannian(lambda x: jnp.array([[2.0, 1.0], [0.0, 2.0]]))
    for state in (jnp.ones(2), st.Particles(jnp.ones((3, 2)))):
        with pytest.raises(st.ArgumentError, match=r"asymmetry 1.00e\+00.*symmetric"):
            st.solve(st.Flow(jnp.sum, skew), state, scheme=st.Euler(0.1), steps=1)
    with pytest.raises(TypeError):
        st.Euclidean() + 1.0


def test_what_conserves_dissipates_nothing_but_meets_what_another_flow_lowers():
    """<dF, J dF> is exactly 0, of a point and of each particle; <dG, J dF> of a sum is not."""
    state = st.Phase(jnp.array([0.3, -0.7]), jnp.array([1.1, 0.4]))
    bowl = st.Hamiltonian(st.Energy(lambda q: jnp.sum(jnp.cos(q))))
    still = st.Flow(bowl, st.Symplectic())
    assert float(still.dissipation_rate(state)) == 0.0
    cloud = st.Particles.from_positions(jax.tree.map(lambda x: jnp.stack([x, 2 * x]), state))
    assert (np.asarray(still.bind(cloud).rate_per_point(cloud)) == 0.0).all()
    pull = st.Hamiltonian(st.Energy(lambda q: jnp.sum(q**2)))
    both = still + st.Flow(pull, st.Friction(0.5))
    q, p = np.asarray(state.position), np.asarray(state.momentum)
    a, b = -np.sin(q), 2 * q  # dF = (a, p), dG = (b, p), and J dF = (-p, a)
    expected = -(a + b) @ p + 2 * p @ a + 0.5 * 2 * p @ p
    np.testing.assert_allclose(both.dissipation_rate(state), expected, rtol=1e-6)
