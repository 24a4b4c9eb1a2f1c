"""Rules for expectations under a standard normal law: E[f(z)] ~ sum_n w_n f(z_n).

The nodes are made once, in numpy, and do not depend on any key: the same rule gives the same
numbers in every run. A rule is hashable, so that a state can hold it as part of its structure.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from typing import Any

import numpy as np

from ..errors import ArgumentError

MOST_NODES = 2**20


def _positive_integer(argument: str, value: Any, most: int) -> None:
    if not isinstance(value, (int, np.integer)) or not 1 <= value <= most:
        raise ArgumentError(argument, value, f"an integer between 1 and {most}")


class Rule(abc.ABC):
    """Nodes and weights in d dimensions."""

    @abc.abstractmethod
    def make(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (n, d) and weights (n,), which sum to one."""

    def nodes(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (n, d) and weights (n,), kept for the next call."""
        return _kept(self, d)


@functools.lru_cache(maxsize=64)
def _kept(rule: Rule, d: int) -> tuple[np.ndarray, np.ndarray]:
    z, w = rule.make(d)
    z.flags.writeable = w.flags.writeable = False
    return z, w


@dataclasses.dataclass(frozen=True)
class GaussHermite(Rule):
    """The tensor product of Gauss rules: exact to degree 2 count - 1 in each coordinate.

    count^d nodes; raises ArgumentError beyond 2^20 of them.
    """

    count: int = 16

    def __post_init__(self):
        _positive_integer("count", self.count, 200)

    def make(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        if d * math.log2(self.count) > math.log2(MOST_NODES):
            raise ArgumentError(
                "quadrature",
                f"GaussHermite({self.count}) in {d} dimensions",
                f"more than {MOST_NODES} nodes; use Cubature() or QuasiMonteCarlo()",
            )
        z, w = np.polynomial.hermite_e.hermegauss(self.count)
        w = w / w.sum()
        grid = np.stack(np.meshgrid(*[z] * d, indexing="ij"), axis=-1).reshape(-1, d)
        weights = functools.reduce(np.multiply.outer, [w] * d).reshape(-1)
        return grid, weights


@dataclasses.dataclass(frozen=True)
class Cubature(Rule):
    """Spherical-radial rules: exact for all polynomials of total degree 1, 3 or 5.

    Degree 1 is the mean alone; degree 3 the 2 d points +- sqrt(d) e_i (the unscented transform
    without a centre); degree 5 the centre, +- r e_i and r (+- e_i +- e_j) / sqrt(2), r^2 = d + 2:
    2 d^2 + 1 points, of negative weight on the axes where d > 4, and sum |w| below 3.
    Source: Arasaratnam and Haykin, IEEE Trans. Autom. Control 54 (2009) 1254; degree 5: Jia, Xin
    and Cheng, Automatica 49 (2013) 510.
    """

    degree: int = 3

    def __post_init__(self):
        if self.degree not in (1, 3, 5):
            raise ArgumentError("degree", self.degree, "1, 3 or 5")

    def make(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        centre, axes = np.zeros((1, d)), np.concatenate([np.eye(d), -np.eye(d)])
        if self.degree == 1:
            return centre, np.ones(1)
        if self.degree == 3:
            return math.sqrt(d) * axes, np.full(2 * d, 0.5 / d)
        i, j = np.triu_indices(d, 1)
        eye = np.eye(d)
        pairs = [a * eye[i] + b * eye[j] for a in (1.0, -1.0) for b in (1.0, -1.0)]
        corners = np.concatenate(pairs) * math.sqrt(0.5)
        z = math.sqrt(d + 2.0) * np.concatenate([centre, axes, corners])
        w = np.concatenate(
            [
                [2.0 / (d + 2.0)],
                np.full(2 * d, (4.0 - d) / (2.0 * (d + 2.0) ** 2)),
                np.full(len(corners), 1.0 / (d + 2.0) ** 2),
            ]
        )
        return z, w


@dataclasses.dataclass(frozen=True)
class QuasiMonteCarlo(Rule):
    """Sobol points through the normal quantiles, in pairs +-z and with covariance made exactly one.

    So it is exact to degree 3, as the cubature is, and converges for every smooth integrand.
    `count`: an even number of nodes of at least 4 d (a power of two keeps the points balanced).
    """

    count: int = 1024

    def __post_init__(self):
        _positive_integer("count", self.count, MOST_NODES)
        if self.count % 2:
            raise ArgumentError("count", self.count, "an even number: the nodes come in pairs +-z")

    def make(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        if self.count < 4 * d:
            raise ArgumentError(
                "quadrature",
                f"QuasiMonteCarlo({self.count}) in {d} dimensions",
                f"at least {4 * d} nodes",
            )
        half = sobol_normal(self.count // 2, d)
        lower = np.linalg.cholesky(half.T @ half / len(half))
        half = np.linalg.solve(lower, half.T).T
        return np.concatenate([half, -half]), np.full(self.count, 1.0 / self.count)


@dataclasses.dataclass(frozen=True)
class MonteCarlo(Rule):
    """`count` independent draws, made once from `seed`: an error of order count^(-1/2)."""

    count: int = 1024
    seed: int = 0

    def __post_init__(self):
        _positive_integer("count", self.count, MOST_NODES)

    def make(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        z = np.random.default_rng(self.seed).standard_normal((self.count, d))
        return z, np.full(self.count, 1.0 / self.count)


@dataclasses.dataclass(frozen=True)
class Auto(Rule):
    """Gauss-Hermite with 64, 20, 9, 5 points an axis in 1 to 4 dimensions, quasi-Monte-Carlo above.

    At most 729 nodes up to dimension 4, then 1024 (and never fewer than 4 d). Every choice is
    exact to degree 3: expectations of quadratics and their gradients are in closed form.
    """

    def make(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        counts = (64, 20, 9, 5)
        if d <= len(counts):
            return GaussHermite(counts[d - 1]).make(d)
        return QuasiMonteCarlo(max(1024, 2 ** math.ceil(math.log2(4 * d)))).make(d)


NAMES: dict[str, Rule] = {
    "auto": Auto(),
    "gauss-hermite": GaussHermite(),
    "cubature": Cubature(),
    "quasi-monte-carlo": QuasiMonteCarlo(),
    "monte-carlo": MonteCarlo(),
}


def as_rule(quadrature: Any) -> Rule:
    """The rule of a name, or the rule itself; raises ArgumentError for anything else."""
    if isinstance(quadrature, Rule):
        return quadrature
    if isinstance(quadrature, str) and quadrature in NAMES:
        return NAMES[quadrature]
    raise ArgumentError("quadrature", repr(quadrature), f"a rule, or one of {tuple(NAMES)}")


def sobol_normal(count: int, d: int) -> np.ndarray:
    """Scrambled Sobol points (count, d) through the quantiles of the normal law."""
    from scipy.special import ndtri  # loaded when first needed: importing it takes a while
    from scipy.stats import qmc

    points = qmc.Sobol(d, scramble=True, seed=np.random.default_rng(0))  # pyright: ignore
    u = points.random_base2(math.ceil(math.log2(max(count, 2))))[:count]
    return ndtri(np.clip(u, 2.0**-40, 1 - 2.0**-40))
