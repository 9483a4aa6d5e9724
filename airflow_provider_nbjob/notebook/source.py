"""Read the notebook that is to run: an `.ipynb`, or a script in cells, which jupytext converts."""

from __future__ import annotations

import gzip
import io
import json
import reprlib
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from airflow_provider_nbjob.exceptions import InvalidJob, NotebookUnreadable
from airflow_provider_nbjob.notebook import SOURCE_MAX_BYTES

GZIP_MAGIC = b"\x1f\x8b"
HTML = "is not JSON but a page of HTML or XML, as a login or an error page is"
PYTHON_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read_notebook(source: bytes | Path) -> bytes:
    """Read a notebook or a script, validate it, and return the notebook's JSON.

    The JSON of a notebook is validated against the schema of the Jupyter format, and returned unchanged. No error
    quotes its content. A file with the suffix ``.py`` is a script in jupytext's percent format; reading it needs the
    extra `scripts`. The script is not executed. If it names no kernel, it gets ``python3``.

    :param source: the notebook's JSON, or the path of a file of at most 64 MiB
    :raises InvalidJob: if the file cannot be read, or is neither a valid notebook of format 4 nor a script in cells
    """
    label = f"{str(source)!r}" if isinstance(source, Path) else "the notebook"
    content = _read(source, label) if isinstance(source, Path) else source
    if isinstance(source, Path) and source.suffix == ".py":
        content = _notebook_of_script(content, label)
    _validate(load_notebook(content, label), label)
    return content


def load_notebook(content: bytes, label: str = "the notebook") -> dict[str, Any]:
    """Parse a notebook, without validation against the schema.

    :param label: name of the notebook in errors
    :return: the JSON object of a notebook of format 4, which has a list of cells
    :raises InvalidJob: if the content is anything else; the error recognizes gzip and HTML
    """
    if content.startswith(GZIP_MAGIC):
        raise InvalidJob(f"{label} is gzip-compressed; give it uncompressed")
    if looks_like_html(content):
        raise InvalidJob(f"{label} {HTML}")
    try:
        notebook = json.loads(content)
    except ValueError as error:  # includes errors of the encoding
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
    """Return whether content begins like a page of HTML or XML; no JSON begins so."""
    return content[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def unpacked(content: bytes, max_bytes: int) -> bytes:
    """Decompress gzip of any number of members; return other content unchanged.

    :param max_bytes: maximum size after decompression in bytes; no more is ever in memory
    :raises NotebookUnreadable: if the content is larger, or the compression is broken
    """
    if not content.startswith(GZIP_MAGIC):
        return content
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        whole = read_unpacked(file, max_bytes + 1)
    if len(whole) > max_bytes:
        raise NotebookUnreadable(f"it has more than {max_bytes} bytes when it is unpacked")
    return whole


def read_unpacked(file: BinaryIO | gzip.GzipFile, size: int) -> bytes:
    """Read at most `size` bytes of a file that may decompress what it reads.

    :raises NotebookUnreadable: if the compression is broken
    """
    try:
        return file.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise NotebookUnreadable(f"its gzip compression is broken: {error}") from None


def _read(path: Path, label: str) -> bytes:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe or a device may have no end
            raise InvalidJob(f"{label} cannot be read: it is no file")
        with path.open("rb") as file:
            content = file.read(SOURCE_MAX_BYTES + 1)
    except FileNotFoundError:
        raise InvalidJob(f"{label}: there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: the path has a NUL
        raise InvalidJob(f"{label} cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(content) > SOURCE_MAX_BYTES:
        raise InvalidJob(f"{label} is larger than {SOURCE_MAX_BYTES} bytes")
    return content


def _validate(notebook: dict[str, Any], label: str) -> None:
    import nbformat  # takes 0.2 s, and only jobs with a direct source need it

    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path)
        raise InvalidJob(f"{label} is no valid notebook: {error.validator} is violated at {where or '.'}") from None
    except Exception as error:  # nbformat raises errors of any class on a malformed document
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
    except Exception as error:  # the parser of the script's YAML header raises errors of its own classes
        raise InvalidJob(
            f"{label} is no script in percent format: its header, or the options of a cell, cannot be read"
            f" ({type(error).__name__})"
        ) from None
    notebook.metadata.setdefault("kernelspec", PYTHON_KERNEL)
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"cell-{number}"  # jupytext's ids are random, but the same script must give the same notebook
    return json.dumps(notebook, default=str).encode()  # the YAML header may hold dates
