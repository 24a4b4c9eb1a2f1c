"""The Fisher metric of a model: natural gradient (section 7.1), matrix-free.

    K = (F + damping)^{-1},    F = (1/n) sum_i J_i^T H_i J_i,  J_i = d outputs_i / d theta

with H_i the Fisher matrix of the outputs ("exact"), the Hessian of the loss in them
("gauss-newton", the same for exponential families in natural parameters) or the product of the
loss gradients ("empirical"). F = R^T R / n with rows R, a few for each example; so K c is found by
conjugate gradients on Fisher-vector products, in the space of the rows (Woodbury), densely, or with
F replaced by Kronecker factors leaf by leaf.
Sources: Amari, Neural Comput. 10 (1998) 251; Martens, JMLR 21 (2020) 146; Martens and Grosse, ICML
2015 (Kronecker factors).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from .base import AbstractGeometry
from .potentials import check_positive

KINDS = ("exact", "gauss-newton", "empirical")
SOLVERS = ("auto", "cg", "sample", "dense", "kronecker")
DENSE = 1024
SHRINK, GROW = 0.3, 4.0
FISHER_STREAM = 16


class Step(eqx.Module):
    """Where the last step began, the loss and its differential there, the decrease predicted."""

    place: Any
    covector: Any
    value: Float[Array, ""]
    predicted: Float[Array, ""]


class Memory(eqx.Module):
    """The last direction, where the next solve begins; under adaptive damping also that step."""

    guess: Any
    damping: Any = None
    last: Step | None = None


class Fisher(AbstractGeometry):
    """Natural gradient of `model`, a `NegativeLogLikelihood` (or whatever has its methods).

    `kind`: "exact", "gauss-newton" or "empirical". `damping` >= 0 is added to F. `solver`: "cg"
    (`iterations` of conjugate gradients, `tolerance` relative), "sample" (the Woodbury identity in
    the space of the rows: for fewer rows than parameters), "dense", "kronecker" (per leaf, the
    factors of the rows seen as matrices), or "auto": dense up to 1024 parameters, else cg.

    `rows`: how many examples F is averaged over, the first ones, or under `as_optax` fresh ones at
    every update (from the batch, where one is passed). `adaptive_damping`: Levenberg and
    Marquardt's rule under `as_optax`, which then needs `value=` in `update`: damping shrinks where
    the loss falls as predicted, grows where it does not, and a step that raised the loss is taken
    back; so the values must be of one loss, not of changing batches. A number below 1 is the factor
    by which it shrinks (True: 0.3, for F of few rows; 0.1 is faster with all of them). Raises
    ArgumentError for damping 0 with a singular F.
    """

    model: Any
    kind: str = eqx.field(static=True)
    damping: Any
    solver: str = eqx.field(static=True)
    rows: int | None = eqx.field(static=True)
    iterations: int = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    adaptive_damping: bool | float = eqx.field(static=True)
    batch: Any
    guess: Any

    def __init__(
        self,
        model: Any,
        kind: str = "exact",
        *,
        damping: float = 1e-3,
        solver: str = "auto",
        rows: int | None = None,
        iterations: int = 20,
        tolerance: float = 1e-6,
        adaptive_damping: bool | float = False,
    ):
        for method in ("outputs", "curvature", "curvature_product", "curvature_root"):
            if not hasattr(model, method):
                given = type(model).__name__
                raise ArgumentError("model", given, "a NegativeLogLikelihood(apply, (x, y))")
        if kind not in KINDS:
            raise ArgumentError("kind", repr(kind), f"one of {', '.join(KINDS)}")
        if solver not in SOLVERS:
            raise ArgumentError("solver", repr(solver), f"one of {', '.join(SOLVERS)}")
        if not (isinstance(damping, Tracer) or damping == 0):
            check_positive("damping", damping)
        if rows is not None and not (isinstance(rows, int) and 1 <= rows <= model.count):
            raise ArgumentError("rows", rows, f"between 1 and the {model.count} of the data")
        if not isinstance(iterations, int) or iterations < 1:
            raise ArgumentError("iterations", iterations, "an integer >= 1")
        if not (isinstance(adaptive_damping, bool) or 0.0 < adaptive_damping < 1.0):
            raise ArgumentError(
                "adaptive_damping", adaptive_damping, "True, False or a factor below 1"
            )
        self.model, self.kind, self.damping, self.solver = model, kind, damping, solver
        self.rows, self.iterations, self.tolerance = rows, iterations, tolerance
        self.adaptive_damping, self.batch, self.guess = adaptive_damping, None, None

    def data(self) -> Any:
        """The examples that F is averaged over."""
        if self.batch is not None:
            return self.batch
        full = self.model.data
        return full if self.rows is None else jax.tree.map(lambda x: x[: self.rows], full)

    def product(self, state: Any, tangent: Any) -> Any:
        """F tangent, without the damping, by one forward and one backward pass."""
        return self.products(state)(tangent)

    def products(self, state: Any) -> Callable[[Any], Any]:
        """v -> F v at one state: the model is linearised once for all v."""
        x, y = self.data()
        if self.kind == "empirical":
            slopes = self._slopes(state, x, y)

            def spread(tangent: Any) -> Any:
                along = jnp.stack(
                    [
                        jnp.einsum("n...,...->n", s, t)
                        for s, t in zip(
                            jax.tree.leaves(slopes), jax.tree.leaves(tangent), strict=True
                        )
                    ]
                ).sum(axis=0)
                share = along / along.size
                return jax.tree.map(lambda s: jnp.einsum("n...,n->...", s, share), slopes)

            return spread
        forward = lambda theta: jax.vmap(lambda a: self.model.outputs(theta, a))(x)  # noqa: E731
        outputs, push = jax.linearize(forward, state)
        pull = jax.linear_transpose(push, state)
        count = outputs.shape[0]
        return lambda tangent: pull(self._curved(outputs, y, push(tangent)) / count)[0]

    def matrix(self, state: Any) -> Float[Array, "d d"]:
        """F over the raveled parameters, without the damping."""
        rows, n = self._rows(state)
        return rows.T @ rows / n

    def sharp(self, state, covector):
        solver = self.solver
        if solver == "auto":
            solver = "dense" if tree.size(state) <= DENSE else "cg"
        if solver == "cg":
            return self._conjugate_gradients(state, covector)
        if solver == "kronecker":
            return self._kronecker(state, covector)
        flat, unravel = ravel_pytree(covector)
        if solver == "dense":
            matrix = self.matrix(state) + self.damping * jnp.eye(flat.size, dtype=flat.dtype)
            lower = jnp.linalg.cholesky(matrix)
            return unravel(jax.scipy.linalg.cho_solve((lower, True), flat))
        rows, n = self._rows(state)
        inner = rows @ rows.T / n + self.damping * jnp.eye(rows.shape[0], dtype=rows.dtype)
        lower = jnp.linalg.cholesky(inner)
        weights = jax.scipy.linalg.cho_solve((lower, True), rows @ flat / n)
        return unravel((flat - rows.T @ weights) / self.damping)

    def _conjugate_gradients(self, state: Any, covector: Any) -> Any:
        product = self.products(state)

        def damped(v: Any) -> Any:
            return tree.axpy(self.damping, v, product(v))

        found, _ = jax.scipy.sparse.linalg.cg(
            damped, covector, x0=self.guess, tol=self.tolerance, maxiter=self.iterations
        )
        return found

    def _kronecker(self, state: Any, covector: Any) -> Any:
        """(A + a)^{-1} C (B + b)^{-1} on each matrix: F ~ A x B, damping split by their traces."""
        rows, n = self._rows(state, flat=False)

        def leaf(c: Array, r: Array) -> Array:
            matrix = c.reshape(-1, c.shape[-1]) if c.ndim else c.reshape(1, 1)
            seen = r.reshape(r.shape[0], *matrix.shape)
            left = jnp.einsum("rij,rkj->ik", seen, seen) / n
            right = jnp.einsum("rij,rik->jk", seen, seen) / n
            size = jnp.maximum(jnp.trace(left), jnp.finfo(c.dtype).tiny)
            left, right = left / jnp.sqrt(size), right / jnp.sqrt(size)
            ratio = jnp.sqrt(left.shape[0] / right.shape[0])
            root = jnp.sqrt(self.damping)
            left = left + root / ratio * jnp.eye(left.shape[0], dtype=c.dtype)
            right = right + root * ratio * jnp.eye(right.shape[0], dtype=c.dtype)
            inner = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(left), True), matrix)
            outer = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(right), True), inner.T).T
            return outer.reshape(c.shape)

        return jax.tree.map(leaf, covector, rows)

    def _rows(self, state: Any, flat: bool = True) -> tuple[Any, int]:
        """R with F = R^T R / n, as a matrix or with the structure of the state; and n."""
        x, y = self.data()
        if self.kind == "empirical":
            rows = self._slopes(state, x, y)
            n = jax.tree.leaves(rows)[0].shape[0]
        else:

            def one(a: Any, b: Any) -> Any:
                outputs, pull = jax.vjp(lambda theta: self.model.outputs(theta, a), state)
                return jax.vmap(lambda column: pull(column)[0])(self._root(outputs, b).T)

            rows = jax.vmap(one)(x, y)
            n = jax.tree.leaves(rows)[0].shape[0]
            rows = jax.tree.map(lambda r: r.reshape(-1, *r.shape[2:]), rows)
        if not flat:
            return rows, n
        return jax.vmap(lambda r: ravel_pytree(r)[0])(rows), n

    def _slopes(self, state: Any, x: Any, y: Any) -> Any:
        loss = lambda a, b: jax.grad(self.model.loss)(state, (a, b))  # noqa: E731
        return jax.vmap(loss)(x, y)

    def _root(self, outputs: Any, y: Any) -> Any:
        if self.kind == "exact":
            return self.model.curvature_root(outputs)
        values, vectors = jnp.linalg.eigh(self.model.curvature(outputs, y))
        return vectors * jnp.sqrt(jnp.maximum(values, 0.0))

    def _curved(self, outputs: Any, y: Any, pushed: Any) -> Any:
        """H_i applied to each row of pushed tangents."""
        if self.kind == "exact":
            return jax.vmap(self.model.curvature_product)(outputs, pushed)
        return jax.vmap(lambda o, b, v: self.model.curvature(o, b) @ v)(outputs, y, pushed)

    def begin(self, state):
        zero, dtype = jax.tree.map(jnp.zeros_like, state), tree.dtype(state)
        if not self.adaptive_damping:
            return Memory(zero)
        number = lambda v: jnp.asarray(v, dtype)  # noqa: E731
        last = Step(state, zero, number(jnp.inf), number(1.0))
        return Memory(zero, number(self.damping), last)

    def observe(self, memory, state, covector, seen):
        geometry = self._with("guess", memory.guess)
        if self.adaptive_damping:
            memory, state, covector = self._judged(memory, state, covector, seen.value)
            geometry = geometry._with("damping", memory.damping)
        batch = self._fresh(seen)
        if batch is not None:
            geometry = geometry._with("batch", batch)
        return memory, geometry, state, covector

    def _with(self, name: str, value: Any) -> Fisher:
        known = lambda g: getattr(g, name)  # noqa: E731
        return eqx.tree_at(known, self, value, is_leaf=lambda x: x is None)

    def _judged(self, memory: Any, state: Any, covector: Any, value: Any) -> tuple[Any, Any, Any]:
        """The damping by what the last step was worth; back to its start if the loss rose."""
        if value is None:
            raise ArgumentError("value", None, "adaptive damping needs update(..., value=loss)")
        last, damping = memory.last, memory.damping
        value = jnp.asarray(value, damping.dtype)
        first, good = jnp.isinf(last.value), value <= last.value
        ratio = (last.value - value) / last.predicted
        shrink = SHRINK if self.adaptive_damping is True else self.adaptive_damping
        factor = jnp.where(ratio > 0.75, shrink, jnp.where(ratio < 0.25, GROW, 1.0))
        factor = jnp.where(good, factor, GROW)
        damping = jnp.where(first, damping, jnp.clip(factor * damping, 1e-8, 1e8))
        keep = lambda new, old: jnp.where(good, new, old)  # noqa: E731
        here = Step(state, covector, value, last.predicted)
        here = jax.tree.map(keep, here, last)
        return Memory(memory.guess, damping, here), here.place, here.covector

    def _fresh(self, seen: Any) -> Any:
        """Rows of the batch, or of all the data, for this update."""
        data = self.model.data if seen.batch is None else seen.batch
        count = jax.tree.leaves(data)[0].shape[0]
        if self.rows is None or self.rows >= count or seen.randomness is None:
            return data if seen.batch is not None else None
        bits = seen.randomness.bits((self.rows,), stream=FISHER_STREAM)
        index = (bits % jnp.uint32(count)).astype(jnp.int32)
        return jax.tree.map(lambda leaf: leaf[index], data)

    def settle(self, memory, state, covector, tangent, step):
        if not self.adaptive_damping:
            return Memory(tangent)
        slope = tree.dot(covector, tangent)
        # F v = dE - damping v: the quadratic model of the loss along -step v.
        curvature = slope - memory.damping * tree.norm_sq(tangent)
        predicted = (step * slope - 0.5 * step**2 * curvature).astype(slope.dtype)
        last = eqx.tree_at(lambda m: m.predicted, memory.last, predicted)
        return Memory(tangent, memory.damping, last)

    @property
    def cost(self) -> float:
        """What an update costs beyond its gradient, in gradients over all the data."""
        share = (self.rows or self.model.count) / self.model.count
        return share * 2.0 * self.iterations if self.solver in ("cg", "auto") else 3.0 * share

    def sqrt(self, state, white):
        flat, unravel = ravel_pytree(white[0])
        matrix = self.matrix(state) + self.damping * jnp.eye(flat.size, dtype=flat.dtype)
        lower = jnp.linalg.cholesky(matrix)
        return unravel(jax.scipy.linalg.solve_triangular(lower, flat, trans=1, lower=True))

    def divergence(self, state):
        flat, unravel = ravel_pytree(state)

        def inverse(x: Array) -> Array:
            matrix = self.matrix(unravel(x)) + self.damping * jnp.eye(x.size, dtype=x.dtype)
            return jnp.linalg.inv(matrix)

        return unravel(jnp.einsum("ijj->i", jax.jacfwd(inverse)(flat)))

    def length_sq(self, state, tangent):
        damped = tree.axpy(self.damping, tangent, self.product(state, tangent))
        return tree.dot(tangent, damped)

    def check(self, state):
        try:
            value = jax.eval_shape(self.model, state)
        except TypeError as error:
            raise ArgumentError("model", error, "it must take this state") from error
        if value.shape != ():
            raise ArgumentError("model", f"a loss of shape {value.shape}", "a number")
        if isinstance(self.damping, Tracer) or float(self.damping) > 0:
            return
        rows, _ = jax.eval_shape(self._rows, state)
        if self.solver in ("sample", "kronecker") or rows.shape[0] < rows.shape[1]:
            raise ArgumentError(
                "damping", 0.0, f"a number > 0: F has rank {rows.shape[0]} at most, by its rows"
            )
        spectrum = jnp.linalg.eigvalsh(self.matrix(state))
        tiny = rows.shape[1] * float(jnp.finfo(spectrum.dtype).eps) * float(spectrum[-1])
        if not float(spectrum[0]) > tiny:
            given = f"0, with a smallest eigenvalue of F of {float(spectrum[0]):.2e}"
            raise ArgumentError("damping", given, "a number > 0: F is singular here")

    @property
    def name(self):
        return (
            f"Fisher({self.kind}, damping={float(self.damping):g})"
            if not isinstance(self.damping, Tracer)
            else f"Fisher({self.kind})"
        )
