"""`generate` and `compare` that were killed go on with --resume, to the same bits."""

import arviz
import numpy as np

from steepest import store
from test_compare import SPEC, write_rows

MODEL = """
[data]
kind = "csv"
data = "points.csv"

[process]
end = 20.0

[network]
width = 16
depth = 1

[train]
steps = 200
batch_size = 32

[sample]
count = 100
steps = 5
"""


def broken_and_resumed(steepest, killed_after, *words):
    """The command to its end into `whole`; another into `again`, which is killed on its way."""
    assert steepest(*words, "--out", "whole")[0] in (0, 1)
    killed_after(2)
    code, text = steepest(*words, "--out", "again", "--checkpoint-every", 0)
    assert code == 137, text
    code, text = steepest(*words, "--out", "again")
    assert code == 2 and "--resume goes on" in text, text
    code, text = steepest(*words, "--out", "again", "--resume")
    assert code in (0, 1), text


def test_generate_goes_on_to_the_same_bits(steepest, killed_after, tmp_path):
    points = np.random.default_rng(0).normal(size=(200, 2))
    np.savetxt(tmp_path / "points.csv", points, delimiter=",", header="a,b", comments="")
    (tmp_path / "spec.toml").write_text(MODEL)
    broken_and_resumed(steepest, killed_after, "generate", "spec.toml")
    for name in ("model.npz", "samples.npz"):
        one, other = (store.read_arrays(tmp_path / run / name) for run in ("whole", "again"))
        one.pop("header", None)  # it has the hour
        for key, array in one.items():
            assert array.tobytes() == other[key].tobytes(), (name, key)
    assert not list(tmp_path.glob(".*.checkpoint"))


def test_compare_goes_on_to_the_same_bits(steepest, killed_after, tmp_path):
    write_rows(tmp_path / "rows.csv", ["a", "b", "y"])
    (tmp_path / "coin.toml").write_text(SPEC)
    words = ("compare", "coin.toml", "--methods", "hmc", "--budget", 2000)
    broken_and_resumed(steepest, killed_after, *words)
    one, other = (arviz.from_netcdf(tmp_path / run / "draws.nc") for run in ("whole", "again"))
    for name, draws in one.posterior.data_vars.items():
        np.testing.assert_array_equal(draws, other.posterior[name])
    assert not list(tmp_path.glob(".*.checkpoint"))
