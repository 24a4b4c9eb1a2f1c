"""Negative log likelihoods of a model's outputs: a risk that knows its Fisher information.

A model is outputs o = apply(theta, x); a family says -log p(y | o). The Fisher matrix of theta is
J^T H J with the Fisher H of the outputs (section 7.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError
from .risk import EmpiricalRisk

FAMILIES = ("categorical", "bernoulli", "gaussian", "poisson")


class NegativeLogLikelihood(EmpiricalRisk):
    """(1/n) sum_i -log p(y_i | apply(theta, x_i)), a mean over rows (eq. 32).

    `apply`: (theta, one x) -> outputs, an array; `data` = (x, y) with leading axis n. `family`:
    "categorical" (outputs are logits, y a class), "bernoulli" (a logit each, y 0 or 1), "gaussian"
    (unit variance), "poisson" (log rates), or a function (outputs, y) -> number.
    """

    apply: Callable[[Any, Any], Any]
    family: Any = eqx.field(static=True)

    def __init__(
        self,
        apply: Callable[[Any, Any], Any],
        data: tuple[Any, Any],
        family: str | Callable[[Any, Any], Any] = "categorical",
        batch_size: int | None = None,
    ):
        if not callable(apply):
            raise ArgumentError("apply", type(apply).__name__, "a function (theta, x) -> outputs")
        if not callable(family) and family not in FAMILIES:
            raise ArgumentError("family", repr(family), f"one of {FAMILIES}, or a function")
        if not (isinstance(data, tuple) and len(data) == 2):
            raise ArgumentError("data", type(data).__name__, "a pair (x, y)")
        if family == "categorical" and not jnp.issubdtype(jnp.result_type(data[1]), jnp.integer):
            given = f"classes of type {jnp.result_type(data[1])}"
            raise ArgumentError("data", given, "integers 0, 1, ... that count the outputs")
        self.apply, self.family = apply, family
        super().__init__(_Loss(apply, family), data, batch_size)

    def outputs(self, theta: Any, x: Any) -> Float[Array, " k"]:
        """apply(theta, x) as a vector."""
        return jnp.reshape(self.apply(theta, x), -1)

    def curvature(self, outputs: Float[Array, " k"], y: Any) -> Float[Array, "k k"]:
        """The Hessian of -log p(y | o) in o; for the named families the Fisher matrix of o."""
        return jax.hessian(lambda o: output_loss(self.family, o, y))(outputs)

    def curvature_product(self, outputs: Float[Array, " k"], v: Float[Array, " k"]) -> Any:
        """The Fisher matrix of the outputs times v, in closed form."""
        if self.family == "categorical":
            p = jax.nn.softmax(outputs)
            return p * (v - p @ v)
        root = self.curvature_root(outputs)
        return root @ (root.T @ v)

    def curvature_root(self, outputs: Float[Array, " k"]) -> Float[Array, "k m"]:
        """B with B B^T the Fisher matrix of the outputs, in closed form."""
        if self.family == "categorical":
            p = jax.nn.softmax(outputs)
            return (jnp.diag(jnp.ones_like(p)) - p[:, None]) * jnp.sqrt(p)
        if self.family == "bernoulli":
            p = jax.nn.sigmoid(outputs)
            return jnp.diag(jnp.sqrt(p * (1.0 - p)))
        if self.family == "poisson":
            return jnp.diag(jnp.exp(0.5 * outputs))
        if self.family == "gaussian":
            return jnp.eye(outputs.size, dtype=outputs.dtype)
        raise ArgumentError("kind", "'exact'", "a family by name; else kind='gauss-newton'")


class _Loss(eqx.Module):
    apply: Callable[[Any, Any], Any]
    family: Any = eqx.field(static=True)

    def __call__(self, theta: Any, row: tuple[Any, Any]) -> Any:
        x, y = row
        return output_loss(self.family, jnp.asarray(self.apply(theta, x)), y)


def output_loss(family: Any, outputs: Any, y: Any) -> Any:
    """-log p(y | outputs)."""
    if callable(family):
        return family(outputs, y)
    if family == "categorical":
        return jax.nn.logsumexp(outputs) - outputs[y]
    if family == "bernoulli":
        return jnp.sum(jax.nn.softplus(outputs) - jnp.asarray(y) * outputs)
    if family == "poisson":
        return jnp.sum(jnp.exp(outputs) - jnp.asarray(y) * outputs)
    return 0.5 * jnp.sum((outputs - y) ** 2)
