"""One problem as paths, particles, a Gaussian and a density (eq. 42-46, 60-63)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest.errors import ArgumentError

START = st.Gaussian(jnp.array([-1.0]), jnp.array([[0.3]]))
GRID = st.Grid(-2.1, 2.1, 128)


def wells(temperature=0.4):
    energy = st.Energy(lambda x: jnp.sum((x**2 - 1.0) ** 2))
    return st.Flow(energy, st.Euclidean(), st.Thermal(temperature))


@pytest.fixture(scope="module")
def check():
    names = ["paths", "particles", "density", "gaussian"]
    return st.cross_check(
        wells(), START, names, time=0.8, key=jax.random.key(0), grid=GRID, particles=2048
    )


def test_three_levels_agree_with_the_orders_of_theory(check):
    assert check.passed, str(check)
    assert abs(check.sample_slope + 0.5) < 0.12  # a slope over 5 octaves of one sample
    assert abs(check.grid_order - 2.0) < 0.25
    judged = {(row.representation, row.quantity) for row in check.rows if row.passed is not None}
    assert judged >= {("paths", "mean"), ("particles", "covariance"), ("paths", "marginals")}


def test_a_closure_is_reported_and_not_judged(check):
    rows = [row for row in check.rows if row.representation == "gaussian"]
    assert rows and all(row.passed is None for row in rows)
    assert max(row.value / row.tolerance for row in rows) > 10  # the double well is no Gaussian
    assert "not judged: a closure" in str(check) and "agree at" in str(check)


def test_a_wrong_temperature_is_found(check):
    """The density of a flow at T = 0.4 against the paths of one at T = 0.5."""
    from steepest.agreement import _compare

    hot = st.cross_check(
        wells(0.5), START, ["paths", "particles"], time=0.8, key=jax.random.key(1), particles=2048
    )
    mixed = {"paths": hot.runs["paths"], "density": check.runs["density"]}
    coarse = [
        dataclasses.replace(
            check.runs["density"],
            states=jax.vmap(lambda v, n=n: regrid(v, n))(check.runs["density"].states.values),
        )
        for n in (64, 32)
    ]
    found = _compare(wells(), ("paths", "density"), mixed, [check.runs["density"], *coarse], 0.999)
    assert not found.passed
    assert "DISAGREE" in str(found)


def regrid(values, cells):
    grid = st.Grid(-2.1, 2.1, cells)
    return st.Density(GRID, values).tangent(values).to_grid(grid)


def test_quadratic_energies_hold_the_gaussian_to_account():
    flow = st.Flow(st.Energy(lambda x: jnp.sum(x**2)), st.Euclidean(), st.Thermal(1.0))
    found = st.cross_check(
        flow,
        START,
        ["gaussian", "density"],
        time=0.5,
        key=jax.random.key(0),
        grid=st.Grid(-5, 5, 128),
        steps=160,
    )
    assert found.passed and len(found.rows) == 3
    assert all(row.passed for row in found.rows)
    np.testing.assert_allclose(found.runs["gaussian"].final.mean, [-np.exp(-1.0)], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(representations=["paths"]), "two or more"),
        (dict(representations=["paths", "grid"]), "two or more"),
        (dict(steps=6), "multiple of"),
        (dict(state=jnp.zeros(1)), "initial law"),
        (dict(flow=wells().lift()), "not its lift"),
        (dict(representations=["gaussian", "density"]), "give one"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    arguments = dict(flow=wells(), state=START, time=1.0, key=jax.random.key(0)) | change
    with pytest.raises(ArgumentError, match=message):
        st.cross_check(**arguments)
