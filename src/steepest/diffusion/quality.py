"""How good samples are: two-sample tests, distances, memorisation, a classifier's confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import KDTree

from ..errors import ArgumentError


def two_sample_accuracy(a: Any, b: Any, neighbours: int = 5) -> float:
    """The share of points that the vote of their nearest others assigns to the right sample.

    0.5 for the same law, 1 for laws that do not overlap. Both samples are cut to the same size.
    Source: Lopez-Paz and Oquab, ICLR 2017 (with a nearest-neighbour classifier).
    """
    a, b = _rows(a), _rows(b)
    n = min(len(a), len(b))
    if n <= neighbours:
        raise ArgumentError("a, b", f"{n} points each", f"more than {neighbours}")
    if neighbours % 2 == 0:
        raise ArgumentError("neighbours", neighbours, "an odd number, so that there is no draw")
    together = np.concatenate([a[:n], b[:n]])
    side = np.repeat([0, 1], n)
    near = np.asarray(KDTree(together).query(together, k=neighbours + 1)[1])
    own = near == np.arange(2 * n)[:, None]
    # The point itself is left out; where copies hide it, the last one is.
    own[~own.any(axis=1), -1] = True
    votes = side[near[~own].reshape(2 * n, neighbours)].mean(axis=1) > 0.5
    return float(np.mean(votes == side))


def sliced_wasserstein(a: Any, b: Any, directions: int = 128, seed: int = 0) -> float:
    """The root mean square over directions of W2 between projections, for equal sizes."""
    a, b = _rows(a), _rows(b)
    if a.shape != b.shape:
        raise ArgumentError("b", f"shape {b.shape}", f"the shape of a, {a.shape}")
    unit = np.random.default_rng(seed).normal(size=(a.shape[1], directions))
    unit /= np.linalg.norm(unit, axis=0)
    gap = np.sort(a @ unit, axis=0) - np.sort(b @ unit, axis=0)
    return float(np.sqrt(np.mean(gap**2)))


def memorisation(samples: Any, train: Any, held_out: Any) -> dict[str, float]:
    """Distances to the nearest training point: of samples, and of held-out data for comparison.

    `ratio` far below 1 means copies. `copies`: the share of samples that are nearer to a training
    point than 1 % of the held-out points are.
    """
    tree = KDTree(_rows(train))
    ours, theirs = (tree.query(_rows(x))[0] for x in (samples, held_out))
    return {
        "distance of samples": float(np.median(ours)),
        "distance of held-out data": float(np.median(theirs)),
        "ratio": float(np.median(ours) / max(np.median(theirs), 1e-300)),
        "copies": float(np.mean(ours < np.quantile(theirs, 0.01))),
    }


class NearestClasses:
    """A classifier by distance: class probabilities from the k nearest labelled points."""

    def __init__(self, points: Any, labels: Any, neighbours: int = 8):
        self.tree, self.labels = KDTree(_rows(points)), np.asarray(labels)
        self.neighbours, self.classes = neighbours, int(self.labels.max()) + 1

    def __call__(self, points: Any) -> np.ndarray:
        """(n, classes) probabilities, weighted by exp(-squared distance / the k-th's)."""
        distance, near = self.tree.query(_rows(points), k=self.neighbours)
        weight = np.exp(-((distance / np.maximum(distance[:, -1:], 1e-300)) ** 2))
        votes = np.eye(self.classes)[self.labels[near]]
        found = (weight[..., None] * votes).sum(axis=1)
        return found / found.sum(axis=1, keepdims=True)


def coarse_divergence(data: Any, samples: Any, bins: int = 16) -> tuple[float, float]:
    """(KL, bias) between histograms of the plane: a lower bound of KL(data || samples' law).

    Merging points into cells can only lower a KL divergence. `bias`: what two samples of one law
    would show, about (occupied cells - 1)/2 (1/n + 1/m). Half a count is added to every cell.
    """
    data, samples = _rows(data), _rows(samples)
    if data.shape[1] != 2 or samples.shape[1] != 2:
        raise ArgumentError("data", f"dimension {data.shape[1]}", "points of the plane")
    low, high = data.min(axis=0), data.max(axis=0)
    edges = [np.linspace(a, b, bins + 1) for a, b in zip(low, high, strict=True)]
    edges = [np.concatenate([[-np.inf], e, [np.inf]]) for e in edges]
    p, q = (np.histogramdd(x, edges)[0].ravel() for x in (data, samples))
    cells = np.count_nonzero(p + q)
    kept = p + q > 0
    p, q = p[kept] + 0.5, q[kept] + 0.5
    p, q = p / p.sum(), q / q.sum()
    bias = 0.5 * (cells - 1) * (1.0 / len(data) + 1.0 / len(samples))
    return float(np.sum(p * np.log(p / q))), float(bias)


def _rows(x: Any) -> np.ndarray:
    x = np.asarray(x, float)
    return x.reshape(len(x), -1)
