"""Inner solvers of minimizing movements, one file for each kind of state and cost."""

from .problem import Movement as Movement
from .problem import Problem as Problem
