"""Light bridges: the compiled scan of steepest beside a loop in torch of the same steps, and ends.

Pairs with a known bridge, epsilon = 1, 20 diagonal components, batches of 512, Adam at the same
rates and from the same start; float32. Each says the loss it ended with, averaged over the last
100 batches: the same divergence up to the same constant.

`draws d=...`: an end for each of 20,000 starts from one mixture, 20 diagonal components. torch as
light bridges are usually sampled, by its own mixture distribution, and by hand: weights by products
of matrices, then the component that is drawn alone. Each says the mean of the ends' norms.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import harness
from .harness import Contender

FITS = [f"d={d} steps={steps}" for d, steps in ((2, 1000), (16, 1000), (64, 1000))]
DRAWS = [f"draws d={d}" for d in (2, 16, 64, 128)]
CASES = [*FITS, *DRAWS]
COMPONENTS, BATCH, RATE, POINTS = 20, 512, 0.03, 20_000

CONTENDERS = [
    Contender("steepest", __name__, "steepest_fit"),
    Contender("torch, loop, one thread", __name__, "torch_fit"),
]


SAMPLERS = [
    Contender("steepest", __name__, "steepest_draws"),
    Contender("torch, MixtureSameFamily, one thread", __name__, "torch_distribution_draws"),
    Contender("torch, by hand, one thread", __name__, "torch_draws"),
    Contender("torch, by hand, its own threads", __name__, "torch_threaded_draws"),
]


def tables(rounds: int, only: str | None):
    chosen = harness.chosen(CASES, only)
    for case in chosen:
        contenders = SAMPLERS if case in DRAWS else CONTENDERS
        yield from harness.tables(contenders, CASES, rounds, case, "Light bridge, {}")


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


class Draws:
    """Runs `draw`, which returns the ends."""

    def __init__(self, draw: Any):
        self.draw, self.ends = draw, None

    def __call__(self) -> None:
        self.ends = self.draw()

    @property
    def remark(self) -> str:
        return f"mean norm {np.linalg.norm(np.asarray(self.ends), axis=1).mean():.3f}"


def mixture(case: str) -> tuple[Any, Any]:
    """(bridge, starts); white coordinates are those of x at temperature 1/2."""
    from steepest.bridges import known_pair

    pair = known_pair(int(case.split("=")[1]), 0.5, jax.random.key(0), COMPONENTS)
    return pair.bridge, pair.source.sample(jax.random.key(1), POINTS)


def steepest_draws(case: str) -> Draws:
    bridge, x = mixture(case)
    return Draws(lambda: jax.block_until_ready(bridge.sample(x, jax.random.key(2))))


def torch_mixture(case: str) -> Any:
    """(x, log weights, r, S) of y | x = sum_k softmax_k(log a + x'r + x'S x/2) N(r + S x, S)."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    bridge, x = mixture(case)
    w = bridge.potential
    parts = (x, jax.nn.log_softmax(w.log_weights), w.means, w.scales**2)
    return tuple(torch.tensor(np.asarray(part)) for part in parts)


def torch_distribution_draws(case: str) -> Draws:
    from torch import distributions as law

    x, logs, r, S = torch_mixture(case)

    def draw() -> Any:
        tilt = logs + x @ r.T + 0.5 * x**2 @ S.T
        spread = S.sqrt().expand(len(x), *S.shape)
        parts = law.Independent(law.Normal(r + x[:, None] * S, spread), 1)
        return law.MixtureSameFamily(law.Categorical(logits=tilt), parts).sample()

    return Draws(draw)


def torch_draws(case: str, threads: int = 1) -> Draws:
    import torch

    x, logs, r, S = torch_mixture(case)
    torch.set_num_threads(threads)

    def draw() -> Any:
        tilt = logs + x @ r.T + 0.5 * x**2 @ S.T
        k = torch.multinomial(torch.softmax(tilt, 1), 1)[:, 0]
        return r[k] + S[k] * x + S[k].sqrt() * torch.randn_like(x)

    return Draws(draw)


def torch_threaded_draws(case: str) -> Draws:
    import os

    return torch_draws(case, os.cpu_count() or 1)
