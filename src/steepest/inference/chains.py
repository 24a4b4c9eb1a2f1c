"""Chains that are exact at any step: Hamiltonian and Langevin moves, accepted by Metropolis.

The flow is Flow(E, Symplectic() + Friction, Thermal(1)), or Flow(E, Euclidean(), Thermal(1)), of 64
chains in lock-step, in coordinates where the law is near N(0, 1).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from ..schemes import OBABO, Euler, Metropolis
from .answer import Answer, Budget
from .beginning import begin
from .certificate import Certificate, uncertified
from .diagnostics import diagnose
from .dynamics import Account, Ensemble, geometry_of
from .sampling_error import sampling_error
from .stopwatch import Stopwatch
from .target import Target
from .tuning import Tuned, warm_up

CHAINS, FEW_CHAINS = 64, 16
MOST_DRAWS = 16_384
LEAST_SAVES = 8


@dataclasses.dataclass(frozen=True)
class Hybrid:
    """Hamiltonian moves: a fresh momentum, leapfrogs for about `length`, accept or turn back.

    `most`: leapfrogs in one move.
    """

    most: float
    target: float = 0.8
    exponent: float = 2.0
    steps: int = 4
    adapts_length: bool = True

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
class Langevin:
    """One gradient step with noise, accepted or not."""

    target: float = 0.57
    exponent: float = 1.5
    steps: int = 16
    adapts_length: bool = False

    def scheme(self, step: float, length: float) -> Metropolis:
        """`length` is not used."""
        del length
        return Metropolis(Euler(step))

    def friction(self, step: float, length: float) -> float:
        """There is none."""
        del step, length
        return 1.0


def hmc(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """Hamiltonian Monte Carlo: 64 chains, step, length and coordinates from the ensemble.

    Sources: Duane, Kennedy, Pendleton and Roweth, Phys. Lett. B 195 (1987) 216; Hoffman and
    Sountsov, AISTATS 2022 (tuning by many chains).
    """
    # At least 50 moves of every chain, in half of the budget.
    most = max(2.0, 0.5 * budget.gradients / (50.0 * _chains(budget)))
    return _adjusted("hmc", Hybrid(most), target, budget, key, kinetic=True)


def langevin(target: Target, budget: Budget, key: jax.Array) -> Answer:
    """The Metropolis-adjusted Langevin algorithm, as `hmc` otherwise.

    Source: Roberts and Tweedie, Bernoulli 2 (1996) 341.
    """
    return _adjusted("langevin", Langevin(), target, budget, key, kinetic=False)


def _adjusted(
    name: str, move: Any, target: Target, budget: Budget, key: jax.Array, *, kinetic: bool
) -> Answer:
    account = Account(budget.gradients)
    chains = _chains(budget)
    first, second, third = jax.random.split(key, 3)
    with Stopwatch() as watch:
        start = begin(target, chains, first, account)
        ensemble = Ensemble(
            start.energy, None, second, account, kinetic, geometry_of(kinetic)  # pyright: ignore
        )
        ensemble.place(start.z)
        size = target.dimension**-0.25 if kinetic else target.dimension ** (-1 / 3)
        tuned = warm_up(ensemble, move, Tuned(1.1 * size, 0.5 * np.pi))
    account.book("tune", watch)
    with Stopwatch() as watch:
        run, every = sample(ensemble, move, tuned)
    account.book("run", watch)
    if run is None:
        certificate = uncertified(f"{budget.gradients} gradients do not reach beyond warm-up")
        draws = ensemble.energy.back(ensemble.positions)[:, None]
        return Answer(name, target, draws, certificate, account.spent, account.seconds)
    with Stopwatch() as watch:
        z = ensemble.saved(run)
        draws = ensemble.energy.back(z)
        spread = sampling_error(draws)
        statements = diagnose(ensemble, z, spread, run.ledger, third, every=every)
        certificate = Certificate(tuple(statements), mean=spread.mean, sd=spread.sd)
    account.book("certify", watch)
    leaps = getattr(move.scheme(tuned.step, tuned.length), "leaps", 1)
    notes = (
        f"{chains} chains from "
        f"{f'{start.modes} modes by Laplace' if start.laplace else 'about the start'}; "
        f"warm-up of {tuned.rounds} rounds, coordinates reshaped {tuned.reshaped} times, "
        f"{tuned.restarted} chains restarted; "
        f"step {tuned.step:.3g}, {leaps:.3g} leaps",
    )
    return Answer(
        name,
        target,
        draws,
        certificate,
        account.spent,
        account.seconds,
        ledger=run.ledger,
        notes=notes,
    )


def _chains(budget: Budget) -> int:
    return CHAINS if budget.gradients >= 100 * CHAINS else FEW_CHAINS


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
