"""The report is one page that asks nothing of the network, and text in it stays text."""

import base64
import csv
import dataclasses
import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from steepest import figures
from steepest.cli.pages import PAGE, read_page, write_page
from steepest.errors import ArgumentError
from steepest.naming import flatten
from steepest.report import Link, Picture, Record, Sheet, ledger_csv, paint, render
from steepest.report.markup import Markup, escape, tag
from steepest.report.page import _whole_rows, number
from steepest.summary import summarise, warn

EVIL = "<script>alert(1)</script>"
QUOTE = '"><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """Every element with its attributes, the text, and whether tags are balanced."""

    VOID = frozenset({"img", "input", "meta", "source", "br"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.open, self.unbalanced = [], "", [], []
        self.feed(text)
        self.unbalanced += self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]


def record(**changes):
    """A record of an invented run."""
    time = np.linspace(0, 1, 5)
    zero = np.zeros(5)
    ledger = {
        "time": time,
        "functional": np.exp(-time),
        "functional_error": zero,
        "dissipated": 1 - np.exp(-time),
        "work": zero,
        "closure": zero,
        "closure_error": zero,
    }
    check = {"residual": 0.1, "tolerance": 0.2, "verdict": "passed", "why": "because"}
    made = Record(
        title="invented",
        passed=True,
        verdict="audit passed",
        facts=(("steps", "4"),),
        notes=("a note",),
        warnings=(),
        row={"state": "θ", "functional": "E"},
        checks=({"name": "balance", **check},),
        summary=({"parameter": "x1", "mean": 1.0, "r_hat": 1.0},),
        ledger=ledger,
        pictures=(
            Picture(
                "ledger",
                "the functional falls",
                "a caption",
                lambda theme: figures.functional_figure(ledger, theme=theme),
            ),
        ),
        spec="[run]\nsteps = 4\n",
        provenance=(("seed", "0"),),
    )
    return dataclasses.replace(made, **changes)


def page(made):
    text = render(made, paint(made))
    return text, Page(text)


def assert_offline_and_inert(text, parsed):
    """No script, no handler, and every address is data inside the page."""
    assert not parsed.unbalanced
    assert parsed.all("script") == parsed.all("iframe") == parsed.all("link") == []
    for _, attributes in parsed.elements:
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in ("src", "srcset", "href"):
                inside = r"data:(image/png|text/csv);base64,|[a-z0-9][\w/-]*/report\.html$"
                assert re.match(inside, value)
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.S))
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [m for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"].startswith("default-src 'none'")


def assert_rebuilt(place):
    """The page that the files of a run folder make is the one that the run wrote."""
    written, images = read_page(place)
    assert render(written, images) == (place / PAGE).read_text(encoding="utf-8")


def everything(**changes):
    """A record with every section of the page, odd numbers and names from outside."""
    rows = ({"method": EVIL, "gap": np.inf, "page": Link(QUOTE, "rows/a-b/report.html")},) * 2
    one = record().pictures[0]
    again = [dataclasses.replace(one, name=f"frame_{k}", caption=f"{k}") for k in range(3)]
    return record(
        title=f"page of {EVIL}",
        facts=(("steps", "4"), (EVIL, QUOTE)),
        warnings=(QUOTE,),
        row={"state": "θ", EVIL: QUOTE},
        sheets=(Sheet("Methods", rows, EVIL), Sheet("Bare", ({"a": np.nan, "b": -np.inf},))),
        summary=({"parameter": EVIL, "mean": np.nan, "r_hat": 1.0},),
        frames=tuple(again),
        said=EVIL,
        command="steepest test",
        **changes,
    )


def test_a_page_is_made_again_from_its_folder_to_the_last_byte(tmp_path):
    write_page(tmp_path, everything())
    assert_rebuilt(tmp_path)
    text = (tmp_path / PAGE).read_text()
    assert 'href="rows/a-b/report.html"' in text and "∞" in text
    (tmp_path / "dark" / "frame_1.png").write_text("<svg onload=alert(1)>")
    with pytest.raises(ArgumentError, match="no PNG"):
        read_page(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", ""])
def test_a_folder_from_elsewhere_reads_no_file_outside(tmp_path, name):
    write_page(tmp_path, record())
    mark = tmp_path / "run.json"
    mark.write_text(mark.read_text().replace('"name": "ledger"', f'"name": "{name}"'))
    with pytest.raises(ArgumentError, match="not the name of a picture"):
        read_page(tmp_path)
    for address in ("javascript:alert(1)", "http://x.org", "../up", "//x", "data:,x", "a/../../b"):
        with pytest.raises(ValueError, match="relative"):
            Link("x", address)


def test_the_page_is_offline_balanced_and_has_alternatives_for_pictures():
    text, parsed = page(record())
    assert_offline_and_inert(text, parsed)
    (image,) = parsed.all("img")
    assert image["alt"] == "the functional falls"
    assert base64.b64decode(image["src"].split(",")[1]).startswith(b"\x89PNG")
    (dark,) = parsed.all("source")
    assert "dark" in dark["media"]
    assert dark["srcset"] != image["src"]
    assert parsed.all("html") == [{"lang": "en"}]


@pytest.mark.parametrize(
    "given, found",
    [("whhh", "whhw"), ("hwhh", "wwhh"), ("hhhh", "hhhh"), ("hhh", "hhw"), ("hw", "ww"), ("", "")],
)
def test_a_picture_beside_nothing_has_the_row(given, found):
    """w: wide, h: half of a row."""
    assert _whole_rows([one == "w" for one in given]) == [one == "w" for one in found]


def test_the_verdict_comes_first():
    _, passed = page(record())
    assert passed.text.index("Audit passed") < passed.text.index("what was compared")
    check = {"name": "b", "residual": 3.0, "tolerance": 0.2, "verdict": "FAILED", "why": "so"}
    _, failed = page(record(passed=False, verdict="audit failed", checks=(check,)))
    assert "Audit failed" in failed.text
    assert "0 of 1 checks" in failed.text


def test_text_from_outside_stays_text():
    """Wherever a name may come from: it is shown, and it makes no element."""
    check = {"residual": 0.1, "tolerance": 0.2, "verdict": "passed"}
    made = record(
        title=EVIL,
        verdict=EVIL,
        facts=((EVIL, QUOTE),),
        notes=(EVIL, QUOTE),
        warnings=(EVIL,),
        row={EVIL: QUOTE},
        checks=({"name": EVIL, "why": QUOTE, **check},),
        summary=({"parameter": EVIL, "mean": 1.0}, {"parameter": QUOTE, "mean": 1.0}),
        pictures=(dataclasses.replace(record().pictures[0], alt=QUOTE, caption=EVIL),),
        spec=EVIL + QUOTE,
        provenance=((EVIL, QUOTE),),
    )
    text, parsed = page(made)
    assert_offline_and_inert(text, parsed)
    assert [name for name, _ in parsed.elements].count("img") == 1
    assert parsed.all("img")[0]["alt"] == QUOTE
    assert parsed.text.count(EVIL) >= 8
    assert EVIL not in text


def test_a_picture_draws_names_as_text():
    """Mathematical markup and line feeds in a column name are drawn, not obeyed."""
    names = ["$\\frac{1}{", "a\nb", "x" * 300]
    draws = np.random.default_rng(0).normal(size=(4, 50, 3))
    ess = np.array([10.0, 20.0, 30.0])
    flat = draws.reshape(-1, 3)
    times = np.arange(50.0)
    for figure in (
        figures.estimates_figure(names, flat),
        figures.mixing_figure(names, np.ones(3), ess),
        figures.traces_figure(names, draws, ess),
        figures.paths_figure(times, names, draws[0]),
    ):
        figure.canvas.draw()


def test_figures_of_odd_arrays_are_drawn():
    """Constant, negative and undefined columns do not stop a report."""
    still = np.zeros(2)
    ledger = dict.fromkeys(record().ledger, still) | {"time": np.array([0.0, 1.0])}
    figures.functional_figure(ledger).canvas.draw()
    figures.balance_figure(ledger).canvas.draw()
    figures.functional_figure(ledger | {"functional": np.array([-2.0, -1.0])}).canvas.draw()
    undefined = np.full(2, np.nan)
    figures.mixing_figure(["a", "b"], undefined, undefined).canvas.draw()
    figures.traces_figure(["a", "b"], np.zeros((1, 4, 2)), undefined).canvas.draw()
    figures.paths_figure(np.arange(3.0), ["a"], np.zeros((3, 1))).canvas.draw()


def test_markup_escapes_all_but_markup():
    assert escape("<&\"'>") == "&lt;&amp;&quot;&#x27;&gt;"
    assert escape(Markup("<b>")) == "<b>"
    assert tag("p", "a<b", None, [tag("b", "c"), "&"]) == "<p>a&lt;b<b>c</b>&amp;</p>"
    assert tag("img", alt='"', hidden=True, width=None) == '<img alt="&quot;" hidden>'
    with pytest.raises(ValueError, match="not a name"):
        tag("p", **{"a b": 1})
    with pytest.raises(ValueError, match="not a name"):
        tag("p><script")


def test_the_ledger_comes_back_from_its_csv_to_the_last_bit():
    ledger = record().ledger
    rows = list(csv.reader(ledger_csv(ledger).splitlines()))
    assert rows[0] == list(ledger)
    np.testing.assert_array_equal(np.array(rows[1:], float).T, list(ledger.values()))


def test_the_page_carries_the_ledger():
    _, parsed = page(record())
    (link,) = parsed.all("a")
    assert link["download"] == "ledger.csv"
    assert base64.b64decode(link["href"].split(",")[1]).decode() == ledger_csv(record().ledger)


def test_colours_can_be_read():
    """Contrast of text against its background, at least 4.5 (WCAG 2.1, AA)."""

    def luminance(colour):
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for theme in (figures.LIGHT, figures.DARK):
        for ink in (theme.ink, theme.muted, theme.first, theme.good, theme.bad):
            for ground in (theme.page, theme.card):
                high, low = sorted([luminance(ink), luminance(ground)], reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5, (theme.name, ink, ground)


def test_draws_are_named_by_their_columns():
    variables = {"intercept": np.zeros((2, 5)), "weights": np.arange(30.0).reshape(2, 5, 3)}
    dims = {"intercept": (), "weights": ("feature",)}
    names, draws = flatten(variables, dims, {"feature": ("a", "b", "c")})
    assert names == ["intercept", "a", "b", "c"]
    np.testing.assert_array_equal(draws[:, :, 1:], variables["weights"])
    names, _ = flatten({"x": np.zeros((1, 2, 2, 2))}, {}, {})
    assert names == ["x[0, 0]", "x[0, 1]", "x[1, 0]", "x[1, 1]"]


def test_the_summary_sees_chains_that_disagree():
    """White noise passes; two chains a distance 10 apart are flagged and named."""
    good = np.random.default_rng(0).normal(size=(4, 400, 1))
    bad = np.array([0.0, 0.0, 10.0, 10.0])[:, None, None] + good
    rows = summarise(["good", "bad"], np.concatenate([good, bad], axis=2))
    assert rows[0]["mean"] == pytest.approx(good.mean())
    assert rows[0]["r_hat"] < 1.01
    assert warn(rows[:1]) == []
    (said,) = warn(rows)
    assert "1 of 2 parameters (bad:" in said
    assert summarise(["short"], np.zeros((2, 7, 1))) == []


def test_a_single_chain_is_held_against_itself():
    """White noise agrees with itself; a walk that has drifted off does not."""
    noise = np.random.default_rng(0).normal(size=(1, 4001, 1))
    still, drifting = summarise(["a", "b"], np.concatenate([noise, noise.cumsum(axis=1)], axis=2))
    assert still["r_hat"] < 1.01
    assert drifting["r_hat"] > 1.05


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1,234"), (0.01234, "0.01234"), (1e-9, "1.00e-09"), (1e7, "1.00e+07")],
)
def test_numbers_in_tables(value, text):
    assert number(value) == text
    assert number(float("nan")) == "–"
    assert html.escape(number(value)) == number(value)
