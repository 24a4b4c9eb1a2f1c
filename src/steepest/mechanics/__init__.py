"""Variational mechanics: actions, trajectories and the conservative corner (eq. 1-29).

`Lagrangian` gives momenta, equations of motion and the Hamiltonian; its `flow()` runs under `solve`
with any symplectic scheme.
"""

from .lagrangian import Lagrangian as Lagrangian
from .legendre import LegendreEnergy as LegendreEnergy
