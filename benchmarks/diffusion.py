"""Samplers at few evaluations beside diffusers', and the speed of sampling and of a training step.

Quality and orders: `few_evaluations`.
Speed: a perceptron of width 128, 1000 points, 20 evaluations; a training step of 256 points.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from . import few_evaluations, harness
from .harness import Contender

LOW = few_evaluations.LOW
CASES = ("sampling", "training step")
QUALITY = {"quality, d = 2": (2, 4), "quality, d = 32": (32, 8)}
PARTS = (*QUALITY, "orders", *CASES)
CONTENDERS = {
    "sampling": [
        Contender("hand-written JAX", __name__, "hand_sampling"),
        Contender("steepest", __name__, "steepest_sampling"),
        Contender("torch, diffusers", __name__, "torch_sampling"),
    ],
    "training step": [
        Contender("hand-written JAX", __name__, "hand_training"),
        Contender("steepest", __name__, "steepest_training"),
        Contender("torch", __name__, "torch_training"),
    ],
}


def tables(rounds: int, only: str | None):
    for case in harness.chosen(QUALITY, only):
        yield from few_evaluations.quality(*QUALITY[case])
    if harness.chosen(["orders"], only):
        yield few_evaluations.orders()
    for case in harness.chosen(CASES, only):
        yield harness.table(case, harness.compare(CONTENDERS[case], case, rounds))


WIDTH, DEPTH, BATCH, DRAWN, STEPS = 128, 3, 256, 1000, 20


def _parts():
    from steepest import diffusion

    process = diffusion.EDM(start=LOW, end=20.0)
    network = diffusion.Perceptron(2, jax.random.key(0), width=WIDTH, depth=DEPTH)
    data = np.random.default_rng(0).normal(size=(20_000, 2)).astype(np.float32)
    return process, network, data


def _model():
    from steepest import diffusion

    process, network, _ = _parts()
    return process, diffusion.Learned(network, jnp.zeros(2), jnp.eye(2))


def steepest_sampling(case):
    from steepest import diffusion

    process, model = _model()
    scheme, key = diffusion.MultiStep(solver_order=2), jax.random.key(1)
    return lambda: jax.block_until_ready(
        diffusion.sample(process, model, key, DRAWN, scheme=scheme, steps=STEPS)
    )


def hand_sampling(case):
    """DPM-Solver++ 2M as one would write it for this network alone."""
    from steepest import diffusion

    process, model = _model()
    sigmas = process.ratio(jnp.asarray(diffusion.times(process, STEPS, diffusion.MultiStep())))
    sigmas = jnp.asarray(sigmas, jnp.float32)
    one = jnp.float32(1.0)

    @jax.jit
    def run(key):
        x = sigmas[0] * jax.random.normal(key, (DRAWN, 2))

        def body(carry, i):
            x, old, h_old = carry
            s, t = sigmas[i], sigmas[i + 1]
            clean = jax.vmap(lambda z: model.denoise(z, one, s))(x)
            h = jnp.log(s) - jnp.log(t)
            mixed = clean + 0.5 * h / h_old * (clean - old)
            used = jnp.where((i > 0) & (t > 0), mixed, clean)
            return (t / s * x + (1 - t / s) * used, clean, h), None

        start = (x, jnp.zeros_like(x), one)
        return jax.lax.scan(body, start, jnp.arange(STEPS))[0][0]

    return lambda: jax.block_until_ready(run(jax.random.key(1)))


TRAINED = 200


def steepest_training(case):

    _, network, data = _parts()
    from steepest.diffusion import training

    settings = training.Settings(BATCH, "denoising", "velocity", 0.999, 0.1, 0.0, -6.0, 3.0)
    return _training_loop(training, settings, network, data)


def _training_loop(training, settings, network, data):
    import equinox as eqx
    import optax

    x = jnp.asarray(data)
    model = training.initial(network, x, "velocity", 0, 0.0)
    parameters, rest = eqx.partition(network, eqx.is_inexact_array)
    optimizer = optax.adam(1e-3)
    chunk = training._compiled_chunk(model, rest, optimizer, settings)
    carry = (parameters, parameters, optimizer.init(parameters))
    key = jax.random.key(2)
    return lambda: jax.block_until_ready(chunk(carry, (x, None), key, jnp.uint32(0), TRAINED))


def hand_training(case):
    """The same loss with the network inlined: plain functions, one scan, Adam from optax."""
    import equinox as eqx
    import optax

    _, network, data = _parts()
    parameters, rest = eqx.partition(network, eqx.is_inexact_array)
    x, optimizer = jnp.asarray(data), optax.adam(1e-3)

    def loss(p, key):
        a, b, c = jax.random.split(key, 3)
        x0 = x[jax.random.randint(a, (BATCH,), 0, len(x))]
        r = jnp.exp(-1.0 + 1.6 * jax.random.normal(b, (BATCH, 1)))
        y = x0 + r * jax.random.normal(c, x0.shape)
        length = jnp.sqrt(1 + r**2)
        target = (x0 - y / length**2) * length / r
        net = eqx.combine(p, rest)
        out = jax.vmap(lambda z, s: net(z, s))(y / length, 0.25 * jnp.log(r[:, 0]))
        return jnp.mean((out - target) ** 2)

    @jax.jit
    def run(p, average, memory, key):
        def body(carry, key):
            p, average, memory = carry
            gradient = jax.grad(loss)(p, key)
            change, memory = optimizer.update(gradient, memory)
            p = optax.apply_updates(p, change)
            average = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b, average, p)
            return (p, average, memory), None

        return jax.lax.scan(body, (p, average, memory), jax.random.split(key, TRAINED))[0]

    memory = optimizer.init(parameters)
    return lambda: jax.block_until_ready(run(parameters, parameters, memory, jax.random.key(2)))


def _torch_network():
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Sequential(
                nn.Linear(32, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()
            )
            self.entry, self.exit = nn.Linear(2, WIDTH), nn.Linear(WIDTH, 2)
            self.a = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))
            self.b = nn.ModuleList(nn.Linear(WIDTH, 2 * WIDTH) for _ in range(DEPTH))
            self.c = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))
            self.register_buffer("f", torch.logspace(-0.3, 1.6, 16))

        def forward(self, x, noise):
            angle = noise[:, None] * self.f
            condition = self.embed(torch.cat([angle.sin(), angle.cos()], 1))
            h = self.entry(x)
            silu = nn.functional.silu
            for a, b, c in zip(self.a, self.b, self.c, strict=True):
                scale, shift = b(condition).chunk(2, 1)
                h = h + c(silu(a(silu(h)) * (1 + scale) + shift))
            return self.exit(silu(h))

    torch.manual_seed(0)
    return torch, Net()


def torch_sampling(case):
    import diffusers

    torch, net = _torch_network()
    scheduler = diffusers.EDMDPMSolverMultistepScheduler(
        sigma_min=LOW, sigma_max=20.0, sigma_data=1.0, solver_order=2
    )

    @torch.no_grad()
    def run():
        scheduler.set_timesteps(STEPS)
        x = 20.0 * torch.randn(DRAWN, 2)
        for t in scheduler.timesteps:
            out = net(scheduler.scale_model_input(x, t), t.float().expand(DRAWN))
            x = scheduler.step(out, t, x).prev_sample

    return run


def torch_training(case):
    torch, net = _torch_network()
    data = torch.randn(20_000, 2)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    average = [p.detach().clone() for p in net.parameters()]

    def run():
        for _ in range(TRAINED):
            x0 = data[torch.randint(len(data), (BATCH,))]
            r = torch.exp(-1.0 + 1.6 * torch.randn(BATCH, 1))
            y = x0 + r * torch.randn_like(x0)
            length = torch.sqrt(1 + r**2)
            target = (x0 - y / length**2) * length / r
            loss = ((net(y / length, 0.25 * r[:, 0].log()) - target) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, list(net.parameters()), 0.001)

    return run
