"""Choose the form of each output of a cell: the richest one that is safe and needs no scripts."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any

from airflow_provider_nbjob.rendering.markdown import markdown_to_html
from airflow_provider_nbjob.rendering.sanitizing import has_content, left_out, note, sanitized
from airflow_provider_nbjob.rendering.terminal import terminal_html
from airflow_provider_nbjob.rendering.values import mapping, text_of

_NEEDS_SCRIPTS = "This output needs scripts, which are not run here; it is in the notebook."
_NOT_SHOWN = "This output cannot be shown here; it is in the notebook."
_SCRIPTED = re.compile(r"<\s*(?:script|iframe|object|embed)", re.IGNORECASE)
_SCRIPTED_TYPES = re.compile(r"javascript|widget|plotly|vega|bokeh|holoviews|vdom|mermaid|geo\+json", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_OWN_COLORS = re.compile(r'style="[^"]*color')
_SIZE_MAX = 10_000  # of an image, in pixels
RASTER_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")


def shown_outputs(outputs: list[Any], number: int) -> Iterator[dict[str, Any]]:
    """Yield the outputs of a cell as the template takes them. Values that are not outputs are left out.

    :param number: number of the cell, for the alternative text of images
    """
    streams: list[str] = []
    for index, output in enumerate(map(mapping, outputs)):
        kind = output.get("output_type")
        if kind == "stream":
            streams.append(text_of(output.get("text")))
            if not _goes_on(outputs, index):
                text = without_overwritten("".join(streams))
                yield {"output_type": "stream", "name": _stream_name(output), "text": text}
                streams = []
        elif kind == "error":
            yield {"output_type": "error", "traceback": _traceback(output)}
        elif kind in ("display_data", "execute_result"):
            yield {"output_type": kind, "html": shown_data(output, number)}


def shown_data(output: Mapping[str, Any], number: int) -> str:
    """Return the HTML of an output that has its data in several forms, by MIME type."""
    data = mapping(output.get("data"))
    notes = [_NEEDS_SCRIPTS] if any(_SCRIPTED_TYPES.search(str(name)) for name in data) else []
    for name, form in _FORMS.items():
        if name in data:
            html = form(name, output, number)
            if not html and not notes and _SCRIPTED.search(text_of(data[name])):
                notes = [_NEEDS_SCRIPTS]
            if name == "text/html":
                notes += left_out(text_of(data[name]))
            if html:
                return _with_notes(html, notes)
    if not data:
        return ""
    return "".join(map(note, notes or [_NOT_SHOWN]))


def data_image(mime: str, value: object) -> str:
    """Return the ``data:`` URL of an image; empty if the value is not an image.

    :param mime: ``image/svg+xml`` or one of `RASTER_TYPES`
    :param value: the value in the notebook: base64, or the source of an SVG
    """
    text = text_of(value)
    if mime == "image/svg+xml" and "<" in text:
        text = base64.b64encode(text.encode()).decode()
    text = "".join(text.split())
    return f"data:{mime};base64,{text}" if _BASE64.fullmatch(text) else ""


def without_overwritten(text: str) -> str:
    """Return text as a terminal finally shows it: a carriage return, as of a progress bar, overwrites its line."""
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def _goes_on(outputs: list[Any], index: int) -> bool:
    """Return whether the next output is of the same stream."""
    following = mapping(outputs[index + 1]) if index + 1 < len(outputs) else {}
    same = _stream_name(following) == _stream_name(mapping(outputs[index]))
    return following.get("output_type") == "stream" and same


def _stream_name(output: Mapping[str, Any]) -> str:
    return "stderr" if output.get("name") == "stderr" else "stdout"


def _traceback(output: Mapping[str, Any]) -> list[str]:
    lines = output.get("traceback")
    shown = [text_of(line) for line in lines] if isinstance(lines, list) else []
    return shown or [f"{text_of(output.get('ename')) or 'Error'}: {text_of(output.get('evalue'))}"]


def _html(mime: str, output: Mapping[str, Any], number: int) -> str:
    html = sanitized(text_of(output["data"][mime]))
    return _area("HTML", html) if has_content(html) else ""


def _markdown(mime: str, output: Mapping[str, Any], number: int) -> str:
    html = markdown_to_html(text_of(output["data"][mime]), {})
    return _area("Markdown", html) if has_content(html) else ""


def _image(mime: str, output: Mapping[str, Any], number: int) -> str:
    address = data_image(mime, output["data"][mime])
    if not address:
        return ""
    known = mapping(mapping(output.get("metadata")).get(mime))
    sizes = {side: known.get(side) for side in ("width", "height")}
    shown = "".join(f' {side}="{size}"' for side, size in sizes.items() if type(size) is int and 0 < size <= _SIZE_MAX)
    return (
        '<div class="jp-RenderedImage jp-OutputArea-output">'
        f'<img src="{address}" alt="Image, output of cell {number}"{shown}></div>'
    )


def _plain(mime: str, output: Mapping[str, Any], number: int) -> str:
    text = text_of(output["data"][mime])
    return _text(terminal_html(text)) if text.strip() else ""


def _source(mime: str, output: Mapping[str, Any], number: int) -> str:
    text = text_of(output["data"][mime])
    return _text(escape(text)) if text.strip() else ""


def _json(mime: str, output: Mapping[str, Any], number: int) -> str:
    try:
        return _text(escape(json.dumps(output["data"][mime], indent=2, ensure_ascii=False)))
    except RecursionError:  # nested deeper than a person could read
        return ""


# The richest form first. A form that cannot be shown is empty, and then the next one is used.
_FORMS: dict[str, Callable[[str, Mapping[str, Any], int], str]] = {
    "text/html": _html,
    "text/markdown": _markdown,
    "image/svg+xml": _image,
    **dict.fromkeys(RASTER_TYPES, _image),
    "text/latex": _source,
    "text/plain": _plain,
    "application/json": _json,
}


def _area(kind: str, html: str) -> str:
    """Return HTML in its box. HTML with colours of its own was made for a light page, and is shown on a light one."""
    own_colors = " nbjob-light" if _OWN_COLORS.search(html) else ""
    return f'<div class="jp-RenderedHTMLCommon jp-Rendered{kind} jp-OutputArea-output{own_colors}">{html}</div>'


def _text(html: str) -> str:
    return f'<div class="jp-RenderedText jp-OutputArea-output"><pre>{html}</pre></div>'


def _with_notes(html: str, notes: list[str]) -> str:
    return f'<div class="jp-OutputArea-output">{html}{"".join(map(note, notes))}</div>' if notes else html
