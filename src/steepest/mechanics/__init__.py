"""Variational mechanics: actions, trajectories and the conservative corner (eq. 1-29).

`Lagrangian` gives momenta, equations of motion and the Hamiltonian; its `flow()` runs under `solve`
with any symplectic scheme.
"""

from .action import action as action
from .action import first_variation as first_variation
from .action import variation_terms as variation_terms
from .contrast import Contrast as Contrast
from .contrast import contrast as contrast
from .flow_map import FlowMap as FlowMap
from .lagrangian import Lagrangian as Lagrangian
from .legendre import LegendreEnergy as LegendreEnergy
from .metriplectic import Metriplectic as Metriplectic
from .noether import MomentumMap as MomentumMap
from .noether import momentum_map as momentum_map
from .stationary import StationaryPath as StationaryPath
from .stationary import stationary_path as stationary_path
from .transition import EnergyPath as EnergyPath
from .transition import minimum_energy_path as minimum_energy_path
from .transition import onsager_machlup as onsager_machlup
from .transition import transition_path as transition_path
