"""What is to be run, as a notebook: an `.ipynb`, or a script in cells that jupytext makes one of."""

from __future__ import annotations

import gzip
import io
import json
import reprlib
import zlib
from pathlib import Path
from typing import Any

from airflow_provider_nbjob.exceptions import InvalidJob, NotebookUnreadable
from airflow_provider_nbjob.notebook import SOURCE_MAX_BYTES

GZIP_MAGIC = b"\x1f\x8b"
PYTHON_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read_notebook(source: bytes | Path) -> bytes:
    """Return the JSON of a notebook, as it stands, or that of a script as a notebook.

    It is checked against the schema of the Jupyter format, but not changed. No error quotes its content. A file with
    the suffix ``.py`` is taken for a script in jupytext's percent format, which the extra `scripts` reads; it is not
    executed. Without a kernel of its own it gets ``python3``.

    :param source: the notebook's JSON, or the file that holds it
    :raises InvalidJob: if the file cannot be read, or is no valid notebook of format 4 and no script in cells
    """
    label = f"{str(source)!r}" if isinstance(source, Path) else "the notebook"
    content = _read(source, label) if isinstance(source, Path) else source
    if isinstance(source, Path) and source.suffix == ".py":
        content = _notebook_of_script(content, label)
    _validate(load_notebook(content, label), label)
    return content


def load_notebook(content: bytes, label: str = "the notebook") -> dict[str, Any]:
    """Return the document of a notebook: JSON of format 4 with a list of cells, otherwise unchecked.

    :param label: how an error names it
    :raises InvalidJob: if it is something else; gzip and HTML are named
    """
    if content.startswith(GZIP_MAGIC):
        raise InvalidJob(f"{label} is gzip-compressed; give it uncompressed")
    if looks_like_html(content):
        raise InvalidJob(f"{label} is not JSON but a page of HTML or XML, as a login or an error page is")
    try:
        notebook = json.loads(content)
    except ValueError as error:  # of JSON, and of the encoding
        raise InvalidJob(f"{label} is not JSON: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise InvalidJob(f"{label} is no notebook: its JSON is nested too deep") from None
    if isinstance(notebook, dict) and notebook.get("nbformat") == 3 and "worksheets" in notebook:
        raise InvalidJob(f"{label} is of notebook format 3; the API runs format 4")
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise InvalidJob(f"{label} is JSON but no notebook: it has no list of cells")
    if notebook.get("nbformat") != 4:
        raise InvalidJob(
            f"{label} is of notebook format {reprlib.repr(notebook.get('nbformat'))}; the API runs format 4"
        )
    return notebook


def looks_like_html(content: bytes) -> bool:
    """Whether this is the beginning of a page of HTML or XML, which no JSON begins like."""
    return content[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def unpacked(content: bytes, max_bytes: int) -> bytes:
    """Return what gzip packed, of whatever number of members; other content as it is.

    :param max_bytes: of what comes out; no more than that is ever in memory
    :raises NotebookUnreadable: if it is more, or the compression is broken
    """
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            whole = file.read(max_bytes + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise NotebookUnreadable(f"its gzip compression is broken: {error}") from None
    if len(whole) > max_bytes:
        raise NotebookUnreadable(f"it has more than {max_bytes} bytes when it is unpacked")
    return whole


def _read(path: Path, label: str) -> bytes:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe or a device has no end
            raise InvalidJob(f"{label} cannot be read: it is no file")
        with path.open("rb") as file:
            content = file.read(SOURCE_MAX_BYTES + 1)
    except FileNotFoundError:
        raise InvalidJob(f"{label}: there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InvalidJob(f"{label} cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(content) > SOURCE_MAX_BYTES:
        raise InvalidJob(f"{label} is larger than {SOURCE_MAX_BYTES} bytes")
    return content


def _validate(notebook: dict[str, Any], label: str) -> None:
    import nbformat  # 0.2 s that only jobs with a direct source pay

    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path)
        raise InvalidJob(f"{label} is no valid notebook: {error.validator} is violated at {where or '.'}") from None
    except Exception as error:  # nbformat raises whatever a broken document makes it stumble upon
        raise InvalidJob(
            f"{label} is no valid notebook: a cell, its metadata, or nbformat_minor is not of the type that the format"
            f" says ({type(error).__name__})"
        ) from None


def _notebook_of_script(content: bytes, label: str) -> bytes:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidJob(f"{label} is not a text in UTF-8: {error.reason} at byte {error.start}") from None
    if not any(line.startswith("# %%") for line in text.splitlines()):
        raise InvalidJob(f"{label} is a Python script without cells; a line '# %%' begins each cell of a notebook")
    try:
        import jupytext
    except ImportError:
        raise InvalidJob(
            f"{label} is a script; to run it as a notebook: pip install 'airflow-provider-nbjob[scripts]'"
        ) from None
    try:
        notebook = jupytext.reads(text, fmt="py:percent")
    except Exception as error:  # of whatever reads the script's YAML header, which has errors of its own
        raise InvalidJob(
            f"{label} is no script in percent format: its header, or the options of a cell, cannot be read"
            f" ({type(error).__name__})"
        ) from None
    notebook.metadata.setdefault("kernelspec", PYTHON_KERNEL)
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"cell-{number}"  # jupytext's are random: the same script is to be the same notebook
    return json.dumps(notebook, default=str).encode()  # YAML has dates
