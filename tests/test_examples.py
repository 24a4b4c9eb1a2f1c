"""What the README and the examples show is what happens."""

import ast
import contextlib
import io
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs" / "tools"))

import snippets  # noqa: E402


@pytest.fixture(scope="module")
def quickstart():
    """What examples/quickstart.py leaves behind, and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        namespace = runpy.run_path(str(ROOT / "examples" / "quickstart.py"))
    return namespace, said.getvalue()


def statements(code):
    """Those of a piece of code, but what is imported."""
    body = ast.parse(code).body
    return [ast.dump(one) for one in body if not isinstance(one, ast.Import | ast.ImportFrom)]


def test_the_readmes_examples_run_and_their_audits_pass(quickstart):
    first, *blocks = snippets.snippets(ROOT / "README.md")
    assert len(blocks) == 6
    example, (namespace, said) = (ROOT / "examples" / "quickstart.py").read_text(), quickstart
    assert set(statements(first)) <= set(statements(example))
    assert "audit passed" in said
    namespace = dict(namespace)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
        assert "run = " not in block or namespace["run"].audit().passed
    assert namespace["check"].passed and callable(namespace["optimizer"].update)


def test_the_quickstart_draws_its_picture(quickstart, tmp_path):
    namespace, _ = quickstart
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


def test_photographs_change_their_colours():
    """Few pixels and steps: the colours come nearer by a factor of four."""
    pytest.importorskip("PIL")
    example = runpy.run_path(str(ROOT / "examples" / "photograph_colours.py"))
    temple, flower = example["photographs"](8)
    _, found = example["bridge"](temple, flower, 200)
    before = example["distance"](temple, flower)
    assert example["distance"](example["mapped"](found, temple), flower) < before / 4


def test_threes_become_eights():
    """Sinkhorn's paths end on eights, as an independent classifier sees them."""
    example = runpy.run_path(str(ROOT / "examples" / "digits_three_to_eight.py"))
    threes, apart, eights = example["digits"]()
    found = example["SchrodingerBridge"](example["brownian"](0.02), threes, eights)
    ends = found.solve(tolerance=1e-2).expected_end(apart)
    assert example["eights_among"](np.asarray(ends)) > 0.9


def test_fates_and_descendants_of_cells_are_told_from_snapshots():
    """A hundred founders; by chance a correlation of 40 cells exceeds 0.5 in 1 of 1000."""
    example = runpy.run_path(str(ROOT / "examples" / "gene_switch.py"))
    chain = example["bridge"](*example["snapshots"](100))
    x = example["founders"](40, 7)
    found, want = example["told"](chain, x, 20), example["true"](x, 20)
    assert example["correlation"](found[1], want[1]) > 0.5
    assert example["correlation"](found[0], want[0]) > 0.3


def test_a_bent_barrier_is_crossed_at_its_saddle():
    """On x = 0 the Gibbs law is N(0.6, T/4), of deviation 0.25.

    By the mirror symmetry the bridge keeps it there, if the wells are left and reached slowly: half
    a deviation, and five errors of 100.
    """
    example = runpy.run_path(str(ROOT / "examples" / "bent_barrier.py"))
    top = example["saddle"]()[1]
    at = [example["crossings"](bridge, 100)[1].mean() for bridge in example["bridges"](20)]
    np.testing.assert_allclose(top, [0.0, 0.6], atol=0.02)
    assert abs(at[0] - top[1]) < 0.125 + 5 * 0.025
    assert at[1] < top[1] - 0.25
