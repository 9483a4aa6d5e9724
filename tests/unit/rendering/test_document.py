"""The page of a notebook: its structure, every kind of output, and colours that can be read."""

from __future__ import annotations

import base64
import itertools
import re
from pathlib import Path

import pytest

from airflow_provider_nbjob.rendering import document as document_module
from airflow_provider_nbjob.rendering.terminal import DARK_TEXT, LIGHT_TEXT, luminance, terminal_html
from tests.support.pages import PNG, code, data, markdown, page

STYLES = (Path(document_module.__file__).parent / "templates" / "notebook.css").read_text()
RAW = {"cell_type": "raw", "source": "<b>raw</b>", "metadata": {}}


def test_cells_are_numbered_labelled_and_can_be_gone_to():
    soup = page(markdown("x"), code(), RAW, {"cell_type": "odd", "source": "o"}, failing_cell=2)
    sections = soup.main.find_all("section", recursive=False)
    assert [section["id"] for section in sections] == ["cell-1", "cell-2", "cell-3", "cell-4"]
    labels = [section["aria-label"] for section in sections]
    assert labels == ["Cell 1, markdown", "Cell 2 failed", "Cell 3, raw", "Cell 4, raw"]
    assert soup.html["lang"] == "en"
    assert soup.title.text == "Notebook"


def test_the_failing_cell_is_marked_and_linked_to():
    soup = page(code(), code(), failing_cell=2)
    (failing,) = soup.select(".nbjob-failing")
    assert failing["id"] == "cell-2"
    assert not failing.has_attr("tabindex")  # its address would take the focus, and scroll the pages around it
    assert "Cell 2 failed" in failing.text
    assert soup.select_one(".nbjob-failure a")["href"] == "#cell-2"


@pytest.mark.parametrize("failing", [None, 0, -1, 2, 99])
def test_a_cell_that_there_is_not_is_not_marked(failing):
    soup = page(code(), failing_cell=failing)
    assert soup.select(".nbjob-failing, .nbjob-failure") == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_there_is_no_script_and_nothing_to_load(theme):
    soup = page(markdown("# T\n\n$x$\n\n```mermaid\ngraph\n```"), code(data(application_javascript="x")), theme=theme)
    assert soup.html["data-theme"] == theme
    assert soup.select("script, link, iframe, base, [src^=http]") == []
    assert soup.meta.attrs == {"charset": "utf-8"}
    (style,) = soup.select("style")
    assert "@import" not in style.text
    assert set(re.findall(r"url\(['\"]?(\w+):", style.text)) <= {"data"}


def test_a_notebook_without_cells_says_so():
    assert "no cells" in page().main.text


def shown(*outputs):
    return page(code(*outputs)).select_one(".jp-Cell-outputWrapper")


def test_html_is_sanitized_and_shown_first():
    area = shown(data(text_html="<table class=dataframe><tr><td onclick=x>1</td></tr></table>", text_plain="no"))
    assert area.select_one("table.dataframe td").attrs == {}
    assert "no" not in area.text


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_an_image_stands_in_the_page(kind):
    output = data(
        {f"image/{kind}": {"width": 20, "height": "5 onerror=x"}}, **{f"image_{kind}": PNG + "\n", "text_plain": "no"}
    )
    image = shown(output).img
    assert image.attrs == {"src": f"data:image/{kind};base64,{PNG}", "alt": "Image, output of cell 1", "width": "20"}


def test_an_svg_is_an_image_in_which_nothing_runs():
    source = "<svg onload='x'><script>x</script></svg>"
    image = shown(data(image_svg__xml=[source])).img
    kind, _, encoded = image["src"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(encoded).decode() == source


@pytest.mark.parametrize("value", ['x" onerror="y', "", 7, None, {"a": 1}, "http://a.b/c.png"])
def test_what_is_no_image_gives_way_to_its_text(value):
    area = shown(data(image_png=value, text_plain="<Figure>"))
    assert area.img is None
    assert area.pre.text == "<Figure>"


def test_latex_json_and_text_are_shown_as_they_are_written():
    area = shown(data(text_latex="$a<b$"), data(application_json={"a": ["<b>"]}), data(text_plain="<i>"))
    assert [pre.text for pre in area.select("pre")] == ["$a<b$", '{\n  "a": [\n    "<b>"\n  ]\n}', "<i>"]


def test_markdown_of_an_output_is_shown():
    assert shown(data(text_markdown="**x** <script>y</script>")).strong.text == "x"


@pytest.mark.parametrize(
    "forms",
    [
        {"application_javascript": "x"},
        {"application_vnd.jupyter.widget-view__json": {"model_id": "x"}},
        {"text_html": "<script>x</script><div></div>"},
        {"text_html": "<iframe src=x></iframe>"},
        {"application_vnd.plotly.v1__json": {}},
    ],
)
def test_what_needs_scripts_is_its_text_and_a_note(forms):
    note = "This output needs scripts, which are not run here; it is in the notebook."
    assert shown(data(**forms)).select_one(".nbjob-note").text == note
    area = shown(data(**forms, text_plain="Widget(1)"))
    assert [area.pre.text, area.select_one(".nbjob-note").text] == ["Widget(1)", note]


def test_streams_that_follow_each_other_are_one_and_keep_colours():
    stream = {"output_type": "stream", "name": "stdout"}
    area = shown(
        {**stream, "text": ["10%\r50%"]},
        {**stream, "text": "\r100%\nnext \x1b[31mred\x1b[0m <b>\n"},
        {**stream, "name": "stderr", "text": "oh"},
        {**stream, "text": "end"},
    )
    assert [pre.text.strip() for pre in area.select("pre")] == ["100%\nnext red <b>", "oh", "end"]
    assert area.select_one(".ansi-red-fg").text == "red"


def test_an_error_is_text_with_colours():
    error = {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[0;31mE<b>\x1b[0m", "<script>"]}
    area = shown(error)
    assert area.select_one(".ansi-red-fg").text == "E<b>"
    assert "<script>" in area.pre.text
    assert shown({**error, "traceback": []}).pre.text.strip() == "E: v"


def test_code_is_highlighted_in_its_language_and_never_loads_plugins():
    source = "import x"
    assert page(code(source=source), language_info={"pygments_lexer": "ipython3"}).select_one(".kn").text == "import"
    plain = page(code(source=source), language_info={"name": "no such <b>"})
    assert plain.select(".kn") == []
    assert plain.select_one("#cell-1 pre").text.strip() == source


def test_what_a_notebook_names_itself_is_escaped_or_left_out():
    evil = "\"'></title><script>x</script>"
    soup = page(
        {**code(count=evil), "id": evil, "metadata": {"tags": [evil]}},
        title=evil,
        kernelspec={"name": evil},
        authors=[evil],
    )
    assert soup.title.text == "Notebook"
    assert soup.select("script") == []
    assert "title>" not in str(soup.main)


def test_an_attachment_is_shown_and_an_image_elsewhere_is_not():
    soup = page(markdown("![a](attachment:p.png) ![b](attachment:none)", attachments={"p.png": {"image/png": PNG}}))
    (image,) = soup.select("img")
    assert image["src"] == f"data:image/png;base64,{PNG}"
    assert soup.select_one(".nbjob-image").text == "b"


def test_links_within_markdown_lead_to_its_headings_not_to_our_cells():
    soup = page(markdown("## Cell 1\n\n[go](#Cell-1) [ours](#cell-1)"))
    assert soup.h2["id"] == "content-Cell-1"
    assert [link["href"] for link in soup.select("a")] == ["#content-Cell-1", "#content-cell-1"]


def test_task_lists_and_formulas_can_be_read():
    soup = page(markdown("- [x] done\n- [ ] open\n\n$a_1 b_1$"))
    assert [item.text.strip() for item in soup.select("li")] == ["☑ done", "☐ open"]
    assert "$a_1 b_1$" in soup.main.text


def test_half_a_surrogate_pair_can_be_encoded():
    assert page(code(source="'\ud800'"), markdown("\udfff")).encode()


def palette(block):
    return dict(re.findall(r"--nbjob-([\w-]+): (#\w+);", block))


def contrast(one, other):
    lighter, darker = sorted((luminance(color) for color in (one, other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def rgb(text):
    digits = text.removeprefix("#")
    digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
    return tuple(bytes.fromhex(digits))


@pytest.mark.parametrize("selector", [":root", "[data-theme='dark']"])
def test_every_text_has_enough_contrast_on_every_background(selector):
    colors = palette(STYLES.partition(f"\n{selector} {{")[2].partition("}")[0])
    everywhere = ("page", "code", "stripe", "failed-page")
    tints = [name for name in colors if name.endswith("-page")]
    terminal = ["text", *(name.removesuffix("-page") for name in tints if name != "failed-page")]
    others = [name for name in colors if name not in (*everywhere, *tints, *terminal, "line")]
    assert (len(tints), len(others)) == (9, 9)
    pairs = [*itertools.product(others, everywhere), *itertools.product(terminal, (*everywhere, *tints))]
    low = [pair for pair in pairs if contrast(*(rgb(colors[name]) for name in pair)) < 4.5]
    assert low == []


@pytest.mark.parametrize("color", ["0;0;0", "255;255;255", "0;135;0", "255;255;0", "0;0;255"])
def test_any_colour_of_a_terminal_can_be_read_on_both_themes(color):
    html = terminal_html(f"\x1b[38;2;{color}mx\x1b[0m")
    light, dark = (tuple(map(int, found.split(","))) for found in re.findall(r"rgb\(([\d, ]+)\)", html))
    assert luminance(light) <= DARK_TEXT
    assert luminance(dark) >= LIGHT_TEXT
