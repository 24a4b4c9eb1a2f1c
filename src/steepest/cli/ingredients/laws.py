"""The registries of laws: what may stand in [functional] and [state] where a law moves."""

from .base import registry
from .cloud import CLOUD_FUNCTIONALS, CloudState
from .law import (
    KL,
    DensityState,
    ExpectedEnergy,
    FreeEnergy,
    GaussianState,
    InteractionEnergy,
    InternalEnergy,
    MixtureState,
    NegativeEntropy,
)

LAW_FUNCTIONALS = registry(
    FreeEnergy,
    KL,
    ExpectedEnergy,
    NegativeEntropy,
    InternalEnergy,
    InteractionEnergy,
    *CLOUD_FUNCTIONALS,
)
LAW_STATES = registry(DensityState, GaussianState, MixtureState, CloudState)
