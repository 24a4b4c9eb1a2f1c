"""Posteriors of NumPyro models: the potential on unconstrained space, names and the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import ArgumentError, SteepestError
from ..functionals import Energy
from .problem import Problem


class PotentialEnergy(eqx.Module):
    """-log joint density of a NumPyro model on unconstrained space, Jacobians included."""

    potential: Callable[[Any], Any]

    def __call__(self, theta: dict[str, Array]) -> Float[Array, ""]:
        return jnp.sum(self.potential(theta))


def numpyro_model(
    model: Callable[..., Any],
    *args: Any,
    dtype: Any = jnp.float32,
    seed: int = 0,
    **kwargs: Any,
) -> Problem:
    """The posterior of a NumPyro model that is called with `args` and `kwargs`.

    Parameters: each latent site by its name, mapped to the whole space by the bijection of its
    support; `constrain` gives the sites back as the model speaks of them, its deterministic sites
    among them. Axes have the names of the model's plates. `seed`: of the search for a start near
    zero. Raises ArgumentError for a model with discrete latent sites, with minibatches or without
    latent sites, and where NumPyro is not installed.
    """
    infer, handlers = _numpyro()
    if not callable(model):
        raise ArgumentError("model", type(model).__name__, "a NumPyro model, a function")
    key = jax.random.key(seed)
    try:
        sites = handlers.trace(handlers.seed(model, key)).get_trace(*args, **kwargs)
        latent = _latent(sites)
        info = infer.initialize_model(key, model, model_args=args, model_kwargs=kwargs)
    except SteepestError:
        raise
    except Exception as error:
        raise ArgumentError(
            "model", _name(model), f"NumPyro raised {type(error).__name__}: {error}"
        ) from error
    start = {name: jnp.asarray(info.param_info.z[name], dtype) for name in latent}
    dims = {name: _axes(name, sites[name], start[name].ndim) for name in latent}
    observed = [
        name for name, site in sites.items() if site["type"] == "sample" and site["is_observed"]
    ]
    seen = ", ".join(observed) if observed else "nothing"
    notes = (f"NumPyro model {_name(model)}: {len(latent)} latent sites, observed: {seen}",)
    return Problem(
        Energy(PotentialEnergy(info.potential_fn)),
        start,
        dims,
        {},
        notes,
        info.postprocess_fn,
        0.0,
    )


def _numpyro() -> tuple[Any, Any]:
    try:
        from numpyro import handlers
        from numpyro.infer import util
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != "numpyro":
            raise
        raise ArgumentError(
            "numpyro", "no such package", 'install it: pip install "steepest[numpyro]"'
        ) from None
    return util, handlers


def _latent(sites: dict[str, Any]) -> list[str]:
    """The names of the latent sites; refuses what has no density on flat space."""
    latent = []
    for name, site in sites.items():
        kind = site["type"]
        if kind == "param":
            raise ArgumentError(
                "model", f"the optimised parameter {name!r}", "give it a prior: numpyro.sample"
            )
        if kind == "plate" and site["args"][1] not in (None, site["args"][0]):
            raise ArgumentError(
                "model", f"the plate {name!r} with minibatches", "a plate over the whole data"
            )
        if kind != "sample" or site["is_observed"]:
            continue
        if site["fn"].support.is_discrete:
            raise ArgumentError(
                "model",
                f"the discrete latent site {name!r} ({type(site['fn']).__name__})",
                "continuous latent sites only; sum the discrete one out, e.g. by "
                "numpyro.distributions.MixtureSameFamily",
            )
        latent.append(name)
    if not latent:
        raise ArgumentError("model", "no latent site", "something to infer: numpyro.sample")
    return latent


def _axes(name: str, site: dict[str, Any], ndim: int) -> tuple[str, ...]:
    """The names of a site's axes: its plates, counted from the right of the batch."""
    axes = [f"{name}_dim_{i}" for i in range(ndim)]
    batch = len(site["fn"].batch_shape)
    for frame in site["cond_indep_stack"]:
        if 0 <= batch + frame.dim < ndim:
            axes[batch + frame.dim] = frame.name
    return tuple(axes)


def _name(model: Any) -> str:
    return getattr(model, "__name__", type(model).__name__)
