"""Does the geometry have the structure that the theory rests on? (eq. 38-40, 43)"""

from __future__ import annotations

import itertools
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import tree
from ..geometries import Wasserstein
from ..geometries.norm import dual_norms
from ..states.points import points
from .context import Context
from .report import Check

SEVERAL = 64


def structure_checks(context: Context) -> list[Check]:
    """Onsager symmetry of every term, and S S^T = K under thermal noise, at the final state."""
    final = context.trajectory.final
    few = jax.tree.map(lambda x: x[:SEVERAL], final) if context.ensemble else final
    sample = jax.tree.map(lambda x: x[0], points(final)) if context.ensemble else final
    time = float(context.trajectory.times[-1])
    generator = np.random.default_rng(0)

    def random(like: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.numpy.asarray(generator.standard_normal(x.shape), x.dtype), like
        )

    worst, negative, mismatch, norms, judged_linear = 0.0, 0.0, 0.0, [], False
    spreads: list[float] = []
    for part in context.flow.parts:
        # Transport of an ensemble is judged at one of its points, what couples particles on several
        # of them; a law that is known as a whole, as a whole.
        for whole in part.geometry.at(time).terms:
            ground = _ground(whole) if context.ensemble else None
            state, judged = (sample, ground) if ground is not None else (few, whole)
            for _, term in itertools.product(range(3), _terms(judged)):
                a, b = random(state), random(state)
                # The metric of one is of the position alone; a thermostat keeps no energy.
                if term.adaptive or term.isothermal:
                    continue
                if not term.linear:
                    norms.append(max(float(x) for x in _duality(term, state, a, b)))
                    continue
                judged_linear = True
                ab, ba, aa, bb = _products(term, state, a, b)
                size = float(np.sqrt(abs(aa * bb)) + abs(ab) + abs(ba)) or 1.0
                odd = abs(ab + ba) + abs(aa) if term.conservative else abs(ab - ba)
                worst = max(worst, odd / size)
                negative = max(negative, -aa / size)
            count = judged.noise_terms
            mixed = judged.on_measures or judged.isothermal
            if part.thermal is not None and count and not mixed:
                a, white = random(state), tuple(random(state) for _ in range(count))
                squared, rate = _noise_norm(judged, state, a, white)
                mismatch = max(mismatch, abs(squared - rate) / (abs(rate) + 1e-300))
                if _varies(judged) and tree.size(state) <= SEVERAL:
                    given, true, size = (float(x) for x in _spread(judged, state, a))
                    spreads.append(abs(given - true) / (size + 1e-300))
    # A backward-stable solve errs by eps times the condition number: sqrt(eps) admits condition
    # numbers up to 1/sqrt(eps), while a wrong operator errs by its own relative defect.
    tolerance = float(np.sqrt(np.finfo(tree.dtype(sample)).eps))
    checks = []
    if norms:
        why = "<a, sharp(a)> = |a|_*^2 and <a, sharp(b)> <= |a|_* |b|_*"
        checks.append(Check.compare("duality of the norm", max(norms), tolerance, why))
    if judged_linear:
        why = "<a, K b> = <b, K a> and <a, K a> >= 0 (antisymmetric where conservative)"
        checks.append(Check.compare("onsager symmetry", max(worst, negative), tolerance, why))
    if any(
        p.thermal is not None and p.geometry.noise_terms and not p.geometry.isothermal
        for p in context.flow.parts
    ):
        checks.append(
            Check.compare(
                "fluctuation-dissipation",
                mismatch,
                tolerance,
                "the noise has covariance 2 T K: |S^T a|^2 = <a, K a>",
            )
        )
    if spreads:
        why = "the drift T div K, without which the Gibbs law is another: <a, div K> = tr D(K^T a)"
        checks.append(Check.compare("divergence of K", max(spreads), tolerance, why))
    return checks


def _varies(geometry: Any) -> bool:
    """Whether the Gibbs law takes a drift T div K that is not zero by itself."""
    still = geometry.constant or geometry.adaptive
    return not (still or geometry.curved or geometry.follows_volume)


@eqx.filter_jit
def _spread(geometry: Any, state: Any, a: Any) -> tuple[Any, Any, Any]:
    """(<a, div K> as the geometry has it, as its `sharp` says, the size of what is summed)."""
    flat, unravel = ravel_pytree(state)

    def column(x: Any) -> Any:
        point = unravel(x)
        _, pull = jax.vjp(lambda c: geometry.sharp(point, c), a)
        return ravel_pytree(pull(a)[0])[0]

    rows = jax.jacfwd(column)(flat)
    found = geometry.divergence(state)
    given = 0.0 if found is None else tree.dot(a, found)
    return jax.numpy.asarray(given), jax.numpy.trace(rows), jax.numpy.sum(jax.numpy.abs(rows))


def _ground(geometry: Any) -> Any | None:
    """The geometry of one particle, with the factors before the transport; None without one."""
    if hasattr(geometry, "factor"):
        inner = _ground(geometry.part)
        return None if inner is None else geometry.factor * inner
    return getattr(geometry, "ground", None)


def _terms(geometry: Any) -> list[Any]:
    """Summands that are symmetric or antisymmetric: the transport of a sum is split as well."""
    found = []
    for term in geometry.terms:
        inner = getattr(term, "ground", None)
        found += [term] if inner is None else [Wasserstein(part) for part in inner.terms]
    return found


@eqx.filter_jit
def _duality(term: Any, state: Any, a: Any, b: Any) -> Any:
    return dual_norms(term, state, a, b)


@eqx.filter_jit
def _products_jit(term: Any, state: Any, a: Any, b: Any) -> Any:
    ka, kb = term.sharp(state, a), term.sharp(state, b)
    return tree.dot(a, kb), tree.dot(b, ka), tree.dot(a, ka), tree.dot(b, kb)


def _products(term: Any, state: Any, a: Any, b: Any) -> list[float]:
    return [float(x) for x in _products_jit(term, state, a, b)]


@eqx.filter_jit
def _noise_norm_jit(ground: Any, state: Any, a: Any, white: Any) -> Any:
    _, pull = jax.vjp(lambda w: ground.sqrt(state, w), white)
    (transposed,) = pull(a)
    # The symmetric part of K alone: conservative terms contribute nothing to <a, K a>.
    return tree.norm_sq(transposed), ground.norm_sq(state, a)


def _noise_norm(ground: Any, state: Any, a: Any, white: Any) -> tuple[float, float]:
    squared, rate = _noise_norm_jit(ground, state, a, white)
    return float(squared), float(rate)
