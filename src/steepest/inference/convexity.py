"""What strong convexity proves: bounds on a fitted law that need no draws of the target.

Where Hess E >= Lambda (a diagonal matrix) everywhere, pi ~ exp(-E) satisfies, in the norm of
Lambda, the logarithmic Sobolev inequality (Bakry and Emery) and Talagrand's (Otto and Villani):

    KL(q || pi) <= 1/2 E_q |grad log (q / pi)|^2 (by Lambda^{-1}),    W_2^2(q, pi) <= 2 KL(q || pi)

and a distance W_2 in that norm bounds, for every coordinate, Lambda_j ((m_j - m'_j)^2 +
(sd_j - sd'_j)^2) <= W_2^2, since it does so for marginal laws (Gelbrich).
Sources: Bakry and Emery, Sem. Prob. XIX (1985) 177; Otto and Villani, J. Funct. Anal. 173 (2000)
361; Gelbrich, Math. Nachr. 147 (1990) 185.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import stats

from ..functionals import AbstractFunctional, Energy
from ..problems import generalised_linear
from ..problems.generalised_linear import GeneralisedLinear
from .certificate import CONFIDENCE, Statement
from .target import Target

CONVEX_LOSSES = ("logistic_loss", "poisson_loss", "gaussian_loss")
"""Losses of `problems.generalised_linear` that are convex in the linear predictor."""

STRUCTURE = (
    "E - |x|^2 in Lambda / 2 is convex: losses convex in a linear predictor, Gaussian priors"
)


def strong_convexity(target: Target) -> np.ndarray | None:
    """Lambda (d,) with Hess E >= diag(Lambda) everywhere, where the structure proves it; or None.

    It does for a `GeneralisedLinear` energy whose loss is convex in the predictor and whose priors
    all have a finite scale: Lambda_j = 1 / s_j^2.
    """
    model = _model(target.energy)
    if model is None or not _is_convex(model.loss):
        return None
    scale = np.asarray(model.prior_scale, float)
    if not np.all(np.isfinite(scale)):
        return None
    return 1.0 / scale**2


def lowest_curvature(target: Target, points: Float[Array, "n d"]) -> float:
    """The least eigenvalue of Hess E over some points: for information, it proves nothing."""
    points = jnp.asarray(points, target.start.dtype)
    return float(_lowest(target, points))


@dataclasses.dataclass(frozen=True)
class ConvexityBound:
    """At `confidence`, of KL(q || pi), and of |mean_j - E x_j| and |sd_j - sd(x_j)|, (d,) each.

    `statement`: the same as a line of a certificate.
    """

    kl: float
    mean: np.ndarray
    sd: np.ndarray
    statement: Statement

    def relative(self, sd: np.ndarray) -> tuple[float, float]:
        """The two errors of a certificate, for a fitted law with these sds (d,).

        With the target's own sds at least sd - bound: infinite where that is not positive.
        """
        least = np.asarray(sd, float) - self.sd
        if not np.all(least > 0):
            return math.inf, math.inf
        return float(np.max(self.mean / least)), float(np.max(self.sd / least))


def convexity_bound(
    target: Target, score_gap: Float[np.ndarray, "n d"], tolerance: float = 0.01
) -> ConvexityBound | None:
    """The bounds above for a law q, from `score_gap`: grad E + grad log q at n draws of q.

    The Fisher information is an average over draws; its upper limit at 95 % is used. None where no
    convexity is proven. `tolerance`: nats of KL at which the statement holds.
    """
    curvature = strong_convexity(target)
    if curvature is None:
        return None
    terms = np.sum(np.asarray(score_gap, float) ** 2 / curvature, axis=1)
    error = float(stats.sem(terms))
    information = float(terms.mean()) + float(stats.norm.ppf(CONFIDENCE)) * error
    kl = 0.5 * information
    distance = math.sqrt(2.0 * kl) / np.sqrt(curvature)
    statement = Statement.of(
        "KL by convexity",
        kl,
        tolerance,
        assumption=STRUCTURE,
        why=f"Fisher information {terms.mean():.3g} +- {error:.1g} over 2, in the prior's norm",
        floor=0.5 * error,
        needed=False,
    )
    return ConvexityBound(kl, distance, distance, statement)


def _model(energy: AbstractFunctional) -> GeneralisedLinear | None:
    inner = energy.fn if isinstance(energy, Energy) else energy
    return inner if isinstance(inner, GeneralisedLinear) else None


def _is_convex(loss: Any) -> bool:
    """Whether it is one of the library's losses that are known to be convex, and not a namesake."""
    name = getattr(loss, "__name__", "")
    return name in CONVEX_LOSSES and getattr(generalised_linear, name, None) is loss


@eqx.filter_jit
def _lowest(target: Target, points: Float[Array, "n d"]) -> Any:
    smallest = lambda x: jnp.linalg.eigvalsh(jax.hessian(target)(x))[0]  # noqa: E731
    return jnp.min(jax.lax.map(smallest, points))
