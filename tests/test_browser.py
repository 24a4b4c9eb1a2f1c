"""The report in a browser: quiet, alone, readable, reachable by keyboard, on a screen or a phone.

Chromium is started once. Without one these tests are skipped, and say so.
"""

import csv

import numpy as np
import pytest
from typer.testing import CliRunner

import browser as chromium
from steepest.cli.app import app
from steepest.cli.pages import write_page
from test_report import EVIL, QUOTE, everything

FILE = "<img src=x onerror=alert(1)>.csv"
TAB, RIGHT = ("Tab", 9), ("ArrowRight", 39)


@pytest.fixture(scope="module")
def browser():
    program = chromium.find()
    if program is None:
        pytest.skip(f"no Chromium: none of {', '.join(chromium.NAMES)} is installed")
    made = chromium.Browser(program)
    yield made
    made.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Addresses: a page with every section, and that of a run on a table with hostile names."""
    place = tmp_path_factory.mktemp("pages")
    (place / "all").mkdir()
    write_page(place / "all", everything())
    with open(place / FILE, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([EVIL, QUOTE, "y"])
        writer.writerows(np.random.default_rng(0).normal(size=(12, 3)))
    (place / "evil.toml").write_text(
        f"[functional]\nkind = 'linear-regression'\ndata = '{FILE}'\ntarget = 'y'\n"
        "[geometry]\nkind = 'euclidean'\n[scheme]\nkind = 'euler'\nstep = 0.1\n"
        "[run]\nsteps = 20\n"
    )
    done = CliRunner().invoke(app, ["run", str(place / "evil.toml"), "--out", str(place / "run")])
    assert done.exit_code == 0, done.output
    return {name: (place / name / "report.html").as_uri() for name in ("all", "run")}


@pytest.fixture(params=["all", "run"])
def page(request, browser, pages):
    """The browser with the page open, light and wide."""
    browser.show()
    browser.open(pages[request.param])
    return browser


def noise(browser):
    """Errors, warnings and anything that a script said."""
    return browser.of(
        "Log.entryAdded",
        "Runtime.consoleAPICalled",
        "Runtime.exceptionThrown",
        "Page.javascriptDialogOpening",
    )


def requests(browser):
    """Addresses asked for that are neither the page itself nor inside it."""
    asked = [one["request"]["url"] for one in browser.of("Network.requestWillBeSent")]
    return [url for url in asked if not url.startswith("data:")][1:]


CONTRAST = """(() => {
  const parts = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = parts(c).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => { while (e) { const c = getComputedStyle(e).backgroundColor, p = parts(c);
    if (p.length < 4 || p[3] > 0) return c; e = e.parentElement; } return 'rgb(255, 255, 255)'; };
  const poor = [];
  for (const e of document.body.querySelectorAll('*')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), back = ground(e);
    const [a, b] = [light(style.color), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push([e.tagName, e.className, style.color, back, ratio.toFixed(2)]);
  }
  return poor;
})()"""

NARROW = """(() => {
  const wide = [], far = innerWidth + 0.5;
  for (const e of document.body.querySelectorAll('*')) {
    if (e.closest('.scroll, pre') || e.closest('.player > input')) continue;
    if (e.getClientRects().length && e.getBoundingClientRect().right > far)
      wide.push([e.tagName, e.className, e.getBoundingClientRect().right]);
  }
  const small = [...document.querySelectorAll('p, td, th, dd, dt, li, label, figcaption, code')]
    .filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).length;
  return {width: document.documentElement.scrollWidth, wide, small};
})()"""

REACHABLE = "a[href], summary, input:checked, [tabindex='0'], button, select, textarea"


def unreached(browser):
    """What a mouse can use and Tab does not come to, or comes to without showing it."""
    browser.evaluate(f"window.left = new Set(document.querySelectorAll({REACHABLE!r}))")
    count = browser.evaluate("left.size")
    hidden = []
    for _ in range(count + 2):
        browser.press(*TAB)
        seen = browser.evaluate("""(() => { const e = document.activeElement; left.delete(e);
            const mark = e.matches('.player > input')
              ? document.querySelector(`[for=${e.id}]`) : e;
            return [e.tagName, getComputedStyle(mark).outlineStyle]; })()""")
        hidden += [] if seen[0] == "BODY" or seen[1] != "none" else [seen]
    return browser.evaluate("[...left].map(e => e.outerHTML)"), hidden


def test_a_page_is_quiet_and_asks_nothing_of_the_network(page):
    assert noise(page) == []
    assert requests(page) == []
    assert page.evaluate("document.title").endswith("· steepest")


def test_hostile_names_are_text(page):
    assert page.evaluate("document.querySelectorAll('script, [onerror], [onload]').length") == 0
    text = page.evaluate("document.body.textContent")
    assert FILE in text if "linear-regression" in text else EVIL in text and QUOTE in text


def test_pictures_are_drawn_and_have_words(page):
    told = page.evaluate("[...document.images].map(i => [i.alt, i.naturalWidth, i.currentSrc])")
    assert told and all(len(alt) > 10 and width > 100 for alt, width, _ in told)
    page.show(scheme="dark")
    page.open(page.evaluate("location.href"))
    dark = page.evaluate("[...document.images].map(i => i.currentSrc)")
    assert not set(dark) & {source for _, _, source in told}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(page, scheme):
    page.show(scheme=scheme)
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    assert page.evaluate(CONTRAST) == []


def test_a_phone_shows_all_without_scrolling_sideways(page):
    page.show(width=360, height=740)
    found = page.evaluate(NARROW)
    assert found["width"] <= 360 and found["wide"] == [] and found["small"] == 0


def test_the_keyboard_comes_everywhere(page):
    assert unreached(page) == ([], [])


def test_the_state_moves_by_arrow_keys_and_by_a_click(browser, pages):
    browser.show()
    browser.open(pages["all"])
    shown = """[...document.querySelectorAll('.film .frame')]
        .map(e => getComputedStyle(e).display !== 'none').indexOf(true)"""
    assert browser.evaluate(shown) == 0
    browser.evaluate("document.getElementById('frame-0').focus()")
    browser.press(*RIGHT)
    assert browser.evaluate(shown) == 1
    browser.evaluate("document.querySelector('[for=frame-2]').click()")
    assert browser.evaluate(shown) == 2
    assert browser.evaluate("document.querySelectorAll('.film .frame').length") == 3


def test_each_check_fails_on_a_page_that_is_wrong(browser, tmp_path):
    """A script error, a request, grey on white, a wide box, a focus that does not show."""
    wrong = tmp_path / "wrong.html"
    wrong.write_text(
        "<!doctype html><title>x</title><img src='other.png'><script>throw Error('x')</script>"
        "<p style='color:#999;background:#fff'>pale</p><p style='font-size:8px'>tiny</p>"
        "<div style='width:900px'>wide</div><a href='#' style='outline:none'>here</a>"
        "<a href='#a' tabindex='-1'>never</a>"
    )
    browser.show()
    browser.open(wrong.as_uri())
    assert any("exceptionDetails" in said for said in noise(browser))
    assert any(url.endswith("other.png") for url in requests(browser))
    assert [poor[0] for poor in browser.evaluate(CONTRAST)] == ["P"]
    left, hidden = unreached(browser)
    assert len(left) == 1 and "never" in left[0] and hidden[0] == ["A", "none"]
    browser.show(width=360)
    found = browser.evaluate(NARROW)
    assert found["width"] > 360 and found["wide"][0][0] == "DIV" and found["small"] == 1
