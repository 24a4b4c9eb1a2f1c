"""Stochastic minimisation in one compiled loop, beside an average of the parameters.

    p <- p + optimizer(grad loss(p)),      a <- b a + (1 - b) p
Step k draws from (key, k) alone, so that a run cut into pieces is the same run. Whatever a program
trains, scores or bridges, it trains here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def usual_optimizer(learning_rate: float, steps: int) -> Any:
    """Adam with clipping, a short warm-up and a cosine decay to a hundredth of `learning_rate`."""
    warm = max(1, min(200, steps // 10))
    rate = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, warm, max(steps, warm + 1), 0.01 * learning_rate
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def begin(parameters: Any, optimizer: Any) -> tuple[Any, Any, Any]:
    """(parameters, their average, the optimizer's memory) before the first step."""
    return parameters, parameters, optimizer.init(parameters)


def compiled_chunk(
    loss: Callable[[Any, Any, Any], Any], optimizer: Any, decay: float
) -> Callable[..., Any]:
    """(carry, data, key, first, count) -> (carry, mean loss) over steps first, first + 1, ...

    `loss`: (parameters, data, key) -> a number. `decay`: b at last; `count` and `first` are traced.
    """

    def step(carry: Any, data: Any, key: Any, index: Any) -> Any:
        parameters, average, memory = carry
        value, gradient = jax.value_and_grad(loss)(parameters, data, jax.random.fold_in(key, index))
        change, memory = optimizer.update(gradient, memory, parameters)
        parameters = optax.apply_updates(parameters, change)
        # The average forgets its start first: early parameters are far off.
        number = index.astype(jnp.float32)
        share = jnp.minimum(decay, (1.0 + number) / (10.0 + number))
        average = jax.tree.map(
            lambda a, p: share.astype(a.dtype) * a + (1.0 - share).astype(a.dtype) * p,
            average,
            parameters,
        )
        return (parameters, average, memory), value

    @jax.jit
    def chunk(carry: Any, data: Any, key: Any, first: Any, count: Any) -> Any:
        def body(i: Any, state: Any) -> Any:
            carry, total = state
            carry, value = step(carry, data, key, first + i.astype(jnp.uint32))
            return carry, total + value.astype(jnp.float32)

        carry, total = jax.lax.fori_loop(0, count, body, (carry, jnp.zeros((), jnp.float32)))
        return carry, total / count

    return chunk
