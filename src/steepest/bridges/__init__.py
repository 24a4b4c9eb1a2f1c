"""Schroedinger bridges: the most likely flow between two laws (section 7.5, eq. 71)."""

from .base import AbstractBridge as AbstractBridge
from .grids import GridBridge as GridBridge
from .linear import LinearBridge as LinearBridge
from .problem import SchrodingerBridge as SchrodingerBridge
from .reference import brownian as brownian
from .reference import ornstein_uhlenbeck as ornstein_uhlenbeck
