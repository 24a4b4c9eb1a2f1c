"""Propagation of chaos: the limit of many particles is the density (section 6.8)."""

import jax
import jax.numpy as jnp
import pytest

import steepest as st


def double_well(x):
    return jnp.sum(x**4) / 4 - jnp.sum(x**2) / 2


def spring(z):
    return 0.5 * jnp.sum(z**2)


def start(cells=100):
    grid = st.Grid(-3.0, 3.0, cells)
    return st.Density.from_log(grid, lambda x: -jnp.sum((x - 0.5) ** 2) / 0.5)


def test_both_distances_fall_as_the_root_of_n():
    """Slopes -1/2 within 0.1; their own standard error is 0.05."""
    functional = st.FreeEnergy(double_well, 0.5) + st.InteractionEnergy(spring)
    found = st.propagation_of_chaos(
        st.Flow(functional, st.Wasserstein()),
        start(),
        (16, 48, 144, 432),
        time=1.0,
        steps=60,
        key=jax.random.key(0),
        repeats=48,
    )
    assert abs(found.law_slope + 0.5) < 0.1, str(found)
    assert abs(found.copies_slope + 0.5) < 0.1, str(found)


def test_bad_input():
    functional = st.FreeEnergy(double_well, 0.5)
    key = jax.random.key(0)
    with pytest.raises(st.ArgumentError, match="interact"):
        flow = st.Flow(functional, st.Wasserstein())
        st.propagation_of_chaos(flow, start(), time=1.0, key=key)
    flow = st.Flow(functional + st.InteractionEnergy(spring), st.Wasserstein())
    with pytest.raises(st.ArgumentError, match="sizes"):
        st.propagation_of_chaos(flow, start(), (10, 20), time=1.0, key=key)
    with pytest.raises(st.ArgumentError, match="state"):
        st.propagation_of_chaos(flow, st.Particles(jnp.zeros((4, 1))), time=1.0, key=key)
