"""The battery passes here, its checks fail where they should, and the command says so."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from typer.testing import CliRunner

from steepest import selftest
from steepest.cli.app import app


def test_the_battery_passes_in_float32(monkeypatch):
    # Annealing has tests of its own; it is the dearest of the battery.
    short = tuple(check for check in selftest.BATTERY if check is not selftest._annealing)
    monkeypatch.setattr(selftest, "BATTERY", short)
    found = selftest.selftest(jnp.float32)
    assert found.passed, str(found)
    assert all(check.passed is not None for check in found.checks)


@pytest.mark.parametrize("bits", [jnp.bfloat16, jnp.float16])
def test_products_in_fewer_bits_are_caught(bits):
    # float16 keeps the 11 bits of TF32, bfloat16 the 8 of a device's fastest mode.
    (check,) = selftest._matrix_products(bits, 0.0)
    assert check.passed is False
    assert "jax_default_matmul_precision" in check.why


def test_other_random_words_are_caught(monkeypatch):
    real = selftest.threefry2x32
    monkeypatch.setattr(selftest, "threefry2x32", lambda j, k, a, b: real(j, k, b, a))
    words, normals = selftest._random_numbers(jnp.float32, 0.0)
    assert words.passed is False  # of the three known answers one has words in a row
    assert normals.passed


def test_the_command_tells_by_its_exit_code(monkeypatch):
    monkeypatch.setattr(selftest, "BATTERY", (selftest._gaussians,))
    good = CliRunner().invoke(app, ["selftest", "--precision", "float32"])
    assert good.exit_code == 0 and "self test passed" in good.output
    assert CliRunner().invoke(app, ["selftest", "--precision", "half"]).exit_code == 2
    real = selftest.wasserstein_squared
    monkeypatch.setattr(selftest, "wasserstein_squared", lambda a, b: 1.001 * real(a, b))
    bad = CliRunner().invoke(app, ["selftest", "--precision", "float32"])
    assert bad.exit_code == 1 and "FAILED" in bad.output
