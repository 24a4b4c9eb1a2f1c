"""What ArviZ says of draws."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

MOST_SUMMARISED = 200
R_HAT = 1.01
LABELS = {
    "mean": "mean",
    "sd": "sd",
    "hdi_3%": "3 %",
    "hdi_97%": "97 %",
    "mcse_mean": "mcse mean",
    "mcse_sd": "mcse sd",
    "ess_bulk": "ESS bulk",
    "ess_tail": "ESS tail",
    "r_hat": "R-hat",
}


def summarise(names: Sequence[str], draws: np.ndarray) -> list[dict[str, Any]]:
    """Mean, sd, 94 % interval, effective sizes and R-hat for the first 200 coordinates.

    A single chain is held against itself, as two halves. Fewer than 8 saves say nothing.
    """
    chains, saves, size = draws.shape
    if saves < 8:
        return []
    if chains == 1:
        half = saves // 2
        draws = draws[0, saves - 2 * half :].reshape(2, half, size)
    with quiet_arviz() as arviz:
        kept = draws[:, :, :MOST_SUMMARISED]
        table = arviz.summary(
            arviz.from_dict(posterior={"theta": kept}), round_to="none", fmt="wide"
        )
    rows = []
    for name, (_, row) in zip(names, table.iterrows(), strict=False):
        rows.append({"parameter": name} | {key: float(value) for key, value in row.items()})
    return rows


def load_arviz() -> Any:
    """ArviZ, without the notice that it gives once a day.

    It keeps the day in a file, which two processes that start together both try to write: one of
    them then fails to import, and succeeds when asked again.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import arviz
        except OSError:
            import arviz
    return arviz


@contextlib.contextmanager
def quiet_arviz() -> Iterator[Any]:
    """ArviZ without its warnings, and without numba: its numba path fails on current numpy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz = load_arviz()
        from arviz.utils import Numba

        before = Numba.numba_flag
        Numba.numba_flag = False
        try:
            yield arviz
        finally:
            Numba.numba_flag = before


def warn(summary: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader must know before using the draws."""
    rough = [row for row in summary if not row["r_hat"] <= R_HAT]
    if not rough:
        return []
    worst = max(rough, key=lambda row: np.nan_to_num(row["r_hat"], nan=np.inf))
    return [
        f"R-hat exceeds {R_HAT} for {len(rough)} of {len(summary)} parameters "
        f"({worst['parameter']}: {worst['r_hat']:.3f}): the chains have not mixed; "
        "run for longer, or with a longer warm-up"
    ]
