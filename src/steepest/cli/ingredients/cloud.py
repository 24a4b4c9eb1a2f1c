"""Particles that interact: [state] as a cloud, and [functional]s that compare it with data."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ...errors import ArgumentError
from .base import Context, Section
from .law import LawFunctional, LawState, Numbers


class CloudState(LawState):
    """Particles that make up one law together."""

    kind: Literal["cloud"]
    count: int = Field(1000, ge=2, le=1_000_000, description="the number of particles, at least 2")
    dimension: int = Field(2, ge=1, le=10_000, description="the number of coordinates")
    deviation: Numbers | None = Field(
        None, description="standard deviations, a number > 0 or a list; left out: 1"
    )
    weighted: bool = Field(False, description="true: weights that fisher-rao may move")

    def build_law(self, context: Context, kinetic: bool, key: Any = None) -> Any:
        """Particles from a Gaussian, at rest where the geometry is kinetic."""
        import jax
        import jax.numpy as jnp

        from ...states import Particles, Phase

        key = jax.random.key(0) if key is None else key
        mean = self.vector("mean", self.dimension, context.dtype)
        spread = jnp.ones(self.dimension, context.dtype)
        if self.deviation is not None:
            spread = self.vector("deviation", self.dimension, context.dtype)
        white = jax.random.normal(key, (self.count, self.dimension), context.dtype)
        positions: Any = mean + spread * white
        if kinetic:
            positions = Phase.at_rest(positions)
        logs = jnp.zeros(self.count, context.dtype) if self.weighted else None
        return Particles(positions, logs)


class _Points(Section):
    data: str = Field(min_length=1, description="a CSV file, relative to the spec's folder")
    columns: list[str] = Field([], description="a list of columns, the coordinates; left out: all")
    delimiter: Literal[",", ";", "\t", "|"] = Field(",", description="one of ',' ';' '\\t' '|'")

    def points(self, context: Context) -> Any:
        """The points of the file."""
        import jax.numpy as jnp

        from ...problems import read_points

        found, _ = read_points(context.folder / self.data, self.columns, delimiter=self.delimiter)
        return jnp.asarray(found, context.dtype)

    def axes(self, context: Context) -> tuple[str, ...]:
        """The columns: all of the file's where none is named."""
        from ...problems import read_points

        place = context.folder / self.data
        return read_points(place, self.columns, delimiter=self.delimiter)[1]


class MMD(_Points, LawFunctional):
    """Half the squared maximum mean discrepancy to the points of a CSV file."""

    kind: Literal["mmd"]
    kernel: Literal["gaussian", "inverse-multiquadric", "energy-distance"] = Field(
        "energy-distance", description="'gaussian', 'inverse-multiquadric' or 'energy-distance'"
    )
    bandwidth: float | None = Field(
        None, gt=0, description="of the kernel, a number > 0; left out: the median distance"
    )

    def build_law(self, context: Context) -> Any:
        """MMD(data, kernel)."""
        from ... import kernels
        from ...functionals import MMD

        data = self.points(context)
        if self.kernel == "energy-distance":
            if self.bandwidth is not None:
                raise ArgumentError("functional.bandwidth", self.bandwidth, "this kernel has none")
            return MMD(data, kernels.EnergyDistance())
        width = self.bandwidth
        width = kernels.median_bandwidth(data) if width is None else width
        made = {
            "gaussian": kernels.GaussianKernel,
            "inverse-multiquadric": kernels.InverseMultiquadric,
        }
        return MMD(data, made[self.kernel](width))


class SinkhornDivergence(_Points, LawFunctional):
    """The Sinkhorn divergence to the points of a CSV file."""

    kind: Literal["sinkhorn-divergence"]
    epsilon: float | None = Field(
        None, gt=0, description="the entropic regularisation, a number > 0 in squared units"
    )

    def build_law(self, context: Context) -> Any:
        """SinkhornDivergence(data, epsilon)."""
        from ...functionals import SinkhornDivergence

        return SinkhornDivergence(self.points(context), self.epsilon)


class SlicedWasserstein(_Points, LawFunctional):
    """The sliced Wasserstein distance to the points of a CSV file."""

    kind: Literal["sliced-wasserstein"]
    projections: int = Field(64, ge=1, le=100_000, description="directions, an integer >= 1")

    def build_law(self, context: Context) -> Any:
        """SlicedWasserstein(data, projections)."""
        from ...functionals import SlicedWasserstein

        return SlicedWasserstein(self.points(context), self.projections)


class TwoLayerNetwork(LawFunctional):
    """The risk of a two-layer network on a table; the particles are its neurons."""

    kind: Literal["two-layer-network"]
    data: str = Field(min_length=1, description="a CSV file, relative to the spec's folder")
    target: str = Field(description="the name of the column to predict")
    drop: list[str] = Field([], description="a list of columns to leave out")
    ridge: float = Field(0.0, ge=0, description="the penalty, a number >= 0")

    def build_law(self, context: Context) -> Any:
        """MeasureFunctional of TwoLayerRisk."""
        return self._problem(context).functional

    def axes(self, context: Context) -> tuple[str, ...]:
        """The inner weight of each feature, the offset, the outer weight."""
        return self._problem(context).coords["neuron"]

    def _problem(self, context: Context) -> Any:
        from ...problems import two_layer_network

        return two_layer_network(
            context.folder / self.data,
            self.target,
            ridge=self.ridge,
            drop=self.drop,
            dtype=context.dtype,
        )


CLOUD_FUNCTIONALS = (MMD, SinkhornDivergence, SlicedWasserstein, TwoLayerNetwork)
