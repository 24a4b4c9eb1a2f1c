"""Do brackets of log Z contain it, and do certified bounds of annealing hold? 100 repeats a row.

Targets whose evidence is known in closed form: Gaussians, a mixture of two Gaussians 8 apart, a
product of Student's laws of 4 degrees of freedom, linear regression with a normal prior. Per
budget: how often the bracket contained log Z, how often the lower and the upper bound held, the
mean width, the root mean square of (estimate - log Z) / standard error, and seconds a repeat, the
first (which compiles) left out; repeats whose budget did not reach the target are not counted. Then
the method "annealing": how often the true error of means, and of sds, exceeded its bound, the
median bound, and how many answers were certified.

`--rounds` sets the repeats: 100 for its default of 9.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from steepest.errors import ArgumentError

from .harness import chosen

BUDGETS = (2_000, 8_000, 32_000)


def tables(rounds: int, case: str | None) -> Iterator[str]:
    """Brackets, then certificates, one row at a time."""
    repeats = 100 if rounds == 9 else rounds
    yield (
        "| target | budget | in bracket | lower held | upper held | width | "
        "rms z, Bennett | rms z, integration | seconds |\n|---|---|---|---|---|---|---|---|---|"
    )
    made = {name: CASES[name]() for name in chosen(CASES, case)}
    for name, (target, exact, _, _) in made.items():
        for budget in BUDGETS:
            yield _brackets(name, target, exact, budget, repeats)
    yield (
        "\n| target | budget | means beyond the bound | sds beyond | median bound, means | sds | "
        f"certified of {repeats} | seconds |\n|---|---|---|---|---|---|---|---|"
    )
    for name, (target, _, mean, sd) in made.items():
        for budget in BUDGETS:
            yield _certificates(name, target, mean, sd, budget, repeats)


def _brackets(name, target, exact, budget, repeats) -> str:
    from steepest.inference import log_evidence

    def once(seed):
        try:
            return log_evidence(target, budget, key=jax.random.key(seed))
        except ArgumentError:  # the budget did not reach the target
            return None

    once(0)
    began = time.perf_counter()
    found = [one for one in (once(1 + i) for i in range(repeats)) if one is not None]
    seconds = (time.perf_counter() - began) / repeats
    if not found:
        return f"| {name} | {budget} | none reached the target |"
    lower = sum(one.lower <= exact for one in found)
    upper = sum(one.upper >= exact for one in found)
    inside = sum(one.lower <= exact <= one.upper for one in found)
    width = np.mean([one.gap for one in found])
    one = _rms([(e.estimate - exact) / e.standard_error for e in found])
    other = _rms([(e.thermodynamic - exact) / e.thermodynamic_error for e in found])
    return (
        f"| {name} | {budget} | {inside} of {len(found)} | {lower} | {upper} | "
        f"{width:.3f} | {one:.2f} | {other:.2f} | {seconds:.2f} |"
    )


def _certificates(name, target, mean, sd, budget, repeats) -> str:
    from steepest.inference import fit

    fit(target, "annealing", budget)
    began = time.perf_counter()
    found = [fit(target, "annealing", budget, key=jax.random.key(1 + i)) for i in range(repeats)]
    seconds = (time.perf_counter() - began) / repeats
    given = [a for a in found if math.isfinite(a.certificate.mean)]
    means = sum(np.max(np.abs(a.mean - mean) / sd) > a.certificate.mean for a in given)
    sds = sum(np.max(np.abs(a.sd / sd - 1.0)) > a.certificate.sd for a in given)
    certified = sum(a.certificate.certified for a in found)
    if not given:
        return f"| {name} | {budget} | none reached the target |"
    bounds = [np.median([getattr(a.certificate, k) for a in given]) for k in ("mean", "sd")]
    return (
        f"| {name} | {budget} | {means} of {len(given)} | {sds} | {bounds[0]:.3f} | "
        f"{bounds[1]:.3f} | {certified} | {seconds:.2f} |"
    )


def _rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _gaussian(d: int):
    from steepest.inference import Target

    turn, _ = np.linalg.qr(np.random.default_rng(d).standard_normal((d, d)))
    hessian = turn @ np.diag(np.geomspace(0.1, 10.0, d)) @ turn.T
    h = jnp.asarray(hessian, jnp.float32)
    exact = 0.5 * d * math.log(2 * math.pi) - 0.5 * np.linalg.slogdet(hessian)[1]
    target = Target.of(lambda x: 0.5 * x @ h @ x, jnp.ones(d, jnp.float32))
    return target, exact, np.zeros(d), np.sqrt(np.diag(np.linalg.inv(hessian)))


def _mixture():
    from steepest.inference import Target

    d, c = 3, 4.0 / math.sqrt(3.0)

    def energy(x):
        one = jnp.log(0.8) - 0.5 * jnp.sum((x - c) ** 2)
        return -jnp.logaddexp(one, jnp.log(0.2) - jnp.sum((x + c) ** 2))

    masses = np.array([0.8, 0.2 * 0.5**1.5])
    share = masses[0] / masses.sum()
    mean = c * (2 * share - 1)
    sd = math.sqrt(share + 0.5 * (1 - share) + c**2 - mean**2)
    exact = math.log(masses.sum() * (2 * math.pi) ** 1.5)
    target = Target.of(energy, jnp.ones(d, jnp.float32))
    return target, exact, np.full(d, mean), np.full(d, sd)


def _student():
    from steepest.inference import Target

    d, dof = 5, 4.0
    target = Target.of(
        lambda x: 0.5 * (dof + 1) * jnp.sum(jnp.log1p(x**2 / dof)), jnp.ones(d, jnp.float32)
    )
    one = 0.5 * math.log(dof * math.pi) + special.gammaln(dof / 2) - special.gammaln((dof + 1) / 2)
    return target, d * float(one), np.zeros(d), np.full(d, math.sqrt(dof / (dof - 2)))


def _regression():
    from steepest.inference import Target

    random = np.random.default_rng(1)
    n, d, sigma, scale = 50, 8, 0.7, 2.0
    x = random.standard_normal((n, d))
    y = x @ random.standard_normal(d) + sigma * random.standard_normal(n)
    a, b = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    constant = 0.5 * n * math.log(2 * math.pi * sigma**2)
    constant += 0.5 * d * math.log(2 * math.pi * scale**2)

    def energy(w):
        rest = jnp.sum((b - a @ w) ** 2) / (2 * sigma**2)
        return rest + jnp.sum(w**2) / (2 * scale**2) + constant

    law = stats.multivariate_normal(np.zeros(n), sigma**2 * np.eye(n) + scale**2 * x @ x.T)
    covariance = np.linalg.inv(x.T @ x / sigma**2 + np.eye(d) / scale**2)
    mean = covariance @ x.T @ y / sigma**2
    target = Target.of(energy, jnp.zeros(d, jnp.float32))
    return target, float(law.logpdf(y)), mean, np.sqrt(np.diag(covariance))


CASES = {
    "Gaussian, d = 2": lambda: _gaussian(2),
    "Gaussian, d = 20": lambda: _gaussian(20),
    "mixture of two": _mixture,
    "Student, d = 5": _student,
    "regression, d = 8": _regression,
}
