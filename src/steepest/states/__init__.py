"""What evolves.

A state is any pytree of float arrays (parameters), a `Phase(position, momentum)`, or a measure:
`Particles`, `Density` on a `Grid`, `Gaussian`, `GaussianMixture`, `Categorical`. States know
themselves and nothing of functionals, geometries or flows.
"""

from .adaptive import Adaptive as Adaptive
from .categorical import Categorical as Categorical
from .density import Density as Density
from .factors import LowRank as LowRank
from .gaussian import Gaussian as Gaussian
from .grid import Grid as Grid
from .mixture import GaussianMixture as GaussianMixture
from .particles import Particles as Particles
from .phase import Phase as Phase
from .quadrature import Cubature as Cubature
from .quadrature import GaussHermite as GaussHermite
from .quadrature import MonteCarlo as MonteCarlo
from .quadrature import QuasiMonteCarlo as QuasiMonteCarlo
