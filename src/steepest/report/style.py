"""The style of the page, from the colours of the themes."""

from __future__ import annotations

import dataclasses

from ..figures.theme import DARK, LIGHT, Theme

MOST_FRAMES = 16


def _variables(theme: Theme) -> str:
    pairs = dataclasses.asdict(theme).items()
    return " ".join(f"--{key}: {value};" for key, value in pairs if key != "name")


CSS = (
    f":root {{ {_variables(LIGHT)} }}\n"
    f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n"
    """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
.eyebrow { margin: 0; color: var(--muted); font-size: .85rem; letter-spacing: .04em; }
h1 { margin: .1rem 0 .6rem; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 .9rem; font-size: 1.15rem; }
section { margin-top: 1.25rem; }
.figures { display: grid; gap: 1.25rem; margin-top: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
figure { margin: 0; }
.wide { grid-column: 1 / -1; }
section, figure { padding: 1.25rem 1.4rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { margin-top: .7rem; color: var(--muted); font-size: .9rem; text-align: left; }
.verdict { display: inline-block; padding: .1rem .7rem; margin-right: .3rem;
  border: 1.5px solid currentColor; border-radius: 999px; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
.open { color: var(--muted); }
.facts { display: flex; flex-wrap: wrap; gap: .6rem 2.4rem; margin: 1.3rem 0 0; }
.fact { min-width: 5rem; }
.fact dt { color: var(--muted); font-size: .82rem; }
.fact dd { margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.notes { margin: 1.1rem 0 0; padding-left: 1.1rem; color: var(--muted); font-size: .92rem; }
.warning { margin: 1.5rem 0 0; padding: .2rem 1.2rem; border-left: 4px solid var(--second);
  background: var(--card); border-radius: 4px; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; }
th, td { padding: .38rem .9rem .38rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--muted); font-weight: 500; white-space: nowrap; }
tbody th { font-weight: 600; }
td.good, td.bad, td.open { white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.why { min-width: 18rem; color: var(--muted); }
.small { color: var(--muted); font-size: .88rem; }
code, pre { font: .86rem/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
td code { overflow-wrap: anywhere; }
pre { overflow-x: auto; padding: 1rem; background: var(--soft); border-radius: 8px; }
summary { cursor: pointer; color: var(--first); }
details + details, .scroll + details { margin-top: 1rem; }
a { color: var(--first); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 2px solid var(--first); outline-offset: 2px; }
.player > input { position: absolute; opacity: 0; }
.film .frame { display: none; } .film img { display: block; max-width: 100%; margin: 0 auto; }
.strip { display: flex; flex-wrap: wrap; gap: .3rem; align-items: center; justify-content: center;
  margin-top: .8rem; }
.strip label { padding: .12rem .6rem; border: 1px solid var(--line); border-radius: 999px;
  font-size: .85rem; font-variant-numeric: tabular-nums; cursor: pointer; }
.strip label:hover { border-color: var(--first); }
@media print { .film .frame { display: block; } .strip { display: none; } }
@media (max-width: 40rem) {
  main { padding: 1.4rem .8rem 3rem; }
  section, figure { padding: 1rem .9rem; }
  h1 { font-size: 1.5rem; }
}
@media print { section, figure { break-inside: avoid; } }
"""
    + "\n".join(
        f"#frame-{k}:checked ~ .film > :nth-child({k + 1}) {{ display: block; }}\n"
        f"#frame-{k}:checked ~ .strip [for=frame-{k}] "
        "{ background: var(--first); border-color: var(--first); color: var(--card); }\n"
        f"#frame-{k}:focus-visible ~ .strip [for=frame-{k}] "
        "{ outline: 2px solid var(--second); outline-offset: 2px; }"
        for k in range(MOST_FRAMES)
    )
    + "\n"
)
