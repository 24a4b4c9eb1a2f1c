"""The slow end of the spectrum of a reversible generator, on the host.

With detailed balance S = pi^{-1/2} A pi^{1/2} is symmetric; its off-diagonal entry at a face is
sqrt(up down), so pi itself, which may underflow, is not needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from ..errors import ArgumentError


def symmetrised(generator: Any) -> Any:
    """-S as a scipy sparse matrix, positive semi-definite, in the order of `values.reshape(-1)`."""
    grid = generator.grid
    index = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    diagonal = np.zeros(grid.shape)
    rows, columns, entries = [], [], []
    for axis in range(grid.dimension):
        if generator.up[axis] is None:
            continue
        up, down = np.asarray(generator.up[axis]), np.asarray(generator.down[axis])
        diagonal += up + np.roll(down, 1, axis)
        rows.append(index.reshape(-1))
        columns.append(np.roll(index, -1, axis).reshape(-1))
        entries.append(-np.sqrt(up * down).reshape(-1))
    i, j, v = (np.concatenate(parts) for parts in (rows, columns, entries))
    size = index.size
    upper = scipy.sparse.coo_matrix((v, (i, j)), shape=(size, size))
    return (upper + upper.T + scipy.sparse.diags(diagonal.reshape(-1))).tocsc()


def slowest(generator: Any, count: int) -> np.ndarray:
    """The `count` smallest nonzero eigenvalues of -A, ascending."""
    size = int(np.prod(generator.grid.shape))
    if not 1 <= count < size - 1:
        raise ArgumentError("count", count, f"between 1 and {size - 2}")
    matrix = symmetrised(generator)
    if generator.grid.dimension == 1 and not generator.grid.periodic[0]:
        off = matrix.diagonal(1)
        values = scipy.linalg.eigh_tridiagonal(
            matrix.diagonal(), off, eigvals_only=True, select="i", select_range=(0, count)
        )
        return np.asarray(values)[1:]
    # Shifted a little below zero, where the Gibbs law sits, so that the factorisation exists.
    shift = -1e-8 * float(np.max(matrix.diagonal()))
    values = scipy.sparse.linalg.eigsh(matrix, k=count + 1, sigma=shift, return_eigenvectors=False)
    return np.sort(values)[1:]
