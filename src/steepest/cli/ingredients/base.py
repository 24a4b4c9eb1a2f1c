"""What the tables share: sections, schedules, and consent to executing code."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...errors import ArgumentError


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
        from ...problems.imported import load_object

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


def value_of(number: float | Schedule) -> Any:
    return number.build() if isinstance(number, Schedule) else number


SCHEDULED = "a number >= 0, or a schedule { initial, final, time, shape = 'linear'|'exponential' }"
REFERENCE = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"


class FromFile(Section):
    """What is defined by functions in a Python file of the user's."""

    start: str | None = Field(
        None, pattern=f"^{REFERENCE}$", description="'module:name' of the start"
    )
    dimension: int | None = Field(
        None, ge=1, le=10_000_000, description="the number of coordinates, an integer >= 1"
    )
    folder: str = Field(".", description="where the file is, relative to the spec's folder")

    def source(self, context: Context) -> dict[str, Any]:
        """Where the file is and how a state looks, as the makers of problems take it."""
        return dict(
            folder=context.folder / self.folder,
            dimension=self.dimension,
            start=self.start,
            dtype=context.dtype,
        )


def registry(*classes: type[Section]) -> dict[str, type[Section]]:
    """kind -> class, read off each class."""
    return {cls.model_fields["kind"].annotation.__args__[0]: cls for cls in classes}  # type: ignore[union-attr]
