"""Commands about what is there already: run folders, trained models, names, this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .frame import app, told


@app.command(name="ls")
def listing(
    place: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to look; by default runs/.")
    ] = Path("runs"),
) -> None:
    """List runs, newest first: the folder, the command, when it began, the verdict.

    \b
    steepest ls
    steepest ls results

    Exit code: 0 done, 2 wrong input.
    """
    with told():
        from .listing import command

        raise typer.Exit(command(place))


@app.command()
def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder of steepest generate.")],
    count: Annotated[int, typer.Option("--n", metavar="N", help="How many samples.")] = 1000,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="An .npz or .csv file.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**32 - 1)] = 0,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Evaluations; by default the run's.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="CLASS", help="One class of a labelled model.")
    ] = None,
) -> None:
    """Draw more samples of a model that steepest generate trained.

    \b
    steepest sample runs/two_moons --n 1000
    steepest sample runs/digits --n 100 --label 7 --out sevens.npz

    Exit code: 0 done, 2 wrong input.
    """
    with told():
        from .sample import command

        raise typer.Exit(command(run, count, out, seed, steps, label))


@app.command()
def transport(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a bridge.")],
    new: Annotated[Path, typer.Argument(metavar="NEW.csv", help="Points with its columns.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="By default NEW_transported.csv, here."),
    ] = None,
    mean: Annotated[
        bool, typer.Option("--mean", help="The mean end of each point instead of a draw.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the draws.")] = 0,
) -> None:
    """Carry unseen points to the end of a bridge.

    \b
    steepest transport runs/moon_source_to_moon_target new.csv --out moved.csv

    Exit code: 0 done, 2 wrong input.
    """
    with told():
        from .bridge import transport as carry

        raise typer.Exit(carry(run, new, out, mean, seed))


@app.command()
def selftest(
    precision: Annotated[
        str, typer.Option("--precision", metavar="NAME", help="float32, float64 or both.")
    ] = "both",
) -> None:
    """Hold exact solutions against what this machine computes: a minute, before trusting it.

    Matrix products (a device that multiplies in TF32 fails), random numbers, moments of samplers,
    an oscillator, the heat equation, Gaussian distances, a posterior, an evidence.

    \b
    steepest selftest
    steepest selftest --precision float32

    Exit code: 0 every check passed, 1 one failed, 2 wrong input.
    """
    with told():
        from .selftest import command

        raise typer.Exit(command(precision))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders.")],
) -> None:
    """Make report.html of run folders again, from the files that are in them.

    Nothing is computed: words and tables come from run.json, the ledger from ledger.csv, figures
    from their PNG files. Where nothing was lost the page is the same to the last byte.

    \b
    steepest report runs/breast_cancer
    steepest report runs/*

    Exit code: 0 done, 2 a folder is no run's or lacks a file.
    """
    with told():
        from .pages import report as rebuild

        raise typer.Exit(rebuild(runs))
