"""Posteriors of NumPyro models: the potential on unconstrained space, names and the way back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import tree
from ..errors import ArgumentError, SteepestError
from ..functionals import Energy
from .problem import Problem


@dataclasses.dataclass(frozen=True, eq=False)
class Bound:
    """A model with its arguments."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class PotentialEnergy(eqx.Module):
    """-log joint density of a NumPyro model on unconstrained space, Jacobians included."""

    # Static, so that a model may use its data as numbers (numpy, len, if) under `jit`.
    bound: Bound = eqx.field(static=True)

    def __call__(self, theta: dict[str, Array]) -> Float[Array, ""]:
        from numpyro.infer.util import potential_energy

        bound = self.bound
        return jnp.asarray(potential_energy(bound.model, bound.args, bound.kwargs, theta))

    def constrain(self, theta: dict[str, Array]) -> dict[str, Array]:
        """The latent and the deterministic sites."""
        from numpyro.infer.util import constrain_fn

        bound = self.bound
        given = (bound.model, bound.args, bound.kwargs, theta)
        return constrain_fn(*given, return_deterministic=True)

    def unconstrain(self, values: dict[str, Array], latent: list[str]) -> dict[str, Array]:
        """The inverse of `constrain`, from the latent sites."""
        from numpyro.infer.util import unconstrain_fn

        bound = self.bound
        sites = {name: values[name] for name in latent}
        return unconstrain_fn(bound.model, bound.args, bound.kwargs, sites)


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
    among them. Axes have the names of the model's plates. The start is uniform on (-1/2, 1/2) in
    every coordinate, or on (-2, 2) where that lies outside the support, by `seed`. Raises
    ArgumentError for a model with discrete latent sites, with minibatches or without latent sites,
    and where NumPyro is not installed. NumPyro does not say whether the posterior is proper, and
    neither does this.
    """
    infer, handlers = _numpyro()
    if not callable(model):
        raise ArgumentError("model", type(model).__name__, "a NumPyro model, a function")
    key = jax.random.key(seed)
    try:
        sites = handlers.trace(handlers.seed(model, key)).get_trace(*args, **kwargs)
        latent = _latent(sites)
        drawn = {name: sites[name]["value"] for name in latent}
        like = infer.unconstrain_fn(model, args, kwargs, drawn)
        energy = PotentialEnergy(Bound(model, args, kwargs))
        start = _start(energy, {name: jnp.asarray(like[name], dtype) for name in latent}, key)
    except SteepestError:
        raise
    except Exception as error:
        raise ArgumentError(
            "model", _name(model), f"NumPyro raised {type(error).__name__}: {error}"
        ) from error
    dims = {name: _axes(name, sites[name], start[name].ndim) for name in latent}
    observed = [
        name for name, site in sites.items() if site["type"] == "sample" and site["is_observed"]
    ]
    seen = ", ".join(observed) if observed else "nothing"
    notes = (f"NumPyro model {_name(model)}: {len(latent)} latent sites, observed: {seen}",)
    return Problem(
        Energy(energy),
        start,
        dims,
        {},
        notes,
        energy.constrain,
        0.0,
        unconstrain=lambda values: energy.unconstrain(values, latent),
    )


def _start(energy: PotentialEnergy, like: dict[str, Array], key: Any) -> dict[str, Array]:
    """Near zero, which is the middle of most supports; the first of ten with a finite slope."""
    flat, unravel = ravel_pytree(like)
    slope = jax.jit(jax.value_and_grad(lambda x: energy(unravel(x))))
    value = jnp.nan
    for trial in range(10):
        width = 0.5 if trial == 0 else 2.0
        draw = jax.random.fold_in(key, trial)
        x = jax.random.uniform(draw, flat.shape, flat.dtype, -width, width)
        value, force = slope(x)
        if bool(jnp.isfinite(value)) and tree.is_finite(force):
            return unravel(x)
    raise ArgumentError(
        "model",
        f"a log density that is not finite at ten points near zero (the last: {-float(value)})",
        "a density that is positive all over the support of its sites; are the data in the support "
        "of their distribution?",
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
