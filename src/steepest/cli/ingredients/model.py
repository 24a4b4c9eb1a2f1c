"""[model] of `steepest compare`: posteriors on a CSV file, NumPyro models, the user's densities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from .base import REFERENCE, Context, FromFile, Section, registry

if TYPE_CHECKING:
    from ...problems import Problem

FLAT = "the prior's standard deviation, a number > 0, or inf (flat) where the posterior is proper"


class _OnTable(Section):
    """What regressions on a CSV file share."""

    maker: ClassVar[str]

    data: str = Field(min_length=1, description="a CSV file, relative to the spec's folder")
    target: str = Field(description="the name of the column to predict")
    drop: list[str] = Field([], description="a list of columns to leave out")
    categorical: list[str] = Field([], description="a list of columns to code as indicators")
    missing: Literal["refuse", "drop-rows", "mean"] = Field(
        "refuse", description="one of 'refuse', 'drop-rows', 'mean'"
    )
    delimiter: Literal[",", ";", "\t", "|"] = Field(",", description="one of ',' ';' '\\t' '|'")
    prior_scale: float = Field(1.0, gt=0, allow_inf_nan=True, description=FLAT)

    def build(self, context: Context) -> Problem:
        """The posterior of this name on its table."""
        from ... import problems

        options = self.model_dump(exclude={"kind"})
        path = context.folder / options.pop("data")
        make = getattr(problems, self.maker)
        return make(path, options.pop("target"), **options, dtype=context.dtype)


class _Regression(_OnTable):
    intercept: bool = Field(True, description="true or false")


class Logistic(_Regression):
    """Two classes."""

    maker = "bayesian_logistic_regression"
    kind: Literal["bayesian-logistic-regression"]


class Linear(_Regression):
    """Numbers with normal noise."""

    maker = "bayesian_linear_regression"
    kind: Literal["linear"]
    noise: float | None = Field(
        None, gt=0, description="the noise of the standardised target, a number > 0; unknown"
    )
    noise_scale: float = Field(1.0, gt=0, description="of the prior of unknown noise, > 0")


class Robust(_Regression):
    """Numbers with Student's t noise."""

    maker = "robust_regression"
    kind: Literal["robust"]
    dof: float | None = Field(
        None, gt=0, description="degrees of freedom, a number > 0; left out: unknown"
    )
    noise_scale: float = Field(1.0, gt=0, description="of the prior of the noise, a number > 0")


class Poisson(_Regression):
    """Counts."""

    maker = "poisson_regression"
    kind: Literal["poisson"]


class Multinomial(_Regression):
    """Two or more classes."""

    maker = "multinomial_regression"
    kind: Literal["multinomial"]


class Hierarchical(_OnTable):
    """Numbers in groups whose coefficients have a common mean."""

    maker = "hierarchical_regression"
    kind: Literal["hierarchical"]
    group: str = Field(description="the name of the column of groups")
    varying: list[str] = Field([], description="a list of columns whose slope differs by group")
    errors: str | None = Field(
        None, description="a column of known standard errors; left out: noise unknown"
    )
    centred: bool = Field(False, description="true or false")
    spread_scale: float = Field(1.0, gt=0, description="of the prior of the spread, a number > 0")
    spread_prior: Literal["half-cauchy", "half-normal"] = Field(
        "half-cauchy", description="'half-cauchy' or 'half-normal'"
    )
    noise_scale: float = Field(1.0, gt=0, description="of the prior of unknown noise, > 0")


class Imported(FromFile):
    """A density of the user's own: log_density, or energy = -log density."""

    kind: Literal["imported"]
    log_density: str | None = Field(
        None, pattern=f"^{REFERENCE}$", description="'module:function', theta -> log density"
    )
    energy: str | None = Field(
        None, pattern=f"^{REFERENCE}$", description="'module:function', theta -> -log density"
    )

    def build(self, context: Context) -> Problem:
        """Executes the user's file."""
        from ...problems.imported import imported_density

        reference = self.log_density or self.energy
        assert reference is not None
        key = "log_density" if self.log_density else "energy"
        context.consent(reference, f"model.{key}")
        return imported_density(**{key: reference}, **self.source(context))

    def mistakes(self) -> list[str]:
        """Mistakes that only several keys show."""
        if (self.log_density is None) == (self.energy is None):
            given = "neither" if self.energy is None else "both"
            return [f"model.log_density, model.energy: got {given}; give exactly one"]
        return []


class NumPyro(Section):
    """A NumPyro model."""

    kind: Literal["numpyro"]
    model: str = Field(
        pattern=f"^{REFERENCE}$", description="'module:function', a NumPyro model in a file"
    )
    arguments: str | None = Field(
        None,
        pattern=f"^{REFERENCE}$",
        description="'module:name' of the model's arguments: a dictionary, a tuple, or a function "
        "that returns one",
    )
    folder: str = Field(".", description="where the file is, relative to the spec's folder")

    def build(self, context: Context) -> Problem:
        """Executes the user's file."""
        model = context.load(self.model, self.folder, "model.model")
        given: Any = ()
        if self.arguments is not None:
            given = context.load(self.arguments, self.folder, "model.arguments")
            given = given() if callable(given) else given
        from ...problems.numpyro import numpyro_model

        if isinstance(given, dict):
            return numpyro_model(model, dtype=context.dtype, **given)
        given = given if isinstance(given, tuple) else (given,)
        return numpyro_model(model, *given, dtype=context.dtype)


MODELS = registry(Logistic, Linear, Robust, Poisson, Multinomial, Hierarchical, Imported, NumPyro)
