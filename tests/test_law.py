"""Flows of a law in a family: Gaussians, mixtures, finite sets (eq. 46-48, 56, 62, 67-69)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.audit.law import projection_residual
from steepest.errors import ArgumentError
from steepest.states.quadrature import GaussHermite

BENT = st.Energy(lambda x: 0.25 * jnp.sum(x**4) + x[0] * x[1])
BOWL = st.Energy(lambda x: 0.5 * jnp.sum(jnp.array([1.0, 3.0]) * x**2) + 0.1 * x[0] * x[1])
START = st.Gaussian(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0], [0.3, 0.5]]))
TIGHT = st.RungeKutta(rtol=1e-10, atol=1e-12)


def closed_form_ou(time):
    """Mean and covariance of dx = -A x dt + sqrt(2) dW from START, by the matrix exponential."""
    a = np.array([[1.0, 0.1], [0.1, 3.0]])
    values, vectors = np.linalg.eigh(a)
    decay = vectors @ np.diag(np.exp(-values * time)) @ vectors.T
    rest = vectors @ np.diag(1 / values) @ vectors.T
    start = np.asarray(START.covariance)
    return decay @ np.array([1.0, 2.0]), decay @ (start - rest) @ decay + rest


def test_the_lift_on_a_gaussian_is_the_law_of_an_ornstein_uhlenbeck_process(tmp_path):
    """Eq. 45: the Gaussian closure is exact here; to 1e-8, far above what the solver allows."""
    flow = st.Flow(BOWL, st.Euclidean(), st.Thermal(1.0))
    run = st.solve(flow, START, scheme=TIGHT, time=0.8, steps=4)
    mean, covariance = closed_form_ou(0.8)
    np.testing.assert_allclose(run.final.mean, mean, atol=1e-8)
    np.testing.assert_allclose(run.final.covariance, covariance, atol=1e-8)
    assert run.audit().passed
    assert abs(projection_residual(flow, run.final)) < 1e-12
    again = st.Trajectory.load(run.save(tmp_path / "run")).final
    np.testing.assert_array_equal(again.scale, run.final.scale)
    assert again.quadrature == run.final.quadrature


def test_the_lift_on_a_mixture_has_the_moments_of_the_process():
    """E x and E xx^T of the whole are exact: fields x -> Ax + b are tangent to every component.

    The components are not those of the exact law. Tolerance: that of the rule with 20 nodes.
    """
    flow = st.Flow(st.Energy(lambda x: 0.5 * jnp.sum(x**2)), st.Euclidean(), st.Thermal(1.0))
    start = st.GaussianMixture([0.3, -0.2], [[-1.0], [1.5]], [[0.5], [0.7]], GaussHermite(20))
    end = st.solve(flow.lift(), start, scheme=TIGHT, time=1.0, steps=1).final
    decay = np.exp(-1.0)
    np.testing.assert_allclose(end.mean(), decay * start.mean(), atol=1e-7)
    exact = 1 + (start.covariance() - 1) * decay**2
    np.testing.assert_allclose(end.covariance(), exact, atol=1e-7)


def test_projection_residual_is_what_the_family_cannot_follow():
    """Against regression of grad psi on affine fields under the law, on the rule's own nodes."""
    flow = st.Flow(st.KL(BENT), st.Wasserstein())
    z, w = START.nodes()
    x = np.asarray(START.mean + z @ START.lower.T)
    w = np.asarray(w)
    gradient = np.asarray(jax.vmap(jax.grad(flow.functional.first_variation(START)))(x))
    design = np.concatenate([np.ones((len(x), 1)), x], axis=1) * np.sqrt(w)[:, None]
    target = gradient * np.sqrt(w)[:, None]
    # The projection on gradients of quadratics: affine fields with a symmetric matrix.
    basis = [
        np.stack([design[:, 0], 0 * design[:, 0]], 1),
        np.stack([0 * design[:, 0], design[:, 0]], 1),
    ]
    basis += [
        np.stack([design[:, 1], 0 * design[:, 0]], 1),
        np.stack([0 * design[:, 0], design[:, 2]], 1),
    ]
    basis += [np.stack([design[:, 2], design[:, 1]], 1)]
    matrix = np.stack([b.ravel() for b in basis], axis=1)
    fitted = matrix @ np.linalg.lstsq(matrix, target.ravel(), rcond=None)[0]
    exact = 1 - np.sum(fitted**2) / np.sum(target**2)
    assert 0.05 < exact < 0.95
    np.testing.assert_allclose(projection_residual(flow, START), exact, rtol=1e-6)


@pytest.mark.parametrize(
    ("state", "geometry"),
    [
        (START, st.FisherRao()),
        (
            st.GaussianMixture(
                jnp.zeros(2),
                jnp.array([[1.0, 0.0], [-1.0, 0.5]]),
                jnp.ones((2, 2)),
                GaussHermite(5),
            ),
            st.Wasserstein() + 0.5 * st.FisherRao(),
        ),
    ],
    ids=["gaussian", "mixture"],
)
def test_families_dissipate_and_close_the_balance(state, geometry):
    run = st.solve(st.Flow(st.KL(BENT), geometry), state, scheme=st.RungeKutta(), time=0.5, steps=4)
    audit = run.audit()
    assert audit.passed, str(audit)
    assert audit["projection residual"].passed is None
    assert run.ledger.functional[-1] < run.ledger.functional[0]


def test_replicator_flow_of_kl_is_the_geometric_path():
    """Eq. 62 on a finite set: p_t ~ p_0^exp(-t) pi^(1 - exp(-t))."""
    energies = jnp.array([0.0, 1.0, 2.0, 0.5])
    start = st.Categorical(jnp.array([1.0, 0.0, -1.0, 0.3]))
    flow = st.Flow(st.KL(lambda i: -energies[i]), st.FisherRao())
    run = st.solve(flow, start, scheme=TIGHT, time=0.9, steps=3)
    decay = np.exp(-0.9)
    exact = jax.nn.softmax(decay * start.logits - (1 - decay) * energies)
    np.testing.assert_allclose(run.final.probabilities, exact, atol=1e-8)
    assert run.audit().passed
    with pytest.raises(ArgumentError):
        st.solve(
            st.Flow(st.KL(lambda i: -energies[i]), st.Wasserstein()), start, scheme=TIGHT, time=1.0
        )


def test_a_flow_of_parameters_without_noise_moves_a_gaussian_by_the_expected_energy():
    flow = st.Flow(BOWL, st.Euclidean())
    velocity = flow.velocity(START)
    np.testing.assert_allclose(
        velocity.mean, -np.array([[1, 0.1], [0.1, 3]]) @ [1.0, 2.0], atol=1e-9
    )


def test_equilibrium_of_a_law():
    assert st.Flow(st.KL(BENT), st.FisherRao()).equilibrium().kind == "gibbs"
    mixed = st.Flow(st.FreeEnergy(BENT, 0.5) + st.InternalEnergy(2.0), st.Wasserstein())
    assert mixed.equilibrium().kind == "self-consistent"
    assert st.Flow(st.NegativeEntropy(), st.Wasserstein()).equilibrium().kind == "minimiser"
    cold = st.Flow(st.ExpectedEnergy(BENT), st.Wasserstein()).equilibrium()
    assert cold.kind == "minimiser"


def test_internal_and_interaction_energies_of_a_gaussian():
    """Against a fine grid, where both are sums over cells; differentials included."""
    law = st.Gaussian(jnp.array([0.3]), jnp.array([[0.7]]))
    grid = st.Grid(-6.0, 7.0, 800)
    density = st.Density.from_log(grid, law.log_prob)
    kernel = lambda z: jnp.cos(z[0]) + z[0] ** 2  # noqa: E731
    for functional in (
        st.InternalEnergy(2.0),
        st.InternalEnergy(0.6),
        st.InteractionEnergy(kernel),
    ):
        np.testing.assert_allclose(functional(law), functional(density), rtol=1e-5)
        by_step = (
            functional(st.Gaussian(law.mean, law.scale + 1e-5))
            - functional(st.Gaussian(law.mean, law.scale - 1e-5))
        ) / 2e-5
        np.testing.assert_allclose(jax.grad(functional)(law).scale[0, 0], by_step, rtol=1e-6)
    run = st.solve(
        st.Flow(st.InternalEnergy(2.0), st.Wasserstein()), law, scheme=st.RungeKutta(), time=0.5
    )
    assert run.audit().passed and run.final.scale[0, 0] > 0.7
