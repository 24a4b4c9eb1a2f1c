"""A two-layer network in its mean-field limit: the neurons are the particles (section 6.8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..functionals import MeasureFunctional
from .problem import Problem
from .table import read_table


class TwoLayerRisk(eqx.Module):
    """1/2 mean_i (E_rho a tanh(w.x_i + b) - y_i)^2 + ridge/2 E_rho |(w, b, a)|^2.

    `rho` is a law on R^(d + 2): the inner weights w, the offset b, the outer weight a of a neuron.
    Source: Mei, Montanari and Nguyen, PNAS 115 (2018) E7665.
    """

    features: Float[Array, "n d"]
    target: Float[Array, " n"]
    ridge: float = 0.0

    def prediction(self, rho: Any) -> Float[Array, " n"]:
        """E_rho a tanh(w.x + b) at every row of the features."""
        return rho.expect(self._neuron)

    def __call__(self, rho: Any) -> Float[Array, ""]:
        risk = 0.5 * jnp.mean((self.prediction(rho) - self.target) ** 2)
        if self.ridge == 0:
            return risk
        return risk + 0.5 * self.ridge * rho.expect(lambda theta: jnp.sum(theta**2))

    def _neuron(self, theta: Float[Array, " p"]) -> Float[Array, " n"]:
        return theta[-1] * jnp.tanh(self.features @ theta[:-2] + theta[-2])


def two_layer_network(
    data: str | Path,
    target: str,
    *,
    ridge: float = 0.0,
    dtype: Any = jnp.float32,
    **reading: Any,
) -> Problem:
    """The risk of a two-layer network on a table; a law of d + 2 numbers a neuron.

    `reading`: options of `read_table`; features and target are standardised.
    """
    table = read_table(data, target, target_kind="number", **reading)
    risk = TwoLayerRisk(
        jnp.asarray(table.features, dtype), jnp.asarray(table.target, dtype), float(ridge)
    )
    n, d = table.features.shape
    notes = (f"{n} rows, {d} features, numeric columns standardised", *table.notes)
    names = (*table.names, "offset", "outer weight")
    return Problem(MeasureFunctional(risk), jnp.zeros(d + 2, dtype), {}, {"neuron": names}, notes)
