"""Schroedinger bridges: the most likely flow between two laws (section 7.5, eq. 71)."""

from .audit import audit as audit
from .base import AbstractBridge as AbstractBridge
from .chain import BridgeChain as BridgeChain
from .chain import SchrodingerChain as SchrodingerChain
from .grids import GridBridge as GridBridge
from .growth import GrowthBridge as GrowthBridge
from .known import known_pair as known_pair
from .known import tabled_pair as tabled_pair
from .known import unexplained as unexplained
from .ledger import ledger as ledger
from .linear import LinearBridge as LinearBridge
from .networks import NetworkBridge as NetworkBridge
from .problem import SchrodingerBridge as SchrodingerBridge
from .reference import brownian as brownian
from .reference import ornstein_uhlenbeck as ornstein_uhlenbeck
from .smooth import SmoothChain as SmoothChain
