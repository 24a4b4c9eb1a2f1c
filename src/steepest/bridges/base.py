"""What every bridge can do, whoever solved it."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def compiled(method: Callable[..., Any]) -> Any:
    """`eqx.filter_jit` for which a time is a number that varies: another one compiles nothing."""
    program = eqx.filter_jit(method)

    @functools.wraps(method)
    def call(self: Any, *given: Any, **named: Any) -> Any:
        array = lambda x: jnp.asarray(x) if isinstance(x, float) else x  # noqa: E731
        return program(self, *map(array, given), **{k: array(x) for k, x in named.items()})

    return call


def of(part: str) -> Any:
    """In a class body `name = of("part")`: what `part` has under this name is this one's."""
    return _Of(part)


class _Of:
    def __init__(self, part: str):
        self.part = part

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self if owner is None else getattr(getattr(owner, self.part), self.name)


class AbstractBridge(eqx.Module):
    """The law of paths over [0, horizon] nearest a reference, with both ends given (eq. 71).

    Every bridge has `method`, the solver's name, `why` it was taken, and `notes` for the user.
    """

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """d."""

    @property
    @abc.abstractmethod
    def horizon(self) -> Any:
        """The time of the target."""

    @abc.abstractmethod
    def drift(self, x: Float[Array, "n d"], time: Any) -> Float[Array, "n d"]:
        """The forward drift b(x, t), t < horizon: dX = b dt + sqrt(2 T) dW."""

    @abc.abstractmethod
    def backward_drift(self, x: Float[Array, "n d"], time: Any) -> Float[Array, "n d"]:
        """b - 2 T grad log rho_t, t > 0: run backwards the process drifts by minus this."""

    @abc.abstractmethod
    def reference_drift(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The drift of the reference alone, which no target pulls."""

    @abc.abstractmethod
    def sample(self, x: Float[Array, "n d"], key: Key[Array, ""]) -> Float[Array, "n d"]:
        """An end for each start."""

    @abc.abstractmethod
    def sample_backward(self, y: Float[Array, "n d"], key: Key[Array, ""]) -> Float[Array, "n d"]:
        """A start for each end."""

    @abc.abstractmethod
    def sample_paths(
        self, x: Float[Array, "n d"], times: Float[Array, " k"], key: Key[Array, ""]
    ) -> Float[Array, "k n d"]:
        """Paths from x at increasing times in (0, horizon]."""

    @abc.abstractmethod
    def marginal(self, time: Any, key: Key[Array, ""] | None = None, n: int = 1000) -> Any:
        """The law at a time: a state."""

    def log_growth(
        self, x: Float[Array, "n d"], y: Float[Array, "n d"], time: Any = None
    ) -> Float[Array, " n"]:
        """log of the mass at `time` (by default the end) of a unit that goes from x to y: 0."""
        del y, time
        return jnp.zeros(len(x), x.dtype)

    def probability_flow(self, x: Float[Array, "n d"], time: Any) -> Float[Array, "n d"]:
        """(b + b_backward)/2 = b - T grad log rho_t: the velocity of the marginals."""
        return 0.5 * (self.drift(x, time) + self.backward_drift(x, time))
