"""Networks of Equinox and of Flax on handwritten digits, trained by geometries through optax.

python examples/digits_networks.py

A convolutional network (Equinox): each kernel, seen as a matrix, moves by steepest descent under
the spectral norm, the rest under the sup norm. A perceptron (Flax, where it is installed): natural
gradient.
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import steepest as st

TABLE = np.loadtxt(
    Path(__file__).parent / "data" / "digits.csv", delimiter=",", skiprows=1, dtype=np.float32
)
IMAGES = jnp.asarray(TABLE[:, :64].reshape(-1, 1, 8, 8) / 16.0)
LABELS = jnp.asarray(TABLE[:, 64].astype(np.int32))
TRAIN, BATCH = 1437, 64


def train(model, theta, transform, steps, seed=0):
    """Minibatches, in one compiled loop; returns theta and the share right on the other images."""

    @jax.jit
    def run(theta):
        def step(carry, key):
            theta, state = carry
            index = jax.random.randint(key, (BATCH,), 0, TRAIN)
            rows = IMAGES[index], LABELS[index]
            mean = lambda t: jnp.mean(jax.vmap(lambda row: model.loss(t, row))(rows))  # noqa: E731
            updates, state = transform.update(jax.grad(mean)(theta), state, theta, batch=rows)
            return (optax.apply_updates(theta, updates), state), None

        keys = jax.random.split(jax.random.key(seed), steps)
        return jax.lax.scan(step, (theta, transform.init(theta)), keys)[0][0]

    theta = run(theta)
    logits = jax.vmap(model.outputs, (None, 0))(theta, IMAGES[TRAIN:])
    return theta, float(jnp.mean(jnp.argmax(logits, axis=1) == LABELS[TRAIN:]))


def equinox_network(steps=300):
    """Two convolutions and a linear layer; momentum comes as friction."""
    keys = jax.random.split(jax.random.key(0), 3)
    network = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(1, 8, 3, padding=1, dtype=jnp.float32, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Conv2d(8, 16, 3, padding=1, dtype=jnp.float32, key=keys[1]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(256, 10, dtype=jnp.float32, key=keys[2]),
        ]
    )
    theta, static = eqx.partition(network, eqx.is_inexact_array)
    model = st.NegativeLogLikelihood(
        lambda theta, image: eqx.combine(theta, static)(image), (IMAGES[:TRAIN], LABELS[:TRAIN])
    )
    parts = jax.tree.map(
        lambda x: st.Norm("spectral" if x.shape[-1] > 1 else "sup", unit=True), theta
    )
    rate = optax.linear_schedule(0.03, 0.001, steps)
    return train(model, theta, st.as_optax(parts, rate, friction=0.5), steps)


def flax_network(steps=100):
    """A perceptron; the Fisher metric of each minibatch, by conjugate gradients."""
    from flax import linen as nn

    network = nn.Sequential([jnp.ravel, nn.Dense(32), nn.tanh, nn.Dense(10)])
    theta = network.init(jax.random.key(0), IMAGES[0])
    model = st.NegativeLogLikelihood(network.apply, (IMAGES[:TRAIN], LABELS[:TRAIN]))
    geometry = st.Fisher(model, damping=0.1, solver="cg", iterations=5)
    return train(model, theta, st.as_optax(geometry, 0.5), steps)


if __name__ == "__main__":
    print(f"Equinox, spectral norm: {equinox_network()[1]:.1%} of the held-out digits")
    try:
        print(f"Flax, natural gradient: {flax_network()[1]:.1%}")
    except ImportError:
        print("Flax is not installed: pip install flax")
