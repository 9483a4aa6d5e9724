"""What is left of hostile HTML, attack by attack; and of honest HTML, what has to be left."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.rendering.sanitizing import has_content, sanitized

PNG = "data:image/png;base64,iVBORw0KGgo="
# Of what is left: tags, attributes, and what may stand in an address or a style.
TAG = re.compile(r"<(/?)([a-z0-9]+)((?:\s+[a-z]+=\"[^\"]*\")*)>")
ALLOWED_ADDRESS = re.compile(r"#(content-|away:).*|data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", re.DOTALL)
RUNNING = {
    "script",
    "style",
    "iframe",
    "object",
    "embed",
    "link",
    "meta",
    "base",
    "form",
    "input",
    "button",
    "svg",
    "math",
}


def assert_harmless(html: str) -> None:
    """Read back as a browser reads tags: there is none that does anything, and text has no `<`."""
    assert "<" not in TAG.sub("", html)
    for _, tag, attributes in TAG.findall(html):
        assert tag not in RUNNING
        for name, value in re.findall(r'\s+([a-z]+)="([^"]*)"', attributes):
            assert not name.startswith("on")
            assert name not in ("srcset", "background", "poster", "ping", "action", "formaction", "srcdoc", "name")
            if name in ("href", "src"):
                assert ALLOWED_ADDRESS.fullmatch(unescape(value))
            if name == "style":
                assert not re.search(r"url|position|z-index|\\|/\*|expression|inset|float|margin", value)


@pytest.mark.parametrize(
    ("hostile", "left"),
    [
        ("<script>alert(1)</script>x", "x"),
        ("<scr<script>ipt>alert(1)</scr</script>ipt>", "ipt&gt;alert(1)ipt&gt;"),
        ("<img src=x:x onerror=alert(1)>", '<span class="nbjob-image">Image</span>'),
        ("<b onclick=alert(1) onmouseover=x>x</b>", "<b>x</b>"),
        ("<a href='javascript:alert(1)'>x</a>", "<a>x</a>"),
        ("<a href='JaVa\tScRiPt:alert(1)'>x</a>", "<a>x</a>"),
        ("<a href='&#106;avascript&colon;alert(1)'>x</a>", "<a>x</a>"),
        ("<a href='\x01javascript:alert(1)'>x</a>", "<a>x</a>"),
        ("<a href='vbscript:x'>x</a>", "<a>x</a>"),
        ("<a href='data:text/html,x'>x</a>", "<a>x</a>"),
        ("<iframe src=/x></iframe><object data=/x></object><embed src=/x>x", "x"),
        ("<base href=//x><meta http-equiv=refresh content='0;/x'><link rel=stylesheet href=/x>x", "x"),
        ("<form action=/x><input name=a><button formaction=/x>x</button></form>", "x"),
        ("<style>@import '/x'; body{display:none}</style>x", "x"),
        ("<p style='background:url(/x)'>x</p>", "<p>x</p>"),
        ("<p style='color:red;position:fixed;z-index:9;top:0'>x</p>", '<p style="color:red">x</p>'),
        ("<p style='color:url(/x)'>x</p>", "<p>x</p>"),
        ("<p style='width:u\\72l(/x)'>x</p>", "<p>x</p>"),
        ("<p style='color:red/**/'>x</p>", "<p>x</p>"),
        ("<svg onload=alert(1)><script>alert(1)</script></svg>x", "x"),
        ("<math><mtext><img src=x:x onerror=alert(1)></mtext></math>x", "x"),
        (
            "<noscript><p title='</noscript><img src=x:x onerror=alert(1)>'></noscript>x",
            '<span class="nbjob-image">Image</span>\'&gt;x',
        ),
        ("<!-- --!><b>x</b> -->", "<b>x</b> --&gt;"),
        ("<img srcset='/x 1x' alt=a><p background=/x>x</p>", '<span class="nbjob-image">a</span><p>x</p>'),
        ("<table background=/x><tr><td background=/x>x", "<table><tbody><tr><td>x</td></tr></tbody></table>"),
        ("<video poster=/x src=/x></video><audio src=/x></audio>x", "x"),
        (
            "<p id=cell-1 name=cell-1 class='nbjob-failing jp-Dialog dataframe'>x</p>",
            '<p id="content-cell-1" class="dataframe">x</p>',
        ),
        ("</section></main><h1>x</h1>", "<h1>x</h1>"),
        ("<a href='#cell-1'>x</a>", '<a href="#content-cell-1">x</a>'),
        ("<div role=alert aria-live=assertive tabindex=0 slot=x is=y itemid=/x>x</div>", "<div>x</div>"),
    ],
)
def test_what_is_left_of_an_attack(hostile, left):
    html = sanitized(hostile)
    assert_harmless(html)
    assert html == left


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<a href='https://a.b/?x=1&y=2'>text</a>", "<a>text</a> (https://a.b/?x=1&y=2)"),
        ("<a href='https://a.b/'>https://a.b</a>", "<a>https://a.b</a> (https://a.b/)"),
        ("<a href='https://a.b'>https://a.b</a>", "<a>https://a.b</a>"),
        ("<a href='mailto:a@b.c'>write</a>", "<a>write</a> (mailto:a@b.c)"),
        ("<a href='other.ipynb'><b>text</b></a>", "<a><b>text</b></a> (other.ipynb)"),
        ("<img src='http://a.b/c.png' alt='a plot'>", "a plot (http://a.b/c.png)"),
        ("<a href='http://a.b/'><img src='http://c.d/' alt=badge></a>", "<a>badge (http://c.d/)</a> (http://a.b/)"),
        ("<a title='</a>' href='http://a.b/<b>'>x</a>", "<a>x</a> (http://a.b/<b>)"),
    ],
)
def test_an_address_elsewhere_is_text(html, shown):
    left = sanitized(html)
    assert_harmless(left)
    assert "href" not in left
    plain = re.sub(r"</?span[^>]*>", "", left)
    assert unescape(re.sub(r"<a [^>]*>", "<a>", plain)) == shown


def test_the_address_of_a_link_is_its_title_too():
    assert 'title="https://a.b/?x=1&amp;y=2"' in sanitized("<a href='https://a.b/?x=1&y=2'>x</a>")


@pytest.mark.parametrize(
    "html",
    [
        '<table class="dataframe"><thead><tr style="text-align:right"><th>a</th></tr></thead></table>',
        f'<img src="{PNG}" alt="a plot" width="20">',
        '<p style="color:rgb(1, 2, 3);background-color:#eee">x</p>',
        '<details open=""><summary>s</summary>x</details>',
        '<div class="highlight"><pre><span class="kn">import</span></pre></div>',
    ],
)
def test_honest_html_is_kept(html):
    assert sanitized(html) == html


@pytest.mark.parametrize(
    "source", [PNG + '"x', "data:image/png;base64,<svg>", "data:text/html;base64,eA==", "data:image/svg+xml,<svg/>"]
)
def test_an_image_is_base64_of_a_known_type(source):
    assert "<img" not in sanitized(f"<img src='{source}'>")


def test_white_space_in_an_image_is_no_matter():
    assert sanitized(f"<img alt='x' src='\n{PNG[:30]}\n{PNG[30:]}\n'>") == f'<img alt="x" src="{PNG}">'


@pytest.mark.parametrize(
    ("html", "expected"), [("<p> </p>", False), ("&nbsp;", False), ("x", True), (f"<img src={PNG}>", True)]
)
def test_has_content(html, expected):
    assert has_content(sanitized(html)) is expected


TAGS = ("a", "img", "svg", "style", "math", "p", "td", "script", "noscript", "table", "select", "template", "textarea")
PIECES = st.sampled_from(
    [
        *(f"<{tag} " for tag in TAGS),
        *(f"<{tag}>" for tag in TAGS),
        *(f"</{tag}>" for tag in TAGS),
        *("<!--", "-->", "]]>", "<![CDATA[", "</", ">", "/", '"', "'", "`", "=", " ", "\0", "é"),
        *("&quot;", "&lt;", "&gt;", "&#0;", "javascript:", "http://a.b", "data:image/png;base64,AAAA", "#x"),
        *(" href=", ' src="', ' style="', " title='", " id=x", " onerror=alert(1)"),
        *("color:red", "url(", ")", "position:fixed", ";"),
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_whatever_is_put_together_is_harmless_and_stays_so(html):
    left = sanitized(html)
    assert_harmless(left)
    assert_harmless(sanitized(left))
