"""The documentation is true: its snippets run, and every equation has code and a test."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "```python" in page.read_text())
sys.path.insert(0, str(ROOT / "docs" / "tools"))

import equation_index  # noqa: E402


def test_every_equation_has_code_and_a_test():
    assert sorted(equation_index.names()) == list(range(1, 72))
    assert equation_index.missing() == []
    cited = set(equation_index.implementations()) | set(equation_index.verifications())
    assert cited == set(equation_index.names())  # none that does not exist
    table = equation_index.markdown()
    assert len(table.splitlines()) == 73 and "`mechanics.flow_map.FlowMap`" in table


def test_an_equation_without_code_or_test_is_named(monkeypatch):
    monkeypatch.setattr(equation_index, "names", lambda: {99: "the answer"})
    assert equation_index.missing() == [
        "eq. 99 (the answer): no docstring in src cites it",
        "eq. 99 (the answer): no test cites it",
    ]
    cited = equation_index.numbers("a (eq. 3-4), b (eqs. 7, 9 and 11), c (eq. 9), d (eq. 2.7)")
    assert cited == {3: 2, 4: 2, 7: 3, 9: 1, 11: 3}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_snippets_of_a_page_run(page, tmp_path, monkeypatch):
    """In order and in one namespace, as a reader would type them; in an empty folder."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
        exec(compile(block, str(page.relative_to(ROOT)), "exec"), namespace)
