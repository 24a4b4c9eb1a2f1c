"""The part of a functional that is not entropy, on a Gaussian: E[grad] and E[Hessian]."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...states import Gaussian
from ...states.factors import Diagonal, dot


def derivatives(functional: Any, law: Gaussian) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """g = dG/dm and H = 2 dG/dS of G = <V> + (interactions ...), by the law's own quadrature.

    By Price's theorem they are E[V'] and E[V'']; taken from the differential of the rule, so that
    they fit the values of the functional exactly. Diagonal scales know the diagonal of H alone.
    """
    resolved = functional.resolve()

    def smooth(state: Gaussian) -> Any:
        total = jnp.zeros((), state.mean.dtype)
        if resolved.potential is not None:
            total = total + state.expect(resolved.potential)
        for term in resolved.rest:
            total = total + term(state)
        return total

    return of_covector(law, jax.grad(smooth)(law))


def of_covector(
    law: Gaussian, covector: Gaussian
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """g = dG/dm and H = 2 dG/dS of the covector of (mean, scale)."""
    if isinstance(law.factor, Diagonal):
        return covector.mean, jnp.diag(covector.scale / law.scale)
    slopes = law.factor.slopes(covector.scale)  # 2 G L
    curvature = jax.scipy.linalg.solve_triangular(law.lower, slopes.T, trans=1, lower=True)
    return covector.mean, 0.5 * (curvature + curvature.T)


def root_of_precision(precision: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The lower-triangular L with L L^T = precision^{-1}."""
    # precision = U U^T with U upper triangular (Cholesky from the last row up), L = U^{-T}.
    upper = jnp.linalg.cholesky(precision[::-1, ::-1])[::-1, ::-1]
    unit = jnp.eye(upper.shape[0], dtype=upper.dtype)
    return jax.scipy.linalg.solve_triangular(upper, unit, lower=False).T


def product(*factors: Array) -> Array:
    """The matrix product of several factors in full precision."""
    total = factors[0]
    for factor in factors[1:]:
        total = dot(total, factor)
    return total
