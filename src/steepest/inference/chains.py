"""Chains that are exact at any step: Hamiltonian and Langevin moves, accepted by Metropolis.

The flow is Flow(E, Symplectic() + Friction, Thermal(1)), or Flow(E, Euclidean(), Thermal(1)), of
many chains in lock-step, in coordinates where the law is near N(0, 1).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from ..schemes import OBABO, Euler, Metropolis
from ..trajectory import Trajectory
from .answer import Answer, Budget
from .beginning import begin
from .certificate import Certificate, uncertified
from .control_variates import corrected, covariance_of
from .diagnostics import MOST_VALUES, diagnose
from .dynamics import Account, Ensemble
from .frame import Frame
from .identities import along
from .sampling_error import SamplingError, sampling_error
from .stopwatch import Stopwatch
from .target import Target
from .tuning import Tuned, warm_up

CHAINS = ((64, 64_000), (32, 3_200), (16, 0))
"""How many, from which budget on: the chains should be long before there are more of them."""
MOST_DRAWS = 16_384
LEAST_SAVES = 8


class Adjusted:
    """What Metropolis-adjusted moves share."""

    def every(self, step: float, length: float) -> int:
        """Every move is saved."""
        del step, length
        return 1

    def seen(self, run: Trajectory) -> tuple[float, float]:
        """From the ledger."""
        assert run.ledger.acceptance is not None and run.ledger.divergence is not None
        return float(np.mean(run.ledger.acceptance[1:])), float(np.mean(run.ledger.divergence[1:]))


@dataclasses.dataclass(frozen=True)
class Hybrid(Adjusted):
    """Hamiltonian moves: a fresh momentum, leapfrogs for about `length`, accept or turn back.

    `most`: leapfrogs in one move.
    """

    most: float
    target: float = 0.8
    exponent: float = 2.0
    steps: int = 4
    lag: float | None = 0.0

    def scheme(self, step: float, length: float) -> Metropolis:
        """step: of one leapfrog."""
        leaps = min(max(length / step, 1.0), self.most)
        return Metropolis(OBABO(step * leaps), leaps=leaps)

    def friction(self, step: float, length: float) -> float:
        """So much that nothing of the momentum is left after a move: exp(-40).

        Where a move is shorter than the length, the momentum is kept for about that length.
        """
        short = length > self.most * step
        return 2.0 / length if short else 40.0 / max(step, length)


@dataclasses.dataclass(frozen=True)
class Langevin(Adjusted):
    """One gradient step with noise, accepted or not."""

    target: float = 0.57
    exponent: float = 1.5
    steps: int = 16
    lag: float | None = None

    def scheme(self, step: float, length: float) -> Metropolis:
        """`length` is not used."""
        del length
        return Metropolis(Euler(step))

    def friction(self, step: float, length: float) -> float:
        """There is none."""
        del step, length
        return 1.0


def hmc(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """Hamiltonian Monte Carlo: many chains, step, length and coordinates from the ensemble.

    Sources: Duane, Kennedy, Pendleton and Roweth, Phys. Lett. B 195 (1987) 216; Hoffman and
    Sountsov, AISTATS 2022 (tuning by many chains).
    """
    # At least 50 moves of every chain, in half of the budget.
    most = max(2.0, 0.5 * budget.gradients / (50.0 * how_many(budget)))
    return _adjusted("hmc", Hybrid(most), target, budget, key, "kinetic")


def langevin(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """The Metropolis-adjusted Langevin algorithm, as `hmc` otherwise.

    Source: Roberts and Tweedie, Bernoulli 2 (1996) 341.
    """
    return _adjusted("langevin", Langevin(), target, budget, key, "plain")


def _adjusted(
    name: str, move: Any, target: Target, budget: Budget, key: jax.Array, kind: str
) -> Answer:
    account = Account(budget.gradients)
    ensemble, tuned, note = prepare(move, target, budget, key, kind, account)
    with Stopwatch() as watch:
        run, every = sample(ensemble, move, tuned)
    account.book("run", watch)
    if run is None:
        return unfinished(name, ensemble)
    with Stopwatch() as watch:
        z = ensemble.saved(run)
        draws = ensemble.energy.places(z)
        spread = sampling_error(draws)
        statements, _ = diagnose(
            ensemble.energy, z, spread, account, ensemble.next_key(), moved=(run.ledger, every)
        )
        mean, sd = bounds(ensemble.energy, z, spread)
        certificate = Certificate(tuple(statements), mean=mean, sd=sd)
    account.book("certify", watch)
    leaps = getattr(move.scheme(tuned.step, tuned.length), "leaps", 1)
    note = f"{note}; step {tuned.step:.3g}, {leaps:.3g} leaps"
    return answer_of(name, ensemble, draws, certificate, run.ledger, note)


def bounds(frame: Frame, z: np.ndarray, spread: SamplingError) -> tuple[float, float]:
    """Bounds at 95 % on the errors of means and sds of saves z (chain, save, d) of a frame.

    The larger of what their scatter and what E's gradient says: chains that missed a tail have a
    scatter that is too small as their sds are, so that of many runs those that did would be
    certified first.
    """
    looked = along(frame, z, MOST_VALUES)
    covariance = covariance_of(z, spread)
    mean, sd = corrected(frame.places(z), looked, covariance=covariance, exact=True)
    return max(mean, spread.mean), max(sd, spread.sd)


def prepare(
    move: Any, target: Target, budget: Budget, key: jax.Array, kind: str, account: Account
) -> tuple[Ensemble, Tuned, str]:
    """The warmed-up ensemble, what tuning found, and a sentence on both."""
    first, second = jax.random.split(key)
    with Stopwatch() as watch:
        start = begin(target, how_many(budget), first, account)
        still: Any = None
        ensemble = Ensemble(start.energy, still, second, account, kind, start.apart)
        ensemble.place(start.z)
        size = target.dimension ** (-1 / 3 if kind == "plain" else -1 / 4)
        tuned = warm_up(ensemble, move, Tuned(1.1 * size, 0.5 * np.pi))
    account.book("tune", watch)
    note = (
        f"{ensemble.chains} chains from {start.place}; "
        f"warm-up of {tuned.rounds} rounds, coordinates reshaped {tuned.reshaped} times, "
        f"{tuned.restarted} chains restarted"
    )
    return ensemble, tuned, note


def answer_of(
    name: str,
    ensemble: Ensemble,
    draws: np.ndarray,
    certificate: Certificate,
    ledger: Any = None,
    *notes: str,
) -> Answer:
    """The answer of an ensemble that has run, with what its account says."""
    account = ensemble.account
    return Answer(
        name,
        ensemble.energy.target,
        draws,
        certificate,
        account.spent,
        account.seconds,
        ledger=ledger,
        phases=account.phases,
        notes=notes,
    )


def unfinished(name: str, ensemble: Ensemble) -> Answer:
    """The answer where the budget ends with warm-up: the chains as they stand."""
    why = f"{ensemble.account.limit} gradients do not reach beyond warm-up"
    draws = ensemble.energy.places(ensemble.positions)[:, None]
    return answer_of(name, ensemble, draws, uncertified(why))


def how_many(budget: Budget) -> int:
    """Chains for a budget."""
    return next(chains for chains, least in CHAINS if budget.gradients >= least)


def sample(ensemble: Ensemble, move: Any, tuned: Tuned) -> tuple[Any, int]:
    """(the run that is kept, steps between saves); None where the budget allows no draws."""
    account = ensemble.account
    scheme = move.scheme(tuned.step, tuned.length)
    room = account.left - reserve(account.limit)
    steps = ensemble.planned(scheme, room // ensemble.chains)
    if steps < LEAST_SAVES:
        return None, 1
    # An odd number, for which warm-up has compiled the program.
    every = max(1, -(-steps * ensemble.chains // MOST_DRAWS)) | 1
    steps -= steps % every
    friction = move.friction(tuned.step, tuned.length)
    return ensemble.advance(scheme, steps, friction=friction, save_every=every), every


def reserve(limit: int) -> int:
    """Gradients kept for the certificate."""
    return min(3 * 1024 + 200, int(0.08 * limit))
