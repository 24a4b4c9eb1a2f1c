"""What decreases.

`Energy` and `EmpiricalRisk` are functionals of a point, `Hamiltonian` of a point of phase space;
`ExpectedEnergy`, `NegativeEntropy`, `FreeEnergy`, `KL`, `InternalEnergy` and `InteractionEnergy`
are functionals of a measure, written in terms of its `expect` and `entropy`, and so is any function
of a measure (`MeasureFunctional`). `SteinDiscrepancy` compares particles with a target, `MMD`,
`SinkhornDivergence` and `SlicedWasserstein` with data. The covector of each is `jax.grad`; sums and
multiples are functionals.
"""

from .base import AbstractFunctional as AbstractFunctional
from .base import Resolved as Resolved
from .discrepancies import MMD as MMD
from .discrepancies import SinkhornDivergence as SinkhornDivergence
from .discrepancies import SlicedWasserstein as SlicedWasserstein
from .energy import Energy as Energy
from .energy import Hamiltonian as Hamiltonian
from .energy import OfPosition as OfPosition
from .energy import PhaseEnergy as PhaseEnergy
from .interaction import InteractionEnergy as InteractionEnergy
from .internal import InternalEnergy as InternalEnergy
from .interpolation import Frozen as Frozen
from .interpolation import InBasis as InBasis
from .interpolation import Interpolation as Interpolation
from .interpolation import frozen as frozen
from .likelihood import NegativeLogLikelihood as NegativeLogLikelihood
from .measure_functional import MeasureFunctional as MeasureFunctional
from .measures import KL as KL
from .measures import Entropic as Entropic
from .measures import ExpectedEnergy as ExpectedEnergy
from .measures import FreeEnergy as FreeEnergy
from .measures import NegativeEntropy as NegativeEntropy
from .risk import EmpiricalRisk as EmpiricalRisk
from .risk import gradient_covariance as gradient_covariance
from .sampled import SampledFreeEnergy as SampledFreeEnergy
from .scores import AbstractScoreEstimator as AbstractScoreEstimator
from .scores import KernelDensity as KernelDensity
from .scores import ScoreNetwork as ScoreNetwork
from .scores import SteinRidge as SteinRidge
from .stein_discrepancy import SteinDiscrepancy as SteinDiscrepancy
from .streamed import Streamed as Streamed
