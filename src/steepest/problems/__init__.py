"""Named problems: a functional with a point to start from and names for its coordinates.

Landscapes in closed form (`quadratic`, `double_well`, `rosenbrock`, `gaussian_mixture`),
regressions on a CSV file (`bayesian_logistic_regression`, `linear_regression`,
`softmax_regression`), a network in its mean-field limit (`two_layer_network`) and the user's own
energies (`imported_energy`). `read_table` and `read_points` read the files.
"""

from .generalised_linear import GeneralisedLinear as GeneralisedLinear
from .imported import imported_energy as imported_energy
from .landscapes import double_well as double_well
from .landscapes import gaussian_mixture as gaussian_mixture
from .landscapes import quadratic as quadratic
from .landscapes import rosenbrock as rosenbrock
from .mean_field import TwoLayerRisk as TwoLayerRisk
from .mean_field import two_layer_network as two_layer_network
from .network import classifier as classifier
from .network import perceptron as perceptron
from .points import read_points as read_points
from .problem import Problem as Problem
from .regression import bayesian_logistic_regression as bayesian_logistic_regression
from .regression import linear_regression as linear_regression
from .regression import softmax_regression as softmax_regression
from .table import Table as Table
from .table import TableError as TableError
from .table import read_table as read_table
