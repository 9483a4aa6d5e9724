"""Make an HTML document of a notebook, by nbconvert's HTML exporter and its template `lab`, without scripts.

The exporter's own conversion validates the notebook, copies it twice, and parses the finished page once more, which
takes seconds. Here the template is filled directly, with cells that are already safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbconvert.exporters import HTMLExporter
from nbconvert.filters import Highlight2HTML

from airflow_provider_nbjob.rendering.highlighting import known_language
from airflow_provider_nbjob.rendering.markdown import markdown_to_html
from airflow_provider_nbjob.rendering.outputs import RASTER_TYPES, data_image, shown_outputs
from airflow_provider_nbjob.rendering.terminal import terminal_html
from airflow_provider_nbjob.rendering.values import mapping, text_of

_TEMPLATES = Path(__file__).parent / "templates"
# The filters of the template `lab`. Raw cells and all other parts are in our own template.
_CONTENT = dict.fromkeys(
    ("code", "markdown", "raw", "unknown", "input", "output", "output_stdin", "input_prompt", "output_prompt"), True
)
_TYPES = ("code", "markdown", "raw")


def document(notebook: Mapping[str, Any], *, theme: str, failing_cell: int | None) -> str:
    """Return the page of a notebook.

    :param notebook: a notebook of format 4 with a list of cells; it may be invalid or hostile
    :param theme: ``"light"`` or ``"dark"``
    :param failing_cell: number of the cell to mark, counting all from 1
    """
    exporter = HTMLExporter(
        extra_template_paths=[str(_TEMPLATES)],
        template_file="notebook.html.j2",
        default_preprocessors=[],  # otherwise they are loaded, although none is used
    )
    exporter.register_filter("highlight_code", Highlight2HTML(pygments_lexer=_language(notebook) or "text"))
    exporter.register_filter("ansi2html", terminal_html)
    cells = list(_cells(notebook["cells"]))
    resources = {
        "global_content_filter": {f"include_{name}": shown for name, shown in _CONTENT.items()},
        "css": "\n".join(_styles(exporter, theme)),
    }
    page = exporter.template.render(
        nb={"cells": cells}, resources=resources, theme=theme, failing_cell=_within(failing_cell, cells)
    )
    return str(page)


def _styles(exporter: HTMLExporter, theme: str) -> Iterator[str]:
    for name in ("static/index.css", f"static/theme-{theme}.css"):
        yield exporter.environment.loader.get_source(exporter.environment, name)[0]
    yield (_TEMPLATES / "notebook.css").read_text()


def _language(notebook: Mapping[str, Any]) -> str:
    metadata = mapping(notebook.get("metadata"))
    info, kernel = mapping(metadata.get("language_info")), mapping(metadata.get("kernelspec"))
    named = (info.get("pygments_lexer"), info.get("name"), kernel.get("language"), kernel.get("name"))
    return next((language for name in named if (language := known_language(name))), "")


def _cells(cells: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield the cells as the template takes them; all other parts of the notebook are left out."""
    for number, cell in enumerate(map(mapping, cells), start=1):
        cell_type = cell.get("cell_type")
        shown: dict[str, Any] = {
            "number": number,
            "cell_type": cell_type if cell_type in _TYPES else "raw",
            "metadata": {},
        }
        source = text_of(cell.get("source"))
        if cell_type == "markdown":
            yield shown | {"html": markdown_to_html(source, _attachments(cell))}
        elif cell_type == "code":
            count, outputs = cell.get("execution_count"), cell.get("outputs")
            yield shown | {
                "source": source,
                "execution_count": count if type(count) is int else None,
                "outputs": list(shown_outputs(outputs, number)) if isinstance(outputs, list) else [],
            }
        else:
            yield shown | {"source": source}


def _attachments(cell: Mapping[str, Any]) -> dict[str, str]:
    """Return the ``data:`` URL of each image attached to a cell."""
    found = {}
    for name, forms in mapping(cell.get("attachments")).items():
        known = mapping(forms)
        addresses = (data_image(mime, known[mime]) for mime in ("image/svg+xml", *RASTER_TYPES) if mime in known)
        if address := next(filter(None, addresses), ""):
            found[name] = address
    return found


def _within(failing_cell: int | None, cells: list[Any]) -> int | None:
    return failing_cell if failing_cell is not None and 1 <= failing_cell <= len(cells) else None
