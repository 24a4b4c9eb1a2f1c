"""What the README and the examples show is what happens."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs" / "tools"))

import snippets  # noqa: E402


def test_the_readmes_examples_run_and_their_audits_pass(capsys):
    blocks = snippets.snippets(ROOT / "README.md")
    assert len(blocks) == 7
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
        assert "run = " not in block or namespace["run"].audit().passed
    assert "audit passed" in capsys.readouterr().out
    assert namespace["check"].passed and callable(namespace["optimizer"].update)


def test_the_quickstart_is_the_readmes_example_and_draws_its_picture(tmp_path, capsys):
    namespace = runpy.run_path(str(ROOT / "examples" / "quickstart.py"))
    assert namespace["run"].audit().passed
    namespace["picture"](tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    # The Gibbs law has half of the 2000 on the right, with a standard deviation of 22. Kramers'
    # rate sqrt(8 * 4) / (2 pi) exp(-1/0.4) = 0.074 leaves a share exp(-2 * 0.074 * 40) behind.
    right = int((namespace["run"].final.positions[:, 0] > 0).sum())
    assert abs(right - 1000) < 5 * 22 + 3


def test_constraints_hold_and_the_optima_are_certified():
    """The mixture's duality gap; the plane's variance against the two largest eigenvalues."""
    namespace = runpy.run_path(str(ROOT / "examples" / "constrained.py"))
    run, gap = namespace["mixture"]()
    assert run.audit().passed, str(run.audit())
    assert abs(gap) < 0.02
    assert abs(float(run.final.sum()) - 1.0) < 1e-5 and float(run.final.min()) >= 0.0
    run, most = namespace["plane"]()
    assert run.audit().passed, str(run.audit())
    np.testing.assert_allclose(-run.ledger.functional[-1], most, rtol=1e-4)
    np.testing.assert_allclose(run.final.T @ run.final, np.eye(2), atol=1e-5)


@pytest.mark.parametrize(("network", "steps"), [("equinox_network", 120), ("flax_network", 40)])
def test_networks_of_other_libraries_train(network, steps):
    """Far from the one in ten of a guess."""
    if network == "flax_network":
        pytest.importorskip("flax")
    namespace = runpy.run_path(str(ROOT / "examples" / "digits_networks.py"))
    assert namespace[network](steps)[1] > 0.8
