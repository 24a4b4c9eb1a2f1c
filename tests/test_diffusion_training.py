"""Learning a score: shapes, refusals, bit-exact resumption, and what the bound says of a model."""

import os
import signal
import subprocess
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest import diffusion, store
from steepest.diffusion import quality, toys
from steepest.errors import ArgumentError

EDM = diffusion.EDM(end=20.0)
KEY = jax.random.key(0)


def small(key=KEY, classes=0):
    return diffusion.Perceptron(2, key, width=32, depth=2, classes=classes, dtype=jnp.float32)


@pytest.fixture(scope="module")
def moons():
    truth = diffusion.two_moons()
    draw = lambda k, n: toys.draw(truth, jax.random.key(k), n).astype(jnp.float32)  # noqa: E731
    return truth, draw(0, 8000), draw(1, 2000)


@pytest.fixture(scope="module")
def trained(moons):
    _, data, _ = moons
    return diffusion.fit(EDM, small(), data, KEY, steps=900, learning_rate=5e-3)


def test_a_trained_model_samples_its_data_and_the_bound_holds(moons, trained):
    truth, _, held = moons
    key = jax.random.key(2)
    x = diffusion.sample(EDM, trained.model, key, 2000, steps=25)
    assert quality.two_sample_accuracy(held, x) < 0.6
    untrained = diffusion.Learned(small(), trained.model.mean, trained.model.covariance)
    rough = diffusion.sample(EDM, untrained, key, 2000)
    assert quality.two_sample_accuracy(held, rough) > 0.7  # untrained: the Gaussian, and seen to be
    books = diffusion.reverse_books(EDM, trained.model, held, key, truth=truth)
    assert 0 < books.bound < 0.5 and (books.gap >= 0).all()
    # Loss = minimal loss + gap, level by level: E|D' - x|^2 = E|D - x|^2 + E|D' - D|^2. Both sides
    # are averages over the same 2000 points; the cross term has mean zero.
    cross = books.loss - books.mmse - books.gap
    assert (np.abs(cross) < 6 * np.sqrt(books.gap * books.mmse / 2000) + 1e-3).all()
    # KL of histograms <= KL of paths, to the errors of both: 0.05 of 0.12.
    n, steps = 3000, 60
    anchor = diffusion.Anchored.of(trained.model)
    fresh = toys.draw(truth, jax.random.key(5), n).astype(jnp.float32)
    clean = jax.vmap(lambda p: truth.log_prob(p, jnp.ones(()), jnp.full((), 1e-4)))(fresh)
    walks = lambda model: np.asarray(  # noqa: E731
        diffusion.surprisal_bound(EDM, model, fresh, key, steps=steps, anchor=anchor)
    )
    error = lambda w: float(w.std(ddof=1) / np.sqrt(n))  # noqa: E731
    mine, ideal = walks(trained.model), walks(truth)
    upper = mine + np.asarray(clean)
    scheme = diffusion.Controlled(anchor=anchor)
    y = diffusion.sample(EDM, trained.model, key, n, scheme=scheme, steps=steps)
    allowed = upper.mean() + 3 * error(upper) + 3 * np.sqrt(4 * upper.mean() / n)
    coarse = lambda z: np.subtract(*quality.coarse_divergence(fresh, z))  # noqa: E731
    assert coarse(y) <= allowed < 0.25
    assert coarse(1.2 * y) > allowed  # a law that breaks it is seen
    # Beyond the exact score's, the nats lost along the way are the integral of the squared error.
    excess, integral = mine - ideal, books.bound - books.prior_gap
    known = 3 * np.hypot(error(excess), books.bound_error) + 0.1 * integral
    assert abs(excess.mean() - integral) < known
    # So a score that is wrong by 5 % is seen, and by how much: 0.0025 E|r score|^2, 2 r-decades.
    louder = walks(Louder(truth)) - ideal
    its = diffusion.reverse_books(EDM, Louder(truth), held[:1000], key, truth=truth)
    assert louder.mean() > 5 * error(louder)
    assert abs(louder.mean() - its.bound + its.prior_gap) < 3 * error(louder) + 0.1 * its.bound


class Louder(diffusion.AbstractModel):
    """Another model's score, times 1.05."""

    inner: diffusion.AbstractModel

    def denoise(self, x, alpha, sigma, label=None):
        found = x / alpha
        return found + 1.05 * (self.inner.denoise(x, alpha, sigma) - found)

    @property
    def shape(self):
        return self.inner.shape


class Wrong(diffusion.AbstractModel):
    """The denoiser of N(0, 1) for data from N(mean, variance): a score error in closed form."""

    def denoise(self, x, alpha, sigma, label=None):
        return alpha * x / (alpha**2 + sigma**2)

    @property
    def shape(self):
        return (1,)


def test_the_bound_against_a_gaussian_in_closed_form():
    # With this score the reversed SDE keeps N(0, 1), whatever the data: KL of two Gaussians.
    law = st.GaussianMixture(jnp.zeros(1), jnp.array([[0.8]]), jnp.array([[0.6]]))
    truth = diffusion.ExactMixture(law)
    points = law.sample(jax.random.key(0), 20_000)
    process = diffusion.VariancePreserving()
    books = diffusion.reverse_books(process, Wrong(), points, KEY, truth=truth, levels=96)
    exact = 0.5 * (0.36 + 0.64 - 1.0 - np.log(0.36))
    # VP leaves N(0, 1) alone, so path KL telescopes to KL(data || N(0,1)) up to the start's noise.
    assert books.bound >= exact - 0.01
    np.testing.assert_allclose(books.bound, exact, atol=0.03)


def test_the_profile_says_where_steps_help(moons):
    # The books of the exact model know nothing but mmse(u): two extra steps where they say that a
    # step is dear must help more than two where it is cheap.
    truth, _, held = moons
    held = held.astype(jnp.float64)
    books = diffusion.reverse_books(EDM, truth, held, KEY, truth=truth, low=0.01)
    uniform = np.geomspace(20.0, 0.01, 9)
    losses = books.step_losses(uniform)
    best = books.best_grid(20.0, 8)
    assert books.step_losses(best).sum() < 0.75 * losses.sum()
    order = np.argsort(losses)

    def finer(indices):
        middle = np.sqrt(uniform[indices] * uniform[indices + 1])
        return np.sort(np.append(uniform, middle))[::-1]

    sde = diffusion.MultiStep(churn=1.0, solver_order=1)
    data = toys.draw(truth, jax.random.key(9), 20_000)

    def coarse(grid):
        x = diffusion.sample(EDM, truth, jax.random.key(3), 20_000, scheme=sde, grid=grid)
        return quality.coarse_divergence(data, x)[0]

    # The deviation of the estimate is about sqrt(2 KL / n) = 0.006; three of the difference's.
    dear, cheap = coarse(finer(order[-2:])), coarse(finer(order[:2]))
    assert dear < cheap - 0.025, (dear, cheap)
    # The dynamic programme's grid is the least of the bound, so no grid of as many steps is below.
    generator = np.random.default_rng(0)
    for _ in range(20):
        inner = np.sort(generator.uniform(np.log(0.01), np.log(20.0), 7))[::-1]
        other = np.exp([np.log(20.0), *inner, np.log(0.01)])
        assert books.step_losses(best).sum() < 1.02 * books.step_losses(other).sum()


def test_the_forward_ledger_falls_where_it_must():
    truth = diffusion.two_moons()
    points = toys.draw(truth, KEY, 1000)
    # The data are narrower than N(0, I): their entropy rises, and KL to the noise falls.
    books = diffusion.forward_books(diffusion.VariancePreserving(), truth, points, KEY, levels=40)
    assert books.descends and (books.rate <= 0).all()
    assert books.imbalance < 0.1 * books.free_energy[0]
    wide = diffusion.ExactMixture(
        st.GaussianMixture(jnp.zeros(1), jnp.zeros((1, 2)), jnp.full((1, 2), 3.0))
    )
    x = toys.draw(wide, KEY, 1000)
    other = diffusion.forward_books(diffusion.VariancePreserving(), wide, x, KEY, levels=16)
    assert other.descends and other.entropy[-1] < other.entropy[0]  # entropy itself falls here
    exploding = diffusion.forward_books(diffusion.EDM(), truth, points, KEY, levels=6)
    assert np.isnan(exploding.free_energy).all() and (np.diff(exploding.entropy) > 0).all()


@pytest.mark.parametrize("loss", ["denoising", "sliced", "implicit"])
@pytest.mark.parametrize("parametrisation", ["velocity", "noise", "clean"])
def test_every_loss_has_the_exact_score_as_its_minimum(loss, parametrisation):
    # Data N(0, 1/4): a network with one number a, F = a F_exact. The loss is a parabola in a whose
    # minimum is a = 1: found from three values, with the same draws.
    from steepest.diffusion.training import Settings, batch_loss

    scale = 0.5
    x = scale * jax.random.normal(KEY, (20_000, 1))

    def network(a):
        def fn(z, noise, label=None):
            r = scale * jnp.exp(4.0 * noise)
            y = z * jnp.sqrt(scale**2 + r**2)
            best = scale**2 / (scale**2 + r**2) * y
            skip, out, _ = probe.coefficients(r)
            return a * (best - skip * y) / out + (
                0.0 if parametrisation != "velocity" else (a - 1) * y
            )

        return fn

    base = dict(
        mean=jnp.zeros(1), covariance=scale**2 * jnp.eye(1), parametrisation=parametrisation
    )
    probe = diffusion.Learned(None, **base)
    settings = Settings(len(x), loss, "velocity", 0.9, 0.0, 0.0, np.log(0.05), np.log(5.0))
    values = [
        float(batch_loss(diffusion.Learned(network(a), **base), x, None, KEY, settings))
        for a in (0.8, 1.0, 1.2)
    ]
    slope, curvature = (values[2] - values[0]) / 0.4, (values[2] - 2 * values[1] + values[0]) / 0.04
    assert curvature > 0
    assert abs(slope / curvature) < 0.03  # 20,000 stratified draws


def test_labels_condition_and_can_be_left_out():
    key = jax.random.key(4)
    side = np.arange(4000) % 2
    x = np.where(side, 1.5, -1.5)[:, None] + 0.3 * np.random.default_rng(0).normal(size=(4000, 2))
    found = diffusion.fit(EDM, small(classes=2), x.astype(np.float32), key, labels=side, steps=300,
                          learning_rate=5e-3, unlabelled=0.3)  # fmt: skip
    asked = np.arange(400) % 2
    y = diffusion.sample(EDM, diffusion.Guided(found.model, 0.5), key, 400, steps=15, labels=asked)
    assert np.mean((np.asarray(y).mean(1) > 0) == asked) > 0.99
    free = diffusion.sample(EDM, found.model, key, 400, steps=15)
    assert 0.4 < float((free.mean(1) > 0).mean()) < 0.6  # 5 deviations of 0.025, less than this


PROGRAM = """
import sys, jax, numpy as np, steepest as st
from steepest import diffusion, store
rng = np.random.default_rng(0)
x = rng.normal(size=(500, 2)).astype(np.float32)
net = diffusion.Perceptron(2, jax.random.key(1), width=16, depth=1)
f = diffusion.fit(diffusion.EDM(), net, x, jax.random.key(2), steps=int(sys.argv[2]), batch_size=32,
                  checkpoint=st.Checkpoint(sys.argv[1], every=0.0), learning_rate=1e-2)
print("resumed", f.resumed_at)
"""


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path):
    steps = "20000"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    newest = lambda place: st.Checkpoint(place).files()[0]  # noqa: E731
    read = lambda place: store.read(newest(place), 1, "a checkpoint")  # noqa: E731
    run = lambda place: [sys.executable, "-c", PROGRAM, str(place), steps]  # noqa: E731
    process = subprocess.Popen(run(broken), stdout=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not st.Checkpoint(broken).files() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    reached = read(broken)[1]["words"]["done"]
    assert 0 < reached < int(steps)
    again = subprocess.run(run(broken), capture_output=True, text=True, check=True)
    assert f"resumed {reached}" in again.stdout or "resumed 0" not in again.stdout
    subprocess.run(run(whole), check=True, capture_output=True)
    one, two = (read(place)[0] for place in (whole, broken))
    assert (whole / "saves.npy").read_bytes() == (broken / "saves.npy").read_bytes()  # the losses
    assert one.keys() == two.keys() and len(one) > 10
    for name in one:
        assert one[name].tobytes() == two[name].tobytes(), name


def test_a_saved_model_comes_back_and_strangers_are_refused(tmp_path, trained):
    path = tmp_path / "model.npz"
    described = {"kind": "perceptron", "shape": [2], "width": 32, "depth": 2, "classes": 0}
    diffusion.save_model(path, trained.model, EDM, described, {"steps": 5})
    model, process, more = diffusion.load_model(path)
    assert process == EDM and more == {"steps": 5}
    x = jnp.array([0.3, -0.2], jnp.float32)
    one, two = (m.denoise(x, jnp.float32(1), jnp.float32(0.4)) for m in (model, trained.model))
    assert one.tobytes() == two.tobytes()
    for spoil in (
        lambda: path.write_bytes(b"no archive"),
        lambda: diffusion.save_model(path, trained.model, EDM, described | {"width": 16}, {}),
        lambda: diffusion.save_model(
            path, trained.model, EDM, described | {"kind": "os.system"}, {}
        ),
        lambda: np.savez(path, header=np.frombuffer(b"{}", np.uint8)),
        path.unlink,
    ):
        spoil()
        with pytest.raises(ArgumentError):
            diffusion.load_model(path)


def test_networks_have_the_shape_of_their_points():
    for shape in ((8, 8), (4, 6, 3)):
        net = diffusion.UNet(shape, KEY, width=8, classes=3, dtype=jnp.float32)
        x = jax.random.normal(KEY, shape, jnp.float32)
        out = eqx.filter_jit(net)(x, jnp.float32(0.1), 2)
        assert out.shape == shape and out.dtype == jnp.float32
        assert float(jnp.abs(out).max()) == 0.0  # starts as the Gaussian's score
    # A convolution against XLA's.
    from steepest.diffusion.networks import Convolution

    conv = Convolution(2, 3, KEY, jnp.float64)
    h = jax.random.normal(KEY, (6, 4, 2))
    kernel = conv.weight.reshape(3, 3, 3, 2).transpose(0, 3, 1, 2)
    other = jax.lax.conv_general_dilated(h.transpose(2, 0, 1)[None], kernel, (1, 1), "SAME")[0]
    np.testing.assert_allclose(conv(h), other.transpose(1, 2, 0), atol=1e-12)
    applied = diffusion.Applied(lambda v, x, noise, label: v["a"] * x, {"a": jnp.float32(2.0)})
    data = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    found = diffusion.fit(EDM, applied, data, KEY, steps=10)  # any apply function is trained
    assert found.model.network.variables["a"].dtype == jnp.float32
    assert found.model.network.variables["a"] != 2.0


def test_a_flax_module_is_a_network():
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, noise):
            h = nn.silu(nn.Dense(8)(jnp.append(x, noise)))
            return nn.Dense(2, kernel_init=nn.initializers.zeros)(h)

    module = Net()
    variables = module.init(KEY, jnp.zeros(2, jnp.float32), jnp.float32(0.0))
    applied = diffusion.Applied(lambda v, x, noise, label: module.apply(v, x, noise), variables)
    side = 3.0 * (np.arange(400) % 2)[:, None] - 1.5
    data = (side + 0.3 * np.random.default_rng(0).normal(size=(400, 2))).astype(np.float32)
    found = diffusion.fit(EDM, applied, data, KEY, steps=200, learning_rate=1e-2, batch_size=64)
    loss = lambda net: np.trapezoid(  # noqa: E731
        diffusion.reverse_books(
            EDM, eqx.tree_at(lambda m: m.network, found.model, net), data, KEY, levels=8
        ).loss
    )
    # It starts as the score of the Gaussian with the data's moments, and learns what that lacks.
    assert loss(found.model.network) < 0.97 * loss(applied)
    x = diffusion.sample(EDM, found.model, KEY, 20, steps=5)
    assert x.shape == (20, 2) and bool(jnp.isfinite(x).all())


def test_any_callable_is_a_network():
    # Zero is the exact velocity of an isotropic Gaussian, and the default scheme is exact on it.
    mean = jnp.array([1.0, -2.0], jnp.float32)
    model = diffusion.Learned(lambda x, noise, label: 0.0 * x, mean, 0.25 * jnp.eye(2))
    start = diffusion.prior(EDM, (2,), KEY, 50, jnp.float32)
    x = diffusion.sample(EDM, model, KEY, 50, steps=2, start=start)
    exact = mean + 0.5 / np.hypot(20.0, 0.5) * (start.positions - mean)
    np.testing.assert_allclose(x, exact, atol=1e-4)  # float32 on positions of up to 60


def test_bad_input_is_refused_in_words():
    good = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    constant, broken = good.copy(), good.copy()
    constant[:, 1], broken[3, 0] = 2.0, np.nan
    fit = diffusion.fit
    for make, word in [
        (lambda: fit(EDM, small(), constant, KEY), "data"),
        (lambda: fit(EDM, small(), broken, KEY), "data"),
        (lambda: fit(EDM, small(), np.ones((50, 8, 8), np.uint8), KEY), "data"),
        (lambda: fit(EDM, small(), np.ones(50), KEY), "data"),
        (lambda: fit(EDM, lambda x, noise, label: x[:1], good, KEY), "network"),
        (lambda: fit(EDM, lambda x: x, good, KEY), "network"),
        (lambda: fit("edm", small(), good, KEY), "process"),
        (lambda: fit(EDM, small(), good, KEY, loss="mse"), "loss"),
        (lambda: fit(EDM, small(), good, KEY, parametrisation="v"), "parametrisation"),
        (lambda: fit(EDM, small(), good, KEY, ema=1.0), "ema"),
        (lambda: fit(EDM, small(), good, KEY, steps=0), "steps"),
        (lambda: fit(EDM, small(), good, KEY, labels=np.zeros(3, int)), "labels"),
        (lambda: fit(EDM, small(), good, KEY, quantum=float("nan")), "quantum"),
        (lambda: diffusion.UNet((7, 8), KEY), "shape"),
        (lambda: diffusion.UNet((8, 8), KEY, width=12), "width"),
        (lambda: diffusion.Perceptron(0, KEY), "dimension"),
        (lambda: quality.two_sample_accuracy(good[:3], good), "a, b"),
    ]:
        with pytest.raises(ArgumentError) as caught:
            make()
        assert caught.value.argument == word, caught.value
    with pytest.raises(st.Diverged):
        fit(EDM, small(), good, KEY, steps=400, learning_rate=1e30)
    assert eqx.is_array(small().exit.weight)


def test_a_memorised_set_is_called_so():
    rng = np.random.default_rng(0)
    train, held = rng.normal(size=(2, 300, 4))
    copied = train[rng.integers(300, size=200)] + 1e-3
    assert quality.memorisation(copied, train, held)["copies"] > 0.95
    assert quality.memorisation(rng.normal(size=(200, 4)), train, held)["copies"] < 0.1
    # The exact minimiser of the training loss is a copying machine: its samples are the data.
    model = diffusion.ExactEmpirical(jnp.asarray(train))
    x = diffusion.sample(EDM, model, KEY, 100, steps=30)
    assert quality.memorisation(x, train, held)["copies"] > 0.9
