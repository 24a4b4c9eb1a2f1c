"""SGD as a sampler, and stochastic-gradient samplers proper (eq. 51-52, 66; sections 5.7, 7.2).

Minibatches of b rows (drawn with replacement) make SGD with learning rate h, in its own clock,

    d theta = -grad E dt + sqrt(h Sigma(theta) / b) dW,        one update = h units of time,

Sigma(theta) being the covariance of the loss gradient over rows. Its stationary law is a Gibbs law
only where Sigma is a multiple of the Hessian; else it carries a current.

The convention for data size and temperature is that of `EmpiricalRisk`: a risk is a mean over n
rows, `risk.total()` is n times that, and the posterior is its Gibbs law at temperature 1.
Sources: Mandt, Hoffman and Blei, JMLR 18 (2017) 134; Welling and Teh, ICML 2011; Chen, Fox and
Guestrin, ICML 2014; Baker, Fearnhead, Fox and Nemeth, Stat. Comput. 29 (2019) 599.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from . import tree
from .errors import ArgumentError
from .flow import Flow
from .functionals import AbstractFunctional, EmpiricalRisk
from .geometries import Euclidean, Friction, Symplectic
from .noise import Diffusion, Minibatch, Thermal
from .schemes import BAOAB, Euler, Splitting
from .schemes.base import check_step
from .states import Gaussian, LowRank


class GradientNoise(eqx.Module):
    """The covariance of a minibatch gradient, Sigma / b = factor factor^T + diag(rest).

    `mean` (d,): the full gradient, raveled. `factor` (d, k) and `rest` (d,).
    """

    mean: Float[Array, " d"]
    factor: Float[Array, "d k"]
    rest: Float[Array, " d"]

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """Sigma / b as a matrix."""
        return self.factor @ self.factor.T + jnp.diag(self.rest)


def gradient_noise(
    risk: EmpiricalRisk, theta: Any, batch_size: int | None = None, kind: str | int = "full"
) -> GradientNoise:
    """Sigma(theta) / batch_size, the covariance of a minibatch gradient, from per-row gradients.

    `kind`: "full", "diagonal", or an integer k: the k leading directions, and the diagonal of what
    is left. Exact for the data at hand, since rows are drawn with replacement (eq. 52). Raises
    ArgumentError for a batch that does not fit, or a risk without rows.
    """
    b = _batch(risk, batch_size)
    if kind not in ("full", "diagonal") and not (isinstance(kind, int) and kind >= 1):
        raise ArgumentError("kind", repr(kind), "'full', 'diagonal' or a rank >= 1")
    rows = _per_row(risk, theta)
    mean = jnp.mean(rows, axis=0)
    centred = (rows - mean) / math.sqrt(rows.shape[0] * b)
    total = jnp.sum(centred**2, axis=0)
    n, d = rows.shape
    if kind == "diagonal":
        return GradientNoise(mean, jnp.zeros((d, 0), rows.dtype), total)
    rank = min(n, d) if kind == "full" else min(int(kind), n, d)
    _, sizes, directions = jnp.linalg.svd(centred, full_matrices=False)
    factor = directions[:rank].T * sizes[:rank]
    rest = jnp.maximum(total - jnp.sum(factor**2, axis=1), 0.0)
    return GradientNoise(mean, factor, rest if kind != "full" else jnp.zeros_like(rest))


def sgd_as_langevin(
    risk: EmpiricalRisk,
    step: float,
    batch_size: int | None = None,
    *,
    at: Any = None,
) -> Flow:
    """The diffusion that SGD with learning rate `step` approximates, in its own clock (eq. 52, 66).

    d theta = -grad E dt + sqrt(step Sigma(theta)/b) dW: `solve(flow, theta, scheme=Euler(step))`
    makes one update a step of the noise's own size. `at`: freeze Sigma there (else it is computed
    at every point from all rows).
    """
    check_step(step)
    b = _batch(risk, batch_size)
    whole = EmpiricalRisk(risk.loss, risk.data)
    frozen = None if at is None else _root(_per_row(whole, at), step / b)

    def apply(theta: Any, time: Any, white: Any) -> Any:
        del time
        flat, unravel = ravel_pytree(white)
        root = _root(_per_row(whole, theta), step / b) if frozen is None else frozen
        return unravel(root @ flat)

    return Flow(whole, Euclidean(), Diffusion(apply=apply))


class Stationary(eqx.Module):
    """The stationary law of SGD around a minimum, by linear response.

    `covariance` (d, d); `hessian`; `noise`, the covariance of a minibatch gradient; `current`, the
    antisymmetric matrix Q = H C - D with D = step/2 noise: zero at equilibrium, and the probability
    current is Q C^{-1} (theta - mean) times the density.
    """

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]
    hessian: Float[Array, "d d"]
    noise: Float[Array, "d d"]
    step: float

    @property
    def temperature(self) -> Float[Array, ""]:
        """The effective temperature by equipartition, <theta . H theta> / d."""
        return jnp.trace(self.hessian @ self.covariance) / self.mean.size

    @property
    def current(self) -> Float[Array, "d d"]:
        """Q, the antisymmetric part of H C: what the covariances one update apart differ by."""
        product = self.hessian @ self.covariance
        return 0.5 * (product - product.T)

    @property
    def entropy_production(self) -> Float[Array, ""]:
        """tr(C^{-1} Q^T D^{-1} Q), the rate in flow time; zero exactly at an equilibrium."""
        return _entropy_production(self.hessian, 0.5 * self.step * self.noise)


def stationary(
    risk: EmpiricalRisk,
    theta: Any,
    step: float,
    batch_size: int | None = None,
    *,
    finite_step: bool = True,
) -> Stationary:
    """Predict SGD's stationary law around the minimum `theta`, discrete steps included.

    C = (1 - hH) C (1 - hH) + h^2/b (Sigma + E_i (H_i - H) C (H_i - H)): the discrete Lyapunov
    equation, with the noise that the spread of the Hessians H_i over rows adds. Exact for quadratic
    losses; else of first order in the curvature's change. `finite_step=False`: its limit of small
    steps, H C + C H = h Sigma / b. Raises ArgumentError where the step is unstable.
    """
    check_step(step)
    b = _batch(risk, batch_size)
    flat, unravel = ravel_pytree(theta)

    def loss(x: Any, row: Any) -> Any:
        return risk.loss(unravel(x), row)

    rows = jax.vmap(jax.grad(loss), (None, 0))(flat, risk.arrays)
    own = jax.lax.map(lambda row: jax.hessian(loss)(flat, row), risk.arrays)
    hessian = jnp.mean(own, axis=0)
    centred = rows - jnp.mean(rows, axis=0)
    noise = centred.T @ centred / (rows.shape[0] * b)
    top = float(jnp.linalg.eigvalsh(hessian)[-1])
    low = float(jnp.linalg.eigvalsh(hessian)[0])
    if not low > 0:
        raise ArgumentError(
            "theta", f"smallest curvature {low:.3g}", "a strict minimum of the risk"
        )
    if finite_step and not step * top < 2:
        raise ArgumentError(
            "step", step, f"below 2 / {top:.3g} = {2 / top:.3g}, the largest stable"
        )
    if not finite_step:
        covariance = _lyapunov(hessian, step * noise)
        return Stationary(flat, covariance, hessian, noise, step)
    spread = own - hessian

    def source(c: Any) -> Any:
        extra = jnp.einsum("nij,jk,nlk->il", spread, c, spread) / (own.shape[0] * b)
        return step**2 * (noise + extra)

    values, vectors = jnp.linalg.eigh(hessian)
    factors = 1.0 - step * values
    gain = 1.0 / (1.0 - factors[:, None] * factors)

    def solved(s: Any) -> Any:
        return vectors @ (gain * (vectors.T @ s @ vectors)) @ vectors.T

    def again(carry: Any) -> Any:
        c, _, count = carry
        new = solved(source(c))
        return new, jnp.max(jnp.abs(new - c)) / jnp.max(jnp.abs(new)), count + 1

    start = (solved(step**2 * noise), jnp.asarray(1.0, flat.dtype), 0)
    tiny = 10 * jnp.finfo(flat.dtype).eps
    going = lambda carry: (carry[1] > tiny) & (carry[2] < 10_000)  # noqa: E731
    covariance, change, _ = jax.lax.while_loop(going, again, start)
    if not tree.is_finite(covariance) or float(change) > 1e-3:
        given = f"{step:g}: the noise of the rows' curvatures grows without bound"
        raise ArgumentError("step", given, "a smaller step, or a larger batch")
    return Stationary(flat, covariance, hessian, noise, step)


def entropy_production(
    risk: EmpiricalRisk, theta: Any, step: float, batch_size: int | None = None, groups: int = 20
) -> tuple[float, float]:
    """(rate, standard error) of SGD's entropy production around `theta`, as a sample statistic.

    The rows are taken for a sample of a population: the error is the jackknife's over `groups` of
    rows. Compatible with zero: the stationary state may be an equilibrium.
    """
    b = _batch(risk, batch_size)
    n = risk.count
    if not 2 <= groups <= n:
        raise ArgumentError("groups", groups, f"between 2 and the {n} rows")
    flat, unravel = ravel_pytree(theta)
    loss = lambda x, row: risk.loss(unravel(x), row)  # noqa: E731
    rows = jax.vmap(jax.grad(loss), (None, 0))(flat, risk.arrays)
    own = jax.lax.map(lambda row: jax.hessian(loss)(flat, row), risk.arrays)
    label = np.arange(n) % groups

    def rate(keep: Any) -> Any:
        weight = keep / jnp.sum(keep)
        centred = rows - weight @ rows
        noise = (weight[:, None] * centred).T @ centred / b
        return _entropy_production(jnp.einsum("n,nij->ij", weight, own), 0.5 * step * noise)

    keeps = jnp.asarray(np.stack([label != g for g in range(groups)]), rows.dtype)
    left_out = np.asarray(jax.lax.map(jax.jit(rate), keeps))
    whole = float(rate(jnp.ones(n, rows.dtype)))
    error = math.sqrt((groups - 1) / groups * float(np.sum((left_out - left_out.mean()) ** 2)))
    return whole, error


def gaussian_of_iterates(
    trajectory: Any, burn_in: float = 0.5, rank: int | None = None
) -> Gaussian:
    """The Gaussian of SGD's late iterates, its covariance full or low-rank plus diagonal.

    `burn_in`: the share of the saves to leave out. `rank` k keeps the k leading directions and the
    diagonal of the rest. Source: Maddox, Garipov, Izmailov, Vetrov and Wilson, NeurIPS 2019.
    """
    if not 0 <= burn_in < 1:
        raise ArgumentError("burn_in", burn_in, "a share between 0 and 1")
    first = int(burn_in * len(trajectory))
    leaves = [np.asarray(leaf)[first:] for leaf in jax.tree.leaves(trajectory.states)]
    draws = np.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)
    count, d = draws.shape
    if count < 3 or (rank is None and count <= d):
        raise ArgumentError("trajectory", f"{count} late saves", f"more than {d}, or rank=")
    mean = draws.mean(axis=0)
    centred = (draws - mean) / math.sqrt(count - 1)
    if rank is None:
        return Gaussian.from_moments(jnp.asarray(mean), jnp.asarray(centred.T @ centred))
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    factor = directions[:rank].T * sizes[:rank]
    rest = np.maximum(np.sum(centred**2, axis=0) - np.sum(factor**2, axis=1), 0.0)
    floor = 1e-6 * float(np.mean(np.sum(centred**2, axis=0)))
    scale = LowRank(jnp.asarray(factor), jnp.asarray(np.sqrt(rest + floor)))
    return Gaussian(jnp.asarray(mean), scale)


def sgld(
    risk: EmpiricalRisk,
    step: float,
    *,
    prior: AbstractFunctional | None = None,
    temperature: float = 1.0,
) -> tuple[Flow, Euler]:
    """Stochastic gradient Langevin dynamics: (flow, scheme) for `solve`.

    The target is exp(-(n risk + prior)/temperature), `prior` being a negative log prior; `step` is
    that of n risk, so it is small, of the order of one over the largest curvature of n risk. The
    risk needs a `batch_size`; `risk.around(theta)` lowers the variance of its gradients.
    """
    return Flow(_posterior(risk, prior), Euclidean(), Minibatch() + Thermal(temperature)), Euler(
        step
    )


def sghmc(
    risk: EmpiricalRisk,
    step: float,
    *,
    friction: float = 1.0,
    prior: AbstractFunctional | None = None,
    temperature: float = 1.0,
) -> tuple[Flow, Splitting]:
    """Stochastic gradient Hamiltonian Monte Carlo: (flow, scheme), as `sgld` on phase space.

    Start from `Phase.at_rest(theta)`. The friction takes up the noise of the minibatches.
    """
    geometry = Symplectic() + Friction(friction)
    noise = Minibatch() + Thermal(temperature)
    return Flow(_posterior(risk, prior), geometry, noise), BAOAB(step)


def _posterior(risk: EmpiricalRisk, prior: AbstractFunctional | None) -> AbstractFunctional:
    if not isinstance(risk, EmpiricalRisk) or risk.batch_size is None:
        raise ArgumentError("risk", "no batch_size", "an EmpiricalRisk(loss, data, batch_size)")
    return risk.total() if prior is None else risk.total() + prior


def _batch(risk: Any, batch_size: int | None) -> int:
    if not isinstance(risk, EmpiricalRisk):
        raise ArgumentError("risk", type(risk).__name__, "an EmpiricalRisk(loss, data)")
    b = risk.batch_size if batch_size is None else batch_size
    if not (isinstance(b, (int, np.integer)) and 1 <= b <= risk.count):
        raise ArgumentError("batch_size", b, f"between 1 and the {risk.count} rows of data")
    return int(b)


def _per_row(risk: EmpiricalRisk, theta: Any) -> Float[Array, "n d"]:
    return jax.vmap(lambda g: ravel_pytree(g)[0])(risk.gradients(theta))


def _root(rows: Any, factor: Any) -> Float[Array, "d d"]:
    """The symmetric square root of factor times the covariance of the rows."""
    centred = rows - jnp.mean(rows, axis=0)
    values, vectors = jnp.linalg.eigh(factor * centred.T @ centred / rows.shape[0])
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.T


def _lyapunov(hessian: Any, right: Any) -> Any:
    """C with H C + C H = right."""
    values, vectors = jnp.linalg.eigh(hessian)
    inner = (vectors.T @ right @ vectors) / (values[:, None] + values)
    return vectors @ inner @ vectors.T


def _entropy_production(hessian: Any, diffusion: Any) -> Float[Array, ""]:
    """Of d x = -H x dt + sqrt(2 D) dW; infinite where noise misses a direction that flows."""
    covariance = _lyapunov(hessian, 2.0 * diffusion)
    current = hessian @ covariance - diffusion
    inner = jnp.linalg.solve(diffusion, current)
    return jnp.trace(jnp.linalg.solve(covariance, current.T @ inner))
