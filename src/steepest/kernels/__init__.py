"""Symmetric functions of two points, and their sums over all pairs in little memory."""

from .base import AbstractKernel as AbstractKernel
from .base import KernelSum as KernelSum
from .base import check_smooth as check_smooth
from .base import check_symmetric as check_symmetric
from .displacement import Displacement as Displacement
from .linear import LinearKernel as LinearKernel
from .radial import AbstractRadial as AbstractRadial
from .radial import EnergyDistance as EnergyDistance
from .radial import GaussianKernel as GaussianKernel
from .radial import InverseMultiquadric as InverseMultiquadric
from .radial import Logarithmic as Logarithmic
from .radial import median_bandwidth as median_bandwidth
from .stein import SteinKernel as SteinKernel
