"""A log density of one's own: steepest compare examples/posteriors/banana.py:banana --allow-code"""

import jax.numpy as jnp

start = jnp.zeros(2)


def banana(x):
    """A normal law in the plane, bent: means (0, 0), standard deviations sqrt(10) and sqrt(4)."""
    return -0.5 * (x[0] ** 2 / 10.0 + (x[1] - 0.03 * (x[0] ** 2 - 10.0)) ** 2)
