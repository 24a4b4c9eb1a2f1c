"""Coefficients of collocation on [0, 1]: Gauss points, and Lobatto points with their dual.

The Galerkin variational integrator whose paths are polynomials of degree s and whose action is
integrated by s Gauss points is Gauss collocation of Hamilton's equations, order 2s; by s + 1
Lobatto points it is the pair Lobatto IIIA-IIIB, order 2s. Source: Marsden and West, Acta Numerica
10 (2001) 357, section 2.6; Hairer, Lubich and Wanner, Geometric Numerical Integration, VI.6.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

QUADRATURES = ("gauss", "lobatto")


@dataclasses.dataclass(frozen=True)
class Table:
    """Nodes (s,), weights (s,), the matrix (s, s) of the positions and `dual` of the momenta."""

    nodes: np.ndarray
    weights: np.ndarray
    matrix: np.ndarray
    dual: np.ndarray


@functools.lru_cache
def table(quadrature: str, order: int) -> Table:
    """Of the given even order."""
    degree = order // 2
    if quadrature == "gauss":
        nodes, weights = np.polynomial.legendre.leggauss(degree)
    else:
        legendre = np.polynomial.legendre.Legendre.basis(degree)
        nodes = np.concatenate([[-1.0], np.sort(legendre.deriv().roots().real), [1.0]])
        weights = 2.0 / (degree * (degree + 1) * legendre(nodes) ** 2)
    c, b = 0.5 * (nodes + 1.0), 0.5 * weights
    a = _integrals(c)
    dual = b[None, :] * (1.0 - a.T / b[:, None])
    return Table(c, b, a, dual)


def _integrals(c: np.ndarray) -> np.ndarray:
    """a_ij, the integral from 0 to c_i of the j-th Lagrange polynomial."""
    powers = np.arange(len(c))
    return (c[:, None] ** (powers + 1) / (powers + 1)) @ np.linalg.inv(c[:, None] ** powers)


@functools.lru_cache
def interpolation(quadrature: str, order: int) -> tuple[np.ndarray, np.ndarray]:
    """(values, slopes), each (quadrature points, degree + 1), from control points of a path.

    The control points are the Lobatto points of [0, 1], both ends among them.
    """
    control, at = table("lobatto", order).nodes, table(quadrature, order).nodes
    powers = np.arange(len(control))
    inverse = np.linalg.inv(control[:, None] ** powers)
    slopes = np.where(powers > 0, powers * at[:, None] ** np.maximum(powers - 1, 0), 0.0)
    return at[:, None] ** powers @ inverse, slopes @ inverse
