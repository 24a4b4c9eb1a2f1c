"""[[contender]]s of `steepest compare-geometries`: geometries with momentum, optax optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from ...errors import ArgumentError
from .base import Context, Section, registry


class _Contender(Section):
    name: str | None = Field(None, description="a name for the table")
    rates: list[float] = Field(
        [], description="learning rates to try, numbers > 0; left out: those of [compare]"
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="the decay of the momentum, 0 ... 1")

    def descend(self, geometry: Any) -> Callable[[float], Any]:
        """learning rate -> steepest descent under a geometry, with the contender's momentum."""
        from ...optimizers import as_optax, friction_of

        def make(rate: float) -> Any:
            friction = friction_of(self.momentum, rate) if self.momentum else None
            return as_optax(geometry, rate, friction=friction)

        make.cost = float(getattr(geometry, "cost", 0.0))  # type: ignore[attr-defined]
        return make


class Descent(_Contender):
    """Gradient descent, heavy ball with momentum."""

    kind: Literal["euclidean"]

    def build(self, context: Context, model: Any) -> Callable[[float], Any]:
        """Euclidean()."""
        from ...geometries import Euclidean

        return self.descend(Euclidean())


class Norm(_Contender):
    """Steepest descent under a norm, at unit speed; leaves that are no matrices: by sign."""

    kind: Literal["norm"]
    norm: Literal["sup", "spectral", "row", "column"] = Field(
        "spectral", description="'sup', 'spectral', 'row' or 'column'"
    )

    def build(self, context: Context, model: Any) -> Callable[[float], Any]:
        """The norm on matrices, the sup norm on the rest."""
        import optax

        from ...geometries import Norm

        iterations = 5 if self.norm == "spectral" else None
        matrices = self.descend(Norm(self.norm, unit=True, iterations=iterations))
        rest = self.descend(Norm("sup", unit=True))

        def make(rate: float) -> Any:
            kinds: dict[Any, Any] = {"matrix": matrices(rate), "rest": rest(rate)}
            return optax.partition(kinds, _kinds)

        return make


class Fisher(_Contender):
    """Natural gradient."""

    kind: Literal["fisher"]
    fisher: Literal["exact", "gauss-newton", "empirical"] = Field(
        "exact", description="'exact', 'gauss-newton' or 'empirical'"
    )
    damping: float = Field(0.03, ge=0, description="added to the Fisher matrix, a number >= 0")
    adaptive: bool = Field(True, description="true: the damping follows the loss")
    rows: int | None = Field(None, ge=1, description="examples it is averaged over; all")
    iterations: int = Field(10, ge=1, description="of conjugate gradients, an integer >= 1")
    solver: Literal["auto", "cg", "sample", "dense", "kronecker"] = Field(
        "cg", description="'auto', 'cg', 'sample', 'dense' or 'kronecker'"
    )

    def build(self, context: Context, model: Any) -> Callable[[float], Any]:
        """Fisher(model, ...)."""
        from ...geometries import Fisher

        geometry = Fisher(
            model,
            self.fisher,
            damping=self.damping,
            solver=self.solver,
            rows=self.rows,
            iterations=self.iterations,
            adaptive_damping=self.adaptive,
        )
        return self.descend(geometry)


class Optax(_Contender):
    """An optimizer of optax by name, with its own defaults."""

    kind: Literal["optax"]
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "lion", "lbfgs", "muon"] = (
        Field("adam", description="sgd, adam, adamw, rmsprop, adagrad, lion, lbfgs or muon")
    )

    def build(self, context: Context, model: Any) -> Callable[[float], Any]:
        """learning rate -> optax.adam(learning rate), for instance."""
        import optax
        from optax import contrib

        if self.momentum:
            raise ArgumentError("contender.momentum", self.momentum, "optax's own defaults")
        if self.optimizer == "lbfgs":
            return lambda rate: optax.lbfgs()
        make = getattr(optax, self.optimizer, None) or getattr(contrib, self.optimizer)
        return lambda rate: make(rate)


def _kinds(parameters: Any) -> Any:
    import jax

    return jax.tree.map(lambda x: "matrix" if x.ndim >= 2 else "rest", parameters)


CONTENDERS = registry(Descent, Norm, Fisher, Optax)
