"""Diffusion models as controlled flows of a law (section 7.4).

A process is the forward flow, a model its score, `sample` the reverse flow by a scheme:

    >>> import jax, jax.numpy as jnp, steepest as st
    >>> from steepest import diffusion
    >>> data = st.GaussianMixture(jnp.zeros(2), jnp.array([[-2.0], [2.0]]), jnp.full((2, 1), 0.3))
    >>> model = diffusion.ExactMixture(data)
    >>> x = diffusion.sample(diffusion.EDM(), model, jax.random.key(0), 100, steps=10)
    >>> x.shape
    (100, 1)
"""

from .anchored import Anchored
from .grids import times
from .likelihood import LogLikelihood, log_likelihood, transport
from .linear import CriticallyDamped, LinearProcess
from .models import AbstractModel, ExactEmpirical, ExactMixture, Guided
from .processes import (
    EDM,
    AbstractProcess,
    Cosine,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from .reverse import ReverseFlow, prior, sample
from .solvers import DDIM, Heun, MultiStep, PredictorCorrector, ReverseEuler, SingleStep

__all__ = [
    "DDIM",
    "EDM",
    "AbstractModel",
    "AbstractProcess",
    "Anchored",
    "Cosine",
    "CriticallyDamped",
    "ExactEmpirical",
    "ExactMixture",
    "Guided",
    "Heun",
    "LinearProcess",
    "LogLikelihood",
    "MultiStep",
    "PredictorCorrector",
    "ReverseEuler",
    "ReverseFlow",
    "SingleStep",
    "SubVariancePreserving",
    "VarianceExploding",
    "VariancePreserving",
    "log_likelihood",
    "prior",
    "sample",
    "times",
    "transport",
]
