"""The Ornstein-Uhlenbeck density to t = 1: steepest against py-pde and FiPy at equal error.

Cases: N cells on a line, N x N cells in the plane. Each contender's own settings (tolerance, number
of steps) were chosen so that its L1 error against the exact Gaussian is near that of its space
discretisation; the error is printed beside the time. Preparation (matrices, compilation) is apart.
FiPy takes seconds a run, so the plane is timed in three rounds at most.

py-pde compiles its plane solver anew in every process: minutes at 128^2, and at 256^2 it had not
ended after 580 s, so it is left out there. Its numpy backend, which compiles little, took 70 and
78 s for a run at 256^2 (explicit, adaptive, L1 errors 5e-4 and 2e-4; on a shared machine).

Measured on two cores, other timings held off but not every other process (FiPy took 7 s in an
earlier run, at twice the error). Plane, 256^2: kernel 0.059 s, `solve` 0.067 s (L1 error 9.5e-5),
FiPy 18.4 s (6.2e-3); a step costs 45, 60, 59 ns a cell at 256^2, 512^2, 1024^2. Line, N = 1000 and
4000, fastest of some thousand calls each on a shared machine: py-pde 5.3 and 16 ms, the kernel 0.07
and 0.23, `solve` 1.03 and 1.67, without the books of each step 0.78 and 1.24. So the kernel is 70
times as fast, `solve` 5.2 and 9.6 times (6.8 and 13 without the books): at N = 1000 10 is not
reached, for two small programs and the host take 0.6 ms whatever the grid. Programs called ahead of
time, elimination from both ends, the times of the books side by side, and complex numbers as pairs
gained nothing.
"""

from __future__ import annotations

import numpy as np

from .harness import Contender, chosen, compare, table

CASES = {
    "line N=1000": (1, 1000),
    "line N=4000": (1, 4000),
    "plane 128^2": (2, 128),
    "plane 256^2": (2, 256),
    "plane 512^2": (2, 512),
    "plane 1024^2": (2, 1024),
}
HALF, TIME = 5.0, 1.0
MEAN, VARIANCE = 1.0, 0.3
STEPS = {128: 10, 256: 20, 512: 40, 1024: 40}

CONTENDERS = [
    Contender("steepest, Exponential (line) or FiniteVolume order 2", __name__, "steepest_kernel"),
    Contender("steepest.solve with its ledger", __name__, "steepest_solve"),
    Contender('steepest.solve, ledger="saves"', __name__, "steepest_saves"),
    Contender("py-pde (LSODA banded / explicit)", __name__, "py_pde"),
    Contender("FiPy (implicit, exponential fluxes)", __name__, "fipy_solver"),
]
WITHOUT_PY_PDE = [one for one in CONTENDERS if one.make != "py_pde"]
OURS = CONTENDERS[:3]


def tables(rounds: int, only: str | None):
    for case in chosen(CASES, only):
        dimension, cells = CASES[case]
        contenders = CONTENDERS
        if dimension == 2:
            rounds = min(rounds, 3)
            contenders = {128: CONTENDERS, 256: WITHOUT_PY_PDE}.get(cells, OURS)
        yield table(case, compare(contenders, case, rounds))


def exact(time: float, x: np.ndarray) -> np.ndarray:
    """The density of the law at `time` at points (..., d)."""
    decay = np.exp(-time)
    mean, variance = MEAN * decay, 1.0 + (VARIANCE - 1.0) * decay**2
    square = np.sum((x - mean) ** 2, axis=-1)
    return np.exp(-0.5 * square / variance) / (2 * np.pi * variance) ** (x.shape[-1] / 2)


def error(values: np.ndarray) -> float:
    """L1 distance to the exact law."""
    dimension, cells = values.ndim, values.shape[0]
    h = 2 * HALF / cells
    axis = -HALF + h * (np.arange(cells) + 0.5)
    x = np.stack(np.meshgrid(*[axis] * dimension, indexing="ij"), axis=-1)
    return float(np.abs(values - exact(TIME, x)).sum() * h**dimension)


def reported(run, read):
    """A run that says its error once."""
    values = read(run())
    run.remark = f"L1 error {error(np.asarray(values)):.1e}, least {np.min(values):.0e}"
    return run


def problem(case):
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    import steepest as st

    dimension, cells = CASES[case]
    flow = st.Flow(st.Energy(lambda x: 0.5 * jnp.sum(x**2)), st.Euclidean(), st.Thermal(1.0))
    grid = st.Grid(-HALF, HALF, [cells] * dimension)
    start = st.Density.normalised(grid, jnp.asarray(exact(0.0, np.asarray(grid.points()))))
    return flow, grid, start


def steepest_kernel(case):
    """The semigroup by six poles, or the steps of FiniteVolume, without ledger."""
    import jax
    import jax.numpy as jnp

    import steepest as st
    from steepest.schemes import generator
    from steepest.schemes.semigroup import propagate

    flow, grid, start = problem(case)
    operator = generator(flow, start)
    if grid.dimension == 1:
        move = jax.jit(lambda a, rho: propagate(a, rho, jnp.array([TIME]), poles=6)[0])
    else:
        steps = STEPS[grid.shape[0]]
        scheme = st.FiniteVolume(TIME / steps, order=2)

        @jax.jit
        def move(a, rho):
            one = lambda _, r: scheme._linear(a, r, TIME / steps, 2)  # noqa: E731
            return jax.lax.fori_loop(0, steps, one, rho)

    def run():
        return jax.block_until_ready(move(operator, start.values))

    return reported(run, np.asarray)


def steepest_saves(case):
    """The same without the dissipation of each step."""
    return steepest_solve(case, "saves")


def steepest_solve(case, ledger="steps"):
    """What a user writes."""
    import steepest as st

    flow, grid, start = problem(case)
    if grid.dimension == 1:
        scheme, steps = st.Exponential(TIME, poles=6), 1
    else:
        steps = STEPS[grid.shape[0]]
        scheme = st.FiniteVolume(TIME / steps, order=2)

    def run():
        return st.solve(flow, start, scheme=scheme, steps=steps, save_every=steps, ledger=ledger)

    return reported(run, lambda t: np.asarray(t.final.values))


def py_pde(case):
    """LSODA with a banded Jacobian on a line, the explicit adaptive solver in the plane."""
    import pde

    dimension, cells = CASES[case]
    grid = pde.CartesianGrid([[-HALF, HALF]] * dimension, [cells] * dimension)
    x = np.stack(np.meshgrid(*grid.axes_coords, indexing="ij"), axis=-1)
    start = pde.ScalarField(grid, exact(0.0, x))
    drift = " + ".join(f"d_d{axis}({axis} * c)" for axis in "xy"[:dimension])
    equation = pde.PDE({"c": f"laplace(c) + {drift}"}, bc={"value": 0})
    if dimension == 1:
        solver = pde.ScipySolver(equation, method="LSODA", lband=1, uband=1, rtol=1e-5, atol=1e-7)
    else:
        solver = pde.ExplicitSolver(equation, scheme="runge-kutta", adaptive=True, tolerance=1e-4)
    stepper = solver.make_stepper(start, dt=1e-4)

    def run():
        state = start.copy()
        stepper(state, 0.0, TIME)
        return state

    return reported(run, lambda state: state.data)


def fipy_solver(case):
    """Implicit Euler with exponential (Scharfetter-Gummel) fluxes and FiPy's own linear solver."""
    import fipy

    dimension, cells = CASES[case]
    h, steps = 2 * HALF / cells, 50
    if dimension == 1:
        mesh = fipy.Grid1D(nx=cells, dx=h) - HALF
    else:
        mesh = fipy.Grid2D(nx=cells, ny=cells, dx=h, dy=h) + ((-HALF,), (-HALF,))  # noqa: RUF005
    x = np.asarray(mesh.cellCenters.value).T
    rho = fipy.CellVariable(mesh=mesh)
    drift = fipy.FaceVariable(mesh=mesh, rank=1, value=mesh.faceCenters.value)
    equation = fipy.TransientTerm() == fipy.DiffusionTerm(1.0) + fipy.ExponentialConvectionTerm(
        drift
    )

    def run():
        rho.setValue(exact(0.0, x))
        for _ in range(steps):
            equation.solve(var=rho, dt=TIME / steps)
        return rho

    return reported(run, lambda v: np.asarray(v.value).reshape([cells] * dimension, order="F"))
