"""Commands that make a run folder: a spec or data in, a report out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import Diverged, NotConverged
from .frame import AllowCode, Every, Out, Resume, Seed, Settings, SpecFile, app, told


@app.command()
def run(
    spec: SpecFile,
    out: Out = None,
    settings: Settings = None,
    seed: Seed = None,
    allow_code: AllowCode = False,
    resume: Resume = False,
    every: Every = 60.0,
    devices: Annotated[
        int | None,
        typer.Option("--devices", metavar="N", min=1, help="Share particles out among N devices."),
    ] = None,
    distributed: Annotated[
        str | None,
        typer.Option(
            "--distributed",
            metavar="auto|HOST:PORT,I,N",
            help="One of several processes, as SLURM or Kubernetes says, or process I of N.",
        ),
    ] = None,
) -> None:
    """Run a spec, audit the run, and write its folder.

    The spec has a table for each ingredient: [state], [functional], [geometry], [noise], [scheme],
    and [run]. The folder gets report.html, the ledger, the samples, figures and the resolved spec.

    \b
    steepest run examples/breast_cancer.toml --out runs/breast_cancer
    steepest run examples/double_well.toml --set noise.temperature=0.5 --seed 7
    steepest run examples/quadratic.toml --set scheme.step=0.02

    A run that is killed goes on with --resume, to the same bits.

    Exit code: 0 the audit passed, 1 it failed (or the run diverged), 2 wrong input, 75 stopped by
    SIGTERM (then --resume goes on).
    """
    with told(Diverged, NotConverged):
        from .run import run_command

        options = (resume, every, devices, distributed)
        raise typer.Exit(run_command(spec, out, settings or [], seed, allow_code, *options))


@app.command()
def plan(
    spec: SpecFile,
    settings: Settings = None,
    allow_code: AllowCode = False,
    devices: Annotated[
        int | None,
        typer.Option("--devices", metavar="N", min=1, help="Share particles out among N devices."),
    ] = None,
) -> None:
    """What a spec will take: parameters, memory, saves, time a step, and what to change.

    The program of the run is compiled and a moment of it is timed; nothing is written.

    \b
    steepest plan examples/breast_cancer.toml
    steepest plan examples/double_well.toml --set state.chains=1000000 --devices 4

    Exit code: 0 it fits, 1 it does not, 2 wrong input.
    """
    with told(NotConverged):
        from .plan import command

        raise typer.Exit(command(spec, settings or [], allow_code, devices))


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
    out: Out = None,
    settings: Settings = None,
    seed: Seed = None,
    allow_code: AllowCode = False,
    resume: Resume = False,
    every: Every = 60.0,
) -> None:
    """Which method has this posterior right, how far off it can be, and what it cost.

    Every method gets the same budget and a certificate: bounds on the error of the means and sds,
    with what they assume, or the reason why there is none. The folder gets draws.nc (the
    recommended draws), compare.csv and report.html.

    \b
    steepest compare examples/posteriors/breast_cancer.toml
    steepest compare examples/posteriors/eight_schools.toml --methods hmc,laplace --budget 50000
    steepest compare mymodel.py:log_density --set model.dimension=5 --allow-code

    Exit code: 0 an answer is certified, 1 none could be, 2 wrong input, 75 stopped by SIGTERM (then
    --resume goes on).
    """
    with told():
        from .compare import command

        options = (out, settings or [], seed, allow_code, resume, every)
        raise typer.Exit(command(posterior, budget, methods or [], *options))


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
    out: Out = None,
    settings: Settings = None,
    seed: Seed = None,
    allow_code: AllowCode = False,
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
    with told():
        from .compare import command

        raise typer.Exit(
            command(posterior, budget, [], out, settings or [], seed, allow_code, draws=draws)
        )


@app.command(name="compare-geometries")
def compare_geometries(
    spec: SpecFile,
    out: Out = None,
    settings: Settings = None,
) -> None:
    """Train one model under several geometries at equal budgets: curves, costs, a table.

    The spec has [model], [compare] and one [[contender]] for each geometry or optax optimizer.

    \b
    steepest compare-geometries examples/digits_geometries.toml --set compare.gradients=200

    Exit code: 0 done, 1 every contender diverged, 2 wrong input.
    """
    with told():
        from .compare_geometries import command

        raise typer.Exit(command(spec, out, settings or []))


@app.command()
def generate(
    spec: SpecFile,
    out: Out = None,
    settings: Settings = None,
    seed: Seed = None,
    resume: Resume = False,
    every: Every = 60.0,
) -> None:
    """Train a diffusion model on points or images, sample it, and say where it loses.

    The spec has [data], [process], [network], [train] and [sample]. A training that is killed goes
    on with --resume. The folder gets model.npz, samples.npz, ledger.csv, figures and report.html.

    \b
    steepest generate examples/two_moons.toml
    steepest generate examples/digits.toml --set train.steps=500

    Exit code: 0 the checks passed, 1 one failed (or training diverged), 2 wrong input, 75 stopped
    by SIGTERM (then --resume goes on).
    """
    with told(Diverged):
        from .generate import command

        raise typer.Exit(command(spec, out, settings or [], seed, resume, every))


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
        str, typer.Option("--method", help="auto, gaussian, mixture, sinkhorn or network.")
    ] = "auto",
    growth: Annotated[
        float | None,
        typer.Option("--growth", metavar="PRICE", help="Mass may grow and die, at this price."),
    ] = None,
    masses: Annotated[
        str | None,
        typer.Option("--masses", metavar="M0,M1,...", help="Of the files, with --growth; else 1."),
    ] = None,
    smooth: Annotated[
        float | None,
        typer.Option("--smooth", metavar="T", help="Paths with velocities, at this temperature."),
    ] = None,
    out: Out = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of all that is drawn.")] = 0,
) -> None:
    """The most likely flow between clouds of points: Schroedinger bridges, audited.

    Two files, or snapshots at several times; all need the same columns, all numbers. The
    folder gets bridge/ (the saved model), snapshots.csv, figures and report.html; with --growth
    also growth.csv: what a unit of mass at each point becomes.

    \b
    steepest bridge examples/data/moon_source.csv examples/data/moon_target.csv
    steepest bridge A.csv B.csv --temperature 0.5 --reference ou --method sinkhorn
    steepest bridge DAY0.csv DAY1.csv DAY4.csv --times 0,1,4 --growth 2 --masses 1,1.5,4
    steepest bridge DAY0.csv DAY1.csv DAY4.csv --smooth 0.05

    Exit code: 0 the bridge passed its audit, 1 it does not solve the problem, 2 wrong input.
    """
    with told():
        from .bridge import Options, command

        options = Options(times, temperature, reference, method, growth, masses, smooth, seed)
        raise typer.Exit(command(files, options, out))


@app.command()
def dial(
    spec: SpecFile,
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
    out: Out = None,
    settings: Settings = None,
    allow_code: AllowCode = False,
) -> None:
    """Turn a spec from one setting to another: how descent, dissipation and rest change.

    Every position is a run with its own audit. The folder gets report.html, dial.csv and the spec.

    \b
    steepest dial examples/double_well.toml --between noise.temperature=0.2,2 --steps 5
    steepest dial examples/wfr_bimodal.toml --between geometry=wasserstein,fisher-rao
    steepest dial examples/breast_cancer.toml --between geometry.friction=0.1,10 --log

    Exit code: 0 every audit passed, 1 one failed or a run diverged, 2 wrong input.
    """
    with told(Diverged, NotConverged):
        from .dial import command

        raise typer.Exit(
            command(spec, between or [], steps, logarithmic, out, settings or [], allow_code)
        )


@app.command()
def atlas(
    problem: Annotated[
        Path | None,
        typer.Option("--problem", metavar="SPEC.toml", help="Your energy: its [functional]."),
    ] = None,
    out: Out = None,
    settings: Settings = None,
    seed: Seed = None,
    allow_code: AllowCode = False,
) -> None:
    """Run every known algorithm on one problem, audit each, and write one page with them all.

    The page has a structure card for each (state, functional, geometry, noise, scheme, what is
    conserved and dissipated, the equilibrium), its verdict, the functional over time, and a link to
    its own report. What fails, raises or does not apply is a row like the others. With --problem it
    is your energy: only [functional] is needed; [state] initial and scale, [noise] temperature,
    [scheme] step and [run] steps are used where given.

    \b
    steepest atlas
    steepest atlas --problem examples/rosenbrock.toml --out runs/valley
    steepest atlas --problem my.toml --set run.steps=1000 --allow-code

    Exit code: 0 every audit passed, 1 one failed or a row raised, 2 wrong input.
    """
    with told():
        from .atlas import command

        raise typer.Exit(command(out, seed, problem, settings or [], allow_code))
