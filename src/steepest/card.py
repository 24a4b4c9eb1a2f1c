"""The structure card: a flow as one row of the table in section 7.6, read off its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .states.adaptive import Adaptive
from .states.points import is_measure

if TYPE_CHECKING:
    from .flow import AbstractFlow, Flow


def card_of(flow: AbstractFlow, scheme: Any = None, state: Any = None) -> dict[str, str]:
    """The rows of the flow's parts, added; with the kind of `state` and the scheme where given."""
    rows = [part.row() for part in flow.parts]
    card = {name: " + ".join(dict.fromkeys(row[name] for row in rows)) for name in rows[0]}
    if (is_measure(state) and card["state"] == "ρ") or isinstance(state, Adaptive):
        card["state"] += f": {type(state).__name__}"
    return card if scheme is None else card | {"scheme": scheme.name}


def row_of(flow: Flow) -> dict[str, str]:
    """State, functional, geometry, noise; what is conserved, dissipated, and the equilibrium."""
    kinetic, thermal = flow.geometry.kinetic, flow.thermal is not None
    state = "ρ" if flow.geometry.on_measures else "(q, p)" if kinetic else "θ"
    conserves = ["mass"] if flow.geometry.on_measures else []
    if flow.geometry.conservative and not flow.geometry.dissipative and flow.noise is None:
        conserves.append("H")
    if not flow.geometry.dissipative:
        dissipates = "nothing"
    elif thermal:
        dissipates = f"free energy ⟨{flow.functional.name}⟩ - T S"
    else:
        dissipates = flow.functional.name
    return {
        "state": state,
        "functional": flow.functional.name,
        "geometry": flow.geometry.name,
        "noise": "none" if flow.noise is None else flow.noise.name,
        "conserves": ", ".join(conserves) or "nothing",
        "dissipates": dissipates,
        "equilibrium": str(flow.equilibrium()),
    }
