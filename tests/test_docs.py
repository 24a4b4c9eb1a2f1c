"""The documentation is true: its snippets run, and every equation has code and a test."""

import json
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot
import pytest

matplotlib.use("agg")
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs" / "tools"))

import equation_index  # noqa: E402
import notebooks  # noqa: E402
import snippets  # noqa: E402

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if snippets.snippets(page)]


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


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.name)
def test_the_snippets_of_a_page_run(page, tmp_path, monkeypatch):
    """In order and in one namespace, as a reader would type them; in an empty folder."""
    monkeypatch.chdir(tmp_path)
    snippets.run(page)
    matplotlib.pyplot.close("all")


def test_notebooks_are_kept_with_their_outputs_and_become_pages():
    assert len(NOTEBOOKS) == 4
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text())["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        for cell in code:  # what is printed or drawn is there, and a picture says what it shows
            assert ("plt.subplots" in "".join(cell["source"])) == ("alt" in cell["metadata"])
        text, pictures = notebooks.page(path)
        assert pictures and all(data.startswith(b"\x89PNG") for data in pictures.values())
        assert all(f"]({name})" in text for name in pictures) and "![](" not in text
        assert "Output" in text and path.stat().st_size < 150_000
