"""Several devices and several processes: the numbers of one, and what happens when one is lost."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import steepest as st

EXAMPLES = Path(__file__).parent.parent / "examples"

MESH = """
import sys, jax, jax.numpy as jnp, numpy as np, steepest as st
jax.config.update("jax_enable_x64", True)
x = jax.random.normal(jax.random.key(0), (96, 3))
energy = lambda x: 0.5 * jnp.sum(x**2)
data = jax.random.normal(jax.random.key(5), (35, 3)) + 1
pairs = st.InteractionEnergy(st.GaussianKernel(1.0))
weighted = st.Particles(x, jnp.linspace(0.0, 4.0, 96))  # few carry the mass: they are resampled
loss = lambda theta, row: 0.5 * (row[0] @ theta - row[1]) ** 2
risk = st.EmpiricalRisk(loss, (x, jnp.sin(x[:, 0])), batch_size=16)
free = st.FreeEnergy(energy, 0.3) + pairs
euler = st.Euler(0.02)
stein = st.Flow(st.KL(lambda x: -energy(x)), st.Stein())
runs = [
    (st.Flow(free + st.MMD(data), st.Wasserstein()), st.Particles(x), euler, 8),
    (stein, st.Particles(x), euler, 4),
    (st.Flow(free, st.Wasserstein() + st.FisherRao()), weighted,
     st.Composition(euler, st.BirthDeath(0.02)), 8),
    (st.Flow(risk, st.Euclidean(), st.Minibatch()), jnp.zeros(3), euler, 2),
]
def mesh_of(k):
    return jax.make_mesh((k,), ("particles",), devices=jax.devices()[:k])
for flow, start, scheme, count in runs:
    options = dict(scheme=scheme, steps=10, save_every=5, key=jax.random.key(1))
    one, many = [st.solve(flow, start, mesh=mesh_of(k), **options) for k in (1, count)]
    # Sums of 96 terms in another order: some ulps a step, ten steps.
    for a, b in ((one.states, many.states), (one.ledger.functional, many.ledger.functional)):
        a, b = jax.tree.leaves(a)[0], jax.tree.leaves(b)[0]
        np.testing.assert_allclose(b, a, atol=1e-13)
# A checkpoint of eight devices goes on with one: the first chunk has 128 steps.
flow = stein
options = dict(scheme=euler, steps=160, save_every=40)
place = st.Checkpoint(sys.argv[1], every=0)
from steepest import chunks
class Killed(Exception): pass
def killed(*_): raise Killed
update, chunks.Progress.update = chunks.Progress.update, killed
try:
    st.solve(flow, st.Particles(x), mesh=mesh_of(8), checkpoint=place, **options)
except Killed:
    pass
assert int(place.files()[0].stem) == 120
chunks.Progress.update = update
run = st.solve(flow, st.Particles(x), mesh=mesh_of(1), checkpoint=place, **options)
whole = st.solve(flow, st.Particles(x), mesh=mesh_of(1), **options)
np.testing.assert_allclose(run.states.positions, whole.states.positions, atol=1e-12)
plain = st.Flow(st.Energy(energy), st.Euclidean())
for start, words in ((st.Particles(x[:90]), "90 particles on 8 devices"), (x[0], "rows of data")):
    try:
        st.solve(flow if words[0] == "9" else plain, start, mesh=mesh_of(8), **options)
    except st.ArgumentError as error:
        assert words in str(error), error
    else:
        raise SystemExit("a state that the devices cannot share was taken")
"""


def test_one_two_four_and_eight_devices_give_the_same_numbers(tmp_path):
    """Eight host devices need their own process: the number is fixed when JAX starts.

    XLA gives host devices one thread each on a small machine. A device that waits in two
    collectives at once then takes another's, and all wait for ever: NPROC asks for more threads.
    """
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "NPROC": "32"}
    done = subprocess.run(
        [sys.executable, "-c", MESH, str(tmp_path)],
        env=os.environ | flags,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_more_devices_than_there_are_and_wrong_processes_are_refused(steepest, monkeypatch):
    spec = EXAMPLES / "double_well.toml"
    present = f"--xla_force_host_platform_device_count={len(jax.devices())}"
    monkeypatch.setenv("XLA_FLAGS", present)  # what a command sets stays in this process
    code, text = steepest("run", spec, "--devices", 999)
    assert code == 2 and "--devices: got 999; there are" in text
    for wrong in ("here", "host:80,2,2", "host:80,1"):
        code, text = steepest("run", spec, "--distributed", wrong)
        assert code == 2 and "HOST:PORT,I,N" in text, text

    def no_cluster(**options):  # in JAX's words
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", no_cluster)
    code, text = steepest("run", spec, "--distributed", "auto")
    assert code == 2 and "no cluster that JAX knows" in text and "HOST:PORT,I,N" in text


def processes(folder, *words):
    """Two processes of one run, on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "from steepest.cli import main; main()"
    options = ["--set", "state.chains=64", "--set", "run.time=300.0"]
    command = [sys.executable, "-c", program, "run", EXAMPLES / "double_well.toml", *options]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder), "NPROC": "16"}
    environment.pop("XLA_FLAGS", None)
    return [
        subprocess.Popen(
            [*command, "--out", "out", "--distributed", f"127.0.0.1:{port},{i},2", *words],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]


def test_two_processes_of_which_one_is_lost_and_comes_back(tmp_path):
    """The survivor ends with a message and 75; both together go on, and one writes the report."""
    first, second = processes(tmp_path, "--checkpoint-every", "0")
    place = st.Checkpoint(tmp_path / ".out.checkpoint" / "run")
    deadline = time.monotonic() + 120
    both = lambda: list(place.folder.glob("*-1.npz")) and place.files()  # noqa: E731
    while not both() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert both(), first.communicate()
    second.send_signal(signal.SIGKILL)
    told = first.communicate(timeout=120)[0]
    assert first.returncode == 75, told
    assert "another process of this run has ended" in told and "--resume" in told
    assert second.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    texts = [process.communicate(timeout=120)[0] for process in processes(tmp_path, "--resume")]
    assert "audit" in texts[0] and "audit" not in texts[1], texts
    assert (tmp_path / "out" / "report.html").exists() and not place.folder.exists()


def test_what_several_processes_write_is_joined():
    """Shares with their places are the array again; one that is missing is noticed."""
    from steepest import devices

    array = np.arange(24.0).reshape(4, 6)
    shares = {"x@0,0": array[:, :3], "x@0,3": array[:, 3:], "xy@0,0": array}
    np.testing.assert_array_equal(devices.joined("x", array, shares), array)
    del shares["x@0,3"]
    assert devices.joined("x", array, shares) is None
    with pytest.raises(st.ArgumentError, match="mesh"):
        devices.line("all")
