"""[noise]: what fluctuates. A list of tables is a sum."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .base import SCHEDULED, Number, Section, registry, value_of


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
        from ...noise import Thermal

        return Thermal(value_of(self.temperature), self.increments)


class Minibatch(Section):
    """The noise of subsampled data; the functional needs batch_size."""

    kind: Literal["minibatch"]

    def build(self) -> Any:
        """Minibatch()."""
        from ...noise import Minibatch

        return Minibatch()


class Diffusion(Section):
    """sigma dW, with no fluctuation-dissipation."""

    kind: Literal["diffusion"]
    sigma: float = Field(description="a number")

    def build(self) -> Any:
        """Diffusion(sigma)."""
        from ...noise import Diffusion

        return Diffusion(self.sigma)


NOISES = registry(NoNoise, Thermal, Minibatch, Diffusion)
