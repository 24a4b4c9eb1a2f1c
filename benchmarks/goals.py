"""The ratio goals: what was asked of which contenders, held against the records.

A ratio is that of the medians of both contenders' ratios to the first contender of their table,
which are taken round by round. Goals on tables that are no paired timings read their cells.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any


class Records:
    """The records of one device, looked up by benchmark and case."""

    def __init__(self, found: list[dict[str, Any]]):
        self.found = {(r["benchmark"], r["case"]): r for r in found}

    def ratio(self, benchmark: str, case: str, contender: str) -> float | None:
        """To the first contender of the case; None if that was not measured."""
        rows = self.found.get((benchmark, case), {"rows": []})["rows"]
        return next((row["ratio"] for row in rows if row["contender"] == contender), None)

    def seconds(self, benchmark: str, case: str, contender: str) -> float | None:
        rows = self.found.get((benchmark, case), {"rows": []})["rows"]
        return next((row["seconds"] for row in rows if row["contender"] == contender), None)

    def remarked(self, benchmark: str, case: str, contender: str) -> float | None:
        """The number that a contender's word on its result begins with."""
        rows = self.found.get((benchmark, case), {"rows": []})["rows"]
        said = next((row["remark"] for row in rows if row["contender"] == contender), "")
        return number(said)

    def cell(self, benchmark: str, case: str | None, row: str, column: str) -> float | None:
        """The number that begins the cell of the row whose first cell is `row`."""
        for cells in self.cells(benchmark, case):
            if next(iter(cells.values())) == row and column in cells:
                return number(cells[column])
        return None

    def cells(self, benchmark: str, case: str | None) -> list[dict[str, str]]:
        """The rows of all Markdown tables that a part printed, by the words of their heads."""
        found: list[dict[str, str]] = []
        head: list[str] | None = None
        output = "\n".join(self.found.get((benchmark, case), {"output": []})["output"])
        for line in output.splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not line.startswith("|"):
                head = None
            elif head is None:
                head = cells
            elif not set(line) <= set("|-: "):
                found.append(dict(zip(head, cells, strict=False)))
        return found


def number(text: str) -> float | None:
    """The number that a text begins with; None where it begins with words, e.g. of a failure."""
    found = re.match(r"\s*([0-9][0-9,]*(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)", text)
    return None if found is None else float(found[1].replace(",", ""))


@dataclasses.dataclass(frozen=True)
class Goal:
    """`measure(records)` is at most, or at least, a bound; None where it was not measured."""

    name: str
    measure: Callable[[Records], float | None]
    most: float | None = None
    least: float | None = None

    @property
    def asked(self) -> str:
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"


def verdict(goal: Goal, found: Records) -> tuple[float | None, str]:
    """(measured, "held" | "missed" | "not measured")."""
    value = goal.measure(found)
    if value is None:
        return None, "not measured"
    good = value <= goal.most if goal.most is not None else value >= (goal.least or 0.0)
    return value, "held" if good else "missed"


def quotient(benchmark: str, case: str, over: str, under: str) -> Callable[[Records], float | None]:
    """The time of `over` by that of `under`; None where one of them is missing."""

    def measure(found: Records) -> float | None:
        a, b = (found.ratio(benchmark, case, name) for name in (over, under))
        return None if a is None or b is None else a / b

    return measure


def best(benchmark: str, case: str, over: tuple[str, ...], under: tuple[str, ...]):
    """The fastest of `over` by the fastest of `under`, among those that ran."""

    def measure(found: Records) -> float | None:
        sides = [[found.ratio(benchmark, case, name) for name in side] for side in (over, under)]
        a, b = (min((x for x in side if x is not None), default=None) for side in sides)
        return None if a is None or b is None else a / b

    return measure


def scaling(benchmark: str, small: str, large: str, contender: str, factor: float):
    """Seconds of the large case by seconds of the small one, for `factor` times the work."""

    def measure(found: Records) -> float | None:
        a, b = (found.seconds(benchmark, case, contender) for case in (large, small))
        return None if a is None or b is None else a / b / factor

    return measure


def _sampling() -> list[Goal]:
    limit, saves, steps = (
        "hand-written limit",
        "steepest, ledger at saves",
        "steepest, ledger at every step",
    )
    goals = []
    for case in ("langevin d=2", "langevin d=100", "baoab d=2", "baoab d=100"):
        take = lambda over, under, case=case: quotient("sampling", case, over, under)  # noqa: E731
        goals += [
            Goal(f"2.4 {case}: ledger at saves / limit", take(saves, limit), most=1.3),
            Goal(f"2.4 {case}: ledger at every step / limit", take(steps, limit), most=1.5),
        ]
        ahead = 4.0 if case.endswith("d=2") else 1.8
        for peer in ("blackjax (sgld / ghmc)", "diffrax (Euler / ALIGN)"):
            goals.append(
                Goal(f"2.4 {case}: {peer} / ledger at saves", take(peer, saves), None, ahead)
            )
    return goals


def _others() -> list[Goal]:
    """Those of the tables of paired timings; tables of another kind are to be read."""
    goals = []
    for case in ("line N=1000", "line N=4000", "plane 256^2"):
        peers = ("py-pde (LSODA banded / explicit)", "FiPy (implicit, exponential fluxes)")
        ours = ("steepest.solve with its ledger",)
        goals.append(
            Goal(f"3.8 {case}: faster peer / solve", best("density", case, peers, ours), None, 10)
        )
    linear = scaling("density", "plane 512^2", "plane 1024^2", "steepest.solve with its ledger", 4)
    goals.append(Goal("3.8 plane: cost of a cell, 1024^2 / 512^2", linear, most=1.3))
    for size in ("1k", "10k", "50k"):
        pairs = quotient("interacting", f"pairs n={size}", "steepest", "hand-written blocked limit")
        goals.append(Goal(f"4.6 pairs n={size}: steepest / limit", pairs, most=1.3))
    ours = "steepest, ledger at saves"
    for size, ahead in (("1k", 10), ("4k", 50), ("10k", 50), ("50k", None)):
        case = f"svgd n={size}"
        own = quotient("interacting", case, ours, "hand-written blocked limit")
        goals.append(Goal(f"4.6 {case}: steepest / limit", own, most=1.3))
        if ahead is not None:  # BlackJAX's matrix of 50,000 particles fits nowhere
            peer = quotient("interacting", case, "blackjax svgd", ours)
            goals.append(Goal(f"4.6 {case}: blackjax / steepest", peer, None, ahead))
    for case in ("descent", "heavy ball", "sign", "muon"):
        own = quotient("optimizers", case, "steepest.as_optax", "optax")
        goals.append(Goal(f"5.5 {case}: as_optax / optax", own, most=1.05))
    for case in ("sampling", "training step"):
        own = quotient("diffusion", case, "steepest", "hand-written JAX")
        goals.append(Goal(f"8.5 {case}: steepest / hand-written", own, most=1.1))
    for n, ahead in ((1000, 1.0), (5000, 3.0), (10000, 3.0)):
        for d in (2, 16):
            case = f"n={n} d={d}"
            peers = tuple(
                f"ott-jax, {kind}"
                for kind in (
                    "logarithms, whole matrix",
                    "kernel, whole matrix",
                    "momentum 1.5, whole matrix",
                )
            )
            own = best("sinkhorn", case, peers, ("steepest, online",))
            goals.append(Goal(f"9.4 Sinkhorn {case}: best ott-jax / steepest", own, None, ahead))
    for d in (2, 16, 64):
        own = quotient("light_bridges", f"d={d} steps=1000", "torch, loop, one thread", "steepest")
        goals.append(Goal(f"9.4 light bridge d={d}: torch / steepest", own, None, 3.0))
    for d in (2, 16, 64, 128):
        for peer in ("MixtureSameFamily, one thread", "by hand, one thread"):
            own = quotient("light_bridges", f"draws d={d}", f"torch, {peer}", "steepest")
            goals.append(Goal(f"9.4 ends d={d}: torch, {peer} / steepest", own, None, 3.0))
    return goals


def _laws() -> list[Goal]:
    """Issues of densities and of mechanics."""
    goals = []
    case, ours = "porous medium 256^2", ("steepest, MinimizingMovement",)
    for sweeps in (5, 20):
        theirs = (f"back-and-forth (published C++), {sweeps} sweeps a step",)
        own = best("jko", case, theirs, ours)
        goals.append(Goal(f"3.8 {case}: back-and-forth, {sweeps} sweeps / steepest", own, None, 3))

    def least(found: Records, column: str) -> float | None:
        rows = [c for c in found.cells("mixture_target", "12") if c["components"]]
        pairs = [(number(c["symmetric KL"]), number(c["seconds"])) for c in rows]
        good = [(kl, seconds) for kl, seconds in pairs if kl is not None and seconds is not None]
        return None if not good else min(good)[("symmetric KL", "seconds").index(column)]

    goals.append(Goal("3.7 D = 12: symmetric KL", lambda r: least(r, "symmetric KL"), most=0.05))
    goals.append(Goal("3.7 D = 12: its seconds", lambda r: least(r, "seconds"), most=60))
    many = (f"100000 trajectories, {steps} steps" for steps in (200, 2000))
    for case in ("one trajectory, 10000000 steps", *many):
        own = quotient("mechanics", case, "steepest, ledger at saves", "hand-written scan")
        goals.append(Goal(f"7.6 Verlet, {case}: ledger at saves / scan", own, most=1.1))
    paths = ("stationary path, 10000 nodes", "stationary path, 100000 nodes")
    linear = scaling("mechanics", *paths, "stationary_path", 10)
    goals.append(Goal("7.6 stationary path: cost of a node, 1e5 / 1e4", linear, most=1.3))
    return goals


FISHER = (
    "Fisher, all rows, 10 products",
    "Fisher, 512 rows, 4 products",
    "Fisher, 256 rows, 2 products",
    "Fisher on minibatches, 3 products",
)
TUNED = (
    "optax.adam, tuned",
    "optax.adam, tuned, minibatches",
    "optax.sgd with momentum 0.9, tuned",
    "optax.sgd with momentum 0.9, tuned, minibatches",
    "optax.contrib.muon, tuned",
    "optax.contrib.muon, tuned, minibatches",
)


def _training() -> list[Goal]:
    """Natural gradients on digits."""
    goals = []

    def fewer(case: str) -> Callable[[Records], float | None]:
        def measure(found: Records) -> float | None:
            ours = [found.remarked("optimizers", case, name) for name in FISHER]
            theirs = [found.remarked("optimizers", case, name) for name in TUNED[:2]]
            own = min((x for x in ours if x is not None), default=None)
            other = min((x for x in theirs if x is not None), default=None)
            return None if own is None or other is None else other / own

        return measure

    for case in ("softmax regression", "perceptron"):
        goals.append(Goal(f"5.2 {case}: steps, tuned Adam / Fisher", fewer(case), None, 10))
        own = best("optimizers", case, TUNED, FISHER)
        goals.append(Goal(f"5.2 {case}: fastest of Adam, momentum, muon / Fisher", own, None, 1))
        own = best("optimizers", case, ("optax.lbfgs",), FISHER)
        goals.append(Goal(f"5.2 {case}: L-BFGS / Fisher", own, None, 1))
        pair = ("optax.lbfgs, minibatches",), ("Fisher on minibatches, 3 products",)
        own = best("optimizers", case, *pair)
        goals.append(Goal(f"5.2 {case}, minibatches: L-BFGS / Fisher", own, None, 1))
    return goals


def _posteriors() -> list[Goal]:
    """Inference: variational fits and samplers."""
    goals = []

    def fewer(peer: str, column: str) -> Callable[[Records], float | None]:
        def measure(found: Records) -> float | None:
            names = (peer, "steepest natural-gradient")
            a, b = (found.cell("variational", None, name, column) for name in names)
            return None if a is None or b is None else a / b

        return measure

    for peer in ("NumPyro SVI", "BlackJAX full-rank VI"):
        for column in ("gradients to 0.01 nats", "seconds"):
            own = fewer(peer, column)
            goals.append(Goal(f"6.1 {column}: {peer} / steepest", own, None, 20))

    def against(case: str, column: str) -> Callable[[Records], float | None]:
        def measure(found: Records) -> float | None:
            known = [x for name in NUTS if (x := found.cell("posteriors", case, name, column))]
            own = found.cell("posteriors", case, "hmc", column)
            return own / max(known) if own is not None and known else None

        return measure

    def to_low_error(name: str, case: str, peers: tuple[str, ...], least: float) -> Goal:
        """A peer that has not come to it spends more than where it was cut, and the ratio is at
        least this, which counts where it is enough; 0 where hmc alone has not come to it."""

        def spent(found: Records, name: str) -> tuple[float, bool] | None:
            rows = found.cells("posteriors", case)
            texts = [row[SPENT] for row in rows if row["sampler"] == name and SPENT in row]
            gradients = number(texts[0].removeprefix("not by ")) if texts else None
            return None if gradients is None else (gradients, not texts[0].startswith("not by"))

        def measure(found: Records) -> float | None:
            own, known = spent(found, "hmc"), [spent(found, name) for name in peers]
            if own is None or not (theirs := [x for x in known if x is not None]):
                return None
            gradients, reached = min(theirs, key=lambda x: (not x[1], x[0]))
            if not own[1]:
                return 0.0 if reached else None
            ratio = gradients / own[0]
            return ratio if reached or ratio >= least else None

        return Goal(name, measure, None, least)

    first, fourth = "standard Gaussian, d = 100", "logistic regression, d = 31"
    others = (
        "ill-conditioned Gaussian, d = 100", "banana, d = 2", "Rosenbrock, d = 36",
        "eight schools, d = 10", "Brownian motion, d = 32", "item response, d = 121",
    )  # fmt: skip
    for case in (first, fourth):
        for column, ahead in (("ESS / s", 4), ("ESS / 1000 gradients", 1.4)):
            own = against(case, column)
            goals.append(Goal(f"6.3 {case}: {column}, hmc / better NUTS", own, None, ahead))
    for case in others:
        name = f"6.3 {case}: gradients, better NUTS / hmc"
        goals.append(to_low_error(name, case, NUTS, 2))
    for case in (first, fourth, *others):
        name = f"6.3 {case}: gradients, BlackJAX MCLMC / hmc"
        goals.append(to_low_error(name, case, ("BlackJAX MCLMC",), 1))
    for case in ("Gaussian, d = 2", "Gaussian, d = 20", "mixture of two", "regression, d = 8"):
        goals.append(Goal(f"6.4 {case}: share of brackets with log Z", inside(case), None, 0.95))
    goals.append(Goal("6.5 share of certified answers beyond their bound", beyond, most=0.05))
    return goals


NUTS = ("NumPyro NUTS, dense", "BlackJAX NUTS, dense")
SPENT = "gradients to low error"


def inside(case: str) -> Callable[[Records], float | None]:
    """The smallest share, over the budgets, of brackets that contain log Z."""

    def measure(found: Records) -> float | None:
        rows = [c for c in found.cells("evidence", case) if c.get("target") == case]
        counts = [c["in bracket"].split(" of ") for c in rows if " of " in c.get("in bracket", "")]
        return min((float(a) / float(b) for a, b in counts), default=None)

    return measure


def beyond(found: Records) -> float | None:
    """Over the runs of all methods; None below 200 of them."""
    rows = [
        cells
        for benchmark, case in found.found
        if benchmark == "calibration"
        for cells in found.cells(benchmark, case)
        if "runs" in cells and cells["method"] == case
    ]
    runs, certified, wrong = (
        sum(number(cells[name]) or 0.0 for cells in rows)
        for name in ("runs", "certified", "beyond the bound")
    )
    return None if runs < 200 or not certified else wrong / certified


def _transport() -> list[Goal]:
    """Diffusion samplers and bridges."""
    from .bridges import PUBLISHED

    def behind(count: int) -> Callable[[Records], float | None]:
        def measure(found: Records) -> float | None:
            ratios, own = [], None
            for cells in [
                *found.cells("diffusion", "quality, d = 2"),
                *found.cells("diffusion", "quality, d = 32"),
            ]:
                value = number(cells.get(f"{count} evaluations", ""))
                if cells["sampler"] == "steepest Anchored (the default)":
                    own = value
                elif cells["sampler"].startswith("diffusers") and own and value:
                    ratios.append(own / value)
            return max(ratios, default=None)

        return measure

    goals = [
        Goal(f"8.2 {n} evaluations: Anchored / best of diffusers, the worst of two d, two errors",
             behind(n), most=1.0)
        for n in (5, 10, 20, 50)
    ]  # fmt: skip

    def cell(case: str, column: str) -> Callable[[Records], float | None]:
        return lambda found: found.cell("bridges", case, case, column)

    for (epsilon, d), published in PUBLISHED.items():
        case = f"epsilon={epsilon:g} d={d}"
        goals.append(Goal(f"9.2 {case}: cBW2-UVP %", cell(case, "cBW2-UVP %"), most=published))
        goals.append(Goal(f"9.2 {case}: seconds", cell(case, "seconds"), most=60))
    return goals


GOALS: list[Goal] = [
    *_sampling(), *_laws(), *_others(), *_training(), *_posteriors(), *_transport()
]  # fmt: skip
