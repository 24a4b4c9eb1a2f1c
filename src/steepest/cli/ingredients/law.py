"""Laws: [functional] of a measure, and [state] that is one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import Field

from ...errors import ArgumentError
from .base import Context, Section
from .functional import DoubleWell, GaussianMixture, Imported, Quadratic, Rosenbrock

Energy = Annotated[
    DoubleWell | Rosenbrock | Quadratic | GaussianMixture | Imported, Field(discriminator="kind")
]
ENERGY = "a table with a kind: double-well, rosenbrock, quadratic, gaussian-mixture or imported"
Numbers = list[float] | float


class LawFunctional(Section):
    """What [[functional]] tables of a law share: they add up."""

    factor: float = Field(1.0, description="multiplies the functional, a number")

    @abstractmethod
    def build_law(self, context: Context) -> Any:
        """The functional of a measure."""

    def axes(self, context: Context) -> tuple[str, ...]:
        """The names of the coordinates, where the table gives them."""
        return ()


class _OfEnergy(LawFunctional):
    energy: Energy = Field(description=ENERGY)

    def of_points(self, context: Context) -> Any:
        """The energy of an array of coordinates."""
        return on_arrays(self.energy.build(context))


class FreeEnergy(_OfEnergy):
    """<E> + temperature integral rho log rho."""

    kind: Literal["free-energy"]
    temperature: float = Field(1.0, ge=0, description="a number >= 0")

    def build_law(self, context: Context) -> Any:
        """FreeEnergy(energy, temperature)."""
        from ...functionals import FreeEnergy

        return FreeEnergy(self.of_points(context), self.temperature)


class KL(_OfEnergy):
    """KL(rho || exp(-E)/Z)."""

    kind: Literal["kl"]

    def build_law(self, context: Context) -> Any:
        """KL(energy)."""
        from ...functionals import KL

        return KL(self.of_points(context))


class ExpectedEnergy(_OfEnergy):
    """<E>."""

    kind: Literal["expected-energy"]

    def build_law(self, context: Context) -> Any:
        """ExpectedEnergy(energy)."""
        from ...functionals import ExpectedEnergy

        return ExpectedEnergy(self.of_points(context))


class NegativeEntropy(LawFunctional):
    """integral rho log rho."""

    kind: Literal["negative-entropy"]

    def build_law(self, context: Context) -> Any:
        """NegativeEntropy()."""
        from ...functionals import NegativeEntropy

        return NegativeEntropy()


class InternalEnergy(LawFunctional):
    """integral rho^power / (power - 1): porous medium, fast diffusion."""

    kind: Literal["internal-energy"]
    power: float = Field(2.0, gt=0, description="a positive number other than 1")

    def build_law(self, context: Context) -> Any:
        """InternalEnergy(power)."""
        from ...functionals import InternalEnergy

        return InternalEnergy(self.power)


class InteractionEnergy(LawFunctional):
    """1/2 E W(x - y): attraction or repulsion of pairs."""

    kind: Literal["interaction-energy"]
    kernel: Literal["quadratic", "gaussian", "power", "cosine", "logarithmic"] = Field(
        "quadratic",
        description="'quadratic' (|z|^2/2), 'gaussian' (-exp(-|z|^2/2 width^2)), "
        "'power' (|z|^p/p), 'cosine' (-sum cos z) or 'logarithmic' (log|z|, on a cloud)",
    )
    width: float = Field(1.0, gt=0, description="of the Gaussian, a number > 0")
    exponent: float = Field(4.0, ge=1, description="p of the power, a number >= 1")

    def build_law(self, context: Context) -> Any:
        """InteractionEnergy(kernel)."""
        import jax.numpy as jnp

        from ...functionals import InteractionEnergy

        width, p = self.width, self.exponent
        kernels = {
            "quadratic": lambda z: 0.5 * jnp.sum(z**2),
            "gaussian": lambda z: -jnp.exp(-0.5 * jnp.sum(z**2) / width**2),
            "cosine": lambda z: -jnp.sum(jnp.cos(z)),
            "power": lambda z: jnp.sum(z**2) ** (0.5 * p) / p,
        }
        if self.kernel == "logarithmic":
            from ...kernels import Logarithmic

            return InteractionEnergy(Logarithmic())
        return InteractionEnergy(kernels[self.kernel])


def on_arrays(problem: Any) -> Any:
    """A problem's energy as a function of one array of coordinates (or of phase space)."""
    from jax.flatten_util import ravel_pytree

    from ...functionals import Energy

    _, unravel = ravel_pytree(problem.start)
    functional = problem.functional

    def energy(x: Any) -> Any:
        return functional(unravel(x))

    energy.__name__ = functional.name.removeprefix("E=")
    return Energy(energy)


class LawState(Section):
    mean: Numbers = Field(0.0, description="a number, or a list with one for each coordinate")
    deviation: Numbers | None = Field(
        None, description="standard deviations, a number > 0 or a list; left out: uniform"
    )
    chains: Literal[1] = Field(1, description="1: a law is one state")

    def vector(self, key: str, size: int, dtype: str) -> Any:
        """mean or deviation with `size` entries."""
        import jax.numpy as jnp

        given = getattr(self, key)
        values = [given] * size if isinstance(given, float) else given
        if len(values) != size:
            raise ArgumentError(f"state.{key}", f"{len(values)} numbers", f"expected {size}")
        if key == "deviation" and min(values) <= 0:
            raise ArgumentError("state.deviation", given, "numbers > 0")
        return jnp.asarray(values, dtype)


class DensityState(LawState):
    """A density on a grid."""

    kind: Literal["density"]
    lower: Numbers = Field(description="the lower end of the box, a number or one for each axis")
    upper: Numbers = Field(description="the upper end of the box, a number or one for each axis")
    cells: list[int] | int = Field(description="cells along each axis: an integer, or a list")
    boundary: Literal["reflecting", "periodic"] = Field(
        "reflecting", description="'reflecting' or 'periodic'"
    )
    law: Literal["gaussian", "uniform", "bump"] = Field(
        "gaussian",
        description="'gaussian', 'uniform' or 'bump' (a paraboloid of radius `deviation`)",
    )

    def build_law(self, context: Context, kinetic: bool, key: Any = None) -> Any:
        """Density on Grid(lower, upper, cells)."""
        import jax.numpy as jnp

        from ...states import Density, Grid

        cells = [self.cells] if isinstance(self.cells, int) else self.cells
        grid = Grid(self.lower, self.upper, cells, self.boundary, kinetic)
        mean = self.vector("mean", grid.dimension, context.dtype)
        x = grid.points().astype(context.dtype)
        if self.law == "uniform":
            return Density.normalised(grid, jnp.ones(grid.shape, context.dtype))
        if self.deviation is None:
            raise ArgumentError("state.deviation", None, f"a {self.law} law needs one")
        square = jnp.sum(
            ((x - mean) / self.vector("deviation", grid.dimension, context.dtype)) ** 2, -1
        )
        if self.law == "bump":
            return Density.normalised(grid, jnp.maximum(1.0 - square, 0.0))
        logs = -0.5 * square
        return Density.normalised(grid, jnp.exp(logs - jnp.max(logs)))


class GaussianState(LawState):
    """A Gaussian that moves as one."""

    kind: Literal["gaussian"]
    dimension: int = Field(2, ge=1, le=1000, description="the number of coordinates")
    diagonal: bool = Field(False, description="true keeps the coordinates independent")

    def build_law(self, context: Context, kinetic: bool, key: Any = None) -> Any:
        """Gaussian(mean, scale)."""
        import jax.numpy as jnp

        from ...states import Gaussian

        size = self.dimension * (2 if kinetic else 1)
        mean = self.vector("mean", size, context.dtype)
        scale = jnp.ones(size, context.dtype)
        if self.deviation is not None:
            scale = self.vector("deviation", size, context.dtype)
        return Gaussian(mean, scale if self.diagonal else jnp.diag(scale), phase=kinetic)


class MixtureState(LawState):
    """A mixture of Gaussians around a mean."""

    kind: Literal["mixture"]
    dimension: int = Field(2, ge=1, le=1000, description="the number of coordinates")
    components: int = Field(8, ge=1, le=1000, description="the number of components")

    def build_law(self, context: Context, kinetic: bool, key: Any = None) -> Any:
        """GaussianMixture.from_gaussian."""
        import jax.numpy as jnp

        from ...states import Gaussian, GaussianMixture

        mean = self.vector("mean", self.dimension, context.dtype)
        scale = jnp.ones(self.dimension, context.dtype)
        if self.deviation is not None:
            scale = self.vector("deviation", self.dimension, context.dtype)
        return GaussianMixture.from_gaussian(Gaussian(mean, jnp.diag(scale)), self.components)
