"""[geometry]: how steepest is measured. A list of tables is a sum."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ...errors import ArgumentError
from .base import REFERENCE, SCHEDULED, Context, Number, Section, registry, value_of


class _Geometry(Section):
    factor: float = Field(1.0, ge=0, description="multiplies the geometry, a number >= 0")


class _Plain(_Geometry):
    def build(self, context: Context) -> Any:
        """The geometry of this name, which has no parameters."""
        from ... import geometries

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


class Wasserstein(_Plain):
    """Of a law: mass moves. Implied where a law meets a geometry of parameters."""

    kind: Literal["wasserstein"]


class FisherRao(_Plain):
    """Of a law: mass appears and disappears."""

    kind: Literal["fisher-rao"]


class Friction(_Geometry):
    """Friction on the momentum; add it to symplectic."""

    kind: Literal["friction"]
    gamma: Number = Field(1.0, description=SCHEDULED)

    def build(self, context: Context) -> Any:
        """Friction(gamma)."""
        from ...geometries import Friction

        return Friction(value_of(self.gamma))


class Kinetic(_Geometry):
    """Symplectic() + Friction(friction): underdamped dynamics."""

    kind: Literal["kinetic"]
    friction: Number = Field(1.0, description=SCHEDULED)

    def build(self, context: Context) -> Any:
        """Symplectic() + Friction(friction)."""
        from ...geometries import Friction, Symplectic

        return Symplectic() + Friction(value_of(self.friction))


class Holonomic(_Geometry):
    """Mechanics on the surface where a function of the user's own is zero."""

    kind: Literal["holonomic"]
    constraint: str = Field(
        pattern=f"^{REFERENCE}$", description="'module:function', position -> array that stays zero"
    )
    mass: float = Field(1.0, gt=0, description="of every coordinate, a number > 0")
    folder: str = Field(".", description="where the file is, relative to the spec's folder")

    def build(self, context: Context) -> Any:
        """Holonomic(constraint, mass)."""
        from ...geometries import Holonomic

        surface = context.load(self.constraint, self.folder, "geometry.constraint")
        return Holonomic(surface, self.mass)


class Own(_Geometry):
    """What the functional brings along: the brackets of a closed system, a constraint."""

    kind: Literal["own"]

    def build(self, context: Context) -> None:
        """None: it comes with the functional."""
        return None


class Riemannian(_Geometry):
    """A metric: a constant matrix, or a function of the user's own."""

    kind: Literal["riemannian"]
    metric: str | list[list[float]] = Field(
        description="a symmetric positive definite matrix, or 'module:function' (theta -> matrix)"
    )
    folder: str = Field(".", description="where the file is, relative to the spec's folder")

    def build(self, context: Context) -> Any:
        """Riemannian(metric)."""
        from ...geometries import Riemannian

        if isinstance(self.metric, str):
            return Riemannian(context.load(self.metric, self.folder, "geometry.metric"))
        rows = self.metric
        if not rows or any(len(row) != len(rows) for row in rows):
            raise ArgumentError("geometry.metric", rows, "a square matrix, a list of its rows")
        import jax.numpy as jnp

        matrix = jnp.asarray(rows, context.dtype)
        return Riemannian(lambda theta: matrix)


class Stein(_Geometry):
    """Velocities smoothed by a kernel: SVGD. Implies a law."""

    kind: Literal["stein"]
    kernel: Literal["gaussian", "inverse-multiquadric"] = Field(
        "gaussian", description="'gaussian' or 'inverse-multiquadric'"
    )
    bandwidth: float | Literal["median"] = Field(
        "median", description="'median' (of the distances), or a number > 0"
    )

    def build(self, context: Context) -> Any:
        """Stein(kernel, bandwidth)."""
        from ...geometries import Stein
        from ...kernels import GaussianKernel, InverseMultiquadric

        made = {"gaussian": GaussianKernel, "inverse-multiquadric": InverseMultiquadric}
        return Stein(made[self.kernel](), self.bandwidth)


class Norm(_Geometry):
    """Steepest descent under a norm: sign descent, orthogonalised updates, ..."""

    kind: Literal["norm"]
    norm: Literal["euclidean", "sup", "l1", "spectral", "row", "column"] = Field(
        "sup", description="'euclidean', 'sup', 'l1', 'spectral', 'row' or 'column'"
    )
    unit: bool = Field(False, description="true: velocities of norm 1")

    def build(self, context: Context) -> Any:
        """Norm(norm, unit)."""
        from ...geometries import Norm

        return Norm(self.norm, self.unit)


class Bregman(_Geometry):
    """Mirror descent: the Hessian of a potential."""

    kind: Literal["bregman"]
    potential: Literal["simplex", "entropy", "hyperbolic"] = Field(
        "simplex", description="'simplex', 'entropy' (positive numbers) or 'hyperbolic'"
    )

    def build(self, context: Context) -> Any:
        """Bregman(potential)."""
        from ...geometries import Bregman

        return Bregman(self.potential)


GEOMETRIES = registry(
    Euclidean,
    Riemannian,
    Kinetic,
    Symplectic,
    Friction,
    Holonomic,
    Own,
    Sphere,
    Stiefel,
    SymmetricPositiveDefinite,
    Hyperbolic,
    Wasserstein,
    FisherRao,
    Stein,
    Norm,
    Bregman,
)
