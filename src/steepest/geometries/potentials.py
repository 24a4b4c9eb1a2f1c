"""Convex potentials of mirror descent: phi, its differential and the inverse of that (eq. 62).

A leaf of the state is one argument of phi; phi adds over leaves. A new potential is a class with
`value`, `dual` and `primal`, and `metric_inverse` where the Hessian has a short inverse.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.core import Tracer
from jaxtyping import Array, Float

from ..errors import ArgumentError


class AbstractPotential(eqx.Module):
    """A strictly convex function phi of one array, with its mirror map."""

    @abc.abstractmethod
    def value(self, x: Array) -> Float[Array, ""]:
        """phi(x)."""

    @abc.abstractmethod
    def dual(self, x: Array) -> Array:
        """The mirror map grad phi(x)."""

    @abc.abstractmethod
    def primal(self, y: Array, guess: Array) -> Array:
        """The x with grad phi(x) = y; `guess` is a point nearby."""

    @abc.abstractmethod
    def metric(self, x: Array, v: Array) -> Array:
        """Hess phi(x) v."""

    @abc.abstractmethod
    def metric_inverse(self, x: Array, c: Array) -> Array:
        """Hess phi(x)^{-1} c."""

    def root(self, x: Array, white: Array) -> Array:
        """S white with S S^T = Hess phi(x)^{-1}."""
        raise ArgumentError("noise", self.name, "this potential offers no square root")

    def check(self, x: Array, argument: str) -> None:
        """Raises ArgumentError for a concrete x outside the domain of phi."""

    def move(self, x: Array, v: Array) -> Array:
        """The mirror step: grad phi(x+) = grad phi(x) + Hess phi(x) v."""
        return self.primal(self.dual(x) + self.metric(x, v), x)

    @property
    def name(self) -> str:
        """How the potential appears in the flow's row."""
        return type(self).__name__


class _Separable(AbstractPotential):
    """sum_i f(x_i): the Hessian is diagonal."""

    @abc.abstractmethod
    def curvature(self, x: Array) -> Array:
        """f''(x), elementwise."""

    def metric(self, x, v):
        return self.curvature(x) * v

    def metric_inverse(self, x, c):
        return c / self.curvature(x)

    def root(self, x, white):
        return white / jnp.sqrt(self.curvature(x))


class Entropy(_Separable):
    """sum x log x - x on positive numbers: exponentiated gradient without normalisation."""

    def value(self, x):
        return jnp.sum(jax.scipy.special.xlogy(x, x) - x)

    def dual(self, x):
        return jnp.log(x)

    def primal(self, y, guess):
        return jnp.exp(y)

    def curvature(self, x):
        return 1.0 / x

    def check(self, x, argument):
        if not np.all(np.asarray(x) > 0):
            raise ArgumentError(argument, f"smallest entry {float(x.min()):g}", "positive numbers")


class SimplexEntropy(AbstractPotential):
    """sum x log x on probability vectors (along the last axis): exponentiated gradient.

    K = diag(x) - x x^T, and the mirror step x exp(v/x) over its sum stays on the simplex whatever
    the step.
    """

    def value(self, x):
        return jnp.sum(jax.scipy.special.xlogy(x, x))

    def dual(self, x):
        return jnp.log(x)

    def primal(self, y, guess):
        return jax.nn.softmax(y, axis=-1)

    def metric(self, x, v):
        return v / jnp.maximum(x, jnp.finfo(x.dtype).tiny)

    def metric_inverse(self, x, c):
        return x * (c - jnp.sum(x * c, -1, keepdims=True))

    def root(self, x, white):
        root = jnp.sqrt(x)
        return root * white - x * jnp.sum(root * white, -1, keepdims=True)

    def move(self, x, v):
        # A vanished probability stays where it is: log 0 = -inf, and exp(-inf) = 0.
        change = jnp.where(x > 0, self.metric(x, v), 0.0)
        return jax.nn.softmax(jnp.log(x) + change, axis=-1)

    def check(self, x, argument):
        x = np.asarray(x)
        total = np.sum(x, axis=-1) if x.ndim else 0.0
        error = float(np.max(np.abs(total - 1.0)))
        if not (x.ndim and bool(np.all(x > 0)) and error < 1e-3):
            given = f"sums that miss 1 by {error:.3g}, smallest entry {float(x.min()):.3g}"
            raise ArgumentError(argument, given, "positive probabilities, e.g. jax.nn.softmax(x)")


class HyperbolicEntropy(_Separable):
    """sum x asinh(x/scale) - sqrt(x^2 + scale^2): from entropy (scale 0) to Euclidean (infinity).

    Source: Ghai, Hazan and Singer, ALT 2020.
    """

    scale: float = 1.0

    def __check_init__(self):
        check_positive("scale", self.scale)

    def value(self, x):
        root = jnp.sqrt(x**2 + self.scale**2)
        return jnp.sum(x * jnp.arcsinh(x / self.scale) - root)

    def dual(self, x):
        return jnp.arcsinh(x / self.scale)

    def primal(self, y, guess):
        return self.scale * jnp.sinh(y)

    def curvature(self, x):
        return 1.0 / jnp.sqrt(x**2 + self.scale**2)

    @property
    def name(self):
        return f"HyperbolicEntropy({float(self.scale):g})"


class PNorm(AbstractPotential):
    """1/2 |x|_p^2 for 1 < p <= 2, whose inverse mirror map is that of the conjugate exponent.

    For p < 2 its Hessian is infinite where a coordinate is 0, and the flow does not begin there.
    """

    p: float

    def __check_init__(self):
        if not (isinstance(self.p, (int, float)) and 1 < self.p <= 2):
            raise ArgumentError("p", self.p, "an exponent with 1 < p <= 2; it is strongly convex")

    def value(self, x):
        return 0.5 * _norm(x, self.p) ** 2

    def dual(self, x):
        return _mirror(x, self.p)

    def primal(self, y, guess):
        return _mirror(y, self.p / (self.p - 1.0))

    def metric(self, x, v):
        return jax.jvp(lambda z: _mirror(z, self.p), (x,), (v,))[1]

    def metric_inverse(self, x, c):
        # The mirror maps invert each other, and so do their differentials.
        conjugate = self.p / (self.p - 1.0)
        return jax.jvp(lambda y: _mirror(y, conjugate), (_mirror(x, self.p),), (c,))[1]

    def check(self, x, argument):
        if not np.any(np.asarray(x) != 0):
            raise ArgumentError(argument, "all zeros", "a point where |x|_p^2 is smooth: not 0")
        if self.p < 2 and not bool(jnp.all(x != 0)):
            given = f"{int(jnp.sum(x == 0))} coordinates of {x.size} that are 0"
            raise ArgumentError(argument, given, "a start off the axes, or p = 2: K vanishes there")

    @property
    def name(self):
        return f"PNorm({self.p:g})"


class Potential(AbstractPotential):
    """A potential of your own: `function` maps an array to a number, strictly convex.

    Its mirror map is `jax.grad`, inverted by Newton's method (optimistix). A step that meets a
    stretch where it is not convex gives NaN, and so ends the run as Diverged.
    """

    function: Any
    tolerance: float = 1e-8

    def __check_init__(self):
        if not callable(self.function):
            raise ArgumentError("potential", type(self.function).__name__, "a function of an array")

    def value(self, x):
        return self.function(x)

    def dual(self, x):
        return jax.grad(self.function)(x)

    def primal(self, y, guess):
        rtol = max(self.tolerance, 10 * float(jnp.finfo(y.dtype).eps))
        solver = optx.Newton(rtol=rtol, atol=rtol)
        solution = optx.root_find(
            lambda x, _: self.dual(x) - y, solver, guess, max_steps=100, throw=False
        )
        # Newton may jump over a concave stretch to another branch of the mirror map.
        along = solution.value - guess
        convex = jnp.vdot(along, self.metric(guess + 0.5 * along, along)) >= 0
        good = (solution.result == optx.RESULTS.successful) & convex
        return jnp.where(good, solution.value, jnp.nan)

    def metric(self, x, v):
        return jax.jvp(jax.grad(self.function), (x,), (v,))[1]

    def metric_inverse(self, x, c):
        hessian = jax.hessian(self.function)(x).reshape(x.size, x.size)
        lower = jnp.linalg.cholesky(hessian)
        return jax.scipy.linalg.cho_solve((lower, True), c.reshape(-1)).reshape(x.shape)

    def root(self, x, white):
        hessian = jax.hessian(self.function)(x).reshape(x.size, x.size)
        lower = jnp.linalg.cholesky(hessian)
        flat = white.reshape(-1)
        return jax.scipy.linalg.solve_triangular(lower, flat, trans=1, lower=True).reshape(x.shape)

    def check(self, x, argument):
        value = jnp.asarray(self.function(x))
        if value.shape != ():
            raise ArgumentError("potential", f"a value of shape {value.shape}", "one number")
        hessian = jax.hessian(self.function)(x).reshape(x.size, x.size)
        if isinstance(hessian, Tracer):
            return
        lowest = float(jnp.linalg.eigvalsh(hessian)[0]) if x.size else 1.0
        if not lowest > 0:
            given = f"smallest curvature {lowest:.3g} at the initial state"
            raise ArgumentError("potential", given, "a strictly convex function")

    @property
    def name(self):
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return "φ" if name == "<lambda>" else name


def _norm(x: Array, p: float) -> Array:
    size = jnp.max(jnp.abs(x))
    safe = jnp.where(size > 0, size, 1.0)
    return safe * jnp.sum(jnp.abs(x / safe) ** p) ** (1.0 / p)


def _mirror(x: Array, p: float) -> Array:
    """grad 1/2 |x|_p^2 = |x|_p^(2 - p) sign(x) |x|^(p - 1)."""
    return jnp.sign(x) * jnp.abs(x) ** (p - 1.0) * _norm(x, p) ** (2.0 - p)


def check_positive(argument: str, value: Any) -> None:
    if isinstance(value, Tracer):
        return
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
        raise ArgumentError(argument, value, "a positive finite number")
