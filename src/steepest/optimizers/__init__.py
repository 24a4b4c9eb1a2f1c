"""Optimizers as geometries: into optax and back, and compared at equal cost (section 7.1).

`as_optax` makes an optax transformation of a geometry, a friction and a noise; `from_optax` runs
any optax optimizer under the ledger; `compare_geometries` gives them the same loss, start and
budget.
"""

from .comparison import Comparison as Comparison
from .comparison import compare_geometries as compare_geometries
from .scheme import from_optax as from_optax
from .transformation import as_optax as as_optax
from .transformation import friction_of as friction_of
