"""Checkpoints: a broken run goes on to the same bits; what is damaged or foreign is told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import steepest as st
from steepest import checkpoint as checkpoints
from steepest import chunks, termination
from steepest.described import describe, differences

KEY = jax.random.key(11)
KINDS = Path(__file__).parent / "faults" / "kinds.py"


def quadratic(x):
    return 0.5 * jnp.sum(x**2)


def cloud(weights=None):
    return st.Particles(jax.random.normal(jax.random.key(0), (6, 2)), weights)


def flow_of(name):
    free = st.FreeEnergy(quadratic, 0.5)
    line = st.Density.from_log(st.Grid(-3.0, 3.0, 24), lambda x: -((x[0] - 1) ** 2))
    phase = st.Phase.at_rest(jnp.ones(2))
    bath = (st.Symplectic() + st.Friction(1.0), st.Thermal(1.0))
    plain = st.Flow(st.Energy(quadratic), st.Euclidean(), st.Thermal(1.0))
    both = st.Flow(free, st.Wasserstein() + st.FisherRao())
    weights = jnp.linspace(0.0, 4.0, 6)
    mean_field = st.Gaussian(jnp.ones(2), jnp.eye(2))
    return {
        "density": (st.Flow(free, st.Wasserstein()), line, st.FiniteVolume(0.01, order=2)),
        "metropolis": (
            st.Flow(st.Energy(quadratic), *bath),
            st.Particles.from_positions(jax.tree.map(lambda x: jnp.tile(x, (4, 1)), phase)),
            st.Metropolis(st.OBABO(0.2)),
        ),
        "resampled": (both, cloud(weights), st.Composition(st.Euler(0.02), st.BirthDeath(0.02))),
        "odd": (plain, cloud(), st.Euler(0.05)),
        "gaussian": (st.Flow(free, st.FisherRao()), mean_field, st.MinimizingMovement(0.1)),
    }[name]


def assert_same_bits(one, other):
    for a, b in zip(
        jax.tree.leaves((one.times, one.states, one.ledger.columns())),
        jax.tree.leaves((other.times, other.states, other.ledger.columns())),
        strict=True,
    ):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("name", ["density", "metropolis", "resampled", "odd", "gaussian"])
def test_a_broken_run_goes_on_to_the_same_bits(name, tmp_path, monkeypatch, killed_after):
    """Weights, memories, totals of half an interval; other chunks before and after."""
    flow, start, scheme = flow_of(name)
    options = dict(scheme=scheme, steps=150, save_every=15, key=KEY)
    whole = st.solve(flow, start, **options)
    place = st.Checkpoint(tmp_path / "run", every=0)
    for count, seconds in ((2, 1e-9), (3, 1e-3)):
        monkeypatch.setattr(chunks, "CHUNK_SECONDS", seconds)
        killed_after(count)
        with pytest.raises(SystemExit, match="137"):
            st.solve(flow, start, **options, checkpoint=place)
    assert 0 < len(place.files()) <= place.keep + 1  # killed before the oldest was removed
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 10.0)
    again = st.solve(flow, start, **options, checkpoint=place)
    assert_same_bits(again, whole)
    assert_same_bits(st.solve(flow, start, **options, checkpoint=place), whole)  # finished: at once
    assert again.audit().passed == whole.audit().passed
    place.discard()
    assert not (tmp_path / "run").exists()


LANGEVIN = st.Flow(st.Energy(quadratic), st.Euclidean(), st.Thermal(1.0))
OPTIONS = dict(scheme=st.Euler(0.05), steps=150, save_every=15, key=KEY)


def broken(tmp_path, monkeypatch, killed_after, writes=4):
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 1e-9)
    place = st.Checkpoint(tmp_path / "run", every=0)
    killed_after(writes)
    with pytest.raises(SystemExit, match="137"):
        st.solve(LANGEVIN, cloud(), **OPTIONS, checkpoint=place)
    return place


def test_a_damaged_checkpoint_costs_what_came_after_the_one_before(
    tmp_path, monkeypatch, killed_after
):
    place = broken(tmp_path, monkeypatch, killed_after)
    whole = st.solve(LANGEVIN, cloud(), **OPTIONS)
    newest, before, *_ = place.files()
    content = newest.read_bytes()
    saves = (place.folder / "saves.npy").read_bytes()
    position = content.index(b"positions.npy") + 200  # inside an array: its checksum fails
    flipped = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
    for damaged in (content[: len(content) // 2], b"", flipped):
        (place.folder / "saves.npy").write_bytes(saves)
        newest.write_bytes(damaged)
        with pytest.warns(UserWarning, match=f"passed over: .*{newest.name}"):
            again = st.solve(LANGEVIN, cloud(), **OPTIONS, checkpoint=place)
        assert_same_bits(again, whole)
        for path in place.files():
            path.unlink()
        before.write_bytes(content) if not before.exists() else None
        newest.write_bytes(content)
        before.unlink()
    # Saves that are not those of the checkpoint: nothing is left to go on from.
    (place.folder / "saves.npy").write_bytes(saves[:-1] if len(saves) < 200 else saves[:150])
    with pytest.warns(UserWarning, match=r"saves\.npy does not belong"):
        again = st.solve(LANGEVIN, cloud(), **OPTIONS, checkpoint=place)
    assert_same_bits(again, whole)


def test_another_run_is_refused_with_the_difference(tmp_path, monkeypatch, killed_after):
    place = broken(tmp_path, monkeypatch, killed_after)
    hotter = st.Flow(st.Energy(quadratic), st.Euclidean(), st.Thermal(2.0))
    with pytest.raises(st.ArgumentError, match=r"temperature: 1\.0 there, 2\.0 here"):
        st.solve(hotter, cloud(), **OPTIONS, checkpoint=place)
    longer = OPTIONS | dict(steps=300, scheme=st.Euler(0.01))
    with pytest.raises(st.ArgumentError, match=r"scheme\.step: 0\.05 there(.|\n)*steps: 150 there"):
        st.solve(LANGEVIN, cloud(), **longer, checkpoint=place)
    other = st.Flow(st.Energy(lambda x: jnp.sum(x**2)), st.Euclidean(), st.Thermal(1.0))
    with pytest.raises(st.ArgumentError, match="function quadratic"):
        st.solve(other, cloud(), **OPTIONS, checkpoint=place)
    with pytest.raises(st.ArgumentError, match=r"state\.positions: float64\[6, 2\]"):
        st.solve(LANGEVIN, st.Particles(cloud().positions + 1), **OPTIONS, checkpoint=place)
    for bad in (dict(every=-1), dict(keep=0)):
        with pytest.raises(st.ArgumentError, match=next(iter(bad))):
            st.Checkpoint(tmp_path, **bad)
    with pytest.raises(st.ArgumentError, match="checkpoint"):
        st.solve(LANGEVIN, cloud(), **OPTIONS, checkpoint=str(tmp_path))


def test_what_functions_enclose_and_name_tells_runs_apart():
    def energy(scale):
        return lambda x: scale * helper(x)

    one, same, other = (describe(f=energy(s)) for s in (1.0, 1.0, 2.0))
    assert one == same and differences(one, other) == ["f.scale: 1.0 there, 2.0 here"]
    before = describe(f=energy(1.0))
    helper.__code__, kept = (lambda x: x + 1).__code__, helper.__code__
    try:
        assert differences(before, describe(f=energy(1.0)))  # what it calls is other code
    finally:
        helper.__code__ = kept


def helper(x):
    return x


def test_sigterm_ends_a_run_with_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 1e-9)
    place = st.Checkpoint(tmp_path / "run")  # it would be written in a minute only
    update = chunks.Progress.update

    def stopped(self, done):
        update(self, done)
        if done > 20:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(chunks.Progress, "update", stopped)
    with pytest.raises(st.Terminated, match="SIGTERM"):
        st.solve(LANGEVIN, cloud(), **OPTIONS, checkpoint=place)
    assert len(place.files()) == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    monkeypatch.setattr(chunks.Progress, "update", update)
    again = st.solve(LANGEVIN, cloud(), **OPTIONS, checkpoint=place)
    assert_same_bits(again, st.solve(LANGEVIN, cloud(), **OPTIONS))
    with pytest.raises(st.Terminated), termination.noticed(running=False):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)


def test_saves_are_numbered_inside_larger_work(tmp_path):
    place = st.Checkpoint(tmp_path, every=0)
    counted = []
    write = checkpoints.Kept._write
    options = OPTIONS | dict(save_every=150)

    def work():
        first = st.solve(LANGEVIN, cloud(), **options)
        return st.solve(LANGEVIN, first.final, **options).final.positions

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Kept, "_write", lambda *a: (counted.append(1), write(*a))[1])
        with place.of_every_solve():
            one = work()
        written = len(counted)
        with place.of_every_solve():
            other = work()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000", "00001"]
    assert len(counted) <= written + 2  # nothing but the two ends is written again
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, work())
    place.discard()
    assert not tmp_path.exists()


def test_memory_of_the_saves_is_a_file(tmp_path):
    run = st.solve(LANGEVIN, cloud(), **OPTIONS, checkpoint=st.Checkpoint(tmp_path))
    assert isinstance(run.states.positions, np.memmap)
    assert not isinstance(run.ledger.functional, np.memmap)
    records = np.load(tmp_path / "saves.npy", mmap_mode="r")  # any NumPy reads it
    assert records.shape == (11,)


DIVERGING = st.Flow(st.Energy(lambda x: jnp.sum(x**4)), st.Euclidean())


def test_divergence_stops_or_halves_the_step(tmp_path, monkeypatch):
    start = 2.0 * jnp.ones(2)
    options = dict(scheme=st.Euler(0.2), steps=40, save_every=2)
    stopped = st.solve(DIVERGING, start, **options, on_divergence="stop")
    assert stopped.ending == "diverged" and np.isfinite(stopped.states).all()
    halved = st.solve(DIVERGING, start, **options, on_divergence="halve")
    steps = halved.ledger.step
    assert not halved.interrupted and len(halved) == 21 and halved.audit().passed is not None
    np.testing.assert_allclose(halved.times, 0.4 * np.arange(21))
    # |x - 4 h x^3| < |x| needs h < 1/(2 x^2) = 1/8; the start is where F began to rise.
    assert steps[0] == 0.2 and set(steps[1:]) == {0.1}
    same = st.solve(DIVERGING, start, scheme=st.Euler(0.1), time=8.0, save_every=4)
    np.testing.assert_allclose(halved.final, same.final, rtol=1e-12)
    with pytest.raises(st.ArgumentError, match="on_divergence"):
        st.solve(DIVERGING, start, **options, on_divergence="hope")


def test_a_halved_run_rolls_back_to_a_save_and_resumes(tmp_path, monkeypatch, killed_after):
    """A trap that stiffens at t = 1: the step is halved there and not before."""
    flow = st.Flow(
        st.Energy(
            lambda x, t: 0.5 * jnp.where(t > 1.0, 90.0, 1.0) * jnp.sum(x**2), time_dependent=True
        ),
        st.Euclidean(),
    )
    options = dict(scheme=st.Euler(0.05), steps=400, save_every=4, on_divergence="halve")
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 1e-3)
    start = jnp.ones(1, jnp.float32)  # soon overflows
    whole = st.solve(flow, start, **options)
    where = int(np.argmax(whole.ledger.step < 0.05))
    assert 4 <= where <= 6 and whole.ledger.step[-1] <= 0.0125  # 2/90 is the limit
    assert whole.ledger.functional.max() <= 0.5  # nothing is kept of what blew up
    np.testing.assert_allclose(whole.times, 0.2 * np.arange(101), rtol=1e-6)
    assert np.abs(whole.final).max() < 1e-3
    place = st.Checkpoint(tmp_path, every=0)
    killed_after(6)
    with pytest.raises(SystemExit, match="137"):
        st.solve(flow, start, **options, checkpoint=place)
    again = st.solve(flow, start, **options, checkpoint=place)
    assert_same_bits(again, whole)


def test_kill_minus_nine_at_a_random_moment(tmp_path):
    """One of the moments of `tests/faults/kill.py`, which takes fifty, over five kinds of run."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    random = np.random.default_rng()
    # The moment falls into the first of several, so one is as much of a test.
    name = str(random.choice(["density", "particles", "chains", "variational", "training"]))
    run = lambda folder: [sys.executable, str(KINDS), str(tmp_path / folder), "1", name]  # noqa: E731
    done = subprocess.run(run("whole"), capture_output=True, text=True, env=environment, check=True)
    moment = random.uniform(0.0, 3.0)
    process = subprocess.Popen(run("broken"), stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.run(run("broken"), capture_output=True, text=True, env=environment)
    assert again.stdout == done.stdout, (name, moment, again.stderr)
