"""The tables of `steepest generate`: data, process, network, training, sampling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Section, registry

POSITIVE = "a number > 0"


class TwoMoons(Section):
    """Two half circles with noise; the exact score is known."""

    kind: Literal["two-moons"] = "two-moons"
    count: int = Field(20_000, ge=100, le=10**6, description="how many points, 100 to 1000000")
    noise: float = Field(0.12, gt=0, description=POSITIVE)


class CheckerboardSet(Section):
    """Eight fields of a 4 x 4 board; the exact score is known."""

    kind: Literal["checkerboard"] = "checkerboard"
    count: int = Field(20_000, ge=100, le=10**6, description="how many points, 100 to 1000000")


class CsvPoints(Section):
    """The numeric columns of a CSV file, as points or as images."""

    kind: Literal["csv"] = "csv"
    data: str = Field(min_length=1, description="a CSV file, relative to the spec's folder")
    label: str | None = Field(None, description="a column of classes to condition on")
    drop: list[str] = Field([], description="a list of columns to leave out")
    shape: list[int] | None = Field(None, description="the shape of an image, e.g. [8, 8]")
    quantum: float = Field(0.0, ge=0, description="the spacing of integer-like values, >= 0")
    divide: float = Field(1.0, gt=0, description="a number > 0 that values are divided by")


class ArrayImages(Section):
    """An .npz file with an array of images, and of labels."""

    kind: Literal["npz"] = "npz"
    data: str = Field(min_length=1, description="an .npz file, relative to the spec's folder")
    array: str = Field("images", description="the name of the array (n, ...)")
    label: str | None = Field(None, description="the name of the array of integer labels")
    quantum: float = Field(0.0, ge=0, description="the spacing of integer-like values, >= 0")
    divide: float = Field(1.0, gt=0, description="a number > 0 that values are divided by")


class ImageFolder(Section):
    """A folder of PNG images of one size, 8 bits a channel."""

    kind: Literal["images"] = "images"
    folder: str = Field(min_length=1, description="a folder of .png files, relative to the spec's")
    classes: bool = Field(False, description="true: subfolders are the classes to condition on")
    quantum: float = Field(1.0, ge=0, description="the spacing of integer-like values, >= 0")
    divide: float = Field(255.0, gt=0, description="a number > 0 that values are divided by")


DATA = registry(TwoMoons, CheckerboardSet, CsvPoints, ArrayImages, ImageFolder)


class ProcessTable(Section):
    """The forward process; left out: its own defaults."""

    kind: Literal[
        "edm", "variance-preserving", "sub-variance-preserving", "cosine", "variance-exploding"
    ] = Field(
        "edm",
        description="one of edm, variance-preserving, sub-variance-preserving, cosine, "
        "variance-exploding",
    )
    start: float | None = Field(None, description=POSITIVE)
    end: float | None = Field(None, description=POSITIVE)
    beta_min: float | None = Field(None, description=POSITIVE)
    beta_max: float | None = Field(None, description=POSITIVE)
    sigma_min: float | None = Field(None, description=POSITIVE)
    sigma_max: float | None = Field(None, description=POSITIVE)


class NetworkTable(Section):
    """The network: a perceptron for vectors, a U-Net for images."""

    kind: Literal["perceptron", "unet"] = Field("perceptron", description="'perceptron' or 'unet'")
    width: int = Field(128, ge=8, le=4096, description="an integer from 8 to 4096")
    depth: int = Field(3, ge=1, le=64, description="blocks of a perceptron, 1 to 64")


class TrainTable(Section):
    """How the score is learned."""

    steps: int = Field(5000, ge=1, description="an integer >= 1")
    batch_size: int = Field(256, ge=1, description="an integer >= 1")
    learning_rate: float = Field(2e-3, gt=0, description=POSITIVE)
    parametrisation: Literal["velocity", "noise", "clean"] = Field(
        "velocity", description="'velocity', 'noise' or 'clean'"
    )
    loss: Literal["denoising", "sliced", "implicit"] = Field(
        "denoising", description="'denoising', 'sliced' or 'implicit'"
    )
    weighting: Literal["velocity", "likelihood"] = Field(
        "velocity", description="'velocity' or 'likelihood'"
    )
    ema: float = Field(0.999, ge=0, lt=1, description="a number in [0, 1)")
    held_out: float = Field(0.25, gt=0, lt=1, description="a share between 0 and 1")
    seed: int = Field(0, ge=0, lt=2**32, description="an integer from 0 to 2^32 - 1")


class SampleTable(Section):
    """How samples are drawn."""

    count: int = Field(4000, ge=100, le=10**6, description="an integer from 100 to 1000000")
    steps: int = Field(30, ge=1, le=10_000, description="evaluations of the network, >= 1")
    guidance: float = Field(0.0, ge=0, description="a number >= 0; 0 is none")


TABLES = {
    "process": ProcessTable,
    "network": NetworkTable,
    "train": TrainTable,
    "sample": SampleTable,
}
