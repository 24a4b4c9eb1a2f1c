"""log Z from both sides: the evidence of a model, with a bracket that has a stated confidence.

With W the work of a switch, E exp(-W) = Z on the way up and E exp(-W) = 1/Z on the way down
(Jarzynski, Crooks), so by Jensen's inequality

    E log Z_up  <=  log Z  <=  E log Z_down.

Islands are independent, so that Student's t bounds both expectations. Their gap is the symmetric
KL divergence of the two path measures: it bounds KL(a draw || target).
Between them: Bennett's estimate from both directions, and thermodynamic integration,
log Z = -integral E_s[V] ds, by the trapezoidal rule with its correction.
Sources: Bennett, J. Comput. Phys. 22 (1976) 245; Friel, Hurn and Wyse, Stat. Comput. 24 (2014) 709;
Grosse, Ghahramani and Adams, arXiv:1511.02543.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special, stats

from ..errors import ArgumentError
from ..states import Gaussian, GaussianMixture
from .bridge import Bridge, Protocol, Sweep, backward, forward, log_mean, pilot
from .certificate import Statement
from .reference import Reference, find_reference
from .stopwatch import Stopwatch
from .target import Target

PILOT = 0.5
SEARCH = 0.1
"""Shares of the budget, at most, of the pilot and of the search for modes."""

CHAINS = 1.2
"""In all, in units of sqrt(budget): many ancestors and long chains are worth about the same."""

GIVEN = 0.25
"""Of the budget, the most for the energies of draws that are given."""

CONFIDENCE = 0.99
"""Of a bracket: more than the 95 % of a certificate, as Student's t takes logarithms to be normal,
and they are skewed where estimates are poor."""

DRAWN = "the way down starts from draws of the target (those of the way up are, in the limit)"
REACHED = "every mode that carries mass is reached from the reference"
NORMAL = "the logarithms of the islands' estimates have a normal law"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """log Z, where Z = integral of exp(-E).

    `lower`, `upper`: bounds, at `confidence` together; `estimate` and `standard_error`: Bennett's;
    `thermodynamic` and its standard error: thermodynamic integration, where the error is that of
    sampling alone, not of the rule between levels; `kl`: a bound on KL(a draw
    of the way up || target), in nats, at `confidence`. `shares`: the levels. `assumptions`: what
    all that takes for granted. `gradients`, `seconds`: what was spent.
    """

    lower: float
    upper: float
    estimate: float
    standard_error: float
    thermodynamic: float
    thermodynamic_error: float
    kl: float
    shares: np.ndarray
    assumptions: tuple[str, ...]
    gradients: int
    seconds: dict[str, float]
    statements: tuple[Statement, ...] = ()
    confidence: float = CONFIDENCE
    notes: tuple[str, ...] = ()

    @property
    def gap(self) -> float:
        """upper - lower, nats."""
        return self.upper - self.lower

    def __str__(self) -> str:
        return (
            f"log Z = {self.estimate:.4f} +- {self.standard_error:.2g}, "
            f"in [{self.lower:.4f}, {self.upper:.4f}] at {100 * self.confidence:g} %; "
            f"thermodynamic integration {self.thermodynamic:.4f} +- {self.thermodynamic_error:.2g}"
        )


@dataclasses.dataclass(frozen=True)
class Annealed:
    """Both sweeps with what they rest on, and the evidence drawn from them.

    `chains`: of each island, whose states stand side by side in `up.draws`.
    """

    evidence: Evidence
    up: Sweep
    down: Sweep
    protocol: Protocol
    chains: int


def log_evidence(
    energy: Any,
    budget: int = 20_000,
    *,
    start: Any = None,
    reference: Any = None,
    draws: Any = None,
    key: Any = None,
    islands: int = 16,
) -> Evidence:
    """log of the integral of exp(-E), from below and from above.

    `energy`, `start`: as in `fit`. `budget`: gradients of E. `reference`: a normalised `Gaussian`
    or `GaussianMixture` that covers the target in its flat coordinates; by default one is found
    from the modes. `draws` (chain, save, d): draws of the target, for the way down; by default
    those of the way up. `key`: a `jax.random.key`. `islands`: independent repetitions.
    Raises ArgumentError for input that cannot be used, and where the budget does not reach.
    """
    if not isinstance(budget, int) or budget < 100:
        raise ArgumentError("budget", budget, "an integer of at least 100 gradients")
    if not isinstance(islands, int) or islands < 2:
        raise ArgumentError("islands", islands, "an integer >= 2")
    target = Target.of(energy, start)
    key = jax.random.key(0) if key is None else key
    found = anneal(target, budget, key, reference, draws, islands)
    if found is None:
        raise ArgumentError("budget", budget, "more gradients: annealing did not reach the target")
    return found.evidence


def anneal(
    target: Target,
    budget: int,
    key: Any,
    reference: Any = None,
    draws: Any = None,
    islands: int = 16,
    final: float = 1.0,
) -> Annealed | None:
    """Reference, pilot, both sweeps; None where the budget is too small.

    `final`: how many times as long as at other levels the chains at the target are.
    """
    keys = jax.random.split(key, 4)
    with Stopwatch() as tune:
        found = _reference(target, keys[0], budget, reference)
        chains = max(2, round(CHAINS * math.sqrt(budget) / islands))
        bridge = Bridge(target, found, islands, chains, found.gradients)
        protocol = pilot(bridge, keys[1], int(PILOT * budget))
        if protocol is None:
            return None
        if draws is not None:
            draws = _given(bridge, draws, int(GIVEN * budget))
        spared = 0 if draws is None else draws.shape[0] * draws.shape[1]
        left = (budget - bridge.gradients - spared) / bridge.count
        middle = protocol.last - 1
        length = int(left / (1 + 2 * middle + final))
        last = int(left - length * (1 + 2 * middle))
        if draws is not None:
            last = max(2, min(last, length))
        if length < 2:
            return None
    with Stopwatch() as run:
        up = forward(bridge, protocol, length, last, keys[2])
        begin, gap = up.draws, up.gaps[-1]
        assert gap is not None
        if draws is not None:
            begin, gap, _ = bridge.valued(draws)
        down = backward(bridge, protocol, length, begin, gap, keys[3])
    seconds = {"compile": tune.compile + run.compile, "tune": tune.run, "run": run.run}
    evidence = summarise(up, down, protocol, bridge, seconds, draws is not None, found.notes)
    return Annealed(evidence, up, down, protocol, chains)


def summarise(
    up: Sweep,
    down: Sweep,
    protocol: Protocol,
    bridge: Bridge,
    seconds: dict[str, float],
    given: bool = False,
    notes: tuple[str, ...] = (),
) -> Evidence:
    """The evidence of two sweeps."""
    slack = _roundoff(bridge.target, up)
    below, above = up.log_ratios.sum(axis=0), down.log_ratios.sum(axis=0)
    half = 0.5 * (1.0 - CONFIDENCE)  # each side errs with half the risk
    lower = float(below.mean() - margin(below, half) - slack)
    upper = float(above.mean() + margin(above, half) + slack)
    middle = bennett(up, down, protocol)
    line = thermodynamic(up, down, protocol)
    error = lambda x: float(math.hypot(stats.sem(x), slack))  # noqa: E731
    estimate, integral = float(middle.mean()), float(line.mean())
    drawn = "the way down starts from the draws given, which are draws of the target"
    assumptions = (drawn if given else DRAWN, REACHED, NORMAL)
    return Evidence(
        lower,
        upper,
        estimate,
        error(middle),
        integral,
        error(line),
        max(upper - lower, 0.0),
        protocol.shares,
        assumptions,
        bridge.gradients,
        seconds,
        _statements(up, down, lower, upper, estimate, error(middle)),
        notes=notes,
    )


def bennett(up: Sweep, down: Sweep, protocol: Protocol) -> np.ndarray:
    """The sum over levels of Bennett's estimates of log Z_{k+1} / Z_k, of each island, (G,)."""
    total = np.zeros(len(up.energies))
    for k, width in enumerate(np.diff(protocol.shares)):
        ahead, back = up.gaps[k], down.gaps[k + 1]
        assert ahead is not None and back is not None
        for g in range(len(total)):
            total[g] += bennett_ratio(width * ahead[g], width * back[g])
    return total


def bennett_ratio(ahead: np.ndarray, back: np.ndarray) -> float:
    """log Z_1 / Z_0 from F_1 - F_0 at draws of law 0 and of law 1."""
    ahead = ahead[np.isfinite(ahead)] if np.isfinite(ahead).any() else ahead
    more = math.log(len(ahead) / len(back))

    def excess(difference: float) -> float:
        one = np.sum(special.expit(-(more + ahead - difference)))
        other = np.sum(special.expit(more + back - difference))
        return float(one - other)

    low = float(min(-log_mean(-ahead), log_mean(back), ahead.min(), back.min())) - abs(more) - 1.0
    high = float(max(-log_mean(-ahead), log_mean(back), ahead.max(), back.max())) + abs(more) + 1.0
    return -float(optimize.brentq(excess, low, high, xtol=1e-10))  # type: ignore[arg-type]


def thermodynamic(up: Sweep, down: Sweep, protocol: Protocol) -> np.ndarray:
    """-integral of E_s[V] ds of each island, (G,): h/2 (f + f+) - h^2/12 (f+' - f'), f' = Var V."""
    means, spreads = [], []
    for ahead, back in zip(up.gaps, down.gaps, strict=True):
        assert ahead is not None
        values = ahead if back is None or back is ahead else np.concatenate([ahead, back], axis=1)
        means.append(-values.mean(axis=1))
        spreads.append(values.var(axis=1))
    f, slope, h = np.array(means), np.array(spreads), np.diff(protocol.shares)[:, None]
    return np.sum(h / 2 * (f[:-1] + f[1:]) - h**2 / 12 * (slope[1:] - slope[:-1]), axis=0)


def margin(values: np.ndarray, risk: float) -> float:
    """Of the mean of independent values, by Student's t, one-sided."""
    n = len(values)
    return float(stats.t.ppf(1.0 - risk, n - 1) * values.std(ddof=1) / math.sqrt(n))


def _roundoff(target: Target, sweep: Sweep) -> float:
    """What log Z can be off by because energies are rounded: eps |E|, coherent at worst."""
    finite = sweep.energies[np.isfinite(sweep.energies)]
    size = float(np.median(np.abs(finite))) if len(finite) else math.nan
    return float(jnp.finfo(target.start.dtype).eps) * (size + target.dimension)


def _statements(
    up: Sweep, down: Sweep, lower: float, upper: float, estimate: float, error: float
) -> tuple[Statement, ...]:
    """What can be seen to be wrong with a bracket."""
    weights = float(up.effective.min())
    rates = np.concatenate([up.acceptance, down.acceptance])
    ways = [
        _distance(logs.log_ratios.sum(axis=0), sign, estimate, error)
        for logs, sign in ((up, 1), (down, -1))
    ]
    return (
        Statement.of(
            "order of the bounds",
            lower - upper,
            0.0,
            assumption=DRAWN,
            why=f"log Z in [{lower:.4f}, {upper:.4f}]",
        ),
        Statement.of(
            "estimates apart",
            max(ways),
            5.0,
            assumption=DRAWN,
            why=f"either way alone against Bennett's {estimate:.4f}, in standard errors",
            floor=2.2,
        ),
        Statement.of(
            "relative variance of weights",
            1.0 / weights - 1.0,
            9.0,
            assumption="the particles see the law of each level",
            why="n / ESS - 1 of the worst switch on the way up; the levels aim at 1",
            floor=1.0,
        ),
        Statement.of(
            "rejection",
            1.0 - float(rates.min()),
            0.9,
            assumption="none",
            why="of the Metropolis moves, worst level",
            floor=0.2,
        ),
    )


def _distance(logs: np.ndarray, sign: int, estimate: float, error: float) -> float:
    """|log of the mean of exp(sign logs) / sign - estimate| in their standard errors together."""
    weights = np.exp(sign * logs - np.max(sign * logs))
    alone = sign * float(log_mean(sign * logs))
    spread = math.hypot(float(stats.sem(weights) / weights.mean()), error)
    return abs(alone - estimate) / spread if spread > 0 else 0.0


def _reference(target: Target, key: Any, budget: int, given: Any) -> Reference:
    if given is None:
        seed = int(np.asarray(jax.random.key_data(key)).ravel()[-1])
        return find_reference(target, seed, int(SEARCH * budget))
    if not isinstance(given, Gaussian | GaussianMixture):
        raise ArgumentError("reference", type(given).__name__, "a Gaussian or a GaussianMixture")
    d = given.mean.shape[-1] if isinstance(given, Gaussian) else given.means.shape[-1]
    if d != target.dimension:
        raise ArgumentError("reference", f"dimension {d}", f"expected {target.dimension}")
    return Reference(given, 0)


def _given(bridge: Bridge, draws: Any, most: int) -> np.ndarray:
    """About `most` of the draws (chain, save, d), evenly, shared out among the islands."""
    draws = np.asarray(draws, float)
    d = bridge.target.dimension
    if draws.ndim != 3 or draws.shape[-1] != d:
        raise ArgumentError("draws", f"shape {draws.shape}", f"expected (chain, save, {d})")
    flat = draws.reshape(-1, d)
    blocks = min(len(flat), max(most, bridge.count)) // bridge.count
    if blocks < 1:
        raise ArgumentError("draws", f"{len(flat)} draws", f"at least {bridge.count}")
    # An island takes neighbours, so that what is correlated stays together.
    kept = np.linspace(0, len(flat) - 1, blocks * bridge.count).astype(int)
    return flat[kept].reshape(bridge.islands, -1, d)
