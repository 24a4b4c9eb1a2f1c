"""Fits of light bridges: the compiled scan of steepest beside a loop in torch of the same steps.

Pairs with a known bridge, epsilon = 1, 20 diagonal components, batches of 512, Adam at the same
rates and from the same start; float32. Each says the loss it ended with, averaged over the last
100 batches: the same divergence up to the same constant.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import harness
from .harness import Contender

CASES = [f"d={d} steps={steps}" for d, steps in ((2, 1000), (16, 1000), (64, 1000))]
COMPONENTS, BATCH, RATE, POINTS = 20, 512, 0.03, 20_000

CONTENDERS = [
    Contender("steepest", __name__, "steepest_fit"),
    Contender("torch, loop, one thread", __name__, "torch_fit"),
]


def tables(rounds: int, only: str | None):
    return harness.tables(CONTENDERS, CASES, rounds, only, "Light bridge, {}")


class Fit:
    """Runs `fit`, which returns the losses."""

    def __init__(self, fit: Any):
        self.fit, self.losses = fit, None

    def __call__(self) -> None:
        self.losses = np.asarray(self.fit())

    @property
    def remark(self) -> str:
        return f"loss {self.losses[-100:].mean():.3f}"


def problem(case: str) -> tuple[Any, Any, Any, int]:
    """(reference, points of the source, points of the target, steps)."""
    from steepest.bridges import brownian, known_pair
    from steepest.bridges.reference import linear_reference

    d, steps = (int(word.split("=")[1]) for word in case.split())
    pair = known_pair(d, 0.5, jax.random.key(d))
    one, two = jax.random.split(jax.random.key(1))
    x, y = pair.source.sample(one, POINTS), pair.target.sample(two, POINTS)
    reference = linear_reference(brownian(0.5), jnp.zeros(d, x.dtype), 1.0)
    return reference, x, y, steps


def steepest_fit(case: str) -> Fit:
    from steepest.bridges.mixtures import fit_mixture
    from steepest.states import Particles

    reference, x, y, steps = problem(case)
    source, target = Particles(x), Particles(y)
    options = {"components": COMPONENTS, "batch": BATCH, "rate": RATE, "steps": steps}
    return Fit(lambda: fit_mixture(reference, source, target, jax.random.key(2), **options).loss)


def torch_fit(case: str) -> Fit:
    import torch

    from steepest.bridges.mixtures import _start
    from steepest.states import Particles

    torch.set_num_threads(1)  # its pool of threads stalls where cores are busy
    reference, x, y, steps = problem(case)
    first = jax.random.split(jax.random.key(2))[0]
    start = _start(reference, Particles(x), Particles(y), first, COMPONENTS, False)
    unit = max(float(jnp.sqrt(jnp.mean(start.means**2))), 1.0)
    u = torch.tensor(np.asarray(reference.white_source(x)))
    v = torch.tensor(np.asarray(reference.white_target(y)))
    d = u.shape[1]

    def fit() -> Any:
        torch.manual_seed(0)
        leaves = [start.logits, start.means / unit, start.logs]
        logits, means, logs = (torch.tensor(np.asarray(a)).requires_grad_() for a in leaves)
        method = torch.optim.Adam([logits, means, logs], lr=RATE, betas=(0.9, 0.99))
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(method, steps)
        losses = []
        for _ in range(steps):
            a = u[torch.randint(len(u), (BATCH,))]
            b = v[torch.randint(len(v), (BATCH,))]
            weights, r, S = torch.log_softmax(logits * unit, 0), means * unit, torch.exp(2.0 * logs)
            tilt = a @ r.T + 0.5 * a**2 @ S.T
            white = b**2 @ (1.0 / S).T - 2.0 * b @ (r / S).T + (r**2 / S).sum(1)
            volume = logs.sum(1) + 0.5 * d * math.log(2.0 * math.pi)
            loss = torch.logsumexp(weights + tilt, 1).mean()
            loss = loss - torch.logsumexp(weights - 0.5 * white - volume, 1).mean()
            method.zero_grad()
            loss.backward()
            method.step()
            rate.step()
            losses.append(loss.detach())
        return torch.stack(losses).numpy()

    return Fit(fit)
