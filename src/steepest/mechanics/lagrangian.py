"""Lagrangians: from one scalar function to momenta, equations of motion and the Hamiltonian.

    dL/dq - d/dt dL/dv + F - dR/dv + G^T lambda = 0        (eq. 10-13, 21-28)
    H(q, p) = p . v - L  with  p = dL/dv                   (eq. 29)

Every derivative is automatic. Source for the constrained and the dissipative case: Goldstein,
Classical Mechanics, chapters 1-2 and 8.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError
from ..roots import root


class _Particle(eqx.Module):
    potential: Callable[[Any], Any]
    mass: Any

    def __call__(self, q: Any, v: Any) -> Any:
        return 0.5 * self.mass * tree.norm_sq(v) - self.potential(q)


class Lagrangian(eqx.Module):
    """L(q, v, t) = fn(q, v, t), or fn(q, v) of a system that does not know the time (eq. 10-11).

    `q` is any pytree of d float numbers (eq. 4); `v` has its structure. `force(q, v, t)`
    is a covector that does not come from L; `rayleigh(q, v, t)` a scalar whose -d/dv is a friction;
    `constraint(q)` an array of m numbers that the motion keeps at zero. Raises ArgumentError where
    these are not functions.
    """

    fn: Callable[..., Any]
    force: Callable[..., Any] | None
    rayleigh: Callable[..., Any] | None
    constraint: Callable[[Any], Any] | None
    time_dependent: bool = eqx.field(static=True)

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        force: Callable[..., Any] | None = None,
        rayleigh: Callable[..., Any] | None = None,
        constraint: Callable[[Any], Any] | None = None,
    ):
        for name, part in (("force", force), ("rayleigh", rayleigh), ("constraint", constraint)):
            if part is not None and not callable(part):
                raise ArgumentError(name, type(part).__name__, "a function, or None")
        if not callable(fn):
            raise ArgumentError("fn", type(fn).__name__, "a function (q, v, t) -> scalar")
        count = _arguments(fn)
        if count not in (2, 3):
            raise ArgumentError("fn", f"a function of {count} arguments", "(q, v, t) or (q, v)")
        self.fn, self.force, self.rayleigh, self.constraint = fn, force, rayleigh, constraint
        self.time_dependent = count == 3

    def __call__(self, q: Any, v: Any, t: Any = 0.0) -> Float[Array, ""]:
        """L(q, v, t). Raises ArgumentError unless it is a scalar."""
        value = self.fn(q, v, t) if self.time_dependent else self.fn(q, v)
        if jnp.shape(value) != ():
            raise ArgumentError("fn", f"shape {jnp.shape(value)}", "a Lagrangian is a scalar")
        return jnp.asarray(value, tree.dtype(q))

    @classmethod
    def particle(cls, potential: Callable[[Any], Any], mass: Any = 1.0) -> Lagrangian:
        """L = mass |v|^2 / 2 - potential(q), of one particle (eq. 23)."""
        return cls(_Particle(potential, mass))

    @classmethod
    def from_hamiltonian(cls, fn: Callable[[Any, Any], Any]) -> Lagrangian:
        """L(q, v) = p . v - H(q, p) at dH/dp = v: the Legendre transform back."""
        return cls(_Legendre(fn))

    def momentum(self, q: Any, v: Any, t: Any = 0.0) -> Any:
        """p = dL/dv, a covector (eq. 26)."""
        return jax.grad(self.__call__, argnums=1)(q, v, t)

    def pull(self, q: Any, v: Any, t: Any = 0.0) -> Any:
        """dL/dq, a covector: of a particle its force -grad V (eq. 25)."""
        return jax.grad(self.__call__)(q, v, t)

    def momentum_rate(self, q: Any, v: Any, a: Any, t: Any = 0.0) -> Any:
        """d/dt dL/dv along a motion with acceleration a: of a particle mass times a (eq. 27)."""
        one, t = jnp.ones((), tree.dtype(q)), jnp.asarray(t, tree.dtype(q))
        return jax.jvp(self.momentum, (q, v, t), (v, a, one))[1]

    def mass_matrix(self, q: Any, v: Any, t: Any = 0.0) -> Float[Array, "d d"]:
        """d^2 L / dv^2 over the raveled velocity."""
        flat, unravel = ravel_pytree(v)
        return jax.hessian(lambda w: self(q, unravel(w), t))(flat)

    def energy(self, q: Any, v: Any, t: Any = 0.0) -> Float[Array, ""]:
        """v . dL/dv - L, the Hamiltonian as a function of the velocity (eq. 29)."""
        return tree.dot(self.momentum(q, v, t), v) - self(q, v, t)

    def dissipation_rate(self, q: Any, v: Any, t: Any = 0.0) -> Float[Array, ""]:
        """v . dR/dv - F . v, the rate at which the energy falls (twice R for a quadratic R)."""
        return -tree.dot(self._applied(q, v, t), v)

    def euler_lagrange_residual(self, q: Any, v: Any, a: Any, t: Any = 0.0) -> Any:
        """dL/dq - d/dt dL/dv + F - dR/dv at (q, v, a), a covector; zero on motions.

        The Euler-Lagrange equation of any Lagrangian (eq. 13, 20, 21), of a particle too (eq. 24).
        """
        own = tree.sub(self.pull(q, v, t), self.momentum_rate(q, v, a, t))
        return tree.add(own, self._applied(q, v, t))

    def acceleration(self, q: Any, v: Any, t: Any = 0.0) -> Any:
        """a with d/dt dL/dv = dL/dq + F - dR/dv + G^T lambda (eq. 28), by a lineax solve.

        Raises ArgumentError where the mass matrix (bordered by G where constraints are) is
        singular; under a trace the numbers are NaN then.
        """
        return self._motion(q, v, t)[0]

    def multipliers(self, q: Any, v: Any, t: Any = 0.0) -> Float[Array, " m"]:
        """lambda, so that G^T lambda is the force of the constraints."""
        if self.constraint is None:
            raise ArgumentError("constraint", None, "this Lagrangian has no constraint")
        return self._motion(q, v, t)[1]

    def vector_field(self, state: tuple[Any, Any], t: Any = 0.0) -> tuple[Any, Any]:
        """(v, a) at (q, v): the first-order form, for `FlowMap` (eq. 1, 7)."""
        q, v = state
        return v, self.acceleration(q, v, t)

    def velocity(self, q: Any, p: Any, t: Any = 0.0) -> Any:
        """v with dL/dv = p, by Newton's method: one step where L is quadratic in v.

        Raises ArgumentError where there is none, as for a degenerate L; NaN under a trace.
        """
        flat, unravel = ravel_pytree(p)
        fn = lambda w: ravel_pytree(self.momentum(q, unravel(w), t))[0] - flat  # noqa: E731
        found = unravel(root(fn, jnp.zeros_like(flat)))
        if _known(found) and not tree.is_finite(found):
            raise ArgumentError("p", p, "no velocity has this momentum: " + DEGENERATE)
        return found

    def hamiltonian(self, q: Any, p: Any, t: Any = 0.0) -> Float[Array, ""]:
        """H(q, p, t) = p . v - L(q, v, t) at dL/dv = p (eq. 29)."""
        v = self.velocity(q, p, t)
        return tree.dot(p, v) - self(q, v, t)

    def flow(self) -> Any:
        """The conservative flow of H on `Phase(q, p)`, for `solve` and every scheme of it.

        Raises ArgumentError with forces, friction or constraints: those are `FlowMap`'s, or a
        geometry's (`Friction`, `Holonomic`).
        """
        from .legendre import legendre_flow

        return legendre_flow(self)

    def _applied(self, q: Any, v: Any, t: Any) -> Any:
        """F - dR/dv."""
        total = tree.zeros_like(v)
        if self.force is not None:
            total = tree.add(total, self.force(q, v, t))
        if self.rayleigh is not None:
            drag = jax.grad(lambda w: self.rayleigh(q, w, t))(v)  # pyright: ignore[reportOptionalCall]
            total = tree.sub(total, drag)
        return total

    def _motion(self, q: Any, v: Any, t: Any) -> tuple[Any, Any]:
        """(a, lambda)."""
        right, unravel = ravel_pytree(self.euler_lagrange_residual(q, v, tree.zeros_like(v), t))
        matrix, size = self.mass_matrix(q, v, t), right.size
        if self.constraint is not None:
            flat, unravel_q = ravel_pytree(q)
            speed = ravel_pytree(v)[0]
            level = lambda x: jnp.atleast_1d(self.constraint(unravel_q(x)))  # noqa: E731  # pyright: ignore[reportOptionalCall]
            slope = jax.jacfwd(level)(flat)
            bend = jax.jvp(lambda x: jax.jvp(level, (x,), (speed,))[1], (flat,), (speed,))[1]
            zero = jnp.zeros((slope.shape[0],) * 2, matrix.dtype)
            matrix = jnp.block([[matrix, -slope.T], [slope, zero]])
            right = jnp.concatenate([right, -bend])
        if _known((matrix, right)):
            _check_regular(np.asarray(matrix), size)
        operator = lx.MatrixLinearOperator(matrix)
        found = lx.linear_solve(operator, right, lx.LU(), throw=False).value
        return unravel(found[:size]), found[size:]


DEGENERATE = (
    "the Lagrangian is degenerate in its velocities; give every coordinate a kinetic energy, or "
    "turn coordinates without one into constraints"
)


def _check_regular(matrix: np.ndarray, size: int) -> None:
    if not np.isfinite(matrix).all():
        raise ArgumentError("lagrangian", "a mass matrix that is not finite", "at this state")
    scale = np.linalg.svd(matrix, compute_uv=False)
    rank = int(np.sum(scale > scale[0] * len(matrix) * np.finfo(matrix.dtype).eps * 4))
    if rank < len(matrix):
        which = "mass matrix" if len(matrix) == size else "mass matrix with its constraints"
        raise ArgumentError("lagrangian", f"a {which} of rank {rank} of {len(matrix)}", DEGENERATE)


class _Legendre(eqx.Module):
    """(q, v) -> p . v - H(q, p) at dH/dp = v."""

    hamiltonian: Callable[[Any, Any], Any]

    def __call__(self, q: Any, v: Any) -> Any:
        flat, unravel = ravel_pytree(v)

        def fn(p: Array) -> Array:
            return ravel_pytree(jax.grad(self.hamiltonian, argnums=1)(q, unravel(p)))[0] - flat

        p = unravel(root(fn, jnp.zeros_like(flat)))
        return tree.dot(p, v) - self.hamiltonian(q, p)


def _arguments(fn: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return 3
    wanted = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in wanted and p.default is inspect.Parameter.empty for p in parameters)


def _known(values: Any) -> bool:
    return not any(isinstance(x, Tracer) for x in jax.tree.leaves(values))
