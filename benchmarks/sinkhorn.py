"""Entropic transport between points: steepest's one-pass online Sinkhorn beside ott-jax.

Standard normal points to a shifted, narrower cloud, cost |x - y|^2/2, epsilon = d/10, float32.
Every contender stops once one marginal is off by less than 1e-3 in L1 (ott-jax looks every ten
iterations); each says what a plan computed from its potentials, apart from its code, is off by,
and how much its process grew from the points to the end of the first run, which needs O(n) or
O(n^2). (ott-jax's online mode does not run on current JAX; the row says why.)
"""

from __future__ import annotations

import resource
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import harness
from .harness import Contender

CASES = [f"n={n} d={d}" for n in (1000, 5000, 10000) for d in (2, 16)]
TOLERANCE, MOST = 1e-3, 5000

CONTENDERS = [
    Contender("steepest, online", __name__, "steepest_online"),
    Contender("ott-jax, logarithms, whole matrix", __name__, "ott_logarithms"),
    Contender("ott-jax, kernel, whole matrix", __name__, "ott_kernel"),
    Contender("ott-jax, momentum 1.5, whole matrix", __name__, "ott_momentum"),
    Contender("ott-jax, batches of 512 (online)", __name__, "ott_online"),
]


def tables(rounds: int, only: str | None):
    return harness.tables(CONTENDERS, CASES, rounds, only, "Sinkhorn, {}")


def clouds(case: str) -> tuple[Any, Any, float]:
    """(x, y, epsilon)."""
    n, d = (int(word.split("=")[1]) for word in case.split())
    one, two = jax.random.split(jax.random.key(d))
    x = jax.random.normal(one, (n, d), jnp.float32)
    y = 1.0 + 0.7 * jax.random.normal(two, (n, d), jnp.float32)
    return x, y, 0.1 * d


def peak() -> float:
    """The most memory that this process has had, in MiB; compilation counts."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Solver:
    """Runs `solve`, which returns f, g in units of epsilon and the iterations, and checks it."""

    def __init__(self, case: str, solve: Any):
        self.x, self.y, self.epsilon = clouds(case)
        self.solve, self.found = solve, None
        jax.block_until_ready((self.x, self.y))
        self.before, self.grew = peak(), 0.0

    def __call__(self) -> None:
        self.found = jax.block_until_ready(self.solve(self.x, self.y, self.epsilon))
        self.grew = peak() - self.before

    @property
    def remark(self) -> str:
        """Both marginals of exp(f + g - cost/epsilon)/n^2, in double precision by rows."""
        f, g, iterations = (np.asarray(part, float) for part in self.found)
        x, y = np.asarray(self.x, float), np.asarray(self.y, float)
        rows, columns = np.empty(len(x)), np.zeros(len(y))
        for i in range(len(x)):
            plan = np.exp(f[i] + g - 0.5 * ((x[i] - y) ** 2).sum(1) / self.epsilon) / len(y)
            rows[i] = plan.mean() * len(y)
            columns += plan / len(x) * len(y)
        error = max(np.abs(rows - 1.0).mean(), np.abs(columns - 1.0).mean())
        grew = f"{self.grew:.0f} MiB"
        return f"L1 {error:.1e}, {int(iterations)} iterations, peak memory grew by {grew}"


def steepest_online(case: str) -> Solver:
    from steepest.bridges.sinkhorn import sinkhorn

    def solve(x: Any, y: Any, epsilon: float) -> Any:
        scale = epsilon**-0.5
        equal = jnp.full(len(x), 1.0 / len(x), x.dtype)
        found = sinkhorn(x * scale, equal, y * scale, equal, TOLERANCE, MOST)
        return found.f, found.g, found.iterations

    return Solver(case, solve)


def ott(case: str, batch_size: int | None = None, **options: Any) -> Solver:
    from ott.geometry.pointcloud import PointCloud
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    solver = Sinkhorn(threshold=TOLERANCE, max_iterations=MOST, **options)

    @jax.jit
    def solve(x: Any, y: Any, epsilon: float) -> Any:
        # Its cost is |x - y|^2, twice ours; its potentials weigh exp((f + g - cost)/epsilon) alone.
        cloud = PointCloud(x, y, epsilon=2.0 * epsilon, batch_size=batch_size)
        found = solver(LinearProblem(cloud))
        log = jnp.log(jnp.asarray(len(x), x.dtype))
        whole = found.f / (2.0 * epsilon) + log, found.g / (2.0 * epsilon) + log
        return *whole, found.n_iters

    return Solver(case, solve)


def ott_logarithms(case: str) -> Solver:
    return ott(case)


def ott_kernel(case: str) -> Solver:
    return ott(case, lse_mode=False)


def ott_momentum(case: str) -> Solver:
    from ott.solvers.linear.acceleration import Momentum

    return ott(case, momentum=Momentum(value=1.5, start=20))


def ott_online(case: str) -> Solver:
    return ott(case, batch_size=512)
