"""NumPyro models: the potential, names, axes, the way back, and what is refused."""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from steepest.cli.posterior import read_posterior
from steepest.errors import ArgumentError
from steepest.inference import Target
from steepest.inference.given import flat_draws
from steepest.problems import numpyro_model

S = scipy.stats
PETALS = Path(__file__).parent.parent / "examples" / "posteriors" / "petals"


def test_a_missing_numpyro_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpyro", None)
    with pytest.raises(ArgumentError, match=r"pip install \"steepest\[numpyro\]\""):
        numpyro_model(lambda: None)


def rates(counts):
    import numpyro
    import numpyro.distributions as dist

    shape = numpyro.sample("shape", dist.LogNormal(0.0, 1.0))
    share = numpyro.sample("share", dist.Beta(2.0, 3.0))
    with numpyro.plate("place", 3):
        rate = numpyro.sample("rate", dist.Gamma(shape, 1.0))
        numpyro.sample("count", dist.Poisson(rate * share), obs=counts)
    numpyro.deterministic("mean", rate * share)


@pytest.fixture(scope="module")
def problem():
    pytest.importorskip("numpyro")
    return numpyro_model(rates, jnp.array([2, 5, 1]), dtype=jnp.float64)


def test_the_energy_is_minus_the_log_joint_density(problem):
    """Logarithms of shape and rates, the log odds of the share: Jacobians x, x and p (1 - p)."""
    theta = {"shape": 0.3, "share": -0.4, "rate": np.array([0.1, 1.2, -0.5])}
    shape, rate = np.exp(theta["shape"]), np.exp(theta["rate"])
    share = 1.0 / (1.0 + np.exp(-theta["share"]))
    log_joint = S.lognorm.logpdf(shape, 1.0) + np.log(shape)
    log_joint += S.beta.logpdf(share, 2.0, 3.0) + np.log(share * (1.0 - share))
    log_joint += S.gamma.logpdf(rate, shape).sum() + np.log(rate).sum()
    log_joint += S.poisson.logpmf([2, 5, 1], rate * share).sum()
    # Eleven terms of order one in another order; log-gammas to some 1e-13.
    np.testing.assert_allclose(float(problem.functional(theta)), -log_joint, rtol=1e-12)
    held = problem.constrain(theta)
    np.testing.assert_allclose(held["rate"], rate, rtol=1e-14)
    np.testing.assert_allclose(held["share"], share, rtol=1e-14)
    np.testing.assert_allclose(held["mean"], rate * share, rtol=1e-14)
    assert problem.constant == 0.0


def test_sites_and_plates_name_the_coordinates(problem):
    assert set(problem.start) == {"shape", "share", "rate"}
    assert problem.dims == {"shape": (), "share": (), "rate": ("place",)}
    target = Target.of(problem)
    assert target.names == ("rate[0]", "rate[1]", "rate[2]", "shape", "share")
    draws = np.random.default_rng(0).normal(size=(2, 5, 5))
    back = target.constrained(draws)
    sites = {name: back[name] for name in ("share", "shape", "rate")}
    np.testing.assert_allclose(flat_draws(sites, target), draws, rtol=1e-8, atol=1e-10)
    assert {k: v.shape for k, v in back.items()} == {
        "shape": (2, 5),
        "share": (2, 5),
        "rate": (2, 5, 3),
        "mean": (2, 5, 3),
    }
    assert back["share"].min() > 0 and back["share"].max() < 1 and back["rate"].min() > 0


def test_the_example_is_read_from_its_spec_and_by_name():
    """A simplex, an ordered vector and a plate: eight coordinates, nine numbers back."""
    pytest.importorskip("numpyro")
    by_spec = read_posterior(PETALS.with_suffix(".toml")).build(allow_code=True)
    by_name = read_posterior(
        f"{PETALS}.py:petals", ["model.kind=numpyro", "model.arguments=petals:data"]
    ).build(allow_code=True)
    for name, leaf in by_spec.start.items():
        np.testing.assert_array_equal(leaf, by_name.start[name])
    a = Target.of(by_spec)
    assert a.dimension == 8 and a.names[0] == "deviations[0]"
    back = a.constrained(np.random.default_rng(0).normal(size=(1, 20, 8)))
    np.testing.assert_allclose(back["weights"].sum(axis=-1), 1.0, rtol=1e-12)
    assert back["weights"].shape[-1] == 3 and np.all(np.diff(back["means"], axis=-1) > 0)
    single = read_posterior(PETALS.with_suffix(".toml"), ["compare.precision=float32"])
    assert single.build(allow_code=True).start["means"].dtype == jnp.float32


def refused(kind):
    import numpyro
    import numpyro.distributions as dist

    def model():
        scale = 1.0
        if kind == "param":
            scale = numpyro.param("scale", 1.0)
        x = numpyro.sample("x", dist.Normal(0.0, scale)) if kind != "nothing" else 0.0
        if kind == "discrete":
            numpyro.sample("which", dist.Bernoulli(0.3))
        if kind == "raises":
            raise KeyError("column")
        if kind == "minibatch":
            with numpyro.plate("rows", 10, subsample_size=2):
                numpyro.sample("y", dist.Normal(x, 1.0), obs=jnp.zeros(2))
        elif kind == "outside":
            numpyro.sample("y", dist.Normal(x, 1.0), obs=jnp.nan)
        else:
            numpyro.sample("y", dist.Normal(x, 1.0), obs=jnp.zeros(3))

    return model


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("discrete", "the discrete latent site 'which' (BernoulliProbs); continuous latent sites"),
        ("minibatch", "the plate 'rows' with minibatches"),
        ("param", "the optimised parameter 'scale'; give it a prior"),
        ("nothing", "no latent site"),
        ("raises", "NumPyro raised KeyError"),
        ("outside", "not finite at ten points near zero (the last: -inf); a density that is"),
    ],
)
def test_what_has_no_density_on_flat_space_is_refused(kind, message):
    pytest.importorskip("numpyro")
    with pytest.raises(ArgumentError) as caught:
        numpyro_model(refused(kind))
    assert message in str(caught.value)
