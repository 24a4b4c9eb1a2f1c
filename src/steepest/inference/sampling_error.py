"""How far means and sds of draws can be from those of the law that they are drawn from.

Monte-Carlo standard errors by ArviZ, and Bonferroni's bound over the 2 d means and sds together.
Source: Vehtari, Gelman, Simpson, Carpenter and Buerkner, Bayesian Analysis 16 (2021) 667.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from scipy import stats

from ..summary import quiet_arviz
from .certificate import CONFIDENCE

FEWEST = 16


@dataclasses.dataclass(frozen=True)
class SamplingError:
    """Per coordinate, all (d,): standard errors of mean and sd, effective sizes, split R-hat.

    `mean`, `sd`: at 95 % over all coordinates together, bounds on the two errors of a certificate.
    """

    mean_error: np.ndarray
    sd_error: np.ndarray
    ess: np.ndarray
    ess_tail: np.ndarray
    r_hat: np.ndarray
    mean: float
    sd: float


def sampling_error(
    draws: np.ndarray, independent: bool = False, confidence: float = CONFIDENCE
) -> SamplingError:
    """Of draws (chain, save, d). `independent`: the draws are, so their number is their ESS.

    A coordinate whose draws do not move has infinite errors, and so has everything where there are
    fewer than 16 draws, or than 8 in a chain.
    """
    chains, saves, d = draws.shape
    draws = np.asarray(draws, float)
    sd = draws.std(axis=(0, 1))
    n = chains * saves
    if n < FEWEST or (saves < FEWEST // 2 and not independent):
        none, unknown = np.zeros(d), np.full(d, math.inf)
        return SamplingError(unknown, unknown, none, none, unknown, math.inf, math.inf)
    if independent:
        centred = (draws - draws.mean(axis=(0, 1))).reshape(n, d)
        size = np.where(sd > 0, sd, 1.0)
        kurtosis = np.mean((centred / size) ** 4, axis=0)
        mean_error = sd / np.sqrt(n)
        sd_error = sd * np.sqrt(np.maximum(kurtosis - 1.0, 0.0) / (4.0 * n))
        ess = ess_tail = np.full(d, float(n))
        r_hat = np.ones(d)
    else:
        mean_error, sd_error, ess, ess_tail, r_hat = _by_arviz(draws)
    still = ~(sd > 0)
    scale = np.where(still, 1.0, sd)
    quantile = float(stats.norm.ppf(1.0 - (1.0 - confidence) / (4.0 * d)))
    with np.errstate(invalid="ignore"):
        relative_mean = np.where(still, np.inf, quantile * mean_error / scale)
        relative_sd = np.where(still, np.inf, quantile * sd_error / scale)
    worst = lambda x: float(np.max(np.where(np.isnan(x), np.inf, x)))  # noqa: E731
    return SamplingError(
        mean_error, sd_error, ess, ess_tail, r_hat, worst(relative_mean), worst(relative_sd)
    )


def _by_arviz(draws: np.ndarray) -> tuple[np.ndarray, ...]:
    with quiet_arviz() as arviz:
        if draws.shape[0] == 1:
            half = draws.shape[1] // 2
            draws = draws[:, -2 * half :].reshape(2, half, -1)
        squares = (draws - draws.mean(axis=(0, 1))) ** 2
        data: Any = arviz.convert_to_dataset({"x": draws, "square": squares})
        plain = data[["x"]]
        ess = arviz.ess(data, method="mean")
        tail, r_hat = arviz.ess(plain, method="tail")["x"], arviz.rhat(plain)["x"]
    # arviz.mcse(method="sd") does the same, but not with every NumPy.
    variance = squares.mean(axis=(0, 1))
    size = np.asarray(ess["x"], float), np.asarray(ess["square"], float)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_error = np.sqrt(variance / size[0])
        sd_error = np.sqrt(squares.var(axis=(0, 1)) / size[1] / variance / 4.0)
    return mean_error, sd_error, size[0], np.asarray(tail, float), np.asarray(r_hat, float)
