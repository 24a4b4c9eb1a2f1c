"""A JKO step of the porous medium equation (m = 2) on 256^2 cells, sixteen of them.

From a Barenblatt profile at t/2.5 to the one of radius 0.42 at t in the unit square. Errors are
relative, in L1: against that profile, and against sixteen exact JKO steps (6.3e-3 from it), which
are known, for the radius solves r - step k/r^3 = r_k. Beside it the entropic step and finite
volumes of order 1 for the same equation.
The published back-and-forth code runs where its module `bfmgf` can be imported (its python folder
on PYTHONPATH; C++, one thread). It starts from the old pressure, with the step sizes of Newton's
method at the peak of the density, and takes a fixed number of sweeps; neither is in its example.
Source of the method: Jacobs, Lee and Leger, ESAIM: COCV 27 (2021) 28.
"""

from __future__ import annotations

import numpy as np

from . import harness
from .harness import Contender

CASES = {"porous medium 256^2": 256}
STEPS, RADIUS, RATIO = 16, 0.42, 2.5
HEIGHT = 2 / np.pi
LAST = RADIUS**4 / (16 * HEIGHT)
STEP = (LAST - LAST / RATIO) / STEPS

CONTENDERS = [
    Contender("steepest, MinimizingMovement", __name__, "jko"),
    Contender("back-and-forth (published C++), 5 sweeps a step", __name__, "few_sweeps"),
    Contender("back-and-forth (published C++), 20 sweeps a step", __name__, "many_sweeps"),
    Contender("steepest, entropic, blur 2 cells", __name__, "entropic"),
    Contender("steepest, FiniteVolume order 1", __name__, "finite_volume"),
]


def tables(rounds: int, only: str | None):
    return harness.tables(CONTENDERS, CASES, rounds, only)


def radius_at(time: float) -> float:
    return (16 * HEIGHT * time) ** 0.25


def radius_of_steps() -> float:
    """After sixteen exact JKO steps."""
    radius = radius_at(LAST / RATIO)
    for _ in range(STEPS):
        roots = np.roots([1, -radius, 0, 0, -4 * HEIGHT * STEP])
        radius = float(max(root.real for root in roots if abs(root.imag) < 1e-9))
    return radius


def profile(cells: int, radius: float) -> np.ndarray:
    """Barenblatt's density of mass 1 on the unit square, centred."""
    axis = (np.arange(cells) + 0.5) / cells - 0.5
    square = axis[:, None] ** 2 + axis[None, :] ** 2
    return HEIGHT / radius**2 * np.maximum(1 - square / radius**2, 0)


def error(values: np.ndarray, radius: float) -> float:
    exact = profile(values.shape[0], radius)
    return float(np.abs(values - exact).sum() / exact.sum())


def remark(values: np.ndarray) -> str:
    mass = abs(values.mean() - 1)
    pde, step = error(values, RADIUS), error(values, radius_of_steps())
    ends = f"least {values.min():.0e}, mass off by {mass:.0e}"
    return f"L1 error {pde:.1e}, of the JKO steps {step:.1e}, {ends}"


def solved(case, make):
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    import steepest as st

    cells = CASES[case]
    grid = st.Grid(-0.5, 0.5, (cells, cells))
    start = st.Density.normalised(grid, jnp.asarray(profile(cells, radius_at(LAST / RATIO))))
    flow = st.Flow(st.InternalEnergy(2.0), st.Wasserstein())
    scheme = make(st)

    def run():
        result = st.solve(flow, start, scheme=scheme, steps=STEPS, save_every=STEPS)
        values = np.asarray(result.final.values)
        run.remark = remark(values)
        if result.ledger.violation is not None:
            run.remark += f", De Giorgi {np.max(result.ledger.violation[1:]):+.1e}"

    return run


def jko(case):
    return solved(case, lambda st: st.MinimizingMovement(STEP, tolerance=1e-2))


def entropic(case):
    return solved(case, lambda st: st.MinimizingMovement(STEP, tolerance=1e-2, method="entropic"))


def finite_volume(case):
    return solved(case, lambda st: st.FiniteVolume(STEP))


def few_sweeps(case):
    return back_and_forth(case, 5)


def many_sweeps(case):
    return back_and_forth(case, 20)


def back_and_forth(case, sweeps):
    """Its c-transforms, push-forwards and pull-backs; preconditioned by cosine transforms."""
    import bfmgf
    from scipy.fft import dctn, idctn

    n = CASES[case]
    angle = np.pi * np.arange(n) / n
    laplacian = 2 * n**2 * (2 - np.cos(angle)[:, None] - np.cos(angle)[None, :])
    potential = np.zeros((n, n))

    def raised(residual: np.ndarray, mobility: float) -> np.ndarray:
        return idctn(dctn(residual) / (0.5 + STEP * mobility * laplacian))

    def run():
        method, transform = bfmgf.BFM(n, n, STEP), bfmgf.FLT2D(n, n)
        mu = profile(n, radius_at(LAST / RATIO))
        mu = mu / mu.mean()
        phi, psi = -2.0 * mu, np.zeros((n, n))
        moved, wanted = np.zeros((n, n)), np.zeros((n, n))
        for _ in range(STEPS):
            peak = mu.max()
            for _ in range(sweeps):
                transform.find_c_concave(psi, phi, STEP)
                transform.find_c_concave(phi, psi, STEP)
                method.calculate_DUstar(wanted, phi, potential, 2.0, 1.0)
                method.compute_push_forth(moved, phi, psi, mu)
                phi += raised(wanted - moved, peak)
                transform.find_c_concave(psi, phi, STEP)
                wanted[:] = 0.5 * np.maximum(-phi, 0)
                method.compute_pull_back(moved, phi, psi, wanted)
                psi += raised(mu - moved, peak)
                transform.find_c_concave(phi, psi, STEP)
            method.calculate_DUstar(wanted, phi, potential, 2.0, 1.0)
            mu = wanted.copy()
        run.remark = remark(mu)

    return run
