"""Every public geometry closes the energy-dissipation balance along a run (eq. 29, 35, 37, 40).

F(0) - F(t) = integral of <dF, K dF> dt, with the tolerance and the order that the audit derives
from single steps; what only conserves dissipates nothing. And what the ledger summed step by step
is the integral of the rate over the saves, by Simpson's rule: they differ by what a step's rule
misses, at most step times the variation of the rate.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import simpson

import steepest as st
from steepest import geometries

STEP = 2e-3
KEYS = jax.random.split(jax.random.key(7), 8)
POINT = jax.random.normal(KEYS[0], (3,))
PAIR = st.Phase(POINT, jax.random.normal(KEYS[1], (3,)))
CLOUD = st.Particles(jax.random.normal(KEYS[2], (12, 2)))
ROWS = jax.random.normal(KEYS[3], (16, 2))
MODEL = st.NegativeLogLikelihood(
    lambda t, x: jnp.tanh(x @ t["w"]) @ t["v"], (ROWS, jnp.arange(16) % 3)
)
WEIGHTS = {"w": jnp.array([[0.6, -0.4], [0.2, 0.9]]), "v": jnp.array([[0.5, -0.5, 0.1]] * 2)}
LAW = st.Gaussian(jnp.array([1.0, -0.5]), jnp.array([[1.2, 0.0], [0.3, 0.6]]))


def metric(x):
    return jnp.eye(3) + jnp.outer(x, x)


def rotation(x):
    return jnp.cross(jnp.eye(3), x)


def wave(x):
    """Some function of any state."""
    y = ravel_pytree(x)[0]
    return jnp.sum(jnp.sin(y * jnp.linspace(0.5, 1.5, y.size))) + 0.2 * jnp.sum(y**2)


def well(x):
    return 0.25 * jnp.sum(x**4) + 0.3 * x[0] * x[1]


MOTION = st.Hamiltonian(st.Energy(wave))
ENERGY = st.Energy(wave)
KL = st.KL(lambda x: -well(x))
MEAN_WELL = st.ExpectedEnergy(st.Energy(well))
# On a rod of length 1, moving along it.
ROD = st.Phase(jnp.array([0.6, 0.8]), jnp.array([0.8, -0.6]))
RULES = {  # geometry, functional, start, scheme; None: Euler
    "Euclidean": (st.Euclidean(), ENERGY, POINT, None),
    "Riemannian": (st.Riemannian(metric), ENERGY, POINT, None),
    "Onsager": (st.Onsager(metric), ENERGY, POINT, None),
    "Poisson": (st.Poisson(rotation), ENERGY, POINT, st.DiscreteGradient(0.05)),
    "Symplectic": (st.Symplectic(), MOTION, PAIR, st.Leapfrog(0.05)),
    "Friction": (st.Symplectic() + st.Friction(0.7), MOTION, PAIR, st.BAOAB(0.01)),
    "Holonomic": (
        st.Holonomic(lambda q: q @ q - 1.0),
        st.Hamiltonian(st.Energy(lambda q: jnp.sin(q[0]) + 2.0 * q[1])),
        ROD,
        st.Rattle(0.05),
    ),
    "Isokinetic": (st.Isokinetic(), ENERGY, PAIR, st.Leapfrog(0.05)),
    "Sphere": (st.Sphere(), ENERGY, st.Sphere().random(KEYS[4], (3,)), None),
    "Stiefel": (st.Stiefel(), ENERGY, st.Stiefel().random(KEYS[4], (4, 2)), None),
    "SymmetricPositiveDefinite": (
        st.SymmetricPositiveDefinite(),
        ENERGY,
        jnp.diag(jnp.array([0.5, 1.0, 2.0])) + 0.1,
        None,
    ),
    "Hyperbolic": (st.Hyperbolic(), ENERGY, st.Hyperbolic().lift(0.5 * POINT), None),
    "Bregman": (st.Bregman("simplex"), ENERGY, jnp.array([0.2, 0.5, 0.3]), None),
    "Norm": (st.Norm("spectral"), ENERGY, jnp.diag(POINT) + 1.0, None),
    "Product": (
        st.Product({"a": st.Euclidean(), "b": st.Sphere()}),
        ENERGY,
        {"a": POINT, "b": st.Sphere().random(KEYS[4], (3,))},
        None,
    ),
    "Fisher": (st.Fisher(MODEL, damping=0.1, solver="sample"), MODEL, WEIGHTS, None),
    "Diagonal": (
        st.Diagonal(st.SecondMoment(0.5)),
        ENERGY,
        st.Adaptive.start(POINT, jax.grad(wave)(POINT)),
        None,
    ),
    "Wasserstein": (st.Wasserstein(), MEAN_WELL, CLOUD, None),
    "Stein": (st.Stein(), KL, CLOUD, None),
    "FisherRao": (st.FisherRao(), KL, LAW, None),
    "Parametric": (geometries.Parametric(), KL, LAW, None),
}


def test_every_public_geometry_is_here():
    exported = {
        kind
        for kind in map(geometries.__dict__.get, dir(geometries))
        if isinstance(kind, type) and issubclass(kind, geometries.AbstractGeometry)
    } - {geometries.AbstractGeometry, geometries.Manifold}
    assert {kind.__name__ for kind in exported} == set(RULES)


def missed(run):
    """|integral of the rate - dissipated|, relative to what a rule of one step may miss."""
    rates, times = np.asarray(run.ledger.dissipation_rate), np.asarray(run.times)
    allowed = float(run.scheme.step) * np.abs(np.diff(rates)).sum() + 1e-9
    return abs(simpson(rates, x=times) - float(run.ledger.dissipated[-1])) / allowed


@pytest.mark.parametrize("name", RULES)
def test_the_balance_closes(name):
    geometry, functional, start, scheme = RULES[name]
    flow = st.Flow(functional, geometry)
    run = st.solve(flow, start, scheme=scheme or st.Euler(STEP), steps=200, save_every=5)
    audit, books = run.audit(), run.ledger
    assert audit.passed, str(audit)
    kinds = ("energy-dissipation balance", "heat balance", "energy conservation")
    assert sum(check.name in kinds for check in audit.checks) == 1
    # Of particles under Stein the books are those of the energy, the rate is the free energy's.
    if name != "Stein":
        assert missed(run) <= 1.0
    # A thermostat gives as well as takes.
    if geometry.dissipative and not geometry.isothermal:
        assert books.dissipation_rate[0] > 0 and books.functional[-1] < books.functional[0]


class Louder(st.Euclidean):
    """A rate that is not what the velocity dissipates."""

    def rate(self, state, covector, own, temperature=None):
        return 1.05 * super().rate(state, covector, own, temperature)


def test_a_rate_that_is_not_that_of_the_motion_is_seen():
    flow = st.Flow(ENERGY, Louder())
    run = st.solve(flow, POINT, scheme=st.Euler(STEP), steps=200, save_every=5)
    assert missed(run) > 5.0
