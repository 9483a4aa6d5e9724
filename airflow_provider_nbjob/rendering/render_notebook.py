"""Render one notebook, in a process of its own: ``python -m airflow_provider_nbjob.rendering.render_notebook ORDER``.

ORDER is JSON: ``{"theme": "light", "failing_cell": 3, "cpu_seconds": 10}``. The program reads the notebook from
standard input, and writes its page to standard output. With a second argument, ``secrets``, the first line of the input
is JSON with the secrets to hide: ``[forms, parameters]``, see `Secrets`. If the program makes no page, it exits with 1,
and the last line of standard error has the reason: ``{"not_rendered": "..."}``.
"""

from __future__ import annotations

import gc
import json
import re
import resource
import sys
import zlib
from typing import Any

from airflow_provider_nbjob.rendering.limits import MEMORY_MAX_BYTES, MIB, NOTEBOOK_MAX_BYTES, RENDERED_MAX_BYTES
from airflow_provider_nbjob.rendering.secrets import Secrets, without_secrets

_GZIP_MAGIC = b"\x1f\x8b"
_HALF_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")  # escaped, or as Python writes it; pairs too
_DIGITS_MAX = 4000  # of a number; Python converts at most 4300


class Refused(Exception):
    """The input is not a notebook that can be shown; the message has the reason."""


def main() -> None:
    """Render the notebook on standard input."""
    gc.disable()  # it takes more than a tenth of the time, and the process ends before it can free much
    order = json.loads(sys.argv[1])
    _limit(resource.RLIMIT_CPU, order["cpu_seconds"])
    _limit(resource.RLIMIT_AS, MEMORY_MAX_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    try:
        secrets = Secrets(*json.loads(sys.stdin.buffer.readline())) if sys.argv[2:] else Secrets()
        page = rendered(sys.stdin.buffer.read(), order["theme"], order["failing_cell"], secrets)
    except Refused as refusal:
        sys.exit(_said(str(refusal)))
    except RecursionError:
        sys.exit(_said("The notebook is nested too deep."))
    except MemoryError:
        sys.exit(_said(f"Rendering the notebook takes more than {MEMORY_MAX_BYTES // MIB} MiB of memory."))
    sys.stdout.buffer.write(page)


def rendered(data: bytes, theme: str, failing_cell: int | None, secrets: Secrets = Secrets()) -> bytes:  # noqa: B008
    """Return the page of a notebook, without secrets.

    :raises Refused: if the data is not a notebook of format 4, or the page is too large
    """
    notebook = read_notebook(data)
    if secrets.forms or secrets.parameters is not None:
        notebook = without_secrets(notebook, secrets)
    from airflow_provider_nbjob.rendering.document import document  # nbconvert is slow to import; a refusal is not

    page = document(notebook, theme=theme, failing_cell=failing_cell).encode(errors="replace")
    if len(page) > RENDERED_MAX_BYTES:
        raise Refused(f"The page would have more than {RENDERED_MAX_BYTES // MIB} MiB.")
    return page


def read_notebook(data: bytes) -> dict[str, Any]:
    """Return the notebook that the data has as JSON, plain or compressed with gzip.

    :raises Refused: if the data is not a notebook of format 4
    """
    if not data.strip():
        raise Refused("The notebook is empty.")
    if data.startswith(_GZIP_MAGIC):
        data = _unpacked(data)
    try:
        notebook = json.loads(data, parse_int=_number)
        if _HALF_SURROGATE.search(data):  # cannot be encoded as UTF-8, so that the whole page would fail
            whole = json.dumps(notebook, ensure_ascii=False).encode(errors="replace")
            notebook = json.loads(whole, parse_int=_number)
    except ValueError:
        raise Refused("It is no notebook: it is not JSON.") from None
    if not isinstance(notebook, dict):
        raise Refused("It is no notebook: its JSON is no object.")
    version = notebook.get("nbformat", 4)
    if version != 4:
        shown = version if type(version) is int and abs(version) < 1000 else "that is no number"
        raise Refused(f"It is of notebook format {shown}; format 4 is shown here.")
    if not isinstance(notebook.get("cells"), list):
        raise Refused("It is no notebook: it has no list of cells.")
    return notebook


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _DIGITS_MAX else digits


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(data, NOTEBOOK_MAX_BYTES + 1)
    except zlib.error:
        raise Refused("Its gzip compression is broken.") from None
    if len(unpacked) > NOTEBOOK_MAX_BYTES:
        raise Refused(f"The notebook has more than {NOTEBOOK_MAX_BYTES // MIB} MiB.")
    if not unpacker.eof:
        raise Refused("Its gzip compression is broken.")
    return unpacked


def _limit(kind: int, most: int) -> None:
    """Limit a resource of this process, unless the system has set a lower limit."""
    hard = resource.getrlimit(kind)[1]
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (value, value))


def _said(reason: str) -> str:
    return json.dumps({"not_rendered": reason})


if __name__ == "__main__":
    main()
