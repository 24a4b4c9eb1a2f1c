"""The search for modes: against mixtures whose modes and masses are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steepest.inference.frame import Frame
from steepest.inference.minima import curvature, descend, plain
from steepest.inference.modes import MOST_GRADIENTS, MOST_STARTS, search
from steepest.inference.target import Target
from steepest.problems.generalised_linear import GeneralisedLinear, logistic_loss


class Pair(eqx.Module):
    """share N(0, I) + (1 - share) N(place, width^2 I)."""

    share: jax.Array
    place: jax.Array
    width: jax.Array

    def __call__(self, x):
        near = jnp.log(self.share) - 0.5 * jnp.sum(x**2)
        far = jnp.log1p(-self.share) - x.size * jnp.log(self.width)
        far = far - 0.5 * jnp.sum(((x - self.place) / self.width) ** 2)
        return -jnp.logaddexp(near, far)


def pair(width, distance, share=0.7, d=3):
    place = distance * np.array([0.6, -0.64, 0.48])
    numbers = (jnp.asarray(v) for v in (share, place, width))
    target = Target.of(Pair(*numbers), jnp.zeros(d))
    return Frame(target, jnp.zeros(d), jnp.eye(d)), place


@pytest.mark.parametrize(("width", "distance"), [(0.5, 9.0), (0.66, 20.0), (1.0, 6.0), (1.5, 12.0)])
def test_a_second_mode_is_found_with_its_mass(width, distance):
    frame, place = pair(width, distance)
    found = search(frame, 1000, jax.random.key(0))
    assert found.gradients <= 1000 and found.starts == MOST_STARTS
    # Two or three gradients for a descent to a mode that is known.
    assert found.gradients < 3 * MOST_STARTS
    (other,) = found.others
    assert np.allclose(other.mean, place, atol=0.02 * width)
    assert np.allclose(other.lower, width * np.eye(3), atol=0.02 * width)
    # Laplace's masses are exact for Gaussians this far apart.
    ratio = np.exp(other.log_mass - found.parts[0].log_mass)
    assert ratio == pytest.approx(0.3 / 0.7, rel=0.02)
    assert found.statement().held is False


def test_a_mode_without_mass_is_left_out_and_one_mode_is_said_to_be_one():
    faint, _ = pair(1.0, 8.0, share=1.0 - 1e-4)
    assert search(faint, 600, jax.random.key(1)).others == ()
    alone, _ = pair(1.0, 0.0)
    found = search(alone, 600, jax.random.key(1))
    assert found.statement().held is True and len(found.parts) == 1
    assert search(alone, 8, jax.random.key(1)).statement().held is None


def test_nothing_is_looked_for_where_there_is_one_mode_by_structure():
    design, signs = jnp.eye(2), jnp.asarray([1.0, -1.0])
    model = GeneralisedLinear(design, signs, jnp.ones(2), logistic_loss)
    found = search(plain(Target.of(model, jnp.zeros(2))), 600, jax.random.key(0))
    assert found.convex and found.gradients == 1 and found.statement().held is True


def test_a_descent_keeps_its_limit_and_ends_where_it_is_told_to():
    frame, place = pair(0.5, 9.0)
    end = descend(frame, place + 2.0, MOST_GRADIENTS)
    assert end.settled and np.allclose(end.place, place, atol=1e-2)
    assert np.allclose(curvature(frame, end.place), np.eye(3) / 0.25, rtol=1e-2, atol=1e-2)
    short = descend(frame, place + 2.0, 2)
    assert short.gradients == 2 and not short.settled and np.isfinite(short.value)
    stopped = descend(frame, place + 2.0, 60, met=lambda y: bool(np.linalg.norm(y - place) < 1.0))
    assert stopped.known and not stopped.settled and stopped.gradients < end.gradients
