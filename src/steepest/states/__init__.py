"""What evolves.

A state is any pytree of float arrays (parameters), a `Phase(position, momentum)`, or a measure:
`Particles`. States know themselves and nothing of functionals, geometries or flows.
"""

from .particles import Particles as Particles
from .phase import Phase as Phase
