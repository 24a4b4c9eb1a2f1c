"""Hostile specs, CSV files and run folders: an answer or an error in words (see fuzzing)."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import fuzzing
from steepest.cli import spec as specs


@pytest.mark.parametrize("kind, count", [("specs", 6_000), ("tables", 3_000)])
def test_mutations_are_read_or_refused_in_words(kind, count):
    told, wrong = fuzzing.fuzz(kind, 5, range(count))
    assert not wrong, "\n".join(wrong)
    assert told["answered"] > 20 and told["refused"] > 20  # both kinds are reached


VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None, database=None)
@given(some.dictionaries(some.sampled_from([*specs.SECTIONS, "x"]), VALUES, max_size=6))
def test_any_tables_at_all_are_read_or_refused_in_words(tables):
    assert fuzzing.held(lambda: fuzzing.round_trip(tables)) in ("answered", "refused")


def _npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _bomb():
    """More than 1 GiB of zeros in 1 MiB."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("origin.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(
            member, {"descr": "<f8", "fortran_order": False, "shape": (2**27 + 2**21,)}
        )
        for _ in range(65):
            member.write(bytes(2**24))
    return file.getvalue()


MARKS = {
    "nested": "[" * 100_000,
    "a list": "[]",
    "a number": "1",
    "not text": b"\xff\xfe\x00",
    "lies": json.dumps({"format": 1, "files": ["../../x", 3], "provenance": 3, "verdict": {}}),
    "a picture elsewhere": json.dumps(
        {"format": 1, "files": [], "pictures": [{"name": "../../../etc/passwd"}], "ledger": False}
    ),
    "nulls": json.dumps(dict.fromkeys(["format", "files", "provenance", "verdict"])),
}


@pytest.mark.parametrize("content", MARKS.values(), ids=list(MARKS))
def test_a_run_folder_that_is_none_is_refused_by_every_command(steepest, tmp_path, content):
    run = tmp_path / "runs" / "odd\n\x1b[31mname"
    run.mkdir(parents=True)
    data = content if isinstance(content, bytes) else content.encode()
    for name in ("run.json", "model.json", "ledger.csv", "spec.toml"):
        (run / name).write_bytes(data)
    (run / "model").mkdir()
    (run / "model" / "model.json").write_bytes(data)
    (run / "model.npz").write_bytes(data)
    (tmp_path / "new.csv").write_text("x,y\n1,2\n")
    assert steepest("ls", "runs")[0] == 0
    for words in (("report", run), ("sample", run), ("transport", run, "new.csv")):
        code, said = steepest(*words)
        assert code == 2 and "Traceback" not in said, said


@pytest.mark.parametrize("what", ["pickle", "header", "bomb", "itself"])
def test_saved_models_are_data_and_bounded(steepest, tmp_path, what):
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    words = {"format": 1, "kind": "atoms", "method": "", "why": "", "notes": [], "words": {}}
    if what == "itself":  # a chain whose leg is the chain
        words |= {"kind": "chain", "times": [0, 1]}
        (model / "leg_1").symlink_to(model)
    (model / "model.json").write_text(json.dumps(words))
    header = np.frombuffer(b"[" * 100_000, np.uint8)
    data = {
        "pickle": lambda: _npz(header=np.array([object], dtype=object), origin=np.array([print])),
        "header": lambda: _npz(header=header),
        "bomb": _bomb,
        "itself": lambda: _npz(origin=np.zeros(2)),
    }[what]()
    for place in (model / "model.npz", tmp_path / "run" / "model.npz"):
        place.write_bytes(data)
    (tmp_path / "new.csv").write_text("x,y\n1,2\n")
    for words in (("transport", "run", "new.csv"), ("sample", "run")):
        code, said = steepest(*words)
        assert code == 2 and "Traceback" not in said, said
