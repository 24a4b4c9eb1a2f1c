"""What all commands share: the program, how errors are told, the options they have in common."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..__about__ import __version__
from ..errors import ProcessLost, SteepestError, Terminated

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
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with an unfinished run of this place, if any.")
]
Every = Annotated[
    float,
    typer.Option(
        "--checkpoint-every", metavar="SECONDS", min=0.0, help="0: after every chunk of steps."
    ),
]

TERMINATED = 75
"""The exit code after SIGTERM, or a lost process: EX_TEMPFAIL of sysexits.h, to be tried again."""


@contextlib.contextmanager
def told(*failures: type[SteepestError]) -> Iterator[None]:
    """Errors as a line on stderr and an exit code: 1 for `failures` of a run, 2 for wrong input."""
    from .. import termination

    warnings.showwarning = _show_warning
    try:
        with termination.noticed(running=False):
            yield
    except (Terminated, ProcessLost) as error:
        typer.echo(f"steepest: {error}; --resume goes on from there", err=True)
        if isinstance(error, ProcessLost):  # JAX would wait for it at the exit
            os._exit(TERMINATED)
        raise typer.Exit(TERMINATED) from None
    except SteepestError as error:
        typer.echo(f"steepest: {error}", err=True)
        raise typer.Exit(1 if isinstance(error, failures) else 2) from None


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"warning: {message}", err=True)


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
