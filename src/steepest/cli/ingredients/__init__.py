"""The tables of a spec: one class for each kind, its keys with their bounds, and what it builds.

A new ingredient is a class and its place in the registry at the end of its file. The description of
a key is what an error message says is allowed. Nothing heavy is imported before `build`.
"""

from .base import Context as Context
from .base import Section as Section
from .functional import FUNCTIONALS as FUNCTIONALS
from .geometry import GEOMETRIES as GEOMETRIES
from .laws import LAW_FUNCTIONALS as LAW_FUNCTIONALS
from .laws import LAW_STATES as LAW_STATES
from .noise import NOISES as NOISES
from .run import Run as Run
from .scheme import SCHEMES as SCHEMES
from .state import STATES as STATES
