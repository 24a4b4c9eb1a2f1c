"""Learning is variational flow under a chosen geometry and stochastic structure.

Pick a state, a functional, a geometry and a noise; get the flow, its run and its audit:

    >>> import jax, jax.numpy as jnp, steepest as st
    >>> flow = st.Flow(st.Energy(lambda x: 0.5 * jnp.sum(x**2)), st.Euclidean(), st.Thermal(1.0))
    >>> chains = st.Particles.normal(jax.random.key(0), 1000, like=jnp.zeros(2))
    >>> run = st.solve(flow, chains, scheme=st.Euler(0.01), time=5.0, key=jax.random.key(1))
    >>> print(run.audit())  # doctest: +SKIP

Names are loaded when first used, so that `import steepest` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .__about__ import __version__ as __version__

_HOME = {
    "states": [
        "Adaptive",
        "Categorical",
        "Cubature",
        "Density",
        "Gaussian",
        "GaussHermite",
        "GaussianMixture",
        "Grid",
        "LowRank",
        "MonteCarlo",
        "Particles",
        "Phase",
        "QuasiMonteCarlo",
    ],
    "kernels": [
        "EnergyDistance",
        "GaussianKernel",
        "InverseMultiquadric",
        "LinearKernel",
        "Logarithmic",
    ],
    "functionals": [
        "EmpiricalRisk",
        "Streamed",
        "Energy",
        "ExpectedEnergy",
        "FreeEnergy",
        "Hamiltonian",
        "InteractionEnergy",
        "InternalEnergy",
        "KL",
        "KernelDensity",
        "MMD",
        "MeasureFunctional",
        "NegativeEntropy",
        "NegativeLogLikelihood",
        "PhaseEnergy",
        "ScoreNetwork",
        "SinkhornDivergence",
        "SlicedWasserstein",
        "SteinDiscrepancy",
        "SteinRidge",
    ],
    "geometries": [
        "Bregman",
        "Diagonal",
        "Euclidean",
        "Fisher",
        "FisherRao",
        "Friction",
        "Holonomic",
        "Hyperbolic",
        "HyperbolicEntropy",
        "Isokinetic",
        "Norm",
        "Onsager",
        "PNorm",
        "Parametric",
        "Poisson",
        "Potential",
        "Product",
        "Riemannian",
        "SecondMoment",
        "Sphere",
        "Stein",
        "Stiefel",
        "SymmetricPositiveDefinite",
        "Symplectic",
        "Wasserstein",
    ],
    "noise": ["Diffusion", "Minibatch", "Thermal"],
    "flow": ["Flow"],
    "schemes": [
        "BAOAB",
        "Backtracking",
        "BirthDeath",
        "Composition",
        "DiscreteGradient",
        "Euler",
        "Exponential",
        "FiniteVolume",
        "ForestRuth",
        "Leapfrog",
        "McLachlan",
        "Metropolis",
        "MinimizingMovement",
        "Nesterov",
        "OBABO",
        "Rattle",
        "RungeKutta",
        "Splitting",
        "Variational",
        "Yoshida",
        "generator",
    ],
    "driver": ["solve"],
    "planning": ["Plan", "plan"],
    "stability": ["stiffness"],
    "registry": ["from_card"],
    "checkpoint": ["Checkpoint"],
    "bridges": ["SchrodingerBridge", "SchrodingerChain"],
    "agreement": ["CrossCheck", "cross_check"],
    "chaos": ["propagation_of_chaos"],
    "optimizers": ["as_optax", "compare_geometries", "from_optax"],
    "samplers": ["gradient_noise", "sgd_as_langevin", "sghmc", "sgld", "stationary"],
    "trajectory": ["Trajectory"],
    "ledger": ["Ledger"],
    "audit": ["Audit", "Check"],
    "errors": [
        "ArgumentError",
        "Diverged",
        "NotConverged",
        "ProcessLost",
        "SteepestError",
        "Terminated",
    ],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'steepest' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if TYPE_CHECKING:
    from .agreement import CrossCheck as CrossCheck
    from .agreement import cross_check as cross_check
    from .audit import Audit as Audit
    from .audit import Check as Check
    from .bridges import SchrodingerBridge as SchrodingerBridge
    from .bridges import SchrodingerChain as SchrodingerChain
    from .chaos import propagation_of_chaos as propagation_of_chaos
    from .checkpoint import Checkpoint as Checkpoint
    from .driver import solve as solve
    from .errors import ArgumentError as ArgumentError
    from .errors import Diverged as Diverged
    from .errors import NotConverged as NotConverged
    from .errors import ProcessLost as ProcessLost
    from .errors import SteepestError as SteepestError
    from .errors import Terminated as Terminated
    from .flow import Flow as Flow
    from .functionals import KL as KL
    from .functionals import MMD as MMD
    from .functionals import EmpiricalRisk as EmpiricalRisk
    from .functionals import Energy as Energy
    from .functionals import ExpectedEnergy as ExpectedEnergy
    from .functionals import FreeEnergy as FreeEnergy
    from .functionals import Hamiltonian as Hamiltonian
    from .functionals import InteractionEnergy as InteractionEnergy
    from .functionals import InternalEnergy as InternalEnergy
    from .functionals import KernelDensity as KernelDensity
    from .functionals import MeasureFunctional as MeasureFunctional
    from .functionals import NegativeEntropy as NegativeEntropy
    from .functionals import NegativeLogLikelihood as NegativeLogLikelihood
    from .functionals import PhaseEnergy as PhaseEnergy
    from .functionals import ScoreNetwork as ScoreNetwork
    from .functionals import SinkhornDivergence as SinkhornDivergence
    from .functionals import SlicedWasserstein as SlicedWasserstein
    from .functionals import SteinDiscrepancy as SteinDiscrepancy
    from .functionals import SteinRidge as SteinRidge
    from .functionals import Streamed as Streamed
    from .geometries import Bregman as Bregman
    from .geometries import Diagonal as Diagonal
    from .geometries import Euclidean as Euclidean
    from .geometries import Fisher as Fisher
    from .geometries import FisherRao as FisherRao
    from .geometries import Friction as Friction
    from .geometries import Holonomic as Holonomic
    from .geometries import Hyperbolic as Hyperbolic
    from .geometries import HyperbolicEntropy as HyperbolicEntropy
    from .geometries import Isokinetic as Isokinetic
    from .geometries import Norm as Norm
    from .geometries import Onsager as Onsager
    from .geometries import Parametric as Parametric
    from .geometries import PNorm as PNorm
    from .geometries import Poisson as Poisson
    from .geometries import Potential as Potential
    from .geometries import Product as Product
    from .geometries import Riemannian as Riemannian
    from .geometries import SecondMoment as SecondMoment
    from .geometries import Sphere as Sphere
    from .geometries import Stein as Stein
    from .geometries import Stiefel as Stiefel
    from .geometries import SymmetricPositiveDefinite as SymmetricPositiveDefinite
    from .geometries import Symplectic as Symplectic
    from .geometries import Wasserstein as Wasserstein
    from .kernels import EnergyDistance as EnergyDistance
    from .kernels import GaussianKernel as GaussianKernel
    from .kernels import InverseMultiquadric as InverseMultiquadric
    from .kernels import LinearKernel as LinearKernel
    from .kernels import Logarithmic as Logarithmic
    from .ledger import Ledger as Ledger
    from .noise import Diffusion as Diffusion
    from .noise import Minibatch as Minibatch
    from .noise import Thermal as Thermal
    from .optimizers import as_optax as as_optax
    from .optimizers import compare_geometries as compare_geometries
    from .optimizers import from_optax as from_optax
    from .planning import Plan as Plan
    from .planning import plan as plan
    from .samplers import gradient_noise as gradient_noise
    from .samplers import sgd_as_langevin as sgd_as_langevin
    from .samplers import sghmc as sghmc
    from .samplers import sgld as sgld
    from .samplers import stationary as stationary
    from .schemes import BAOAB as BAOAB
    from .schemes import OBABO as OBABO
    from .schemes import Backtracking as Backtracking
    from .schemes import BirthDeath as BirthDeath
    from .schemes import Composition as Composition
    from .schemes import DiscreteGradient as DiscreteGradient
    from .schemes import Euler as Euler
    from .schemes import Exponential as Exponential
    from .schemes import FiniteVolume as FiniteVolume
    from .schemes import ForestRuth as ForestRuth
    from .schemes import Leapfrog as Leapfrog
    from .schemes import McLachlan as McLachlan
    from .schemes import Metropolis as Metropolis
    from .schemes import MinimizingMovement as MinimizingMovement
    from .schemes import Nesterov as Nesterov
    from .schemes import Rattle as Rattle
    from .schemes import RungeKutta as RungeKutta
    from .schemes import Splitting as Splitting
    from .schemes import Variational as Variational
    from .schemes import Yoshida as Yoshida
    from .schemes import generator as generator
    from .stability import stiffness as stiffness
    from .states import Categorical as Categorical
    from .states import Cubature as Cubature
    from .states import Density as Density
    from .states import GaussHermite as GaussHermite
    from .states import Gaussian as Gaussian
    from .states import GaussianMixture as GaussianMixture
    from .states import Grid as Grid
    from .states import LowRank as LowRank
    from .states import MonteCarlo as MonteCarlo
    from .states import Particles as Particles
    from .states import Phase as Phase
    from .states import QuasiMonteCarlo as QuasiMonteCarlo
    from .trajectory import Trajectory as Trajectory
