"""Tests run with 64-bit floats available; a test of float32 passes float32 arrays itself."""

import os

import jax
import jaxlib
import pytest
from typer.testing import CliRunner

from steepest import store
from steepest.cli.app import app
from steepest.summary import load_arviz

jax.config.update("jax_enable_x64", True)
if jaxlib.__version__.startswith("0.10."):
    # Two thirds of the suite is compilation, and the older emitters take two thirds of that.
    # An unknown flag ends the process, so other versions do without.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
load_arviz()  # two workers that import it at once would disturb each other

LONGEST = """interacting chains diffusion_training bridge_agreement devices checkpoint mixture_jko
bridge_networks certify compositions diffusion_cli bridge_growth calibration"""
# These files begin first, so that no worker is left alone with one of them at the end.


def pytest_configure(config):
    config.option.loadscopereorder = False  # of xdist: by the number of tests, which tells little


def pytest_collection_modifyitems(items):
    rank = {f"test_{name}": place for place, name in enumerate(LONGEST.split())}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(autouse=True, scope="module")
def programs_end_with_their_module():
    """Compiled programs are dropped after each file of tests.

    A program holds memory maps, a run of a flow some 240 of them. Linux gives a process 65,530, and
    the compiler ends the process where it gets no more: all files in one process need more.
    """
    yield
    jax.clear_caches()


@pytest.fixture
def steepest(tmp_path, monkeypatch):
    """Run a command in an empty folder; gives (exit code, everything that was printed)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")

    def steepest(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    return steepest


@pytest.fixture
def killed_after(monkeypatch):
    """Ends the next run when it has written that many checkpoints; then again as it was."""
    write = store.write

    def killed_after(count):
        left = [count]

        def counted(*arguments):
            write(*arguments)
            left[0] -= 1
            if left[0] == 0:
                monkeypatch.setattr(store, "write", write)
                raise SystemExit(137)

        monkeypatch.setattr(store, "write", counted)

    return killed_after
