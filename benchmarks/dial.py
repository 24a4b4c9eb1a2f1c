"""The dial a Wasserstein() + b FisherRao(): time to reach KL 0.1 of a bimodal target.

All mass starts in the left of two modes, six deviations apart. Transport alone waits for the
barrier (Kramers' time); reaction alone, and every mixture of the two, does not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

LEVELS = (0.0, 0.1, 0.3, 1.0, 3.0)
MODES, DEVIATION = jnp.array([-1.8, 1.8]), 0.5
HORIZON, STEP, REACHED = 40.0, 0.02, 0.1


def log_target(x):
    """Two Gaussians of equal weight."""
    return jax.nn.logsumexp(-0.5 * ((x[0] - MODES) / DEVIATION) ** 2)


def run(transport: float, reaction: float):
    """KL over time for one setting of the dial; None for (0, 0), where nothing moves."""
    import steepest as st

    grid = st.Grid(-5.0, 5.0, 250)
    start = st.Density.from_log(grid, lambda x: -0.5 * ((x[0] - MODES[0]) / 0.6) ** 2)
    if transport == 0.0 and reaction == 0.0:
        return None
    terms, schemes = [], []
    if transport:
        terms.append(transport * st.Wasserstein())
        schemes.append(st.FiniteVolume(STEP, order=2))
    if reaction:
        terms.append(reaction * st.FisherRao())
        schemes.append(st.Exponential(STEP))
    geometry = terms[0] if len(terms) == 1 else terms[0] + terms[1]
    scheme = schemes[0] if len(schemes) == 1 else st.Composition(*schemes)
    flow = st.Flow(st.KL(log_target), geometry)
    trajectory = st.solve(flow, start, scheme=scheme, time=HORIZON, save_every=10)
    least = float(flow.functional(st.Density.from_log(grid, log_target)))
    return np.asarray(trajectory.times), np.asarray(trajectory.ledger.functional) - least


def time_to(times: np.ndarray, distance: np.ndarray, level: float = REACHED) -> float:
    """The first save at which KL is below `level`; infinity if none is."""
    below = np.flatnonzero(distance < level)
    return float(times[below[0]]) if len(below) else float("inf")


def tables(rounds: int, only: str | None):
    """One table: a downwards, b to the right."""
    del rounds, only
    jax.config.update("jax_enable_x64", True)
    lines = [
        f"### time to KL {REACHED}, flow a Wasserstein() + b FisherRao()",
        "",
        "| a \\ b | " + " | ".join(f"{b:g}" for b in LEVELS) + " |",
        "|---" * (len(LEVELS) + 1) + "|",
    ]
    for a in LEVELS:
        cells = []
        for b in LEVELS:
            found = run(a, b)
            reached = float("inf") if found is None else time_to(*found)
            cells.append(f"{reached:.1f}" if np.isfinite(reached) else f"> {HORIZON:g}")
        lines.append(f"| {a:g} | " + " | ".join(cells) + " |")
    yield "\n".join([*lines, ""])
