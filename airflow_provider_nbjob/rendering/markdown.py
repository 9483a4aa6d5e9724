"""Convert Markdown of a notebook to HTML by nbconvert's rules, without the parts that need scripts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape, unescape
from re import sub
from typing import Any

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from airflow_provider_nbjob.rendering.highlighting import known_language
from airflow_provider_nbjob.rendering.sanitizing import left_out, note, sanitized

# nbconvert 7 searches for the end of a formula from each `\\(` and each `\\begin`: 20,000 of them take minutes.
BACKSLASHES_MAX = 3000


def markdown_to_html(source: str, attachments: Mapping[str, str]) -> str:
    """Return Markdown as safe HTML; formulas are shown as they are written.

    :param attachments: ``data:`` URL by name, for images with the URL ``attachment:NAME``
    """
    if source.count("\\") > BACKSLASHES_MAX:
        return f"<pre>{escape(source)}</pre>"
    try:
        html = MarkdownWithMath(renderer=_Renderer(attachments)).render(source)
    except RecursionError:  # nested deeper than a person would
        return f"<pre>{escape(source)}</pre>"
    return sanitized(html) + "".join(map(note, left_out(html)))


class _Renderer(IPythonRenderer):
    """Render as nbconvert does, except for headings, mermaid and attachments: in these nbconvert trusts the text.

    :param images: ``data:`` URL by name of attachment
    """

    def __init__(self, images: Mapping[str, str]) -> None:
        super().__init__(escape=False)
        self._images = images

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        """Return a heading with the id to which links within notebooks point."""
        plain = unescape(sub(r"<[^>]*>", "", text)).strip()
        return f'<h{level} id="{escape(plain.replace(" ", "-"))}">{text}</h{level}>\n'

    def block_code(self, code: str, info: str | None = None) -> str:
        """Return a block of code, highlighted if its language is known."""
        language = known_language((info or "").split(maxsplit=1)[0] if (info or "").strip() else "")
        return str(super().block_code(code, language)) if language else f"<pre><code>{escape(code)}</code></pre>\n"

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Return an image, with the content of an attachment in the page."""
        name = url.removeprefix("attachment:")
        address = self._images.get(name, url) if name != url else url
        shown_title = f' title="{escape(title)}"' if title else ""
        return f'<img src="{escape(address)}" alt="{escape(unescape(sub(r"<[^>]*>", "", text)))}"{shown_title}>'

    def task_list_item(self, text: str, checked: bool = False) -> str:
        """Return an item of a task list, with a character instead of a checkbox of a form."""
        return f"<li>{'☑' if checked else '☐'} {text}</li>\n"
