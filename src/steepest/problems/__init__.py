"""Named problems: a functional with a point to start from and names for its coordinates.

Landscapes in closed form (`quadratic`, `double_well`, `rosenbrock`, `gaussian_mixture`),
mechanical systems (`pendulum`, `spherical_pendulum`, `double_pendulum`, `kepler`, `henon_heiles`,
`spring_chain`), closed systems that make entropy (`heat_bath`, `gas_containers`),
regressions on a CSV file (`bayesian_logistic_regression`, `linear_regression`,
`softmax_regression`), a network in its mean-field limit (`two_layer_network`) and the user's own
energies (`imported_energy`) and closed systems (`imported_closed_system`). `read_table` and
`read_points` read the files.
"""

from .csv_text import TableError as TableError
from .generalised_linear import GeneralisedLinear as GeneralisedLinear
from .hierarchical import hierarchical_regression as hierarchical_regression
from .imported import imported_closed_system as imported_closed_system
from .imported import imported_energy as imported_energy
from .landscapes import double_well as double_well
from .landscapes import gaussian_mixture as gaussian_mixture
from .landscapes import quadratic as quadratic
from .landscapes import rosenbrock as rosenbrock
from .mean_field import TwoLayerRisk as TwoLayerRisk
from .mean_field import two_layer_network as two_layer_network
from .mechanics import double_pendulum as double_pendulum
from .mechanics import henon_heiles as henon_heiles
from .mechanics import kepler as kepler
from .mechanics import pendulum as pendulum
from .mechanics import spherical_pendulum as spherical_pendulum
from .mechanics import spring_chain as spring_chain
from .network import classifier as classifier
from .network import perceptron as perceptron
from .numpyro import numpyro_model as numpyro_model
from .points import read_points as read_points
from .posteriors import bayesian_linear_regression as bayesian_linear_regression
from .posteriors import bayesian_logistic_regression as bayesian_logistic_regression
from .posteriors import multinomial_regression as multinomial_regression
from .posteriors import poisson_regression as poisson_regression
from .posteriors import robust_regression as robust_regression
from .problem import Problem as Problem
from .regression import linear_regression as linear_regression
from .regression import softmax_regression as softmax_regression
from .table import Table as Table
from .table import read_table as read_table
from .thermodynamics import gas_containers as gas_containers
from .thermodynamics import heat_bath as heat_bath
