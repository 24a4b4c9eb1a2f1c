"""What a run leaves: times, states, the ledger; and ways out to xarray, ArviZ, files, figures."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from . import states, store
from .errors import ArgumentError
from .ledger import Ledger
from .naming import named_leaves
from .states import Phase, quadrature
from .states.points import is_ensemble, points
from .summary import load_arviz

FORMAT = 2


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """A run of a flow.

    `times`: (S + 1,), the first being the start; `states`: the state with leading axis S + 1 on
    each leaf; `ledger`: see Ledger. `flow` and `scheme` are what ran (None after `load`, which
    keeps their description in `row`). `ending` is why it ended before its time: "interrupted"
    (Ctrl-C), "diverged" or "out of time"; else empty.
    """

    times: Any
    states: Any
    ledger: Ledger
    flow: Any = None
    scheme: Any = None
    save_every: int = 1
    balanced: bool = True
    ending: str = ""
    description: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        """Whether it ended before its time."""
        return bool(self.ending)

    @property
    def final(self) -> Any:
        """The last state."""
        return self.at(-1)

    def at(self, index: int) -> Any:
        """The state of one save."""
        return jax.tree.map(lambda leaf: jax.numpy.asarray(leaf[index]), self.states)

    @property
    def row(self) -> dict[str, str]:
        """What ran, in words: the structure card (see `flow.card`)."""
        if self.flow is None:
            return self.description
        return self.flow.card(self.scheme, self.states)

    def __len__(self) -> int:
        return len(self.times)

    def head(self, count: int) -> Trajectory:
        """The first `count` saves."""
        return self._cut(slice(None, count))

    def tail(self, start: int) -> Trajectory:
        """The saves from `start` on, for example after warm-up."""
        return self._cut(slice(start, None))

    def _cut(self, window: slice) -> Trajectory:
        book = {
            field.name: getattr(self.ledger, field.name)
            for field in dataclasses.fields(self.ledger)
        }
        cut = {name: column[window] for name, column in book.items() if _is_column(column)}
        if self.ledger.works is not None:
            cut["works"] = self.ledger.works[window]
        cut["conserved"] = {name: c[window] for name, c in self.ledger.conserved.items()}
        return dataclasses.replace(
            self,
            times=self.times[window],
            states=jax.tree.map(lambda leaf: leaf[window], self.states),
            ledger=dataclasses.replace(self.ledger, **cut),
        )

    def audit(self, **options: Any) -> Any:
        """Hold the run against the theory: see `steepest.audit.audit`."""
        from .audit import audit

        return audit(self, **options)

    def stiffness(self) -> Any:
        """The step against the fastest rate at the start: see `steepest.stability.stiffness`.

        None where the scheme has no limit, and after `load`.
        """
        from .stability import stiffness

        if self.flow is None:
            return None
        return stiffness(self.flow, self.at(0), self.scheme, float(self.times[0]))

    def free_energy(self, **options: Any) -> Any:
        """F(rho) = <E> - T S at each save of an ensemble: see `steepest.audit.free_energy`."""
        from .audit import free_energy

        return free_energy(self, **options)

    @property
    def chains(self) -> int:
        """How many points run side by side."""
        return jax.tree.leaves(self.states)[0].shape[1] if is_ensemble(self.states) else 1

    def variables(self) -> dict[str, np.ndarray]:
        """Positions by name, with leading axes (chain, save)."""
        points_ = points(self.states)
        if isinstance(points_, Phase):
            points_ = points_.position
        found = {}
        for name, leaf in named_leaves(points_):
            leaf = np.asarray(leaf)
            found[name] = np.moveaxis(leaf, 1, 0) if is_ensemble(self.states) else leaf[None]
        return found

    def to_xarray(self) -> Any:
        """An xarray Dataset: positions over (chain, time, ...) and the ledger over time."""
        import xarray

        variables = {}
        for name, values in self.variables().items():
            dims = ("chain", "time", *(f"{name}_dim_{i}" for i in range(values.ndim - 2)))
            variables[name] = (dims, values)
        for name, column in self.ledger.columns().items():
            if name != "time":
                variables[f"ledger_{name}"] = (("time",), np.asarray(column))
        coordinates = {"time": np.asarray(self.times), "chain": np.arange(self.chains)}
        return xarray.Dataset(variables, coords=coordinates, attrs=self.row)

    def to_arviz(
        self,
        warmup: int = 0,
        coords: dict[str, Any] | None = None,
        dims: dict[str, list[str]] | None = None,
    ) -> Any:
        """An ArviZ InferenceData: a particle is a chain, a save (after `warmup`) is a draw.

        The ledger goes along as its own group.
        """
        arviz = load_arviz()
        posterior = {name: values[:, warmup:] for name, values in self.variables().items()}
        data = arviz.from_dict(posterior=posterior, coords=coords, dims=dims)
        data.add_groups({"ledger": self.ledger.to_xarray(self.row)}, warn_on_custom_groups=False)
        return data

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one .npz file (arrays and JSON, no pickle), whole or not at all.

        Raises ArgumentError for a state of unknown kind, and where nothing can be written.
        """
        path = Path(path)
        if path.suffix != ".npz":
            path = path.with_name(path.name + ".npz")
        leaves: list[Any] = []
        shape = _describe(self.states, leaves)
        header = {
            "format": FORMAT,
            "states": shape,
            "row": self.row,
            "save_every": self.save_every,
            "balanced": self.balanced,
            "ending": self.ending,
            "conserved": sorted(self.ledger.conserved),
        }
        arrays = {f"state_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        arrays |= {f"ledger_{k}": np.asarray(v) for k, v in self.ledger.columns().items()}
        store.write(path, arrays, header)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read what `save` wrote; executes nothing. Raises ArgumentError for anything else."""
        arrays, header = store.read(Path(path), FORMAT, "a saved trajectory")
        try:
            states = _rebuild(header["states"], arrays)
            columns = {k[7:]: v for k, v in arrays.items() if k.startswith("ledger_")}
            conserved = {name: columns.pop(f"conserved_{name}") for name in header["conserved"]}
            book = Ledger(times=columns.pop("time"), conserved=conserved, **columns)
            words = {name: header[name] for name in ("save_every", "balanced", "ending")}
            row = dict(header["row"])
        except Exception as error:
            raise ArgumentError("path", path, f"not a saved trajectory ({error})") from None
        return cls(book.times, states, book, **words, description=row)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The ledger as a figure (functional, dissipation, closure); written to `path` if given."""
        from .figures import ledger_figure
        from .figures.theme import LIGHT

        figure = ledger_figure(self, theme=LIGHT)
        if path is not None:
            figure.savefig(path, dpi=160)
        return figure


def _is_column(value: Any) -> bool:
    return hasattr(value, "shape") and getattr(value, "ndim", 0) == 1


def _describe(value: Any, leaves: list[Any]) -> Any:
    """The structure of a state as JSON; arrays are appended to `leaves`."""
    if value is None:
        return None
    if isinstance(value, (bool, int, float, str)):
        return ["plain", value]
    if isinstance(value, (eqx.Module, quadrature.Rule)):
        name = type(value).__name__
        if _home(name) is not type(value):
            raise ArgumentError("state", name, "save() knows the states of steepest.states only")
        inside = {
            field.name: _describe(getattr(value, field.name), leaves)
            for field in dataclasses.fields(value)  # pyright: ignore[reportArgumentType]
        }
        return ["state", name, inside]
    if isinstance(value, dict):
        return ["dict", {str(k): _describe(v, leaves) for k, v in value.items()}]
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_describe(v, leaves) for v in value]]
    if hasattr(value, "shape"):
        leaves.append(value)
        return ["array", len(leaves) - 1]
    raise ArgumentError(
        "state", type(value).__name__, "save() knows dicts, lists, tuples and steepest.states"
    )


def _home(name: str) -> Any:
    """The class of a state or of a part of one; None for anything else."""
    found = getattr(states, name, None) or getattr(quadrature, name, None)
    known = isinstance(found, type) and issubclass(found, (eqx.Module, quadrature.Rule))
    return found if known else None


def _rebuild(shape: Any, arrays: dict[str, Any]) -> Any:
    if shape is None:
        return None
    kind, *inside = shape
    if kind == "array":
        return arrays[f"state_{int(inside[0])}"]
    if kind == "dict":
        return {name: _rebuild(part, arrays) for name, part in inside[0].items()}
    if kind in ("list", "tuple"):
        parts = [_rebuild(part, arrays) for part in inside[0]]
        return parts if kind == "list" else tuple(parts)
    if kind == "plain":
        return inside[0]
    if kind == "state":
        name, fields = inside
        home = _home(name)
        if home is None:
            raise ValueError(name)
        # Saved states carry a leading axis of saves, which their own checks do not expect.
        made = object.__new__(home)
        for field in dataclasses.fields(home):
            object.__setattr__(made, field.name, _rebuild(fields[field.name], arrays))
        return made
    raise ValueError(kind)
