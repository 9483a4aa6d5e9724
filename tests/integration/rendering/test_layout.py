"""A rendered notebook in a real browser: what is wide scrolls in its own box, and a cell's address leads to it."""

from __future__ import annotations

import json

import pytest

from airflow_provider_nbjob.rendering import render
from tests.support.browser import chromium
from tests.support.pages import code, data, markdown, notebook
from tests.support.patience import patient

pytestmark = pytest.mark.test_all

TABLE = "<table class=dataframe><tr>" + "".join(f"<td>column {number}</td>" for number in range(40)) + "</tr></table>"
WIDE = "x" * 1000
NOTEBOOK = notebook(
    markdown(f"# {WIDE}\n\n{WIDE}\n\n`{WIDE}`\n\n    {WIDE}\n\n[{WIDE}](https://a.b/{WIDE})"),
    code(data(text_html=TABLE), data(text_plain=WIDE), source=f"print('{WIDE}')"),
    {"cell_type": "raw", "source": WIDE, "metadata": {}},
    code(data(text_html=f"<div style='width:3000px;white-space:nowrap'>{WIDE}</div>")),
    code({"output_type": "error", "ename": "E", "evalue": WIDE, "traceback": [WIDE]}),
    *[markdown("text\n\n" * 20) for _ in range(10)],
)


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def new_page(browser):
    """A function that opens pages, which are closed after the test."""
    pages = []

    def new(width):
        pages.append(browser.new_page(viewport={"width": width, "height": 700}))
        pages[-1].set_default_timeout(patient(30) * 1000)
        return pages[-1]

    yield new
    for page in pages:
        page.close()


def is_at_top(cell):
    """Return the script that says whether a cell is at the top of the window."""
    return f"(top => 0 <= top && top < 100)(document.querySelector('#{cell}').getBoundingClientRect().top)"


@pytest.fixture(scope="module", params=["light", "dark"])
def address(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "notebook.html"
    path.write_bytes(render(json.dumps(NOTEBOOK).encode(), theme=request.param, failing_cell=5, timeout=patient(60)))
    return path.as_uri()


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_never_scrolls_sideways(new_page, address, width):
    page = new_page(width)
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    scrolling = "element => element.scrollWidth > element.clientWidth && getComputedStyle(element).overflowX === 'auto'"
    for selector in ("#cell-2 .jp-InputArea-editor", "#cell-2 .jp-RenderedHTML", "#cell-5 .jp-RenderedText pre"):
        assert page.eval_on_selector(selector, scrolling), selector


def test_the_address_of_a_cell_leads_to_it(new_page, address):
    page = new_page(1200)
    page.goto(f"{address}#cell-9")
    page.wait_for_function(is_at_top("cell-9"))


def test_the_failing_cell_is_reached_by_keyboard(new_page, address):
    page = new_page(1200)
    page.goto(address)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#cell-5'")
    page.wait_for_function(is_at_top("cell-5"))
