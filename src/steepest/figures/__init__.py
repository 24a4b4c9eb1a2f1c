"""Figures from plain arrays; each takes a theme and returns a matplotlib Figure.

`ledger_figure` takes a trajectory, for `Trajectory.plot`. Nothing here knows a flow.
"""

from .atlas import multiples_figure as multiples_figure
from .bridge import bridge_figure as bridge_figure
from .cloud import cloud_figure as cloud_figure
from .cloud import cloud_frame_figure as cloud_frame_figure
from .comparison import comparison_figure as comparison_figure
from .dial import dial_figure as dial_figure
from .draws import estimates_figure as estimates_figure
from .draws import mixing_figure as mixing_figure
from .draws import traces_figure as traces_figure
from .generation import bound_figure as bound_figure
from .generation import forward_figure as forward_figure
from .generation import generated_points_figure as generated_points_figure
from .generation import image_grid_figure as image_grid_figure
from .generation import training_figure as training_figure
from .law import bars_figure as bars_figure
from .law import frame_figure as frame_figure
from .law import law_figure as law_figure
from .ledger import balance_figure as balance_figure
from .ledger import free_energy_figure as free_energy_figure
from .ledger import functional_figure as functional_figure
from .ledger import ledger_figure as ledger_figure
from .motion import bodies_figure as bodies_figure
from .motion import invariants_figure as invariants_figure
from .motion import phase_figure as phase_figure
from .paths import paths_figure as paths_figure
from .paths import plane_figure as plane_figure
from .posteriors import cost_figure as cost_figure
from .posteriors import disagreement_figure as disagreement_figure
from .theme import DARK as DARK
from .theme import LIGHT as LIGHT
from .theme import Theme as Theme
