"""How time advances: a scheme changes the error, never the flow.

`Euler` follows the velocity; `RungeKutta` does so adaptively through diffrax; `Backtracking` takes
the longest explicit step that lowers F; `MinimizingMovement` minimises instead. `Leapfrog`,
`BAOAB`, `OBABO`, and of order 4 and 6 `ForestRuth`, `Yoshida`, `McLachlan`, are words of one
splitting for kinetic flows, `Rattle` keeps them on a surface; `Variational` makes a discrete action
stationary, `DiscreteGradient` keeps the balance exactly; `Metropolis` makes the stationary law
exact, `BirthDeath` reweighs and resamples particles, and `Composition` advances a sum of flows part
by part. For a law: `FiniteVolume` (implicit, on a grid) and `Exponential` (exact where it is
known).
"""

from .backtracking import Backtracking as Backtracking
from .base import AbstractScheme as AbstractScheme
from .base import Entry as Entry
from .birth_death import BirthDeath as BirthDeath
from .composition import Composition as Composition
from .discrete_gradient import DiscreteGradient as DiscreteGradient
from .euler import Euler as Euler
from .exponential import Exponential as Exponential
from .finite_volume import FiniteVolume as FiniteVolume
from .generator import Generator as Generator
from .generator import generator as generator
from .metropolis import Metropolis as Metropolis
from .minimizing_movement import MinimizingMovement as MinimizingMovement
from .nesterov import Nesterov as Nesterov
from .rattle import Rattle as Rattle
from .runge_kutta import RungeKutta as RungeKutta
from .splitting import BAOAB as BAOAB
from .splitting import OBABO as OBABO
from .splitting import Leapfrog as Leapfrog
from .splitting import Splitting as Splitting
from .symplectic import ForestRuth as ForestRuth
from .symplectic import McLachlan as McLachlan
from .symplectic import Yoshida as Yoshida
from .variational import Variational as Variational
