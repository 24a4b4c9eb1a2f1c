"""From a structure card back to the algorithm (section 7.6): the inverse of `flow.card()`.

The vocabulary is what the known algorithms are made of: their cards with numbers and names of
energies forgotten. Words that no row has together are composed anew from the rows' own parts.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ArgumentError
from ..flow import AbstractFlow, Flow
from ..geometries.cone import unscaled
from ..schemes import AbstractScheme
from ..states import Phase
from ..states.points import is_measure
from .algorithm import Algorithm, Composed, Setting

SLOTS = ("state", "functional", "geometry", "noise", "scheme")
DERIVED = ("conserves", "dissipates", "equilibrium", "known as")
FUNCTIONALS = (  # what a card says of a functional, and its word
    (r"⟨.*⟩-ts(?:\+½⟨.*⟩)?", None),
    (r"kl(?:\(.*\))?", "freeenergy"),
    (r"-s|entropy", "negativeentropy"),
    (r"⟨.*⟩", "expectedenergy"),
    (r"½⟨.*⟩|interaction", "interactionenergy"),
    (r"∫ρ.*", "internalenergy"),
    (r"e=.*", "energy"),
    (r"\d*risk\(.*batch.*\)", "risk(batch)"),
    (r"\d*risk\(.*\)", "risk"),
    (r"mmd\(.*\)", "mmd"),
)
ALIASES = {
    "θ": "point",
    "theta": "point",
    "(q,p)": "phase",
    "kinetic": "symplectic+friction",
    "langevin": "thermal",
    "leapfrog": "bab",
    "verlet": "bab",
    "mala": "metropolis(euler)",
    "jko": "minimizingmovement",
    "proximal": "minimizingmovement",
    "forestruth": "abababa",
    "yoshida": "bababab",
    "mclachlan": "ababa",
}


@dataclasses.dataclass(frozen=True)
class Design:
    """An algorithm: what `solve` takes, on a small problem in the place of one's own.

    `names` and `citation` are empty for a composition without a name.
    """

    flow: AbstractFlow
    scheme: AbstractScheme
    state: Any
    names: tuple[str, ...]
    citation: str

    def card(self) -> dict[str, str]:
        """Its structure card, with what it is known as."""
        known = "; ".join(self.names) or "new"
        return self.flow.card(self.scheme, self.state) | {"known as": known}


def from_card(card: Mapping[str, str] | None = None, **words: str) -> tuple[Design, ...]:
    """The algorithms that a structure card describes, or words for some of its slots.

    `card`: what `flow.card(scheme, state)` gives; `words`: state, functional, geometry, noise,
    scheme, as cards spell them or in plain words (state="gaussian", functional="kl"). Numbers are
    sizes and count for nothing. A slot left out may be anything; a sum is a sum in any order.
    Several known algorithms may share the words: all are given. If none has them, the parts are put
    together, and `names` is empty. Raises ArgumentError, with the nearest word, for an unknown one.
    """
    given = {slot: str(word) for slot, word in {**(card or {}), **words}.items()}
    for slot in given:
        if slot not in (*SLOTS, *DERIVED):
            near = _nearest(slot, SLOTS)
            raise ArgumentError("card", repr(slot), f"{near}one of {', '.join(SLOTS)}")
    asked = {slot: normal(slot, given[slot]) for slot in SLOTS if slot in given}
    if not asked:
        raise ArgumentError("card", given, f"a word for one of {', '.join(SLOTS)}")
    rows = _rows()
    for slot, terms in asked.items():
        known = {term for row in rows for term in row.words[slot]}
        for term in terms:
            if not any(_fits(term, one) for one in known):
                heads = sorted({one.partition("(")[0] for one in known})
                spoken = [*heads, "kl"] if slot == "functional" else heads
                near = _nearest(term.partition("(")[0], spoken)
                raise ArgumentError(slot, repr(given[slot]), f"{near}one of {', '.join(heads)}")
    exact = [row for row in rows if all(row.words[s] == terms for s, terms in asked.items())]
    near = [row for row in rows if all(_same(t, row.words[s]) for s, t in asked.items())]
    found = tuple(row.design() for row in exact or near)
    return found or (_composed(asked, rows),)


def normal(slot: str, text: str) -> tuple[str, ...]:
    """The terms of a slot without numbers, in order of the alphabet."""
    short = re.sub(r"[\s_]", "", text.lower())
    short = re.sub(r"^[ρθ]:", "", short)
    short = ALIASES.get(re.sub(r"-", "", short), short)
    if slot == "functional":
        short = short.replace("+|p|²/2", "")
        return tuple(sorted(_functional(term) for term in _terms(re.sub(r"⟩-ts", "⟩-ts", short))))
    terms = [ALIASES.get(t, t) for t in map(_term, _terms(short))]
    return tuple(sorted(term for one in terms for term in one.split("+")))


def _term(text: str) -> str:
    text = re.sub(r"^[\d.]+\*?(?=[a-z(])", "", text)  # a factor
    text = re.sub(r"(?:\bt=)?(?<![a-z\d])\d+(?:\.\d+)?(?:e-?\d+)?", "", text).replace("-", "")
    text = re.sub(r"oforder$", "", text).replace("=", "")
    while (shorter := re.sub(r",(?=[,)])|(?<=\(),|\(\)", "", text)) != text:
        text = shorter
    return text


def _functional(text: str) -> str:
    text = re.sub(r"^[\d.]+(?=[a-z])", "", text)
    for pattern, word in FUNCTIONALS:
        if re.fullmatch(pattern, text):
            return word or "freeenergy"
    return text.replace("-", "")


def _terms(text: str) -> Iterator[str]:
    """The terms of a sum, on the level outside all brackets."""
    depth, start = 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "(⟨") - (letter in ")⟩")
        if letter == "+" and depth == 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _fits(asked: str, known: str) -> bool:
    """The word itself, or what stands before its brackets; any law is a ρ."""
    return asked in (known, known.partition("(")[0]) or (asked == "ρ" and known in LAWS)


LAWS = ("density", "gaussian", "categorical", "particles")


def _same(asked: tuple[str, ...], known: tuple[str, ...]) -> bool:
    return len(asked) == len(known) and all(map(_fits, asked, known))


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.4)
    return f"did you mean {close[0]}? " if close else ""


@dataclasses.dataclass(frozen=True)
class _Row:
    """A known algorithm, composed, with the terms of its card."""

    algorithm: Algorithm
    composed: Composed
    words: dict[str, tuple[str, ...]]

    def design(self) -> Design:
        return Design(*self.composed, (self.algorithm.name,), self.algorithm.citation)


@functools.cache
def _rows() -> tuple[_Row, ...]:
    from . import ALGORITHMS

    return tuple(map(_row, ALGORITHMS))


def _row(algorithm: Algorithm) -> _Row:
    composed = algorithm.compose(Setting.small())
    card = composed.flow.card(composed.scheme)
    words = {slot: normal(slot, card[slot]) for slot in SLOTS}
    return _Row(algorithm, composed, words | {"state": (_kind(composed.state),)})


def _kind(state: Any) -> str:
    if isinstance(state, Phase):
        return "phase"
    named = is_measure(state) or type(state).__name__ == "Adaptive"
    return type(state).__name__.lower() if named else "point"


def _composed(asked: dict[str, tuple[str, ...]], rows: tuple[_Row, ...]) -> Design:
    """A flow of parts that known algorithms have, each from the row that agrees in most words."""
    from . import recognise

    ranked = sorted(rows, key=lambda r: -sum(_same(t, r.words[s]) for s, t in asked.items()))

    def first(slot: str) -> Composed:
        terms = asked.get(slot)
        fitting = (r for r in ranked if terms is None or _same(terms, r.words[slot]))
        found = next(fitting, None)
        if found is None:
            said = " + ".join(terms or ())
            raise ArgumentError(slot, said, "terms that a known algorithm has together")
        return found.composed

    state, scheme = first("state").state, first("scheme").scheme
    source, geometry = _part(first("functional")), None
    for term in asked.get("geometry", ranked[0].words["geometry"]):
        parts = (t for r in ranked for t in _part(r.composed).geometry.terms)
        same = (unscaled(t)[1] for t in parts if _fits(term, normal("geometry", t.name)[0]))
        one = next(same)
        geometry = one if geometry is None else geometry + one
    assert geometry is not None
    functional: Any = source.functional
    if geometry.kinetic != source.geometry.kinetic:
        functional = Setting.energy
    flow = Flow(functional, geometry, _part(first("noise")).noise)
    return Design(flow, scheme, state, recognise(flow, scheme, state), "")


def _part(composed: Composed) -> Any:
    return composed.flow.parts[0]
