"""What all commands share: the program, how errors are told, the options they have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..__about__ import __version__
from ..errors import SteepestError

app = typer.Typer(
    name="steepest",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC.toml", help="The spec.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="The folder; by default runs/ and the name."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Replace a key of the spec; may be repeated."
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="The same as --set SECTION.seed=N.")
]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Execute the Python files that are named.")
]


@contextlib.contextmanager
def told(*failures: type[SteepestError]) -> Iterator[None]:
    """Errors as a line on stderr and an exit code: 1 for `failures` of a run, 2 for wrong input."""
    try:
        yield
    except SteepestError as error:
        typer.echo(f"steepest: {error}", err=True)
        raise typer.Exit(1 if isinstance(error, failures) else 2) from None


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"steepest {__version__}")
        raise typer.Exit


@app.callback()
def steepest(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Learning as variational flow: a spec file in, an audited run and its report out.

    \b
    steepest run examples/breast_cancer.toml
    steepest run --help
    """
