"""scikit-learn estimators: a law fitted to points, and a bridge from points to a law.

They need the extra `sklearn`, and compute in 64 bits as scikit-learn does, whatever JAX is set to.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .bridges import SchrodingerBridge, brownian
from .states import Gaussian, GaussianMixture

try:
    from sklearn.base import BaseEstimator, DensityMixin, OneToOneFeatureMixin, TransformerMixin
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "steepest.estimators needs scikit-learn: pip install steepest[sklearn]"
    ) from (error)


class MixtureDensity(DensityMixin, BaseEstimator):
    """A mixture of Gaussians by maximum likelihood (`GaussianMixture.fit`).

    `components`: how many. `floor`: the least variance of a component, as a share of the mean
    variance of the points. `iterations`, `tolerance`: where expectation-maximisation stops.
    Fitted: `law_`, a `GaussianMixture`; `weights_` (k,), `means_` (k, d), `covariances_` (k, d, d).
    """

    def __init__(
        self,
        components: int = 1,
        *,
        floor: float = 1e-6,
        iterations: int = 500,
        tolerance: float = 1e-8,
        random_state: Any = None,
    ):
        self.components = components
        self.floor = floor
        self.iterations = iterations
        self.tolerance = tolerance
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> MixtureDensity:
        """Fit the law of the rows of X (n, d); `y` is not looked at. Returns itself."""
        del y
        points = _rows(self, X, ensure_min_samples=2)
        key, options = _key(self.random_state), {"floor": self.floor, "tolerance": self.tolerance}
        with jax.enable_x64(True):
            self.law_ = _kept(
                GaussianMixture.fit(
                    jnp.asarray(points), self.components, key, iterations=self.iterations, **options
                )
            )
            self.weights_ = np.asarray(self.law_.weights)
            self.means_ = np.asarray(self.law_.means)
            self.covariances_ = np.asarray(self.law_.each(lambda gaussian: gaussian.covariance))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """log density of each row of X, (n,)."""
        return np.logaddexp.reduce(self._log_joint(X), axis=1)

    def score(self, X: Any, y: Any = None) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The mean log density of the rows of X."""
        del y
        return float(np.mean(self.score_samples(X)))

    def predict_proba(self, X: Any) -> np.ndarray:
        """The chance of each component given each row of X, (n, k)."""
        joint = self._log_joint(X)
        return np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest component of each row of X, (n,)."""
        return np.argmax(self._log_joint(X), axis=1)

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Rows drawn from the law, (n_samples, d)."""
        check_is_fitted(self)
        key = _key(self.random_state if random_state is None else random_state)
        with jax.enable_x64(True):
            return np.asarray(self.law_.sample(key, n_samples))

    def _log_joint(self, X: Any) -> np.ndarray:
        """log of weight times density, (n, k)."""
        check_is_fitted(self)
        points = _rows(self, X, reset=False)
        with jax.enable_x64(True):
            return np.asarray(self.law_.log_joint(jnp.asarray(points)))


class BridgeTransformer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """The Schroedinger bridge from the rows it is fitted on to a law (eq. 71).

    `target`: rows (m, d), or None for N(0, 1), which makes the transformer a Gaussianisation.
    `temperature`: of the Brownian reference over unit time. `method`: of `SchrodingerBridge.solve`.
    Fitted: `bridge_`.
    """

    def __init__(
        self,
        target: Any = None,
        *,
        temperature: float = 0.1,
        method: str = "gaussian",
        random_state: Any = None,
    ):
        self.target = target
        self.temperature = temperature
        self.method = method
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> BridgeTransformer:
        """Solve the bridge that starts from the rows of X (n, d). Returns itself."""
        del y
        points = _rows(self, X, ensure_min_samples=2)
        with jax.enable_x64(True):
            source = jnp.asarray(points)
            target = Gaussian.standard(points.shape[1])
            if self.target is not None:
                target = jnp.asarray(check_array(self.target, dtype="float64"))
            problem = SchrodingerBridge(brownian(self.temperature), source, target)
            self.bridge_ = _kept(problem.solve(self.method, _key(self.random_state)))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The mean end of the paths from each row of X, (n, d)."""
        points = self._points(X)
        with jax.enable_x64(True):
            return np.asarray(self.bridge_.expected_end(jnp.asarray(points)))

    def sample(self, X: Any, random_state: Any = None) -> np.ndarray:
        """An end drawn for each row of X, (n, d)."""
        points = self._points(X)
        key = _key(self.random_state if random_state is None else random_state)
        with jax.enable_x64(True):
            return np.asarray(self.bridge_.sample(jnp.asarray(points), key))

    def _points(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return _rows(self, X, reset=False)


def _rows(estimator: Any, X: Any, **options: Any) -> np.ndarray:
    """X as scikit-learn checks it, (n, d) in 64 bits."""
    found: Any = validate_data(estimator, X, dtype=np.float64, **options)
    return found


def _key(random_state: Any) -> Any:
    """A JAX key from what scikit-learn takes: a number, a RandomState or None."""
    return jax.random.key(check_random_state(random_state).randint(2**31 - 1))


def _kept(fitted: Any) -> Any:
    """With arrays of NumPy, which are pickled and read again in 64 bits whatever JAX is set to."""
    return jax.tree.map(lambda x: np.asarray(x) if eqx.is_inexact_array(x) else x, fitted)
