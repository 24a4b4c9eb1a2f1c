"""Reading CSV files: what is made of a good one, and how a bad one is refused."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steepest.problems import TableError, csv_text, read_table
from steepest.problems import table as module

GOOD = "height,weight,colour,label\n1.0,10,red,yes\n2.0,30,blue,no\n4.0,20,red,yes\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="table.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


def test_numeric_columns_have_mean_zero_and_deviation_one(write):
    table = read_table(write(GOOD), "label", drop=["colour"])
    assert table.names == ("height", "weight")
    # n = 3 values of order one: round-off is a few eps.
    np.testing.assert_allclose(table.features.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(table.features.std(axis=0), 1, rtol=1e-14)
    raw = np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(table.features[:, 0], (raw - raw.mean()) / raw.std(), rtol=1e-13)


def test_text_labels_are_mapped_in_sorted_order_and_said_so(write):
    table = read_table(write(GOOD), "label", drop=["colour"])
    assert table.classes == ("no", "yes")
    assert table.target.tolist() == [1, 0, 1]
    assert any("no = 0, yes = 1" in note for note in table.notes)


def test_number_labels_are_sorted_as_numbers(write):
    table = read_table(write("x,y\n1,10\n2,9\n3,10\n"), "y")
    assert table.classes == ("9", "10")


def test_categories_become_indicators_against_the_first_level(write):
    table = read_table(write(GOOD), "label", categorical=["colour"])
    assert table.names == ("height", "weight", "colour=red")
    assert table.features[:, 2].tolist() == [1, 0, 1]


def test_a_numeric_target_is_standardised_and_said_so(write):
    table = read_table(write(GOOD), "weight", target_kind="number", drop=["colour", "label"])
    assert abs(table.target.mean()) < 1e-15
    assert any("mean 20" in note for note in table.notes)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("height", '"height"').replace("1.0", '" 1.0 "'),
        "\n" + GOOD + "\n\n",
        GOOD.rstrip("\n"),
    ],
    ids=["byte order mark", "CRLF", "quotes and spaces", "blank lines", "no last newline"],
)
def test_harmless_variants_read_the_same(write, text):
    plain = read_table(write(GOOD, "plain.csv"), "label", drop=["colour"])
    other = read_table(write(text, "other.csv"), "label", drop=["colour"])
    assert other.names == plain.names
    np.testing.assert_array_equal(other.features, plain.features)


def test_semicolons_on_request(write):
    table = read_table(write(GOOD.replace(",", ";")), "label", drop=["colour"], delimiter=";")
    assert table.names == ("height", "weight")


def test_huge_and_tiny_numbers_are_standardised_without_overflow(write):
    table = read_table(write("big,small,y\n1e300,1e-300,0\n2e300,3e-300,1\n"), "y")
    np.testing.assert_allclose(table.features, [[-1, -1], [1, 1]], rtol=1e-12)


GAPS = "a,b,y\n1,2,0\n,3,1\n3,NA,0\n4,5,1\n"


def test_rows_with_gaps_can_be_dropped(write):
    table = read_table(write(GAPS), "y", missing="drop-rows")
    assert table.features.shape == (2, 2)
    assert "2 of 4 rows dropped for missing values" in table.notes


def test_gaps_can_be_filled_by_the_mean(write):
    table = read_table(write(GAPS), "y", missing="mean")
    assert table.features.shape == (4, 2)
    assert table.features[1, 0] == pytest.approx(0, abs=1e-15)  # the mean, standardised


def test_a_gap_in_a_dropped_column_does_not_matter(write):
    assert read_table(write("a,b,y\n1,,0\n2,,1\n"), "y", drop=["b"]).names == ("a",)


BAD = {
    "empty file": ("", {}, "the file is empty"),
    "only blank lines": ("\n\n", {}, "the file is empty"),
    "header alone": ("a,y\n", {}, "header without rows"),
    "no header": ("1,2\n3,4\n", {}, "the first line holds numbers"),
    "text": ("a,y\n1,0\nabc,1\n", {}, "line 3, column 'a': 'abc' is not a number; drop ="),
    "thousands": ('a,y\n1,0\n"1,234",1\n', {}, "'1,234' is not a number"),
    "infinite": ("a,y\n1,0\ninf,1\n", {}, "'inf' is not a finite number"),
    "overflow": ("a,y\n1,0\n1e999,1\n", {}, "'1e999' is not a finite number"),
    "underscore": ("a,y\n1,0\n1_0,1\n", {}, "'1_0' is not"),
    "other digits": ("a,y\n1,0\n٣,1\n", {}, "is not"),
    "missing": ("a,y\n1,0\n,1\n", {}, "line 3, column 'a': the value is missing (1 of 2 rows"),
    "missing target": ("a,y\n1,0\n2,\n", {"missing": "mean"}, "the target is missing"),
    "missing category": (
        "a,c,y\n1,u,0\n2,,1\n",
        {"missing": "mean", "categorical": ["c"]},
        "a category is missing",
    ),
    "nothing left": ("a,y\n,0\n,1\n", {"missing": "drop-rows"}, "every row has a missing value"),
    "all missing": ("a,b,y\n,1,0\n,2,1\n", {"missing": "mean"}, "every value is missing"),
    "ragged, short": ("a,b,y\n1,2,0\n1,2\n", {}, "line 3: 2 fields, the header has 3"),
    "ragged, long": ("a,y\n1,2,0\n", {}, "line 2: 3 fields, the header has 2"),
    "duplicate names": ("a,a,y\n1,2,0\n", {}, "columns 1, 2 share the name 'a'"),
    "unnamed column": (",a,y\n0,1,0\n1,2,1\n", {}, 'column 1 has no name; name it, or drop = [""]'),
    "control characters": ("a\x1b[31m,y\n1,0\n2,1\n", {}, "control characters"),
    "target missing": ("a,b\n1,2\n", {}, "target names the column 'y', which the file lacks"),
    "target misspelt": ("a,yy\n1,2\n", {}, "did you mean 'yy'?"),
    "unknown drop": ("a,y\n1,0\n", {"drop": ["id"]}, "drop names the column 'id'"),
    "unknown category": ("a,y\n1,0\n", {"categorical": ["c"]}, "categorical names the column 'c'"),
    "target dropped": ("a,y\n1,0\n", {"drop": ["y"]}, "dropped and used at once"),
    "target categorical": ("a,y\n1,0\n", {"categorical": ["y"]}, "cannot be categorical"),
    "constant": ("a,b,y\n7,1,0\n7,2,1\n", {}, "column 'a': constant at 7"),
    "constant up to round-off": ("a,b,y\n1e9,1,0\n1e9,2,1\n", {}, "constant"),
    "three labels": ("a,y\n1,u\n2,v\n3,w\n", {}, "3 different values ('u', 'v', 'w')"),
    "one label": ("a,y\n1,u\n2,u\n", {}, "every row is 'u'"),
    "one level": (
        "a,c,y\n1,u,0\n2,u,1\n",
        {"categorical": ["c"]},
        "column 'c': one level only",
    ),
    "text target": ("a,y\n1,u\n2,v\n", {"target_kind": "number"}, "this target must be numeric"),
    "target alone": ("y\n0\n1\n", {}, "no feature column is left"),
    "semicolons": ("a;y\n1;0\n", {}, "looks separated by ';'"),
    "not UTF-8": (b"a,y\n\xff\xfe,1\n", {}, "is not UTF-8 text"),
    "stray quote": ('a,y\n"1"x,0\n', {}, "not CSV"),
    "policy": ("a,y\n1,0\n", {"missing": "guess"}, "one of refuse, drop-rows, mean"),
    "identifier": (
        "c,y\n" + "".join(f"id{i},{i % 2}\n" for i in range(module.MAX_LEVELS + 1)),
        {"categorical": ["c"]},
        "is it an identifier?",
    ),
    "continuous classes": (
        "a,y\n" + "".join(f"{i},{i}.5\n" for i in range(module.MAX_CLASSES + 1)),
        {"target_kind": "class"},
        "for numbers use linear regression",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_the_place_and_the_remedy(write, name):
    text, options, message = BAD[name]
    with pytest.raises(TableError) as caught:
        read_table(write(text), "y", **options)
    assert message in str(caught.value)
    assert "\x1b" not in str(caught.value)  # nothing of the file reaches a terminal raw


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TableError, match="does not exist"):
        read_table(tmp_path / "none.csv", "y")
    with pytest.raises(TableError, match="no regular file"):
        read_table(tmp_path, "y")


def test_bounds(write, monkeypatch):
    with pytest.raises(TableError, match="the bound is"):
        read_table(write(GOOD), "label", max_bytes=10)
    with pytest.raises(TableError, match="quotation mark left open"):
        read_table(write('a,y\n"' + "x" * (csv_text.MAX_FIELD + 1) + '",1\n'), "y")
    with pytest.raises(TableError, match="columns"):
        wide = ",".join(f"c{i}" for i in range(csv_text.MAX_COLUMNS + 1))
        read_table(write(wide + "\n"), "c1")
    monkeypatch.setattr(csv_text, "MAX_CELLS", 5)
    with pytest.raises(TableError, match="more than 5 cells"):
        read_table(write(GOOD), "label")


cells = st.text(alphabet=st.characters(codec="utf-8"), max_size=6) | st.floats().map(repr)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=6),
    missing=st.sampled_from(["refuse", "drop-rows", "mean"]),
)
def test_any_table_is_read_or_refused(tmp_path_factory, rows, missing):
    """Whatever the cells hold: finite standardised numbers, or a TableError."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["a", "b", "y"], *rows])
    path = tmp_path_factory.mktemp("fuzz") / "t.csv"
    path.write_text(buffer.getvalue(), encoding="utf-8")
    try:
        table = read_table(path, "y", missing=missing)
    except TableError:
        return
    assert np.isfinite(table.features).all()
    np.testing.assert_allclose(table.features.std(axis=0), 1, rtol=1e-6)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "t.csv"
    path.write_bytes(data)
    with pytest.raises(TableError):
        read_table(path, "no such column in random bytes")
