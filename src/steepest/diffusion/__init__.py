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
from .books import ForwardBooks, ReverseBooks, forward_books, reverse_books
from .conditioning import Observed, observed_mixture
from .control import Controlled, Steered, steer, surprisal_bound
from .grids import times
from .learned import Learned
from .likelihood import LogLikelihood, log_likelihood, transport
from .linear import CriticallyDamped, LinearProcess
from .models import AbstractModel, ExactEmpirical, ExactMixture, Guided
from .networks import Applied, Perceptron, UNet
from .processes import (
    EDM,
    AbstractProcess,
    Cosine,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from .production import EntropyProduction, entropy_production
from .reverse import ReverseFlow, prior, sample
from .saved import load_model, save_model
from .scheduler import Scheduler
from .solvers import DDIM, Heun, MultiStep, PredictorCorrector, ReverseEuler, SingleStep
from .toys import Checkerboard, two_moons
from .training import Fit, fit
from .unipc import UniPC

__all__ = [
    "DDIM",
    "EDM",
    "AbstractModel",
    "AbstractProcess",
    "Anchored",
    "Applied",
    "Checkerboard",
    "Controlled",
    "Cosine",
    "CriticallyDamped",
    "EntropyProduction",
    "ExactEmpirical",
    "ExactMixture",
    "Fit",
    "ForwardBooks",
    "Guided",
    "Heun",
    "Learned",
    "LinearProcess",
    "LogLikelihood",
    "MultiStep",
    "Observed",
    "Perceptron",
    "PredictorCorrector",
    "ReverseBooks",
    "ReverseEuler",
    "ReverseFlow",
    "Scheduler",
    "SingleStep",
    "Steered",
    "SubVariancePreserving",
    "UNet",
    "UniPC",
    "VarianceExploding",
    "VariancePreserving",
    "entropy_production",
    "fit",
    "forward_books",
    "load_model",
    "log_likelihood",
    "observed_mixture",
    "prior",
    "reverse_books",
    "sample",
    "save_model",
    "steer",
    "surprisal_bound",
    "times",
    "transport",
    "two_moons",
]
