"""Start the process that renders a notebook, and end it.

A hostile notebook can keep a parser busy for hours or fill the memory. So a separate process with limits renders it,
and is killed after a timeout.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Literal

from airflow_provider_nbjob.rendering.limits import MIB, NOTEBOOK_MAX_BYTES, RENDERED_MAX_BYTES
from airflow_provider_nbjob.rendering.secrets import Secrets

Theme = Literal["light", "dark"]
NO_SECRETS = Secrets()
AT_ONCE = 2  # concurrent renderers of this process
_NEEDED = ("nbconvert", "nh3")
# The environment variables that the renderer gets: those that Python needs, and none with secrets of the server.
_PASSED = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
_slots = threading.BoundedSemaphore(AT_ONCE)


class RendererMissing(Exception):
    """The packages that render are not installed."""

    def __init__(self) -> None:
        super().__init__(
            "Notebooks are shown here once the extra is installed: pip install 'airflow-provider-nbjob[ui]'"
        )


class NotRendered(Exception):
    """A notebook cannot be shown; the message has the reason, for the reader."""


def is_installed() -> bool:
    """Return whether the packages of the extra ``ui``, which render, are installed."""
    return all(find_spec(name) for name in _NEEDED)


def render(
    notebook: bytes,
    *,
    theme: Theme,
    failing_cell: int | None = None,
    secrets: Secrets = NO_SECRETS,
    timeout: float,
) -> bytes:
    """Make a page of a notebook, executed or not.

    Each cell is in an element with the id ``cell-N``, where N counts all cells from 1. The page has no script, and
    loads nothing. Serve it with `DOCUMENT_HEADERS`.

    :param notebook: JSON of a notebook of format 4
    :param theme: colours of the page, ``"light"`` or ``"dark"``
    :param failing_cell: number of the cell to mark as failed; default: none
    :param secrets: the secrets to leave out; default: none
    :param timeout: seconds, including the time of waiting for other notebooks to be rendered
    :return: HTML in UTF-8, of at most `RENDERED_MAX_BYTES`
    :raises RendererMissing: if the extra ``ui`` is not installed
    :raises NotRendered: if the notebook is too large or invalid, or rendering it takes too long
    """
    if not is_installed():
        raise RendererMissing
    if len(notebook) > NOTEBOOK_MAX_BYTES:
        raise NotRendered(
            f"The notebook has {len(notebook) / MIB:.0f} MiB; up to {NOTEBOOK_MAX_BYTES // MIB} MiB are shown here."
        )
    end_time = time.monotonic() + timeout
    with _slot(timeout):
        command = _command(theme, failing_cell, timeout)
        if secrets != NO_SECRETS:  # not in the command line, which every user of the machine can read
            command.append("secrets")
            notebook = json.dumps(secrets).encode() + b"\n" + notebook
        return _rendered(notebook, command, timeout, end_time)


@contextmanager
def _slot(timeout: float) -> Iterator[None]:
    if not _slots.acquire(timeout=timeout):
        raise NotRendered(f"Other notebooks were being rendered for {timeout:g} s; try again.")
    try:
        yield
    finally:
        _slots.release()


def _command(theme: Theme, failing_cell: int | None, timeout: float) -> list[str]:
    order = {"theme": theme, "failing_cell": failing_cell, "cpu_seconds": math.ceil(timeout) + 1}
    return [sys.executable, "-m", "airflow_provider_nbjob.rendering.render_notebook", json.dumps(order)]


def _rendered(sent: bytes, command: list[str], timeout: float, end_time: float) -> bytes:
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",  # Python would search the server's current folder for modules first
        env={**environment, "PYTHONSAFEPATH": "1"},
        start_new_session=True,
    )
    try:
        document, errors = process.communicate(sent, timeout=max(0.0, end_time - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise NotRendered(f"Rendering the notebook took longer than {timeout:g} s.") from None
    finally:
        _kill(process)
    if process.returncode:
        raise NotRendered(_reason(errors, process.returncode))
    if len(document) > RENDERED_MAX_BYTES:
        raise NotRendered(f"The page would have more than {RENDERED_MAX_BYTES // MIB} MiB.")
    return document


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the remaining processes of a process's group, and wait for the process."""
    with suppress(ProcessLookupError, PermissionError):  # the group has ended; macOS then raises PermissionError
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _reason(errors: bytes, returncode: int) -> str:
    """Return the reason in the last line of the renderer's standard error, or else how the renderer ended."""
    last = errors.decode(errors="replace").strip().rpartition("\n")[2]
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(last)["not_rendered"])
    if returncode < 0:
        return f"The renderer was ended by {signal.Signals(-returncode).name}: the notebook asks too much of it."
    return f"The renderer failed: {last[:500] or f'exit code {returncode}'}"
