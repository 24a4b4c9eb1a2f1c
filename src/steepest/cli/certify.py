"""`steepest certify`: the certificate of draws that another tool has made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError

if TYPE_CHECKING:
    from ..inference import Target

SUFFIXES = (".nc", ".csv")


def check_file(path: Path) -> None:
    """Raises ArgumentError unless it is a file of draws by its name."""
    if path.suffix not in SUFFIXES:
        raise ArgumentError("DRAWS", repr(str(path)), "an ArviZ .nc file, or a .csv file")
    if not path.is_file():
        raise ArgumentError("DRAWS", repr(str(path)), "a file that exists")


def read_draws(path: Path, target: Target) -> np.ndarray:
    """Draws (chain, save, d) of a target. Raises SteepestError for a file that cannot be used.

    `.nc`: the posterior group of an ArviZ InferenceData. `.csv`: a column for every quantity, and
    `chain` where there are several.
    """
    from ..inference.given import flat_draws, table_draws
    from ..problems import read_points

    if path.suffix == ".csv":
        rows, names = read_points(path)
        return table_draws(names, rows, target)
    import xarray

    try:
        with xarray.open_dataset(path, group="posterior", engine="h5netcdf") as posterior:
            return flat_draws(posterior.load(), target)
    except OSError as error:
        raise ArgumentError("DRAWS", f"{path.name}: {error}", "an ArviZ .nc file") from error
