"""[functional]: named problems, regressions on a CSV file, and the user's own energies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from .base import REFERENCE, Context, FromFile, Section, registry

if TYPE_CHECKING:
    from ...problems import Problem


class _Landscape(Section):
    def build(self, context: Context) -> Problem:
        """The problem of this name."""
        from ... import problems

        maker = getattr(problems, self.kind.replace("-", "_"))  # type: ignore[attr-defined]
        return maker(**self.model_dump(exclude={"kind"}), dtype=context.dtype)


class Quadratic(_Landscape):
    """1/2 sum_i curvature_i x_i^2."""

    kind: Literal["quadratic"]
    curvatures: list[float] = Field(
        [1.0, 10.0], min_length=1, max_length=100_000, description="a list of positive numbers"
    )


class DoubleWell(_Landscape):
    """barrier (x_1^2 - 1)^2 + 1/2 stiffness sum_{i > 1} x_i^2."""

    kind: Literal["double-well"]
    dimension: int = Field(2, ge=1, le=1_000_000, description="the number of coordinates, >= 1")
    barrier: float = Field(4.0, gt=0, description="the height of the barrier, a number > 0")
    stiffness: float = Field(4.0, gt=0, description="the curvature across, a number > 0")


class Rosenbrock(_Landscape):
    """sum_i valley (x_{i+1} - x_i^2)^2 + (1 - x_i)^2."""

    kind: Literal["rosenbrock"]
    dimension: int = Field(2, ge=2, le=1_000_000, description="the number of coordinates, >= 2")
    valley: float = Field(100.0, gt=0, description="the steepness of the walls, a number > 0")


class GaussianMixture(_Landscape):
    """-log of a mixture of Gaussians with one deviation."""

    kind: Literal["gaussian-mixture"]
    means: list[list[float]] = Field(
        min_length=1, max_length=10_000, description="a list of points, one for each component"
    )
    deviation: float = Field(1.0, gt=0, description="of each component, a number > 0")
    weights: list[float] | None = Field(None, description="a list of positive numbers")


class _Bob(_Landscape):
    length: float = Field(1.0, gt=0, description="a number > 0")
    mass: float = Field(1.0, gt=0, description="a number > 0")
    gravity: float = Field(9.81, gt=0, description="a number > 0")


class Pendulum(_Bob):
    """One bob on a rod; its geometry is symplectic or kinetic."""

    kind: Literal["pendulum"]
    angle: float = Field(2.0, description="the angle at the start, a number (radians)")
    speed: float = Field(0.0, description="its rate at the start, a number")


class SphericalPendulum(_Bob):
    """One bob on a rod that swings in all directions; its geometry is 'own', its scheme rattle."""

    kind: Literal["spherical-pendulum"]
    angle: float = Field(1.0, description="from the lowest point, at the start, a number (radians)")
    speed: float = Field(2.0, description="sideways at the start, a number")


class HeatBath(_Landscape):
    """A body on a spring that warms what it rubs against; its geometry is 'own'."""

    kind: Literal["heat-bath"]
    position: float = Field(1.0, description="of the body at the start, a number")
    mass: float = Field(1.0, gt=0, description="a number > 0")
    stiffness: float = Field(2.0, gt=0, description="of the spring, a number > 0")
    rubbing: float = Field(0.4, gt=0, description="the coefficient of friction, a number > 0")
    capacity: float = Field(3.0, gt=0, description="the heat capacity of the bath, a number > 0")


class GasContainers(_Landscape):
    """A piston between two gases that exchange heat; its geometry is 'own'."""

    kind: Literal["gas-containers"]
    momentum: float = Field(2.0, description="of the piston at the start, a number")
    leak: float = Field(0.5, gt=0, description="how well the piston leads heat, a number > 0")


class DoublePendulum(_Landscape):
    """Two bobs, one hanging from the other."""

    kind: Literal["double-pendulum"]
    angles: list[float] = Field(
        [2.0, 2.5], min_length=2, max_length=2, description="two angles (radians)"
    )
    lengths: list[float] = Field(
        [1.0, 1.0], min_length=2, max_length=2, description="two numbers > 0"
    )
    masses: list[float] = Field(
        [1.0, 1.0], min_length=2, max_length=2, description="two numbers > 0"
    )
    gravity: float = Field(9.81, gt=0, description="a number > 0")


class Kepler(_Landscape):
    """A planet about a fixed sun."""

    kind: Literal["kepler"]
    eccentricity: float = Field(0.6, ge=0, lt=1, description="a number from 0 to below 1")
    collision: float = Field(1e-3, gt=0, description="the radius that ends a run, a number > 0")


class HenonHeiles(_Landscape):
    """A star in a galaxy: regular or chaotic, by its energy."""

    kind: Literal["henon-heiles"]
    energy: float = Field(0.125, ge=0.005, lt=1 / 6, description="from 0.005 to below 1/6")


class SpringChain(_Landscape):
    """Masses in a row, with springs that may stiffen."""

    kind: Literal["spring-chain"]
    count: int = Field(16, ge=2, le=100_000, description="the number of masses, >= 2")
    stiffness: float = Field(1.0, gt=0, description="a number > 0")
    cubic: float = Field(0.25, description="a number; 0 is a harmonic chain")


class _Regression(Section):
    data: str = Field(min_length=1, description="a CSV file, relative to the spec's folder")
    target: str = Field(description="the name of the column to predict")
    drop: list[str] = Field([], description="a list of columns to leave out")
    categorical: list[str] = Field([], description="a list of columns to code as indicators")
    missing: Literal["refuse", "drop-rows", "mean"] = Field(
        "refuse", description="one of 'refuse', 'drop-rows', 'mean'"
    )
    delimiter: Literal[",", ";", "\t", "|"] = Field(",", description="one of ',' ';' '\\t' '|'")
    intercept: bool = Field(True, description="true or false")

    def build(self, context: Context) -> Problem:
        """The regression of this name on its table."""
        from ... import problems

        maker = getattr(problems, self.kind.replace("-", "_"))  # type: ignore[attr-defined]
        options = self.model_dump(exclude={"kind"})
        path = context.folder / options.pop("data")
        return maker(path, options.pop("target"), **options, dtype=context.dtype)


class BayesianLogisticRegression(_Regression):
    """-log posterior of logistic regression, prior N(0, prior_scale^2)."""

    kind: Literal["bayesian-logistic-regression"]
    prior_scale: float = Field(1.0, gt=0, description="the prior's standard deviation, > 0")


class _Risk(_Regression):
    ridge: float = Field(0.0, ge=0, description="the penalty ridge/2 |theta|^2, a number >= 0")
    batch_size: int | None = Field(None, ge=1, description="rows in a minibatch, an integer >= 1")


class LinearRegression(_Risk):
    """The mean of half the squared residuals."""

    kind: Literal["linear-regression"]


class SoftmaxRegression(_Risk):
    """The mean cross entropy of classes."""

    kind: Literal["softmax-regression"]


class Imported(FromFile):
    """An energy of the user's own."""

    kind: Literal["imported"] = "imported"
    energy: str = Field(
        pattern=f"^{REFERENCE}$", description="'module:function', in a file beside the spec"
    )

    def build(self, context: Context) -> Problem:
        """Executes the user's file."""
        context.consent(self.energy, "functional.energy")
        from ...problems import imported_energy

        return imported_energy(self.energy, **self.source(context))


class Metriplectic(FromFile):
    """A closed system of the user's own: energy, entropy, and the matrices of both brackets."""

    kind: Literal["metriplectic"]
    energy: str = Field(pattern=f"^{REFERENCE}$", description="'module:function', state -> number")
    entropy: str = Field(pattern=f"^{REFERENCE}$", description="'module:function', state -> number")
    poisson: str | None = Field(
        None,
        pattern=f"^{REFERENCE}$",
        description="'module:function', state -> antisymmetric (d, d)",
    )
    friction: str | None = Field(
        None, pattern=f"^{REFERENCE}$", description="'module:function', state -> (d, d) >= 0"
    )
    dimension: int | None = Field(
        None, ge=1, le=10_000, description="the number of coordinates, an integer >= 1"
    )

    def build(self, context: Context) -> Problem:
        """Executes the user's file."""
        context.consent(self.energy, "functional.energy")
        from ...problems import imported_closed_system

        own = self.model_dump(include={"energy", "entropy", "poisson", "friction"})
        return imported_closed_system(**own, **self.source(context))


FUNCTIONALS = registry(
    BayesianLogisticRegression,
    LinearRegression,
    SoftmaxRegression,
    DoubleWell,
    Rosenbrock,
    Quadratic,
    GaussianMixture,
    Pendulum,
    SphericalPendulum,
    DoublePendulum,
    Kepler,
    HenonHeiles,
    SpringChain,
    HeatBath,
    GasContainers,
    Metriplectic,
    Imported,
)
