"""The report: one HTML file that opens offline, light and dark, with the verdict first."""

from __future__ import annotations

import base64
import csv
import io
import math
from typing import Any

from ..figures.theme import DARK, LIGHT, Theme
from ..summary import LABELS
from .markup import Markup, tag
from .record import Link, Picture, Record, Sheet
from .style import CSS, MOST_FRAMES

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MOST_EMBEDDED = 4 * 2**20
COLOURED = {
    "held": "good",
    "passed": "good",
    "error": "bad",
    "not judged": "open",
    "certified": "good",
    "FAILED": "bad",
    "not certified": "bad",
    "not decided": "open",
}
GLYPHS = {"passed": "✓", "FAILED": "✗", "not judged": "–"}


def paint(record: Record) -> dict[str, tuple[bytes, bytes]]:
    """Every picture as PNG, light and dark."""
    return {p.name: (png(p, LIGHT), png(p, DARK)) for p in (*record.pictures, *record.frames)}


def render(record: Record, images: dict[str, tuple[bytes, bytes]]) -> str:
    """The page of one run; `images` is what `paint` gives."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", f"{record.title} · steepest"),
        tag("style", Markup(CSS)),
    )
    main = tag(
        "main",
        _verdict(record),
        _warnings(record),
        _frames(record, images),
        _pictures(record, images),
        *[_sheet(sheet) for sheet in record.sheets],
        _section("Audit", "audit", _audit(record)) if record.checks else None,
        _section("Structure card", "card", _card(record)) if record.row else None,
        _section("Parameters", "parameters", _summary(record)) if record.summary else None,
        _section("Ledger", "ledger", _ledger(record)) if record.ledger else None,
        _section("Provenance", "provenance", _provenance(record)),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", main), lang="en") + "\n"


def _verdict(record: Record) -> Markup:
    state = "good" if record.passed else "bad"
    judged = [c for c in record.checks if c["verdict"] != "not judged"]
    held = sum(c["verdict"] == "passed" for c in judged)
    facts = [
        tag("div", tag("dt", label), tag("dd", value), class_="fact")
        for label, value in record.facts
    ]
    return tag(
        "header",
        tag("p", record.command, class_="eyebrow"),
        tag("h1", record.title),
        tag(
            "p",
            tag("strong", record.verdict.capitalize(), class_=f"verdict {state}"),
            " " + (record.said or f"{held} of {len(judged)} checks that this run can decide hold."),
        ),
        tag("dl", *facts, class_="facts"),
        tag("ul", *[tag("li", note) for note in record.notes], class_="notes")
        if record.notes
        else None,
    )


def _warnings(record: Record) -> Markup | None:
    if not record.warnings:
        return None
    return tag(
        "aside", *[tag("p", text) for text in record.warnings], class_="warning", role="note"
    )


def _pictures(record: Record, images: dict[str, tuple[bytes, bytes]]) -> Markup:
    figures, whole = [], _whole_rows([picture.wide for picture in record.pictures])
    for picture, wide in zip(record.pictures, whole, strict=True):
        shown = _shown(picture, images)
        caption = tag("figcaption", picture.caption)
        figures.append(tag("figure", shown, caption, class_="wide" if wide else None))
    return tag("div", *figures, class_="figures")


def _whole_rows(wide: list[bool]) -> list[bool]:
    """Which pictures have a row: those that are wide, and one that is left over beside nothing."""
    found, left = list(wide), False
    for i, one in enumerate([*wide, True]):
        if one and left:
            found[i - 1] = True
        left = not one and not left
    return found


def _shown(picture: Picture, images: dict[str, tuple[bytes, bytes]]) -> Markup:
    light, dark = (
        "data:image/png;base64," + base64.b64encode(data).decode() for data in images[picture.name]
    )
    night = tag("source", srcset=dark, media="(prefers-color-scheme: dark)")
    return tag("picture", night, tag("img", src=light, alt=picture.alt))


def _frames(record: Record, images: dict[str, tuple[bytes, bytes]]) -> Markup | None:
    """The state at successive times: radio buttons choose (arrow keys too), without any script."""
    if not record.frames:
        return None
    buttons, shown = [], []
    for k, picture in enumerate(record.frames[:MOST_FRAMES]):
        buttons.append(tag("input", type="radio", name_="frame", id=f"frame-{k}", checked=k == 0))
        shown.append(tag("div", _shown(picture, images), class_="frame"))
    labels = [
        tag("label", picture.caption, for_=f"frame-{k}")
        for k, picture in enumerate(record.frames[:MOST_FRAMES])
    ]
    strip = tag("div", tag("span", "time", class_="small"), *labels, class_="strip")
    return tag(
        "section",
        tag("h2", "The state, moving"),
        tag("div", *buttons, tag("div", *shown, class_="film"), strip, class_="player"),
        id="law",
    )


def png(picture: Picture, theme: Theme = LIGHT, dpi: int = 150) -> bytes:
    """The picture as a PNG file."""
    if picture.draw is None:
        raise ValueError(f"{picture.name} was drawn before; read its file")
    buffer = io.BytesIO()
    picture.draw(theme).savefig(
        buffer, format="png", dpi=dpi, facecolor=theme.card, metadata={"Software": "steepest"}
    )
    return buffer.getvalue()


def _section(title: str, name: str, *children: Any) -> Markup:
    return tag("section", tag("h2", title), *children, id=name)


def _audit(record: Record) -> Markup:
    rows = []
    for check in record.checks:
        verdict = check["verdict"]
        state = {"passed": "good", "FAILED": "bad"}.get(verdict, "open")
        rows.append(
            tag(
                "tr",
                tag("th", check["name"], scope="row"),
                tag("td", f"{GLYPHS[verdict]} {verdict}", class_=state),
                tag("td", number(check["residual"]), class_="number"),
                tag("td", number(check["tolerance"]), class_="number"),
                tag("td", check["why"], class_="why"),
            )
        )
    columns = (("check", ""), ("verdict", ""), ("residual", "number"), ("tolerance", "number"))
    return _table([*columns, ("what was compared", "")], rows)


def _sheet(sheet: Sheet) -> Markup:
    keys = list(sheet.rows[0])
    numeric = {k for k in keys if all(isinstance(row[k], (int, float)) for row in sheet.rows)}
    rows = []
    for row in sheet.rows:
        first, *rest = keys
        cells = [
            tag(
                "td",
                _cell(row[k]),
                class_="number" if k in numeric else COLOURED.get(str(row[k])),
            )
            for k in rest
        ]
        rows.append(tag("tr", tag("th", _named(row[first]), scope="row"), *cells))
    table = _table([(k, "number" if k in numeric else "") for k in keys], rows)
    caption = tag("p", sheet.caption, class_="small") if sheet.caption else None
    return _section(sheet.title, sheet.title.lower().replace(" ", "-"), table, caption)


def _cell(value: Any) -> Any:
    return number(float(value)) if isinstance(value, (int, float)) else _named(value)


def _named(value: Any) -> Any:
    if isinstance(value, Link):
        return tag("a", value.text, href=value.address)
    return None if value is None else str(value)


def _card(record: Record) -> Markup:
    rows = [
        tag("tr", tag("th", label, scope="row"), tag("td", value))
        for label, value in record.row.items()
    ]
    return tag("div", tag("table", tag("tbody", *rows)), class_="scroll")


def _summary(record: Record) -> Markup:
    keys = [key for key in record.summary[0] if key != "parameter"]
    rows = [
        tag(
            "tr",
            tag("th", row["parameter"], scope="row"),
            *[tag("td", number(row[key]), class_="number") for key in keys],
        )
        for row in record.summary
    ]
    table = _table([("parameter", ""), *[(LABELS.get(k, k), "number") for k in keys]], rows)
    count = f"{len(rows)} parameters"
    return tag("details", tag("summary", count), table, open=len(rows) <= 12)


def _ledger(record: Record) -> list[Markup | None]:
    text = ledger_csv(record.ledger)
    link = None
    if len(text) <= MOST_EMBEDDED:
        address = "data:text/csv;base64," + base64.b64encode(text.encode()).decode()
        link = tag("p", tag("a", "Download ledger.csv", href=address, download="ledger.csv"))
    total = len(next(iter(record.ledger.values())))
    picked = sorted({round(i * (total - 1) / min(7, max(total - 1, 1))) for i in range(8)})
    rows = [
        tag(
            "tr",
            *[tag("td", number(float(c[i])), class_="number") for c in record.ledger.values()],
        )
        for i in picked
        if i < total
    ]
    names = [(name.replace("_", " "), "number") for name in record.ledger]
    return [_table(names, rows), tag("p", f"{total} rows in the file.", class_="small"), link]


def _provenance(record: Record) -> list[Markup]:
    rows = [
        tag("tr", tag("th", label, scope="row"), tag("td", tag("code", value)))
        for label, value in record.provenance
    ]
    return [
        tag("div", tag("table", tag("tbody", *rows)), class_="scroll"),
        tag("details", tag("summary", "The resolved spec"), tag("pre", tag("code", record.spec))),
    ]


def _table(columns: list[tuple[str, str]], rows: list[Markup]) -> Markup:
    head = [tag("th", name, scope="col", class_=kind or None) for name, kind in columns]
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return tag("div", table, class_="scroll", tabindex="0")


def number(value: float) -> str:
    """Four figures at most; a dash for what is not a number."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def ledger_csv(ledger: dict[str, Any]) -> str:
    """The ledger as CSV text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(ledger)
    for row in zip(*ledger.values(), strict=True):
        writer.writerow([repr(float(value)) for value in row])
    return buffer.getvalue()
