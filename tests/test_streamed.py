"""Data in a file: the numbers of data in memory, the same bits after a kill, none of it held."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest import chunks
from steepest.compiled import split
from steepest.random import Randomness

ROWS, WIDTH = 1000, 5
THETA = jnp.linspace(-0.5, 0.5, WIDTH)
OPTIONS = dict(scheme=st.Euler(0.05), steps=40, save_every=8, key=jax.random.key(3))


def loss(theta, row):
    x, y = row
    return 0.5 * (x @ theta - y) ** 2


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, WIDTH))
    return x, np.sin(x).sum(axis=1)


@pytest.fixture(scope="module")
def files(arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for name, array in zip("xy", arrays, strict=True):
        np.save(folder / f"{name}.npy", array)
    return tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in "xy")


class Source:
    """What grain calls a random-access data source."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, i):
        assert isinstance(i, int)
        return tuple(a[i] for a in self.arrays)


def flow_of(data, batch_size=16):
    return st.Flow(st.EmpiricalRisk(loss, data, batch_size), st.Euclidean(), st.Minibatch())


@pytest.mark.parametrize("kind", ["file", "source"])
def test_streamed_minibatches_are_those_of_memory(kind, arrays, files):
    """The same rows at each step; sums of 300 rows at a time differ by rounding."""
    data = st.Streamed(files if kind == "file" else Source(files), chunk=300)
    one = st.solve(flow_of(data), THETA, **OPTIONS)
    other = st.solve(flow_of(arrays), THETA, **OPTIONS)
    np.testing.assert_allclose(one.states, other.states, rtol=1e-12)
    np.testing.assert_allclose(one.ledger.functional, other.ledger.functional, rtol=1e-12)
    np.testing.assert_allclose(
        one.ledger.dissipation_rate, other.ledger.dissipation_rate, rtol=1e-11
    )


def test_an_ensemble_draws_rows_for_each_of_its_chains(arrays, files):
    start = st.Particles(jnp.stack([THETA, -THETA, 0 * THETA]))
    source = Randomness(jnp.uint32(1), jnp.uint32(2)).at(jnp.uint32(7))
    drawn = []
    for data in (st.Streamed(files), arrays):
        bound = flow_of(data, batch_size=4).bind(start)
        drawn.append(jax.jit(lambda s, f=bound: f.slope(s, 0.0, source)[0].positions)(start))
    np.testing.assert_allclose(*drawn, rtol=1e-12)


def test_a_derivative_of_the_whole_is_that_in_memory(arrays, files):
    streamed = st.EmpiricalRisk(loss, st.Streamed(files, chunk=300))
    plain = st.EmpiricalRisk(loss, arrays)
    np.testing.assert_allclose(
        jax.jit(streamed.differential)(THETA), plain.differential(THETA), rtol=1e-12
    )
    around = st.EmpiricalRisk(loss, st.Streamed(files, chunk=300), 8).around(THETA)
    np.testing.assert_allclose(around.anchor[1], plain.differential(THETA), rtol=1e-12)


class Killed(Exception):
    """What ends a run here."""


def test_a_broken_run_goes_on_to_the_same_bits(files, arrays, tmp_path, monkeypatch):
    whole = st.solve(flow_of(st.Streamed(files)), THETA, **OPTIONS)
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 1e-9)
    place, update = st.Checkpoint(tmp_path, every=0), chunks.Progress.update

    def killed(self, done):
        update(self, done)
        if done > 20:
            raise Killed

    long = OPTIONS | dict(steps=400)
    monkeypatch.setattr(chunks.Progress, "update", killed)
    with pytest.raises(Killed):
        st.solve(flow_of(st.Streamed(files)), THETA, **long, checkpoint=place)
    monkeypatch.setattr(chunks.Progress, "update", update)
    again = st.solve(flow_of(st.Streamed(files)), THETA, **long, checkpoint=place)
    assert np.asarray(again.states[:6]).tobytes() == np.asarray(whole.states).tobytes()
    other = st.Streamed((arrays[0] + 1e-9, arrays[1]))
    with pytest.raises(st.ArgumentError, match=r"Streamed\(1000 rows of float64\[5\], float64"):
        st.solve(flow_of(other), THETA, **long, checkpoint=place)


def test_the_program_holds_none_of_the_data(tmp_path):
    """A sparse file of 8 GiB, of which a step reads 16 rows."""
    rows = 2**30
    big = np.memmap(tmp_path / "big", np.float64, "w+", shape=(rows,))
    data = st.Streamed((big, big))
    flow = flow_of(data)
    held, _ = split(flow, OPTIONS["scheme"])
    assert data.nbytes == 16 * 2**30
    assert sum(x.nbytes for x in held if x is not None) < 1000
    risk = st.EmpiricalRisk(lambda t, row: jnp.sum((row[0] - t) ** 2), data, 16)
    zero = jnp.zeros((), jnp.uint32)
    drawn = jax.jit(risk.estimate)(THETA, Randomness(zero, zero))
    np.testing.assert_allclose(drawn, 2 * THETA)  # all rows are zero


def test_what_cannot_be_streamed_is_refused(files):
    with pytest.raises(st.ArgumentError, match="read once cannot be resumed"):
        st.Streamed(iter([1, 2, 3]))
    with pytest.raises(st.ArgumentError, match="same n"):
        st.Streamed((np.zeros(3), np.zeros(4)))
    with pytest.raises(st.ArgumentError, match="chunk"):
        st.Streamed(files, chunk=0)
    with pytest.raises(st.ArgumentError, match="takes arrays"):
        st.EmpiricalRisk(loss, st.Streamed(files)).gradients(THETA)
    mesh = jax.make_mesh((1,), ("rows",))
    with pytest.raises(st.ArgumentError, match="mesh"):
        st.solve(flow_of(st.Streamed(files)), THETA, **OPTIONS, mesh=mesh)
