"""HTML that would take a parser long, and notebooks one value of which would hide all the rest."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.rendering.markdown import markdown_to_html
from airflow_provider_nbjob.rendering.render_notebook import rendered
from airflow_provider_nbjob.rendering.sanitizing import sanitized

VOID = {"br", "col", "hr", "img", "wbr"}
DEPTH_MAX = 120  # of elements in each other, with those that a parser adds
NUMBER = 20_000

DEEP = {
    "div": "<div>" * NUMBER,
    "upper case": "<DIV>" * NUMBER,
    "attributes": "".join(f"<div id=a{n}>" for n in range(NUMBER)),
    "span and b": "<span><b>" * (NUMBER // 2),
    "closed": "<blockquote>" * NUMBER + "x" + "</blockquote>" * NUMBER,
    "lists": "<ul><li>" * (NUMBER // 2),
    "definitions": "<dl><dd>" * (NUMBER // 2),
    "tables": "<table><tr><td>" * (NUMBER // 3),
    "tables that hide what is closed": "<div><table></div></table>" * (NUMBER // 2),
    "closed by another": "<div><b></div>" * (NUMBER // 2),
    "in values": "<p title='<div>'>x" * NUMBER,
    "after a comment that is none": "<!-->" + "<div>" * NUMBER,
    "in text that is none": "<title></title>" + "<div>" * NUMBER,
    "unknown elements": "<td-x>" * NUMBER + "<div>" * NUMBER,
    "many links": "<a href=#x>" * NUMBER,
    "many paragraphs in bold": "<p><b id=x>" * (NUMBER // 2),
}


class Depth(HTMLParser):
    """Counts how deep the elements are in each other, and how many there are."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.deepest, self.number = 0, 0, 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.number += 1
        if tag not in VOID:
            self.open += 1
            self.deepest = max(self.deepest, self.open)

    def handle_endtag(self, tag):
        self.open -= 1


@pytest.mark.parametrize("name", DEEP)
def test_what_reaches_the_parser_is_never_deep(name, monkeypatch):
    """A parser takes the product of the elements and of those that are open: the second is bounded."""
    from airflow_provider_nbjob.rendering import sanitizing

    parsed = []

    class Cleaner:
        def clean(self, html):
            parsed.append(Depth(html))
            return ""

    monkeypatch.setattr(sanitizing, "_cleaner", Cleaner())
    sanitized(DEEP[name])
    assert parsed[0].deepest <= DEPTH_MAX
    assert parsed[0].number <= 4 * NUMBER


@pytest.mark.parametrize("name", ["div", "tables that hide what is closed", "lists"])
def test_what_is_left_is_never_deep(name):
    assert Depth(sanitized(DEEP[name])).deepest <= DEPTH_MAX


def test_what_blocks_close_is_not_opened_again_in_each():
    html = "<p>" + "".join(f"<b id=x{n}>" for n in range(100)) + "<div>x</div>" * 3000
    assert len(sanitized(html)) < 10 * len(html)


def test_deep_html_keeps_its_text_and_its_tables():
    table = "<table class=dataframe><tbody><tr><td>1</td><td>two</td></tr></tbody></table>"
    html = sanitized("<div>" * NUMBER + "inside" + "</div>" * NUMBER + table + "<p>after<p>next &amp; <br>line")
    assert "inside" in html
    assert '<table class="dataframe"><tbody><tr><td>1</td><td>two</td></tr></tbody></table>' in html
    assert "<p>after</p><p>next &amp; <br>line</p>" in html


TAGS = ["div", "p", "b", "a", "table", "tr", "td", "li", "ul", "script", "title", "svg", "select", "x-y", "h1", "dd"]


@given(
    st.lists(
        st.sampled_from([f"<{t}>" for t in TAGS] + [f"</{t}>" for t in TAGS] + ["x", "<!--", "-->", "<p a='", "'>"])
    )
)
def test_what_is_written_anew_is_harmless_and_flat(pieces):
    html = sanitized("<i>" * 1001 + "".join(pieces))
    assert not re.search("<(?:script|title|svg|select|style)", html)
    assert Depth(html).deepest <= DEPTH_MAX


def page(*outputs, source="x"):
    cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": list(outputs), "execution_count": 1}]
    cells.append({"cell_type": "markdown", "source": "# The rest", "metadata": {}})
    return rendered(json.dumps({"nbformat": 4, "metadata": {}, "cells": cells}).encode(), "light", None).decode()


def data(**forms):
    return {"output_type": "display_data", "metadata": {}, "data": {k.replace("_", "/"): v for k, v in forms.items()}}


HALF = "\ud800"


@pytest.mark.parametrize(
    "output",
    [
        data(application_json={"a": HALF}),
        data(application_json={HALF: 1}),
        data(application_json=[[HALF]]),
        data(text_html=f"<p title='{HALF}'>{HALF}</p>"),
        data(text_plain=HALF),
        data(text_latex=[HALF]),
        data(text_markdown=f"**{HALF}**"),
        {"output_type": "stream", "name": HALF, "text": [HALF, "x"]},
        {"output_type": "error", "ename": HALF, "evalue": HALF, "traceback": [HALF]},
        {"output_type": "display_data", "metadata": {HALF: HALF}, "data": {HALF: HALF}},
        data(application_json=json.loads("[" * 500 + "]" * 500)),
    ],
)
def test_one_value_hides_no_notebook(output):
    html = page(output, source=HALF)
    assert "The rest" in html
    assert "<h1" in html


@pytest.mark.parametrize("raw", [b'"\\uD83D"', b'"\\udfff\\ud800"', b'"\xed\xa0\x80"', b"9" * 5000, b"NaN"])
def test_no_value_of_json_hides_a_notebook(raw):
    output = b'{"output_type": "display_data", "data": {"application/json": ' + raw + b"}}"
    cells = b'[{"cell_type": "code", "source": "kept", "outputs": [' + output + b"]}]"
    notebook = b'{"nbformat": 4, "metadata": {}, "cells": ' + cells + b"}"
    assert b"kept" in rendered(notebook, "light", None)


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ("<svg width=9><circle r=4></svg>", "a drawing (SVG)"),
        ("<p>x</p><SVG/>", "a drawing (SVG)"),
        ("<math><mi>x</mi></math>", "a formula (MathML)"),
        ("<video src=x></video>", "a video or a sound"),
    ],
)
def test_what_vanishes_is_said(html, said):
    for shown in (
        page(data(text_html=html)),
        page(data(text_html=html, text_plain="text")),
        markdown_to_html(f"a\n\n{html}", {}),
    ):
        assert f"There is {said} here that cannot be shown" in shown
        assert "<svg" not in shown
    assert "cannot be shown" not in page(data(text_html="<pre>&lt;svg&gt;</pre>")) + markdown_to_html("`<svg>`", {})


@pytest.mark.parametrize("source", ["\\begin{a}" * 20_000, "\\\\(" * 20_000, "<div>" * 20_000, ">" * 20_000])
def test_markdown_that_would_take_minutes_is_shown_as_text(source):
    assert markdown_to_html(source, {})
