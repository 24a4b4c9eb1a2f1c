"""Samplers at few evaluations of an exact score, beside diffusers', and their orders.

The law is a Gaussian mixture; the ends of the probability flow from the same noise are an exact
sample of it. Two errors, both per coordinate and medians over seeds, each a mixture of its own: the
root mean square distance to the own end (an upper bound of W2, without the sampling error of an
estimate), and W2 to the ends as a set, by the best assignment. The samplers with noise of their own
have only the second, and its floor is what another exact sample has.

All see the same noise and the same score; diffusers' schedulers run on Karras's grid, the setting
that serves them best over all counts. Ours follows one rule at every count: `Anchored` of order 2
with corrector, uniform in the angle. It knows the mean and the covariance of the data, as every
trained model does; diffusers' do not use them.

Orders: the fall, from 100 to 200 steps, of the median distance to the sampler's own end at 1600, on
the grid that its expansion is in. (That these are the flow's ends, a test says.)
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

COUNTS = (5, 10, 20, 50)
SEEDS, FEW, POINTS = 10, 3, 256
LOW, HIGH = 2e-3, 80.0


def mixture(seed: int, d: int, k: int):
    """(log weights, means, covariances) of scale about one."""
    rng = np.random.default_rng(seed)
    means = 2.0 * rng.normal(size=(k, d)) / max(1.0, np.sqrt(d) / 2)
    roots = 0.4 * rng.normal(size=(k, d, 2 * d)) / np.sqrt(2 * d)
    covariances = np.einsum("kij,klj->kil", roots, roots) + 0.004 * np.eye(d)
    return 0.3 * rng.normal(size=k), means, covariances


def quality(d: int, k: int) -> Iterator[str]:
    """Both tables of one family of mixtures."""
    near: dict[str, dict[int, list[float]]] = {}
    far: dict[str, dict[int, list[float]]] = {}
    with jax.enable_x64(True):
        for seed in range(SEEDS):
            one = Known(seed, d, k)
            for name, count, x in one.ends():
                if "noise" not in name:
                    near.setdefault(name, {}).setdefault(count, []).append(one.distance(x))
                far.setdefault(name, {}).setdefault(count, []).append(one.transport(x))
    law = f"exact scores, d = {d}, {k} components, median of {SEEDS} seeds"
    yield _table(f"{law}: root mean square to the own end", near)
    yield _table(f"{law}: W2 to the ends", far)


def _table(title: str, rows: dict[str, dict[int, list[float]]]) -> str:
    lines = [
        f"### {title}",
        "",
        "| sampler | " + " | ".join(f"{n} evaluations" for n in COUNTS) + " |",
        "|---|" + "---|" * len(COUNTS),
    ]
    for name, found in rows.items():
        cells = [f"{statistics.median(found[n]):.4f}" if n in found else "–" for n in COUNTS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


class Known:
    """One mixture with its score, a noise, and where the probability flow takes it."""

    def __init__(self, seed: int, d: int, k: int):
        import steepest as st
        from steepest import diffusion

        logs, means, covariances = mixture(seed, d, k)
        self.law = st.GaussianMixture(logs, means, np.linalg.cholesky(covariances))
        self.model = diffusion.ExactMixture(self.law)
        self.process = diffusion.EDM(start=LOW, end=HIGH)
        self.white = np.random.default_rng(1000 + seed).normal(size=(POINTS, d))
        self.start = st.Particles.from_positions(jnp.asarray(HIGH * self.white))
        self.key = jax.random.key(seed)
        self.end = self.run(diffusion.Anchored.of(self.model, solver_order=4), 500)

    def run(self, scheme: Any, steps: int, **options: Any) -> np.ndarray:
        from steepest import diffusion

        options = {"scheme": scheme, "steps": steps, "start": self.start, **options}
        return np.asarray(diffusion.sample(self.process, self.model, self.key, POINTS, **options))

    def distance(self, x: np.ndarray) -> float:
        return float(np.sqrt(np.mean((x - self.end) ** 2)))

    def transport(self, x: np.ndarray) -> float:
        squares = np.sum((x[:, None] - self.end[None]) ** 2, axis=-1)
        pairs = linear_sum_assignment(squares)
        return float(np.sqrt(np.mean(squares[pairs]) / x.shape[1]))

    def ends(self) -> Iterator[tuple[str, int, np.ndarray]]:
        """(sampler, evaluations, where it takes the noise)."""
        from steepest import diffusion

        denoise = jax.jit(
            jax.vmap(lambda x, s: self.model.denoise(x, jnp.asarray(1.0), s), (0, None))
        )

        def clean(x, sigma):
            return np.asarray(denoise(jnp.asarray(x), jnp.asarray(float(sigma))))

        schemes = {"steepest Anchored (the default)": diffusion.Anchored.of(self.model)}
        schemes |= {
            f"steepest DPM-Solver++ {order}M": diffusion.MultiStep(solver_order=order)
            for order in (1, 2, 3)
        }
        schemes |= {
            f"steepest UniPC {order}": diffusion.UniPC(solver_order=order) for order in (2, 3)
        }
        schemes |= {
            "steepest DDIM": diffusion.DDIM(),
            "steepest Euler": diffusion.ReverseEuler(churn=0.0),
            "steepest Euler, noise of its own": diffusion.ReverseEuler(),
            "steepest DPM-Solver++ 2M, noise of its own": diffusion.MultiStep(
                solver_order=2, churn=1.0
            ),
        }
        twice = {
            "steepest Heun": diffusion.Heun(),
            "steepest DPM-Solver++ 2S": diffusion.SingleStep(),
        }
        for count in COUNTS:
            for name, scheme in schemes.items():
                yield name, count, self.run(scheme, count)
            for name, scheme in twice.items():
                yield name, count, self.run(scheme, (count + 1) // 2)
            yield "an exact sample, noise of its own", count, self.another()
            for name, x in peers(clean, HIGH * self.white, count):
                yield name, count, x

    def another(self) -> np.ndarray:
        return np.asarray(self.law.sample(jax.random.fold_in(self.key, 1), POINTS))


def orders() -> str:
    """Measured orders on the mixture in the plane, against the probability flow."""
    from steepest import diffusion

    lines = [f"### measured orders, d = 2, from 100 to 200 steps, median of {FEW} seeds", ""]
    lines += ["| sampler | grid | order | measured (least-most) |", "|---|---|---|---|"]
    with jax.enable_x64(True):
        known = [Known(seed, 2, 4) for seed in range(FEW)]
        schemes = {
            "Euler": (diffusion.ReverseEuler(churn=0.0), "karras", 1),
            "DDIM": (diffusion.DDIM(), "log-snr", 1),
            "Heun": (diffusion.Heun(), "karras", 2),
            "DPM-Solver++ 2S": (diffusion.SingleStep(), "log-snr", 2),
            "DPM-Solver++ 2M": (diffusion.MultiStep(solver_order=2), "log-snr", 2),
            "DPM-Solver++ 3M": (diffusion.MultiStep(solver_order=3), "log-snr", 3),
            "UniPC 2": (diffusion.UniPC(solver_order=2), "log-snr", 3),
            "UniPC 3": (diffusion.UniPC(solver_order=3), "log-snr", 4),
            "Anchored": (None, "angle", 3),
        }
        for name, (scheme, rule, order) in schemes.items():
            found = sorted(_order(one, scheme, rule) for one in known)
            middle = statistics.median(found)
            said = f"{middle:.2f} ({found[0]:.2f}-{found[-1]:.2f})"
            lines.append(f"| {name} | {rule} | {order} | {said} |")
    return "\n".join([*lines, ""])


def _order(one: Known, scheme: Any, rule: str) -> float:
    """log2 of the fall of the median error."""
    from steepest import diffusion

    scheme = diffusion.Anchored.of(one.model) if scheme is None else scheme
    to_zero, errors = rule == "angle", []
    for steps in (100, 200, 1600):
        grid = diffusion.times(one.process, steps, scheme, rule=rule, to_zero=to_zero)
        errors.append(one.run(scheme, steps, grid=grid))
    coarse, fine, end = errors
    off = [np.median(np.linalg.norm(x - end, axis=1)) for x in (coarse, fine)]
    return float(np.log2(off[0] / off[1]))


def peers(clean, start, count):
    """diffusers' schedulers on the same denoiser: (name, end)."""
    import diffusers
    import torch

    common = dict(sigma_min=LOW, sigma_max=HIGH, sigma_data=0.5, num_train_timesteps=1000)
    edm = {
        "diffusers EDM DPM++2M": diffusers.EDMDPMSolverMultistepScheduler(solver_order=2, **common),
        "diffusers EDM DPM++3M": diffusers.EDMDPMSolverMultistepScheduler(solver_order=3, **common),
        "diffusers EDM Euler": diffusers.EDMEulerScheduler(**common),
    }
    for name, scheduler in edm.items():
        scheduler.set_timesteps(count)
        x = torch.as_tensor(start)
        for i, t in enumerate(scheduler.timesteps):
            sigma = float(scheduler.sigmas[i])
            scheduler.scale_model_input(x, t)  # keeps the scheduler's own count
            # The schedulers apply EDM's skip and output scales: hand them what gives the denoiser.
            skip = 0.25 / (0.25 + sigma**2)
            out = 0.5 * sigma / np.sqrt(0.25 + sigma**2)
            wanted = (clean(x.numpy(), sigma) - skip * x.numpy()) / out
            x = scheduler.step(torch.as_tensor(wanted), t, x).prev_sample
        yield name, x.numpy()
    # In the variance-preserving clock: 1000 levels of the scaled-linear kind, the network's noise.
    options = dict(beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000)
    multistep = dict(final_sigmas_type="zero", use_karras_sigmas=True)
    clocked = {
        "diffusers DDIM": diffusers.DDIMScheduler(
            clip_sample=False, timestep_spacing="trailing", **options
        ),
        "diffusers Heun": diffusers.HeunDiscreteScheduler(use_karras_sigmas=True, **options),
        "diffusers Euler": diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, **options),
        "diffusers DPM++2M": diffusers.DPMSolverMultistepScheduler(
            solver_order=2, **multistep, **options
        ),
        "diffusers DPM++3M": diffusers.DPMSolverMultistepScheduler(
            solver_order=3, **multistep, **options
        ),
        "diffusers UniPC 2": diffusers.UniPCMultistepScheduler(
            solver_order=2, **multistep, **options
        ),
        "diffusers UniPC 3": diffusers.UniPCMultistepScheduler(
            solver_order=3, **multistep, **options
        ),
    }
    for name, scheduler in clocked.items():
        steps = (count + 1) // 2 if "Heun" in name else count
        scheduler.set_timesteps(steps)
        alphas = np.sqrt(np.asarray(scheduler.alphas_cumprod, float))
        exploding = "Heun" in name or name == "diffusers Euler"
        first = float(scheduler.sigmas[0]) if hasattr(scheduler, "sigmas") else None
        x = torch.as_tensor(start / HIGH)
        if exploding:
            x = x * first
        for i, t in enumerate(scheduler.timesteps):
            if hasattr(scheduler, "sigmas"):
                sigma = float(scheduler.sigmas[i])
            else:
                a = alphas[int(t)]
                sigma = float(np.sqrt(1 - a**2) / a)
            if exploding:
                scheduler.scale_model_input(x, t)
            y = x.numpy() if exploding else x.numpy() * np.sqrt(1 + sigma**2)
            noise = (y - clean(y, sigma)) / sigma
            x = scheduler.step(torch.as_tensor(noise), t, x).prev_sample
        yield name, x.numpy()
