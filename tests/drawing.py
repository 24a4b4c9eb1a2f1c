"""Random compositions of all that is exported: state, functional, geometry, noise and scheme.

Classes are taken from the exports; their arguments are found by name in `material`, so an
ingredient that is added later joins as soon as its required arguments have values there
(`missing()` says which have none).

Some compositions are made to fit: one class, each as likely as any other, is given, and the other
ingredients are drawn until `driver` accepts the whole. Some are such with one ingredient drawn
again blindly, near the border of what is accepted. The others are drawn blindly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import random
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import numpy as np

import steepest as st
from material import ALWAYS, LAWS, OWN, STATES, TOGETHER, VALUES, Between, Of, waning
from steepest import driver
from steepest.errors import SteepestError
from steepest.functionals import AbstractFunctional
from steepest.functionals.scores import AbstractScoreEstimator
from steepest.geometries import AbstractGeometry
from steepest.geometries.potentials import AbstractPotential
from steepest.kernels import AbstractKernel
from steepest.noise import AbstractNoise
from steepest.schemes import AbstractScheme

FITTING, NEAR = 0.22, 0.4
"""Shares of compositions that are made to fit, and of those near the border."""
ROUNDS, TRIES = 12, 10
KINDS = (AbstractFunctional, AbstractGeometry, AbstractNoise, AbstractScheme)
Draw = random.Random


@functools.cache
def exported(base: type) -> tuple[Any, ...]:
    """The exported classes, and functions that make them, of one kind."""
    home = {
        AbstractFunctional: "functionals",
        AbstractGeometry: "geometries",
        AbstractNoise: "noise",
        AbstractScheme: "schemes",
        AbstractKernel: "kernels",
        AbstractPotential: "geometries",
        AbstractScoreEstimator: "functionals",
    }[base]
    found = [getattr(st, name) for name in st._HOME[home]]
    classes = [x for x in found if isinstance(x, type) and issubclass(x, base)]
    if base is AbstractScheme:
        classes += [x for x in found if not isinstance(x, type) and x is not st.generator]
    return tuple(classes)


def _known(made: Any, name: str) -> bool:
    together = TOGETHER.get(made.__name__, [])
    return (made.__name__, name) in OWN or name in VALUES or any(name in x for x in together)


def missing() -> list[str]:
    """Required arguments of exported ingredients that `material` knows nothing of."""
    return [
        f"{made.__name__}({name}=...)"
        for kind in KINDS
        for made in exported(kind)
        for name, parameter in inspect.signature(made).parameters.items()
        if parameter.default is inspect.Parameter.empty and not _known(made, name)
    ]


def _argument(draw: Draw, made: Any, name: str, depth: int) -> Any:
    value = draw.choice(OWN.get((made.__name__, name)) or VALUES[name])
    if isinstance(value, Between):
        return value.number(draw)
    return ingredient(draw, value.base, depth + 1) if isinstance(value, Of) else value


def one(draw: Draw, made: Any, depth: int = 0) -> Any:
    """`made` called with arguments drawn by name."""
    positional: list[Any] = []
    together = TOGETHER.get(made.__name__)
    named = dict(draw.choice(together)) if together else {}
    for name, parameter in inspect.signature(made).parameters.items():
        if together and any(name in arguments for arguments in together):
            continue
        required = parameter.default is inspect.Parameter.empty
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional = [_argument(draw, made, name, depth) for _ in range(draw.choice([1, 2, 2]))]
        elif required or (_known(made, name) and (name in ALWAYS or draw.random() < 0.15)):
            named[name] = _argument(draw, made, name, depth)
    return made(*positional, **named)


def ingredient(draw: Draw, kind: type, depth: int = 0, given: Any = None) -> Any:
    """One ingredient of a kind, or of a `given` class; also sums and multiples of them."""
    made = one(draw, given or draw.choice(exported(kind)), depth)
    if kind in (AbstractFunctional, AbstractGeometry) and depth < 2:
        if draw.random() < 0.25:
            made = made + ingredient(draw, kind, depth + 1)
        if draw.random() < 0.2:
            factor: Any = draw.uniform(0.3, 2.5)
            made = (waning if kind is AbstractGeometry and draw.random() < 0.2 else factor) * made
    if kind is AbstractNoise and draw.random() < 0.15:
        made = made + ingredient(draw, kind, depth + 1)
    return made


@dataclasses.dataclass
class Composition:
    """What was drawn; `str` names it so that a seed and the number find it again."""

    number: int
    state: str
    functional: Any
    geometry: Any
    noise: Any
    scheme: Any

    def start(self) -> Any:
        """The state at the start."""
        return STATES[self.state](np.random.default_rng(self.number))

    def flow(self) -> Any:
        return st.Flow(self.functional, self.geometry, self.noise)

    def accept(self) -> None:
        """Raises SteepestError unless the flow, its state and the scheme fit together."""
        driver._fitted(self.flow(), self.scheme, self.start())

    def classes(self) -> set[str]:
        """The names of what was exported and is part of it."""
        found = set(_names((self.functional, self.geometry, self.noise, self.scheme)))
        return (found & set(st.__all__)) | {self.state}

    def __str__(self) -> str:
        names = [getattr(x, "name", x) for x in (self.functional, self.geometry, self.noise)]
        return f"#{self.number} {self.state} | {' | '.join(map(str, names))} | {self.scheme}"


def _names(x: Any) -> Iterator[str]:
    """The names of the classes within; of a splitting also of the function that makes the like."""
    if isinstance(x, dict):
        x = tuple(x.values())
    if isinstance(x, (tuple, list)):
        for part in x:
            yield from _names(part)
    elif dataclasses.is_dataclass(x) and not isinstance(x, type):
        yield type(x).__name__
        yield from _names(tuple(getattr(x, field.name) for field in dataclasses.fields(x)))
    elif isinstance(x, st.Streamed):
        yield "Streamed"
    if isinstance(x, st.Splitting):
        for make in exported(AbstractScheme):
            orders = [{"order": k} for k in (2, 4)] if make is st.McLachlan else [{}]
            if not isinstance(make, type) and any(
                eqx.tree_equal(make(x.step, **order), x) is True for order in orders
            ):
                yield make.__name__


def classes() -> list[tuple[type | None, Any]]:
    """(kind, class) of all that a composition can be built around; kind None for a state's name."""
    return [(kind, made) for kind in KINDS for made in exported(kind)] + [(None, s) for s in STATES]


def composition(seed: int, number: int) -> Composition | SteepestError:
    """Number `number` of a seed, or the refusal of one of its ingredients."""
    draw = random.Random(f"{seed} {number}")
    way = draw.random()
    try:
        made = _fitting(draw, number) if way < FITTING + NEAR else None
        if made is None:
            return Composition(number, draw.choice(list(STATES)), *_blind(draw))
        if way > FITTING:
            return _disturbed(draw, made)
    except SteepestError as refusal:
        return refusal
    return made


def _blind(draw: Draw) -> tuple[Any, ...]:
    noisy = draw.random() < 0.35
    return tuple(
        None if kind is AbstractNoise and not noisy else ingredient(draw, kind) for kind in KINDS
    )


def _disturbed(draw: Draw, made: Composition) -> Composition:
    """The same with one of the five drawn again, blindly."""
    slot = draw.choice(["state", "functional", "geometry", "noise", "scheme"])
    if slot == "state":
        return dataclasses.replace(made, state=draw.choice(list(STATES)))
    kind = KINDS[["functional", "geometry", "noise", "scheme"].index(slot)]
    return dataclasses.replace(made, **{slot: ingredient(draw, kind)})


def _fitting(draw: Draw, number: int) -> Composition | None:
    """A composition around one class, of which `driver` accepts all; None where none was found."""
    kind, given = draw.choice(classes())
    for _ in range(ROUNDS):
        with contextlib.suppress(_Nothing):
            return _round(draw, number, kind, given)
    return None


class _Nothing(Exception):
    """Nothing that was drawn fits."""


def _until(draw: Callable[[], Any], fits: Callable[[Any], Any]) -> Any:
    """The first that is drawn and fits; what is neither refused nor works is a fault, and fits."""
    for _ in range(TRIES):
        try:
            found = draw()
        except SteepestError:
            continue
        try:
            fits(found)
        except SteepestError:
            continue
        except Exception:
            return found
        return found
    raise _Nothing


def _round(draw: Draw, number: int, kind: Any, given: Any) -> Composition:
    """Each ingredient is drawn until it fits those before it."""

    def some(of: type) -> Any:
        return ingredient(draw, of, given=given if of is kind else None)

    made = Composition(number, given if kind is None else "", None, None, None, None)
    if kind is None:
        made.geometry = _until(lambda: some(AbstractGeometry), lambda g: _meet(g, made))
    else:
        made.geometry = _until(lambda: some(AbstractGeometry), lambda _: None)

        def meets(name: str) -> None:
            made.state = name
            _meet(made.geometry, made)

        names = [s for s in STATES if _alike(made.geometry, s)]
        _until(lambda: draw.choice(names), meets)

    start = made.start()

    def bound(slot: str) -> Callable[[Any], None]:
        return lambda x: dataclasses.replace(made, **{slot: x}).flow().bind(start)

    made.functional = _until(lambda: some(AbstractFunctional), bound("functional"))
    if kind is AbstractNoise or draw.random() < 0.5:
        try:
            made.noise = _until(lambda: some(AbstractNoise), bound("noise"))
        except _Nothing:
            if kind is AbstractNoise:
                raise
    made.scheme = _until(
        lambda: some(AbstractScheme), lambda x: dataclasses.replace(made, scheme=x).accept()
    )
    return made


def _alike(geometry: Any, name: str) -> bool:
    """Whether geometry and state speak of the same kind of thing."""
    if geometry.kinetic != ("hase" in name) or geometry.adaptive != (name == "Adaptive"):
        return False
    return geometry.on_measures == (name in LAWS) or name.startswith("Particles")


def _meet(geometry: Any, made: Composition) -> None:
    """Raises SteepestError unless the geometry takes the state."""
    if not _alike(geometry, made.state):
        raise st.ArgumentError("state", made.state, "another kind of state")
    moves = geometry.on_measures or made.state not in LAWS
    (geometry if moves else st.Wasserstein(geometry)).at(0.0).check(made.start())
