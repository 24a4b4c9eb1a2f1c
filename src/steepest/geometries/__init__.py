"""How *steepest* is measured.

A geometry is one map, `sharp`: covector -> tangent. Of parameters: `Euclidean`, `Riemannian`, and
the manifolds `Sphere`, `Stiefel`, `SymmetricPositiveDefinite`, `Hyperbolic`. Of phase space:
`Symplectic` (conserves), `Friction` (dissipates) and `Isokinetic` (a thermostat). Of measures:
`Wasserstein` (mass moves) and `FisherRao` (mass appears and disappears), `Stein` (velocities
smoothed by a kernel). They add and scale.
"""

from .base import AbstractGeometry as AbstractGeometry
from .bregman import Bregman as Bregman
from .diagonal import Diagonal as Diagonal
from .diagonal import SecondMoment as SecondMoment
from .fisher import Fisher as Fisher
from .fisher_rao import FisherRao as FisherRao
from .flat import Euclidean as Euclidean
from .flat import Riemannian as Riemannian
from .hyperbolic import Hyperbolic as Hyperbolic
from .isokinetic import Isokinetic as Isokinetic
from .kinetic import Friction as Friction
from .kinetic import Symplectic as Symplectic
from .manifold import Manifold as Manifold
from .norm import Norm as Norm
from .parametric import Parametric as Parametric
from .potentials import AbstractPotential as AbstractPotential
from .potentials import Entropy as Entropy
from .potentials import HyperbolicEntropy as HyperbolicEntropy
from .potentials import PNorm as PNorm
from .potentials import Potential as Potential
from .potentials import SimplexEntropy as SimplexEntropy
from .product import Product as Product
from .sphere import Sphere as Sphere
from .stein import Stein as Stein
from .stiefel import Stiefel as Stiefel
from .symmetric_positive_definite import (
    SymmetricPositiveDefinite as SymmetricPositiveDefinite,
)
from .wasserstein import Wasserstein as Wasserstein
