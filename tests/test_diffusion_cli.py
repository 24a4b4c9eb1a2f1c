"""`steepest generate` and `steepest sample`, from the outside: folders, exit codes, messages."""

import csv
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from steepest.cli.app import app
from test_report import EVIL, Page, assert_offline_and_inert, assert_rebuilt

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = """
[data]
kind = "csv"
data = "points.csv"
label = "kind"
drop = ["name"]

[process]
end = 20.0

[network]
width = 32
depth = 2

[train]
steps = 400
batch_size = 128
learning_rate = 0.005

[sample]
count = 400
steps = 12
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("generate")
    generator = np.random.default_rng(0)
    kind = np.arange(400) % 2
    x = np.where(kind, 1.5, -1.5)[:, None] + 0.5 * generator.normal(size=(400, 2))
    rows = [f"{a:.5f},{b:.5f},{'up' if k else 'down'},n" for (a, b), k in zip(x, kind, strict=True)]
    (place / "points.csv").write_text("\n".join(["a,b,kind,name", *rows]) + "\n")
    return place


@pytest.fixture
def steepest(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")

    def steepest(command, *words, spec=None):
        if spec is not None:
            (folder / "spec.toml").write_text(spec)
            words = ("spec.toml", *words)
        result = CliRunner().invoke(app, [command, *map(str, words)])
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        return result.exit_code, result.output

    return steepest


def test_a_model_of_a_table_is_trained_reported_and_sampled_again(steepest, folder):
    code, text = steepest("generate", "--out", "run", spec=SMALL)
    assert code == 0, text
    run = folder / "run"
    mark = json.loads((run / "run.json").read_text())
    assert set(mark["files"]) == {entry.name for entry in run.iterdir()}
    assert {"model.npz", "samples.npz", "ledger.csv", "training.csv", "report.html"} <= set(
        mark["files"]
    )
    assert_rebuilt(run)
    page = (run / "report.html").read_text()
    seen = Page(page)
    assert_offline_and_inert(page, seen)
    assert "two samples" in seen.text and "Where the model" not in seen.text
    named = {check["name"]: check for check in mark["checks"]}
    assert named["two samples"]["residual"] <= 0.6 and named["classes"]["verdict"] == "passed"
    with np.load(run / "samples.npz", allow_pickle=False) as file:
        first = file["samples"]
        assert first.shape == (400, 2) and set(file["labels"]) == {0, 1}
    with open(run / "training.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and float(rows[-1]["step"]) == 400
    assert not list(folder.glob(".run.checkpoint*"))  # the finished training left none behind
    # The resolved spec repeats the run to the bit, from inside the folder.
    spec = tomllib.loads((run / "spec.toml").read_text())
    assert spec["network"]["width"] == 32 and spec["data"]["data"] == "../points.csv"
    # More samples, of one class, without the data.
    code, text = steepest("sample", "run", "--n", 150, "--label", "up", "--out", "up.csv")
    assert code == 0, text
    drawn = np.loadtxt(folder / "up.csv", delimiter=",", skiprows=1)
    assert drawn.shape == (150, 2) and np.mean(drawn.mean(1) > 0) > 0.98
    for seed in (1, 1, 2):
        assert steepest("sample", "run", "--n", 10, "--seed", seed, "--out", f"{seed}.npz")[0] == 0
    assert not np.array_equal(
        np.load(folder / "1.npz")["samples"], np.load(folder / "2.npz")["samples"]
    )


def test_mistakes_are_told_in_words(steepest, folder):
    def refused(spec, *words):
        before = sorted(entry.name for entry in folder.iterdir() if entry.name != "spec.toml")
        code, text = steepest("generate", "--out", "never", *words, spec=spec)
        after = sorted(entry.name for entry in folder.iterdir() if entry.name != "spec.toml")
        assert code == 2 and before == after, text
        return text

    assert "did you mean" in refused(SMALL.replace('"csv"', '"cvs"'))
    assert "unknown section" in refused(SMALL + "\n[trian]\nsteps = 3\n")
    assert "train.steps" in refused(SMALL, "--set", "train.steps=0")
    assert "checkpoint_every" in refused(SMALL, "--set", "train.checkpoint_every=77")
    assert "beta_min" in refused(SMALL + "", "--set", "process.kind='variance-preserving'",
                                 "--set", "process.beta_min=-1.0")  # fmt: skip
    assert "constant" in refused(SMALL.replace("points.csv", "flat.csv")) if _flat(folder) else None
    assert "not a finite number" in refused(SMALL.replace('drop = ["name"]', ""))
    assert "lacks" in refused(SMALL.replace('"kind"\ndrop', '"knid"\ndrop'))
    assert "shape" in refused(SMALL.replace("drop =", "shape = [3, 3]\ndrop ="))
    (folder / "ints.npz").write_bytes(b"")
    np.savez(folder / "ints.npz", images=np.ones((60, 4, 4), np.uint8))
    images = SMALL.split("[process]")[1]
    text = refused('[data]\nkind = "npz"\ndata = "ints.npz"\n[process]' + images)
    assert "quantum" in text
    (folder / "bad.npz").write_bytes(EVIL.encode())
    assert "npz" in refused('[data]\nkind = "npz"\ndata = "bad.npz"\n[process]' + images)
    for words, part in [
        (("nowhere",), "RUN"),
        (("run", "--n", "0"), "--n"),
        (("run", "--label", "left"), "--label"),
        (("run", "--out", "x.exe"), "--out"),
    ]:
        code, text = steepest("sample", *words)
        assert code == 2 and (part in text or "RUN" in text), text


def _painted(place, n=60, shape=(4, 4)):
    from matplotlib import image

    pixels = np.random.default_rng(0).integers(0, 256, (n, *shape, 3)).astype(np.uint8)
    pixels[..., 1:] = pixels[..., :1] if place.name == "grey" else pixels[..., 1:]
    place.mkdir(parents=True)
    for i, one in enumerate(pixels):
        image.imsave(place / f"{i:03}.png", one)
    return pixels


def test_a_folder_of_images_is_data(steepest, folder):
    from matplotlib import image

    from steepest.cli import generation_data
    from steepest.cli.ingredients.generation import ImageFolder
    from steepest.errors import ArgumentError

    colours = _painted(folder / "pictures" / "colours")
    grey = _painted(folder / "grey")
    read = lambda **words: generation_data.LOADERS["images"](  # noqa: E731
        ImageFolder(kind="images", **words), folder
    )
    x, labels, classes = read(folder="pictures", classes=True)
    np.testing.assert_array_equal(x, colours)  # what was painted, to the bit
    assert classes == ("colours",) and not labels.any()
    x, labels, classes = read(folder="grey")
    np.testing.assert_array_equal(x, grey[..., 0])
    assert labels is None and classes == ()
    spec = '[data]\nkind = "images"\nfolder = "grey"\n[process]' + SMALL.split("[process]")[1]
    words = ("--set", "train.steps=50", "--set", "train.held_out=0.4", "--set", "sample.count=100")
    code, text = steepest("generate", "--out", "images", *words, spec=spec)
    mark = json.loads((folder / "images" / "run.json").read_text())
    assert code in (0, 1) and "sha256 of grey" in mark["provenance"], text
    assert np.load(folder / "images" / "samples.npz")["samples"].shape == (100, 4, 4)
    deep = (np.arange(16).reshape(4, 4) * 4000 + 7).astype(np.uint16)
    from PIL import Image

    for spoil, word in [
        (lambda p: image.imsave(p, np.zeros((5, 4, 3), np.uint8)), "one size; 000.png is (4, 4)"),
        (lambda p: p.write_bytes(b"no image"), "not a PNG"),
        (lambda p: image.imsave(p, np.zeros((4, 4, 4), np.uint8)), "transparent"),
        (lambda p: Image.fromarray(deep).save(p), "8 bits"),
    ]:
        spoil(folder / "grey" / "bad.png")
        with pytest.raises(ArgumentError, match=re.escape(word)):
            read(folder="grey")
    (folder / "empty").mkdir()
    for words in ({"folder": "nowhere"}, {"folder": "grey", "classes": True}, {"folder": "empty"}):
        with pytest.raises(ArgumentError):
            read(**words)


def _flat(folder):
    rows = [f"{k},2.0,{'ab'[k % 2]},n" for k in range(100)]
    (folder / "flat.csv").write_text("\n".join(["a,b,kind,name", *rows]) + "\n")
    return True


@pytest.mark.parametrize("name", ["two_moons", "checkerboard", "digits"])
def test_the_examples_are_specs(name):
    from steepest.cli.generate import parse
    from steepest.cli.spec import read_tables

    parts = parse(read_tables(EXAMPLES / f"{name}.toml"), name)
    assert parts["train"].steps >= 1000
