"""Certificates from end to end: how often is the true error beyond the certified bound?

The full table, all methods and families, is `python -m benchmarks calibration`.
"""

import jax
import numpy as np
import pytest
from benchmarks.calibration import trial
from benchmarks.known import gaussian, log_gamma, logistic

from steepest.inference import fit


def small_gaussian(seed):
    return gaussian(seed, 3, 100.0)


def small_log_gamma(seed):
    return log_gamma(seed, 3)


@pytest.mark.parametrize(
    ("make", "method", "budget", "least"),
    [(small_gaussian, "laplace", 6000, 20), (small_log_gamma, "hmc", 20_000, 12)],
    ids=["laplace", "hmc"],
)
def test_certified_bounds_hold(make, method, budget, least):
    """Of 24 runs at most 5 % are beyond their bound: 5 or more with probability 0.006.

    `least`: so many must be certified, or the test would say nothing.
    """
    with jax.enable_x64(True):
        runs = [trial(make(seed), method, budget, seed) for seed in range(1000, 1024)]
    ratios = np.array([max(mean, sd) for certified, mean, sd in runs if certified])
    assert len(ratios) >= least
    assert np.sum(ratios > 1.0) <= 4, ratios
    assert np.median(ratios) > 0.1  # a bound that is never approached would pass too


def test_weights_that_are_nearly_equal_are_not_refused_for_their_tail():
    """Logistic regression in two parameters: k = 1.2, yet 5,000 weights are worth 4,600."""
    with jax.enable_x64(True):
        known = logistic(8)
        answer = fit(known.energy, "natural-gradient", 6000, start=known.start)
    certificate = answer.certificate
    assert not certificate["Pareto k"].held and certificate.certified
    assert np.max(np.abs(answer.mean - known.mean) / known.sd) <= certificate.mean
    assert np.max(np.abs(answer.sd / known.sd - 1.0)) <= certificate.sd
