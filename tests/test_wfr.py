"""Wasserstein-Fisher-Rao on a bimodal target: reaction crosses where transport waits (eq. 62)."""

import itertools

import jax
import jax.numpy as jnp
import pytest

import steepest as st

GRID = st.Grid(-5.0, 5.0, 150)
MODES = jnp.array([-1.8, 1.8])


def log_target(x):
    return jax.nn.logsumexp(-0.5 * ((x[0] - MODES) / 0.5) ** 2)


@pytest.fixture(scope="module")
def start():
    return st.Density.from_log(GRID, lambda x: -0.5 * ((x[0] + 1.8) / 0.6) ** 2)


def distance(run):
    target = st.Density.from_log(GRID, log_target)
    return [float(run.at(i).kl(target)) for i in range(len(run))]


def test_transport_alone_is_stuck_and_reaction_is_not(start):
    """The mode that is missing costs log 2 = 0.69; Kramers' time here is about 10^3."""
    flow = st.Flow(st.KL(log_target), st.Wasserstein())
    run = st.solve(flow, start, scheme=st.FiniteVolume(0.1, 2), time=6.0, save_every=20)
    assert distance(run)[-1] > 0.5
    flow = st.Flow(st.KL(log_target), st.Wasserstein() + st.FisherRao())
    scheme = st.Composition(st.FiniteVolume(0.1, 2), st.Exponential(0.1))
    run = st.solve(flow, start, scheme=scheme, time=6.0, save_every=20)
    found = distance(run)
    assert found[-1] < 0.1 and all(a > b for a, b in itertools.pairwise(found))
    audit = run.audit()
    assert audit.passed, str(audit)


def test_the_dial_over_a_grid_of_transport_and_reaction(start):
    """KL at t = 2 over (a, b): more reaction is closer at every share of transport."""
    ends = {}
    for transport, reaction in itertools.product((0.2, 1.0), (0.0, 0.3, 1.0, 3.0)):
        geometry, scheme = transport * st.Wasserstein(), st.FiniteVolume(0.1, 2)
        if reaction:
            geometry = geometry + reaction * st.FisherRao()
            scheme = st.Composition(scheme, st.Exponential(0.1))
        flow = st.Flow(st.KL(log_target), geometry)
        run = st.solve(flow, start, scheme=scheme, time=2.0, save_every=20)
        ends[transport, reaction] = distance(run)[-1]
    for transport in (0.2, 1.0):
        row = [ends[transport, reaction] for reaction in (0.0, 0.3, 1.0, 3.0)]
        assert all(more < less for less, more in itertools.pairwise(row)), ends
        assert row[-1] < 0.1 < row[0]
