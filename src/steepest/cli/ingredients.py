"""The tables of a spec: one class for each kind, its keys with their bounds, and what it builds.

A new ingredient is a class here and its line in a registry at the end. The description of a key is what
an error message says is allowed. Nothing heavy is imported before `build`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import ArgumentError

if TYPE_CHECKING:
    from ..problems import Problem


@dataclasses.dataclass(frozen=True)
class Context:
    """What building needs beside the table: the spec's folder, the float type, consent to code."""

    folder: Path
    dtype: str = "float32"
    allow_code: bool = False

    def consent(self, reference: str, key: str) -> None:
        """Raises ArgumentError unless the user allowed that a spec executes code."""
        if not self.allow_code:
            raise ArgumentError(
                key,
                repr(reference),
                "this executes a Python file; if you trust it, add the flag --allow-code",
            )

    def load(self, reference: str, folder: str, key: str) -> Any:
        """The object `module:name` of a file beside the spec, with consent only."""
        self.consent(reference, key)
        from ..problems.imported import load_object

        return load_object(reference, self.folder / folder, key)


class Section(BaseModel):
    """A table: unknown keys, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Schedule(Section):
    """A number that goes from `initial` to `final` while flow time goes from 0 to `time`."""

    initial: float = Field(ge=0)
    final: float = Field(ge=0)
    time: float = Field(gt=0)
    shape: Literal["linear", "exponential"] = "linear"

    @model_validator(mode="after")
    def _positive(self) -> Schedule:
        if self.shape == "exponential" and min(self.initial, self.final) == 0:
            raise ValueError("an exponential schedule has no zero")
        return self

    def build(self) -> Any:
        """A function of flow time (an optax schedule)."""
        import optax

        if self.shape == "linear":
            return optax.linear_schedule(self.initial, self.final, self.time)  # pyright: ignore[reportArgumentType]
        rate = self.final / self.initial
        return optax.exponential_decay(self.initial, self.time, rate, end_value=self.final)  # pyright: ignore[reportArgumentType]


Number = Annotated[float, Field(ge=0)] | Schedule


def _value(number: float | Schedule) -> Any:
    return number.build() if isinstance(number, Schedule) else number


SCHEDULED = "a number >= 0, or a schedule { initial, final, time, shape = 'linear'|'exponential' }"
REFERENCE = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"


# ---- state ----


class Point(Section):
    """One state."""

    kind: Literal["point"] = "point"
    initial: Literal["start", "normal"] | list[float] = Field(
        "start", description="'start' (the problem's own), 'normal' (around it) or a list of numbers"
    )
    scale: float = Field(1.0, gt=0, description="the standard deviation of 'normal', a number > 0")
    momentum: Literal["auto", "rest", "thermal"] = Field(
        "auto", description="'rest', 'thermal', or 'auto' (thermal where the flow has a bath)"
    )
    chains: Literal[1] = Field(1, description="1; more chains need kind = 'particles'")


class Particles(Point):
    """Many states side by side: chains."""

    kind: Literal["particles"] = "particles"  # pyright: ignore[reportIncompatibleVariableOverride]
    chains: int = Field(64, ge=2, le=10_000_000, description="the number of chains, at least 2")  # pyright: ignore[reportIncompatibleVariableOverride]
    initial: Literal["start", "normal"] | list[float] = Field(
        "normal",
        description="'start' (the problem's own), 'normal' (around it) or a list of numbers",
    )


# ---- functional ----


class _Landscape(Section):
    def build(self, context: Context) -> Problem:
        """The problem of this name."""
        from .. import problems

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


class _Regression(Section):
    data: str = Field(min_length=1, description="a CSV file, relative to the spec's folder")
    target: str = Field(description="the name of the column to predict")
    drop: list[str] = Field([], description="a list of columns to leave out")
    categorical: list[str] = Field([], description="a list of columns to code as indicators")
    missing: Literal["refuse", "drop-rows", "mean"] = Field(
        "refuse", description="one of 'refuse', 'drop-rows', 'mean'"
    )
    delimiter: Literal[",", ";", "\t", "|"] = Field(
        ",", description="one of ',' ';' '\\t' '|'"
    )
    intercept: bool = Field(True, description="true or false")

    def build(self, context: Context) -> Problem:
        """The regression of this name on its table."""
        from .. import problems

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


class Imported(Section):
    """An energy of the user's own."""

    kind: Literal["imported"] = "imported"
    energy: str = Field(
        pattern=f"^{REFERENCE}$", description="'module:function', in a file beside the spec"
    )
    start: str | None = Field(
        None, pattern=f"^{REFERENCE}$", description="'module:name' of the initial parameters"
    )
    dimension: int | None = Field(
        None, ge=1, le=10_000_000, description="the number of parameters, an integer >= 1"
    )
    folder: str = Field(".", description="where the file is, relative to the spec's folder")

    def build(self, context: Context) -> Problem:
        """Executes the user's file."""
        context.consent(self.energy, "functional.energy")
        from ..problems import imported_energy

        return imported_energy(
            self.energy,
            folder=context.folder / self.folder,
            dimension=self.dimension,
            start=self.start,
            dtype=context.dtype,
        )


# ---- geometry ----


class _Geometry(Section):
    factor: float = Field(1.0, ge=0, description="multiplies the geometry, a number >= 0")


class _Plain(_Geometry):
    def build(self, context: Context) -> Any:
        """The geometry of this name, which has no parameters."""
        from .. import geometries

        return getattr(geometries, type(self).__name__)()


class Euclidean(_Plain):
    """The gradient is the differential."""

    kind: Literal["euclidean"]


class Symplectic(_Plain):
    """Mechanics: conserves H."""

    kind: Literal["symplectic"]


class Sphere(_Plain):
    """Unit vectors."""

    kind: Literal["sphere"]


class Stiefel(_Plain):
    """Matrices with orthonormal columns."""

    kind: Literal["stiefel"]


class SymmetricPositiveDefinite(_Plain):
    """Symmetric positive definite matrices."""

    kind: Literal["symmetric-positive-definite"]


class Hyperbolic(_Plain):
    """The hyperboloid."""

    kind: Literal["hyperbolic"]


class Friction(_Geometry):
    """Friction on the momentum; add it to symplectic."""

    kind: Literal["friction"]
    gamma: Number = Field(1.0, description=SCHEDULED)

    def build(self, context: Context) -> Any:
        """Friction(gamma)."""
        from ..geometries import Friction

        return Friction(_value(self.gamma))


class Kinetic(_Geometry):
    """Symplectic() + Friction(friction): underdamped dynamics."""

    kind: Literal["kinetic"]
    friction: Number = Field(1.0, description=SCHEDULED)

    def build(self, context: Context) -> Any:
        """Symplectic() + Friction(friction)."""
        from ..geometries import Friction, Symplectic

        return Symplectic() + Friction(_value(self.friction))


class Riemannian(_Geometry):
    """A metric: a constant matrix, or a function of the user's own."""

    kind: Literal["riemannian"]
    metric: str | list[list[float]] = Field(
        description="a symmetric positive definite matrix, or 'module:function' (theta -> matrix)"
    )
    folder: str = Field(".", description="where the file is, relative to the spec's folder")

    def build(self, context: Context) -> Any:
        """Riemannian(metric)."""
        from ..geometries import Riemannian

        if isinstance(self.metric, str):
            return Riemannian(context.load(self.metric, self.folder, "geometry.metric"))
        rows = self.metric
        if not rows or any(len(row) != len(rows) for row in rows):
            raise ArgumentError("geometry.metric", rows, "a square matrix, a list of its rows")
        import jax.numpy as jnp

        matrix = jnp.asarray(rows, context.dtype)
        return Riemannian(lambda theta: matrix)


# ---- noise ----


class NoNoise(Section):
    """A deterministic flow."""

    kind: Literal["none"]

    def build(self) -> Any:
        """None."""
        return None


class Thermal(Section):
    """A bath, bound to the geometry by fluctuation-dissipation."""

    kind: Literal["thermal"]
    temperature: Number = Field(1.0, description=SCHEDULED)
    increments: Literal["normal", "two-point", "three-point"] = Field(
        "normal", description="one of 'normal', 'two-point', 'three-point'"
    )

    def build(self) -> Any:
        """Thermal(temperature)."""
        from ..noise import Thermal

        return Thermal(_value(self.temperature), self.increments)


class Minibatch(Section):
    """The noise of subsampled data; the functional needs batch_size."""

    kind: Literal["minibatch"]

    def build(self) -> Any:
        """Minibatch()."""
        from ..noise import Minibatch

        return Minibatch()


class Diffusion(Section):
    """sigma dW, with no fluctuation-dissipation."""

    kind: Literal["diffusion"]
    sigma: float = Field(description="a number")

    def build(self) -> Any:
        """Diffusion(sigma)."""
        from ..noise import Diffusion

        return Diffusion(self.sigma)


# ---- scheme ----


class _Stepping(Section):
    step: float = Field(gt=0, description="the time step, a number > 0")


class _NamedScheme(_Stepping):
    def build(self) -> Any:
        """The scheme of this name."""
        from .. import schemes

        return getattr(schemes, type(self).__name__)(self.step)


class Euler(_NamedScheme):
    """Explicit Euler; Euler-Maruyama with noise."""

    kind: Literal["euler"]


class Leapfrog(_NamedScheme):
    """Velocity Verlet, for conservative kinetic flows."""

    kind: Literal["leapfrog"]


class BAOAB(_NamedScheme):
    """The splitting BAOAB, for kinetic flows with friction."""

    kind: Literal["baoab"]


class OBABO(_NamedScheme):
    """The splitting OBABO, for kinetic flows with friction."""

    kind: Literal["obabo"]


class RungeKutta(Section):
    """Adaptive Runge-Kutta; `run.time` says how far."""

    kind: Literal["runge-kutta"]
    solver: Literal["heun", "bosh3", "tsit5", "dopri5", "dopri8", "kvaerno3", "kvaerno5"] = Field(
        "tsit5", description="one of heun, bosh3, tsit5, dopri5, dopri8, kvaerno3, kvaerno5"
    )
    rtol: float = Field(1e-6, gt=0, description="the relative tolerance, a number > 0")
    atol: float = Field(1e-9, gt=0, description="the absolute tolerance, a number > 0")

    def build(self) -> Any:
        """RungeKutta(solver, rtol, atol)."""
        from ..schemes import RungeKutta

        return RungeKutta(self.solver, self.rtol, self.atol)


class MinimizingMovement(_Stepping):
    """x+ = argmin F + distance^2 / (2 step)."""

    kind: Literal["minimizing-movement"]
    tolerance: float | None = Field(None, gt=0, description="of the inner problem, a number > 0")

    def build(self) -> Any:
        """MinimizingMovement(step, tolerance)."""
        from ..schemes import MinimizingMovement

        return MinimizingMovement(self.step, tolerance=self.tolerance)


class Metropolis(_Stepping):
    """Accept or reject a step of another scheme, so that the law is exact."""

    kind: Literal["metropolis"]
    proposal: Literal["euler", "obabo"] = Field(description="'euler' or 'obabo' (kinetic)")

    def build(self) -> Any:
        """Metropolis(Euler(step)) or Metropolis(OBABO(step))."""
        from .. import schemes

        inner = {"euler": schemes.Euler, "obabo": schemes.OBABO}[self.proposal]
        return schemes.Metropolis(inner(self.step))


# ---- run ----


class Run(Section):
    """How far, what to keep, and with which numbers."""

    steps: int | None = Field(None, ge=1, lt=2**32, description="an integer from 1 to 2^32 - 1")
    time: float | None = Field(None, gt=0, description="flow time, a number > 0")
    warmup: int = Field(0, ge=0, lt=2**32, description="steps before the run, an integer >= 0")
    save_every: int = Field(1, ge=1, description="steps between saves, an integer >= 1")
    seed: int = Field(0, ge=0, lt=2**32, description="an integer from 0 to 2^32 - 1")
    precision: Literal["float32", "float64"] = Field(
        "float32", description="'float32' or 'float64'"
    )


def registry(*classes: type[Section]) -> dict[str, type[Section]]:
    """kind -> class, read off each class."""
    return {cls.model_fields["kind"].annotation.__args__[0]: cls for cls in classes}  # type: ignore[union-attr]


STATES = registry(Point, Particles)
FUNCTIONALS = registry(
    BayesianLogisticRegression,
    LinearRegression,
    SoftmaxRegression,
    DoubleWell,
    Rosenbrock,
    Quadratic,
    Imported,
)
GEOMETRIES = registry(
    Euclidean,
    Riemannian,
    Kinetic,
    Symplectic,
    Friction,
    Sphere,
    Stiefel,
    SymmetricPositiveDefinite,
    Hyperbolic,
)
NOISES = registry(NoNoise, Thermal, Minibatch, Diffusion)
SCHEMES = registry(Euler, RungeKutta, Leapfrog, BAOAB, OBABO, MinimizingMovement, Metropolis)
