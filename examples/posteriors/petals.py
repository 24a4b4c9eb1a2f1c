"""The petal lengths of Fisher's irises as a mixture of three normal laws: a NumPyro model.

steepest compare examples/posteriors/petals.toml --allow-code

Its weights live on the simplex and its means are in order; steepest samples both on flat space and
gives them back as the model speaks of them. Which petal is of which component is summed out.
"""

import csv
from pathlib import Path

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

TABLE = Path(__file__).parent.parent / "data" / "iris.csv"


def data():
    """The arguments of the model."""
    with open(TABLE, newline="") as file:
        return {"lengths": [float(row["petal length"]) for row in csv.DictReader(file)]}


def petals(lengths):
    """length ~ sum_k weights_k N(means_k, deviations_k^2), lengths in centimetres."""
    lengths = jnp.asarray(lengths)
    weights = numpyro.sample("weights", dist.Dirichlet(2.0 * jnp.ones(3)))
    # The first mean, then the logarithms of the gaps.
    gaps = dist.Normal(jnp.array([1.5, 1.0, 0.0]), 1.0).to_event(1)
    ordered = dist.transforms.OrderedTransform()
    means = numpyro.sample("means", dist.TransformedDistribution(gaps, ordered))
    with numpyro.plate("component", 3):
        deviations = numpyro.sample("deviations", dist.HalfNormal(1.0))
    mixture = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(means, deviations))
    with numpyro.plate("flower", len(lengths)):
        numpyro.sample("length", mixture, obs=lengths)
