"""Point sets of the plane whose law is known in closed form, with noise and without."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Key

from ..errors import ArgumentError
from ..states import GaussianMixture
from .models import AbstractModel, ExactMixture

ARC = 48


def two_moons(noise: float = 0.12) -> ExactMixture:
    """Two half circles, each 48 equal Gaussians of deviation `noise` along it.

    Neighbours are 0.065 apart: below the noise, so that the arcs are smooth to the eye and the law
    is an exact mixture. Centred.
    """
    if not noise > 0:
        raise ArgumentError("noise", noise, "a positive number")
    angle = (np.arange(ARC) + 0.5) * math.pi / ARC
    upper = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], axis=1)
    lower = -upper
    means = jnp.asarray(np.concatenate([upper, lower]))
    return ExactMixture(GaussianMixture(jnp.zeros(2 * ARC), means, jnp.full((2 * ARC, 2), noise)))


class Checkerboard(AbstractModel):
    """The uniform law on the eight dark fields of a 4 x 4 board of side `side`, centred at zero.

    log p of the noised law is a sum over fields of differences of error functions; its gradient is
    the exact score.
    """

    side: float = 4.0

    def corners(self) -> Float[Array, "8 2"]:
        """The lower left corners of the fields."""
        fields = [(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
        return jnp.asarray((np.asarray(fields) / 4.0 - 0.5) * self.side)

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, "n 2"]:
        """n independent points."""
        pick, place = jax.random.split(key)
        corner = self.corners()[jax.random.randint(pick, (n,), 0, 8)]
        return corner + 0.25 * self.side * jax.random.uniform(place, (n, 2))

    def log_prob(self, x, alpha, sigma):
        low = alpha * self.corners().astype(x.dtype)
        width = 0.25 * alpha * self.side
        # log(Phi(b) - Phi(a)), mirrored to where both are small: no difference of two ones.
        a, b = (x - low - width) / sigma, (x - low) / sigma
        a, b = jnp.where(a + b > 0, -b, a), jnp.where(a + b > 0, -a, b)
        top, bottom = log_ndtr(b), log_ndtr(a)
        sides = top + jnp.log1p(-jnp.exp(jnp.minimum(bottom - top, -1e-7)))
        area = 8.0 * width**2
        return jax.nn.logsumexp(jnp.sum(sides, axis=1)) - jnp.log(area)

    def score(self, x, alpha, sigma, label=None):
        return jax.grad(self.log_prob)(x, alpha, sigma)

    def denoise(self, x, alpha, sigma, label=None):
        return (x + sigma**2 * self.score(x, alpha, sigma)) / alpha

    def log_density(self, x: Any) -> Any:
        """log p without noise: -log of the dark area inside, -inf outside."""
        gap = x[..., None, :] - self.corners().astype(x.dtype)
        inside = jnp.any(jnp.all((gap >= 0) & (gap <= 0.25 * self.side), axis=-1), axis=-1)
        return jnp.where(inside, -math.log(0.5 * self.side**2), -jnp.inf)

    @property
    def exact(self):
        return True

    @property
    def shape(self):
        return (2,)

    def moments(self):
        # Uniform marginals on the side; the product has mean zero by the board's symmetry ...
        centres = self.corners() + 0.125 * self.side
        within = (0.25 * self.side) ** 2 / 12.0
        return jnp.mean(centres, axis=0), centres.T @ centres / 8.0 + within * jnp.eye(2)


def draw(model: Any, key: Key[Array, ""], n: int) -> Float[Array, "n d"]:
    """n points of an exact model's data."""
    source = model.mixture if isinstance(model, ExactMixture) else model
    return source.sample(key, n)
