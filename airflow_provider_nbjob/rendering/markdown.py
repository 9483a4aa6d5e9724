"""Markdown of a notebook as HTML, by nbconvert's rules, with what it adds for scripts left out."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape, unescape
from re import sub
from typing import Any

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from airflow_provider_nbjob.rendering.highlighting import known_language
from airflow_provider_nbjob.rendering.sanitizing import left_out, note, sanitized

# nbconvert 7 looks for the end of a formula from each `\\(` and each `\\begin`, so that 20,000 of them take minutes.
BACKSLASHES_MAX = 3000


def markdown_to_html(source: str, attachments: Mapping[str, str]) -> str:
    """Markdown as HTML that is safe; formulas are shown as they are written.

    :param attachments: ``data:`` address by name, for images with the address ``attachment:NAME``
    """
    if source.count("\\") > BACKSLASHES_MAX:
        return f"<pre>{escape(source)}</pre>"
    try:
        html = MarkdownWithMath(renderer=_Renderer(attachments)).render(source)
    except RecursionError:  # nested deeper than a person would
        return f"<pre>{escape(source)}</pre>"
    return sanitized(html) + "".join(map(note, left_out(html)))


class _Renderer(IPythonRenderer):
    """nbconvert's renderer; its own headings, mermaid and attachments take untrusted text for trusted.

    :param images: ``data:`` address by name of attachment
    """

    def __init__(self, images: Mapping[str, str]) -> None:
        super().__init__(escape=False)
        self._images = images

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        """Return a heading with the id that links within notebooks are written for."""
        plain = unescape(sub(r"<[^>]*>", "", text)).strip()
        return f'<h{level} id="{escape(plain.replace(" ", "-"))}">{text}</h{level}>\n'

    def block_code(self, code: str, info: str | None = None) -> str:
        """Return a block of code, highlighted if its language is known."""
        language = known_language((info or "").split(maxsplit=1)[0] if (info or "").strip() else "")
        return str(super().block_code(code, language)) if language else f"<pre><code>{escape(code)}</code></pre>\n"

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Return an image; an attachment is put in its place."""
        name = url.removeprefix("attachment:")
        address = self._images.get(name, url) if name != url else url
        shown_title = f' title="{escape(title)}"' if title else ""
        return f'<img src="{escape(address)}" alt="{escape(unescape(sub(r"<[^>]*>", "", text)))}"{shown_title}>'

    def task_list_item(self, text: str, checked: bool = False) -> str:
        """Return an item of a task list, with a sign in place of a form's checkbox."""
        return f"<li>{'☑' if checked else '☐'} {text}</li>\n"
