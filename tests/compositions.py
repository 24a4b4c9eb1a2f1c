"""What must hold of random compositions of everything that `steepest` exports (see `drawing`).

    python tests/compositions.py --seed 0 --count 20000      prints what is wrong, and counts

What is accepted must run, and its run must be right by means that share no code with the scheme:

  refusal        nothing but a SteepestError, whose message says what would do
  consistency    (x(h) - x(0))/h tends to the flow's velocity as h tends to 0: a scheme that leaves
                 out a part of the flow, or weighs it wrongly, keeps an error that does not shrink
  slope          the velocity lowers F at the rate <dF, K dF> >= 0, F by the user's own functional,
                 differentiated numerically
  books          F(0) - F(h) - dissipated is of higher order in h
  noise          the variance of a step is 2 T tr K h (+ tr sigma sigma^T h), over many particles
  descent        F does not rise without noise, at a small step, and at any step of a scheme that
                 says it is monotone
  law            mass is kept, nothing is negative, covariances are positive, shapes and dtypes stay
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import steepest as st
from drawing import Composition, classes, composition
from material import STEP as SMALL
from steepest import tree
from steepest.compiled import split
from steepest.errors import Diverged, NotConverged, SteepestError
from steepest.geometries.cone import unscaled
from steepest.states.points import is_ensemble, points

COPIES = 2000


@dataclasses.dataclass
class Outcome:
    """`verdict`: refused, diverged, ran, or the name of what is wrong; with the reason."""

    verdict: str
    why: str = ""


FINE = ("refused", "diverged", "ran", "taken")


class Fault(Exception):
    """Something that must hold does not: (name of the check, what was found)."""


def examine(made: Composition, run: bool = True) -> Outcome:
    """Runs a composition and holds it to the checks of the module's docstring.

    `run`: without, only whether it is taken or refused.
    """
    try:
        if not run:
            made.accept()
            return Outcome("taken")
        Checks(made.flow(), made.scheme, made.start()).everything()
    except (Diverged, NotConverged) as end:
        return Outcome("diverged", str(end))
    except SteepestError as refusal:
        good = len(str(refusal)) > 20 and "object at 0x" not in str(refusal)
        return Outcome("refused" if good else "unclear refusal", str(refusal))
    except Fault as fault:
        return Outcome(fault.args[0], fault.args[1])
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in where if "steepest" in frame.filename]
        last = ours[-1] if ours else where[-1]
        place = f"{last.filename.rsplit('/', 2)[-1]}:{last.lineno}"
        return Outcome("raw error", f"{type(error).__name__} at {place}: {_ends(error)}")
    return Outcome("ran")


def _ends(error: Exception) -> str:
    """The first and last words of a message."""
    words = " ".join(str(error).split())
    return words if len(words) < 400 else f"{words[:160]} ... {words[-240:]}"


def with_step(scheme: Any, step: float) -> Any:
    """The scheme, and those inside it, with another step."""

    def leaf(path: Any, value: Any) -> Any:
        named = getattr(path[-1], "name", None) == "step"
        return step if named and isinstance(value, float) else value

    return jax.tree_util.tree_map_with_path(leaf, scheme)


@functools.partial(jax.jit, static_argnames="static")
def _slope(arrays: Any, state: Any, static: Any) -> Any:
    flow = static.filled(arrays)[0]
    return flow.velocity(state), flow.dissipation_rate(state)


def flat(x: Any) -> np.ndarray:
    return np.asarray(ravel_pytree(x)[0], float)


class Checks:
    """One composition that is run at two small steps and a large one."""

    def __init__(self, flow: Any, scheme: Any, state: Any):
        self.flow, self.scheme, self.state = flow, scheme, state
        self.coarse = self.run(SMALL)
        start = tree.as_float(state)
        self.bound = flow.bind(start)
        # One program for both, and for like flows with other numbers: compiling is what costs.
        arrays, static = split(flow, scheme)
        noisy = self.bound.noisy
        self.velocity, self.rate = (None, None) if noisy else _slope(arrays, start, static)

    def run(self, step: float, state: Any = None, key: int = 0) -> Any:
        state = self.state if state is None else state
        scheme = with_step(self.scheme, step)
        length = {"steps": 1} if scheme.step is not None else {"time": step, "steps": 1}
        return st.solve(self.flow, state, scheme=scheme, key=jax.random.key(key), **length)

    @property
    def exact(self) -> bool:
        """Whether the covector is the differential of the value."""
        return all(p.functional.exact for p in self.bound.parts)

    def everything(self) -> None:
        self.law(self.coarse)
        if self.bound.noisy:
            self.noise()
            return
        fine = self.run(SMALL / 4)
        if getattr(self.scheme, "method", "") == "entropic":
            # It blurs by the same width however short the step, and says so: the audit must tell.
            if self.coarse.audit().passed:
                self.consistency(fine)
            return
        self.consistency(fine)
        self.slope()
        self.books(fine)
        self.descent(fine)

    def law(self, run: Any) -> None:
        """Shapes, dtypes, mass, sign."""
        before, after = run.at(0), run.at(len(run) - 1)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            if a.shape != b.shape or a.dtype != b.dtype:
                raise Fault("law", f"{a.dtype}{a.shape} became {b.dtype}{b.shape}")
        if not np.isfinite(flat(after)).all():
            raise Fault("law", "not finite")
        if isinstance(after, st.Density):
            drift = abs(float(after.mass - before.mass))
            if drift > 1e-10:
                raise Fault("law", f"mass changed by {drift:.2e}")
            # What is explicit may leave the laws: the ledger keeps the smallest value, and the
            # audit fails.
            open_ = isinstance(self.scheme, (st.Euler, st.RungeKutta))
            if not open_ and float(jnp.min(after.values)) < -1e-14:
                raise Fault("law", f"smallest value {float(jnp.min(after.values)):.2e}")
        if is_ensemble(after) and after.log_weights is not None:
            drift = abs(float(jax.nn.logsumexp(after.log_weights)))
            if drift > 1e-2:
                raise Fault("law", f"log of the mass {drift:.2e}")
        if isinstance(after, st.Gaussian):
            least = float(jnp.min(jnp.linalg.eigvalsh(after.covariance)))
            if not least > 0:
                raise Fault("law", f"smallest variance {least:.2e}")

    def shrinks(self, what: str, error: Callable[[Any, float], float], fine: Any, close: float):
        """Raises unless an error is small, or shrinks with the step, be it a much smaller one."""
        errors = [error(self.coarse, SMALL), error(fine, SMALL / 4)]
        if errors[1] <= close or errors[1] <= 0.6 * errors[0]:
            return
        errors.append(error(self.run(SMALL / 256), SMALL / 256))  # where the flow is stiff
        if errors[2] > max(close, 0.3 * errors[0]):
            raise Fault(what, ", ".join(f"{e:.3g}" for e in errors))

    def consistency(self, fine: Any) -> None:
        """The error of (x(h) - x(0))/h against the velocity shrinks with h, or is small."""
        velocity, least = flat(self.velocity), 1e-3
        if isinstance(self.state, st.Density):  # what cells leave of a velocity of zero
            least += 0.01 * float(np.linalg.norm(flat(self.state)))

        def error(run: Any, step: float) -> float:
            moved = (flat(run.at(1)) - flat(run.at(0))) / step
            size = np.linalg.norm(velocity) + np.linalg.norm(moved) + least
            return float(np.linalg.norm(moved - velocity) / size)

        # On a grid a scheme has fluxes of its own, which agree with those of the velocity to the
        # order of the cells; and means of V'' and of z V' over a sample to that of its error.
        # 0.35 tells a missing term from that.
        sampled = isinstance(
            getattr(self.state, "quadrature", None), (st.MonteCarlo, st.QuasiMonteCarlo)
        )
        rough = sampled or isinstance(self.state, st.Density)
        self.shrinks("consistency", error, fine, 0.35 if rough else 0.01)

    def slope(self) -> None:
        """dF/dt along the velocity, by central differences of F itself, is -<dF, K dF> <= 0."""
        parts = self.bound.parts
        if self.bound.warm:  # an entropy has no differential on particles
            return
        if self.flow.time_dependent or not self.exact:
            return
        if not all(p.functional.smooth for p in parts):
            return
        state = tree.as_float(self.state)
        velocity, rate = self.velocity, float(self.rate)
        size = np.linalg.norm(flat(velocity))
        if size == 0:
            return
        epsilon = 1e-5 / max(size, 1.0)
        there = [
            float(self.bound.value(tree.axpy(sign * epsilon, velocity, state)))
            for sign in (1.0, -1.0)
        ]
        change = (there[0] - there[1]) / (2 * epsilon)
        noise = 1e-15 * (1.0 + abs(there[0])) / epsilon
        isothermal = any(p.geometry.isothermal for p in parts)
        if not isothermal and abs(change + rate) > 1e-3 * abs(rate) + 1e-5 * size + 10 * noise:
            raise Fault("slope", f"dF/dt = {change:.6g}, -<dF, K dF> = {-rate:.6g}")
        if rate < -1e-8 * (1 + size):
            raise Fault("slope", f"<dF, K dF> = {rate:.3g} < 0")

    def books(self, fine: Any) -> None:
        """What is missing in F(0) - F(h) = dissipated + O(h^2)."""
        if self.flow.time_dependent or not self.exact:
            return

        def error(run: Any, step: float) -> float:
            rate = abs(float(run.ledger.dissipation_rate[0]))
            return abs(float(run.ledger.closure[-1])) / step / (rate + 1e-2)

        self.shrinks("books", error, fine, 0.02)

    def descent(self, fine: Any) -> None:
        """F does not rise where the flow dissipates."""
        if self.bound.warm or self.flow.time_dependent:
            return
        parts = self.bound.parts
        if not self.bound.shared or not any(p.geometry.dissipative for p in parts):
            return
        if not self.exact or not all(p.functional.smooth for p in parts):
            return
        before, after = (float(self.bound.value(fine.at(i))) for i in (0, 1))
        rate = float(fine.ledger.dissipation_rate[0])
        if after - before > 1e-9 * (1 + abs(before)) + 0.05 * rate * SMALL:
            raise Fault("descent", f"F rose by {after - before:.3g} at a small step")
        if not self.scheme.monotone(self.bound) or any(p.geometry.kinetic for p in parts):
            return
        try:
            large = self.run(0.3)
        except (Diverged, NotConverged, SteepestError):
            return
        self.law(large)
        before, after = (float(self.bound.value(large.at(i))) for i in (0, 1))
        if after - before > 1e-9 * (1 + abs(before)):
            raise Fault("descent", f"F rose by {after - before:.3g} at a large step, said monotone")

    def noise(self) -> None:
        """The variance of a step against 2 T tr K h + tr sigma sigma^T h."""
        state = tree.as_float(self.state)
        if is_ensemble(state):
            state = jax.tree.map(lambda x: x[0], points(state))
        if any(p.geometry.on_measures and not _transports(p.geometry) for p in self.flow.parts):
            return
        if any(p.functional.couples for p in self.bound.parts) or self.flow.subsamples:
            return
        copies = st.Particles(jax.tree.map(lambda x: jnp.tile(x, (COPIES, *[1] * x.ndim)), state))
        run = self.run(SMALL, copies)
        moved = jax.vmap(lambda x: ravel_pytree(x)[0])(points(run.at(1)))
        found = float(jnp.sum(jnp.var(moved, axis=0))) / SMALL
        wanted = expected_variance(self.flow, state)
        # The sum of d variances of n samples errs by sqrt(2/n) of itself at most; five of these,
        # and what a finite step changes.
        if wanted is None:
            return
        if abs(found - wanted) > (5 * np.sqrt(2 / COPIES) + 0.05) * wanted + 1e-4:
            raise Fault("noise", f"variance / step {found:.4g}, 2 T tr K + tr σσ^T = {wanted:.4g}")


def _transports(geometry: Any) -> bool:
    return isinstance(unscaled(geometry)[1], st.Wasserstein)


def expected_variance(flow: Any, point: Any) -> float | None:
    """2 T tr K + tr sigma sigma^T at a point, from the ingredients as the user gave them."""
    geometry = flow.geometry
    factor = 1.0
    temperature = 0.0
    if geometry.on_measures:
        factor, geometry = unscaled(geometry)
        geometry = geometry.ground
        temperature = flow.functional.at(0.0).resolve().temperature
    if geometry.isothermal or not geometry.linear or geometry.curved:
        return None
    if flow.thermal is not None:
        temperature = temperature + flow.temperature(0.0)
    geometry = geometry.at(0.0)
    x, unravel = ravel_pytree(point)
    sharp = lambda e: ravel_pytree(geometry.sharp(unravel(x), unravel(e)))[0] @ e  # noqa: E731
    trace = float(sum(sharp(e) for e in jnp.eye(x.size, dtype=x.dtype)))
    total = 2.0 * float(temperature) * float(factor) * trace
    for term in () if flow.noise is None else flow.noise.terms:
        if isinstance(term, st.Diffusion):
            kick = lambda e, term=term: ravel_pytree(term.kick(point, 0.0, unravel(e)))[0]  # noqa: E731
            total += float(sum(jnp.sum(kick(e) ** 2) for e in jnp.eye(x.size, dtype=x.dtype)))
    return total


@dataclasses.dataclass
class Survey:
    """How often each verdict, a line for each fault, and how often each class was in what ran."""

    count: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: list[str] = dataclasses.field(default_factory=list)
    ran: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, made: Any, outcome: Outcome) -> None:
        self.count[outcome.verdict] += 1
        if outcome.verdict not in FINE:
            what = " ".join(str(made).split())
            self.faults.append(f"{outcome.verdict}: {what}\n    {outcome.why}")
        elif outcome.verdict != "refused":
            self.ran.update(made.classes())

    def never(self) -> list[str]:
        """Classes that were in nothing that was accepted."""
        names = {made if kind is None else made.__name__ for kind, made in classes()}
        return sorted(names - set(self.ran))


def survey(seed: int, numbers: Any, every: int = 1, found: Survey | None = None) -> Survey:
    """Outcomes of many compositions, added to those `found`.

    Of those that are taken one in `every` is run; compiling is what costs.
    """
    found = Survey() if found is None else found
    for number in numbers:
        try:
            made = composition(seed, number)
            refused = isinstance(made, SteepestError)
            run = number % every == 0
            outcome = Outcome("refused", str(made)) if refused else examine(made, run)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__} at {where.filename}:{where.lineno}: {error}"
            made, outcome = f"#{number}", Outcome("raw error", why[:200])
        found.add(made, outcome)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--every", type=int, default=1, help="run one in so many that are taken")
    parser.add_argument("--seconds", type=float, help="stop after these")
    options = parser.parse_args()
    began, total, said = time.monotonic(), Survey(), 0
    for first in range(options.first, options.first + options.count, 100):
        last = min(first + 100, options.first + options.count)
        survey(options.seed, range(first, last), options.every, total)
        for fault in total.faults[said:]:
            print(fault, flush=True)
        said = len(total.faults)
        if first % 400 == 0:
            jax.clear_caches()  # programs hold memory maps, of which a process has 65,530
        spent = time.monotonic() - began
        print(f"-- {total.count.total()} {dict(total.count)} {spent:.0f} s", flush=True)
        if options.seconds is not None and spent > options.seconds:
            break
    print("accepted:", ", ".join(f"{name} {n}" for name, n in total.ran.most_common()))
    print("never accepted:", ", ".join(total.never()) or "none")
    sys.exit(bool(total.faults))


if __name__ == "__main__":
    main()
