"""[scheme]: how time advances."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .base import Section, registry

Part = Literal["finite-volume", "exponential", "minimizing-movement", "euler", "birth-death"]


class _Stepping(Section):
    step: float = Field(gt=0, description="the time step, a number > 0")


class _NamedScheme(_Stepping):
    def build(self) -> Any:
        """The scheme of this name."""
        from ... import schemes

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


class ForestRuth(_NamedScheme):
    """Order 4, explicit and symplectic, for conservative kinetic flows."""

    kind: Literal["forest-ruth"]


class DiscreteGradient(_NamedScheme):
    """Order 2, implicit: the balance of the functional holds exactly."""

    kind: Literal["discrete-gradient"]


class Rattle(_NamedScheme):
    """Order 2 and symplectic on the surface of a constraint, for holonomic flows."""

    kind: Literal["rattle"]


class Yoshida(_Stepping):
    """Leapfrog composed to order 4 or 6, for conservative kinetic flows."""

    kind: Literal["yoshida"]
    order: Literal[4, 6] = Field(4, description="4 or 6")

    def build(self) -> Any:
        """Yoshida(step, order)."""
        from ...schemes import Yoshida

        return Yoshida(self.step, self.order)


class McLachlan(_Stepping):
    """The most accurate splittings of 2 or 4 forces, for conservative kinetic flows."""

    kind: Literal["mclachlan"]
    order: Literal[2, 4] = Field(2, description="2 or 4")

    def build(self) -> Any:
        """McLachlan(step, order)."""
        from ...schemes import McLachlan

        return McLachlan(self.step, self.order)


class Variational(_Stepping):
    """The stationary points of a discrete action: implicit, symplectic, for any Hamiltonian."""

    kind: Literal["variational"]
    order: Literal[2, 4, 6] = Field(2, description="2, 4 or 6")
    quadrature: Literal["gauss", "lobatto"] = Field("gauss", description="'gauss' or 'lobatto'")

    def build(self) -> Any:
        """Variational(step, order, quadrature)."""
        from ...schemes import Variational

        return Variational(self.step, self.order, self.quadrature)


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
        from ...schemes import RungeKutta

        return RungeKutta(self.solver, self.rtol, self.atol)


class MinimizingMovement(_Stepping):
    """x+ = argmin F + distance^2 / (2 step)."""

    kind: Literal["minimizing-movement"]
    tolerance: float | None = Field(None, gt=0, description="of the inner problem, a number > 0")
    method: Literal["auto", "covector", "bures", "quantile", "mirror"] = Field(
        "auto", description="'auto', 'covector', 'bures', 'quantile' or 'mirror'"
    )
    order: Literal[1, 2] = Field(1, description="1, or 2 on a line and on a Gaussian")

    def build(self) -> Any:
        """MinimizingMovement(step, tolerance, method=..., order=...)."""
        from ...schemes import MinimizingMovement

        return MinimizingMovement(
            self.step, tolerance=self.tolerance, method=self.method, order=self.order
        )


class FiniteVolume(_Stepping):
    """Implicit finite volumes, for a density."""

    kind: Literal["finite-volume"]
    order: Literal[1, 2] = Field(1, description="1 or 2")

    def build(self) -> Any:
        """FiniteVolume(step, order)."""
        from ...schemes import FiniteVolume

        return FiniteVolume(self.step, self.order)


class Exponential(_NamedScheme):
    """The exact flow of a density (linear) or under fisher-rao."""

    kind: Literal["exponential"]


class BirthDeath(_Stepping):
    """Weights of a cloud by fisher-rao, with resampling."""

    kind: Literal["birth-death"]
    threshold: float = Field(
        0.5, ge=0, le=1, description="resample below this share of effective particles"
    )

    def build(self) -> Any:
        """BirthDeath(step, threshold)."""
        from ...schemes import BirthDeath

        return BirthDeath(self.step, self.threshold)


class Strang(_Stepping):
    """Each term of the geometry by its own scheme, in symmetric turns."""

    kind: Literal["strang"]
    schemes: list[Part] = Field(
        min_length=2,
        max_length=4,
        description="a list of 'finite-volume', 'exponential', 'minimizing-movement', 'euler', "
        "'birth-death', one for each geometry",
    )

    def build(self) -> Any:
        """Composition(...), finite volumes of order 2."""
        from ... import schemes

        made = {
            "finite-volume": lambda: schemes.FiniteVolume(self.step, 2),
            "exponential": lambda: schemes.Exponential(self.step),
            "minimizing-movement": lambda: schemes.MinimizingMovement(self.step),
            "euler": lambda: schemes.Euler(self.step),
            "birth-death": lambda: schemes.BirthDeath(self.step),
        }
        return schemes.Composition(*[made[name]() for name in self.schemes])


class Metropolis(_Stepping):
    """Accept or reject a step of another scheme, so that the law is exact."""

    kind: Literal["metropolis"]
    proposal: Literal["euler", "obabo"] = Field(description="'euler' or 'obabo' (kinetic)")

    def build(self) -> Any:
        """Metropolis(Euler(step)) or Metropolis(OBABO(step))."""
        from ... import schemes

        inner = {"euler": schemes.Euler, "obabo": schemes.OBABO}[self.proposal]
        return schemes.Metropolis(inner(self.step))


SCHEMES = registry(
    Euler,
    RungeKutta,
    Leapfrog,
    ForestRuth,
    Yoshida,
    McLachlan,
    Variational,
    DiscreteGradient,
    Rattle,
    BAOAB,
    OBABO,
    MinimizingMovement,
    Metropolis,
    FiniteVolume,
    Exponential,
    Strang,
    BirthDeath,
)
