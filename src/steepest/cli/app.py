"""The command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..__about__ import __version__
from ..errors import Diverged, NotConverged, SteepestError

app = typer.Typer(
    name="steepest",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"steepest {__version__}")
        raise typer.Exit


@contextlib.contextmanager
def _told(*failures: type[SteepestError]) -> Iterator[None]:
    """Errors as a line on stderr and an exit code: 1 for `failures` of a run, 2 for wrong input."""
    try:
        yield
    except SteepestError as error:
        typer.echo(f"steepest: {error}", err=True)
        raise typer.Exit(1 if isinstance(error, failures) else 2) from None


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


@app.command()
def run(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="The spec of the run.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="The run folder; by default runs/ and the spec's name."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Replace a key of the spec; may be repeated."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="The same as --set run.seed=N.")
    ] = None,
    allow_code: Annotated[
        bool,
        typer.Option("--allow-code", help="Let the spec execute Python files that it names."),
    ] = False,
) -> None:
    """Run a spec, audit the run, and write its folder.

    The spec has a table for each ingredient: [state], [functional], [geometry], [noise], [scheme],
    and [run]. The folder gets report.html, the ledger, the samples, figures and the resolved spec.

    \b
    steepest run examples/breast_cancer.toml --out runs/breast_cancer
    steepest run examples/double_well.toml --set noise.temperature=0.5 --seed 7
    steepest run examples/quadratic.toml --set scheme.step=0.02

    Exit code: 0 the audit passed, 1 it failed (or the run diverged), 2 wrong input.
    """
    with _told(Diverged, NotConverged):
        from .run import run_command

        raise typer.Exit(run_command(spec, out, settings or [], seed, allow_code))


@app.command(name="compare-geometries")
def compare_geometries(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="The spec.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder; by default runs/ and the name."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace a key of the spec."),
    ] = None,
) -> None:
    """Train one model under several geometries at equal budgets: curves, costs, a table.

    The spec has [model], [compare] and one [[contender]] for each geometry or optax optimizer.

    \b
    steepest compare-geometries examples/digits_geometries.toml --set compare.gradients=200

    Exit code: 0 done, 1 every contender diverged, 2 wrong input.
    """
    with _told():
        from .compare_geometries import command

        raise typer.Exit(command(spec, out, settings or []))


@app.command()
def compare(
    posterior: Annotated[
        str, typer.Argument(metavar="POSTERIOR", help="A spec, or FILE.py:NAME of a log density.")
    ],
    budget: Annotated[
        int | None,
        typer.Option("--budget", metavar="N", help="Gradients for each method; 20000 by default."),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--methods", metavar="NAMES", help="Methods to run, separated by commas."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder; by default runs/ and the name."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace a key of the spec."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="The same as --set compare.seed=N.")
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Execute the Python file that is named.")
    ] = False,
) -> None:
    """Which method has this posterior right, how far off it can be, and what it cost.

    Every method gets the same budget and a certificate: bounds on the error of the means and sds,
    with what they assume, or the reason why there is none. The folder gets draws.nc (the
    recommended draws), compare.csv and report.html.

    \b
    steepest compare examples/posteriors/breast_cancer.toml
    steepest compare examples/posteriors/eight_schools.toml --methods hmc,laplace --budget 50000
    steepest compare mymodel.py:log_density --set model.dimension=5 --allow-code

    Exit code: 0 an answer is certified, 1 none could be, 2 wrong input.
    """
    with _told():
        from .compare import command

        raise typer.Exit(
            command(posterior, budget, methods or [], out, settings or [], seed, allow_code)
        )


@app.command()
def certify(
    posterior: Annotated[
        str, typer.Argument(metavar="POSTERIOR", help="A spec, or FILE.py:NAME of a log density.")
    ],
    draws: Annotated[
        Path, typer.Argument(metavar="DRAWS", help="An ArviZ .nc file, or a .csv file.")
    ],
    budget: Annotated[
        int | None, typer.Option("--budget", metavar="N", help="Gradients; 20000 by default.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder; by default runs/ and the name."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace a key of the spec."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="The same as --set compare.seed=N.")
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Execute the Python file that is named.")
    ] = False,
) -> None:
    """How far draws of another tool can be from the posterior.

    Chains against each other, against the gradient of the log density, and log Z from both sides.
    A .csv file has a column for every quantity, and `chain` where there are several chains. The
    folder is that of compare.

    \b
    steepest certify examples/posteriors/eight_schools.toml runs/eight_schools/draws.nc
    steepest certify mymodel.py:log_density draws.csv --set model.dimension=5 --allow-code

    Exit code: 0 the draws are certified, 1 they are not, 2 wrong input.
    """
    with _told():
        from .compare import command

        raise typer.Exit(
            command(posterior, budget, [], out, settings or [], seed, allow_code, draws)
        )


@app.command()
def generate(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="The spec.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder; by default runs/ and the name."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace a key of the spec."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="The same as --set train.seed=N.")
    ] = None,
) -> None:
    """Train a diffusion model on points or images, sample it, and say where it loses.

    The spec has [data], [process], [network], [train] and [sample]. An interrupted training goes on
    when the same command is given again. The folder gets model.npz, samples.npz, ledger.csv,
    figures and report.html.

    \b
    steepest generate examples/two_moons.toml
    steepest generate examples/digits.toml --set train.steps=500

    Exit code: 0 the checks passed, 1 one failed (or training diverged), 2 wrong input.
    """
    with _told(Diverged):
        from .generate import command

        raise typer.Exit(command(spec, out, settings or [], seed))


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
    with _told():
        from .sample import command

        raise typer.Exit(command(run, count, out, seed, steps, label))


@app.command()
def bridge(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE.csv [...] TARGET.csv", help="Points, in order of time."),
    ],
    times: Annotated[
        str | None,
        typer.Option("--times", metavar="T0,T1,...", help="Of the files; by default 0,1,2,..."),
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Of the reference, in squared units of the data.")
    ] = 0.1,
    reference: Annotated[
        str, typer.Option("--reference", metavar="brownian|ou", help="Before it is conditioned.")
    ] = "brownian",
    method: Annotated[
        str, typer.Option("--method", help="auto, gaussian, mixture or sinkhorn.")
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder; by default runs/ and the names."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of all that is drawn.")] = 0,
) -> None:
    """The most likely flow between clouds of points: Schroedinger bridges, audited.

    Two files, or snapshots at several times; all need the same columns, all numbers. The
    folder gets bridge/ (the saved model), snapshots.csv, figures and report.html.

    \b
    steepest bridge examples/data/moon_source.csv examples/data/moon_target.csv
    steepest bridge A.csv B.csv --temperature 0.5 --reference ou --method sinkhorn
    steepest bridge DAY0.csv DAY1.csv DAY4.csv --times 0,1,4

    Exit code: 0 the bridge passed its audit, 1 it does not solve the problem, 2 wrong input.
    """
    with _told():
        from .bridge import command

        raise typer.Exit(command(files, times, temperature, reference, method, out, seed))


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
    with _told():
        from .bridge import transport as carry

        raise typer.Exit(carry(run, new, out, mean, seed))


@app.command(name="ls")
def listing(
    place: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where to look; by default runs/.")
    ] = Path("runs"),
) -> None:
    """List runs, newest first: the folder, the command, when it began, the verdict.

    \b
    steepest ls
    steepest ls results

    Exit code: 0 done, 2 wrong input.
    """
    with _told():
        from .listing import command

        raise typer.Exit(command(place))


@app.command()
def dial(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="The spec.")],
    between: Annotated[
        list[str] | None,
        typer.Option(
            "--between",
            metavar="SECTION.KEY=FROM,TO",
            help="What is turned, or geometry=A,B; may be repeated: all turn together.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="How many positions.")] = 11,
    logarithmic: Annotated[
        bool, typer.Option("--log", help="Equal ratios instead of equal differences.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder; by default runs/SPEC_dial."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace a key of the spec."),
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Execute the Python files that the spec names.")
    ] = False,
) -> None:
    """Turn a spec from one setting to another: how descent, dissipation and rest change.

    Every position is a run with its own audit. The folder gets report.html, dial.csv and the spec.

    \b
    steepest dial examples/double_well.toml --between noise.temperature=0.2,2 --steps 5
    steepest dial examples/wfr_bimodal.toml --between geometry=wasserstein,fisher-rao
    steepest dial examples/breast_cancer.toml --between geometry.friction=0.1,10 --log

    Exit code: 0 every audit passed, 1 one failed or a run diverged, 2 wrong input.
    """
    with _told(Diverged, NotConverged):
        from .dial import command

        raise typer.Exit(
            command(spec, between or [], steps, logarithmic, out, settings or [], allow_code)
        )


@app.command()
def atlas(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder; by default runs/atlas."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Of all noise.")
    ] = 0,
) -> None:
    """Run every known algorithm on one problem, audit each, and write one page with them all.

    The page has a structure card for each (state, functional, geometry, noise, scheme, what is
    conserved and dissipated, the equilibrium), its verdict, and the functional over time. What
    fails or raises is a row like the others. The folder gets report.html and atlas.csv.

    \b
    steepest atlas
    steepest atlas --out runs/atlas --seed 7

    Exit code: 0 every audit passed, 1 one failed or a row raised, 2 wrong input.
    """
    with _told():
        from .atlas import command

        raise typer.Exit(command(out, seed))


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
    with _told():
        from .selftest import command

        raise typer.Exit(command(precision))


def main() -> None:
    """The entry point of the `steepest` command."""
    app()
