"""Runs one notebook in one kernel: the engine's child process, one for each job.

Writes the notebook as it stands after every cell, and a result as JSON at the end. When its standard input closes, the
emulator is gone, and it ends with everything below it. Imports nothing of the emulator but `processes`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_nbjob.emulator import processes

DEFAULT_KERNEL = "python3"
_STARTUP_TIMEOUT = 120
_MESSAGE_MAX = 2000

# google.rpc.Code values. Which one the API reports for a cell that raised is not documented: UNKNOWN says so.
OK, UNKNOWN, INVALID_ARGUMENT, NOT_FOUND, INTERNAL = 0, 2, 3, 5, 13


class Result(NamedTuple):
    """How a run ended: a google.rpc.Code (0 for success), a message for people, and a note for the log."""

    code: int
    message: str = ""
    note: str = ""


def main() -> None:
    """Read the command line, run, write the result."""
    parser = argparse.ArgumentParser()
    for option in ("input", "output", "result", "folder"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    parser.add_argument("--kernel", default="")
    arguments = parser.parse_args()
    processes.adopt_orphans()
    threading.Thread(target=_end_with_the_emulator, daemon=True).start()
    try:
        result = run(arguments.input, arguments.output, arguments.folder, arguments.kernel)
    finally:
        processes.kill_descendants(os.getpid())
    write_atomically(arguments.result, json.dumps(result._asdict()))


def run(source: Path, output: Path, folder: Path, kernel: str) -> Result:
    """Run a notebook.

    :param source: the notebook
    :param output: where to write it as executed, after each cell and at the end
    :param folder: working directory of the kernel
    :param kernel: name of the kernel; empty for the notebook's own, or the default where that is not installed
    """
    try:
        notebook = load(source)
    except ValueError as error:
        return Result(INVALID_ARGUMENT, str(error))
    from jupyter_client.kernelspec import KernelSpecManager

    installed = set(KernelSpecManager().find_kernel_specs())
    wanted = kernel or notebook.metadata.get("kernelspec", {}).get("name", "")
    note = ""
    if wanted and wanted not in installed:
        if kernel:
            known = ", ".join(sorted(installed))
            return Result(NOT_FOUND, f"kernel_name: kernel {kernel!r} is not installed; there are {known}.")
        note = f"kernel {wanted!r} of the notebook is not installed; it runs in {DEFAULT_KERNEL}"
        wanted = ""
    return execute(notebook, output, folder, wanted or DEFAULT_KERNEL)._replace(note=note)


def load(path: Path) -> Any:
    """Read a notebook of any version as one of version 4.

    :raises ValueError: where it is none; the message holds nothing of its content
    """
    import nbformat
    from nbformat.validator import normalize

    try:
        notebook = json.loads(path.read_bytes())
    except ValueError as error:  # JSON's and UTF-8's errors are both
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"The notebook is not valid: it is not JSON{where}.") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("nbformat"), int):
        raise ValueError("The notebook is not valid: it is JSON, but has no 'nbformat' version.")
    try:
        notebook = nbformat.convert(nbformat.from_dict(notebook), 4)
        _, notebook = normalize(notebook, strip_invalid_metadata=True)
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        where = "/".join(map(str, error.absolute_path or error.relative_path)) or "the notebook itself"
        rule = error.message if error.validator in ("required", "additionalProperties") else error.validator
        raise ValueError(
            f"The notebook is not valid: {where} breaks the format's rule: {rule}"[:_MESSAGE_MAX]
        ) from None
    except Exception as error:  # nbformat's converters raise anything on what they do not expect
        raise ValueError(f"The notebook is not valid: nbformat cannot read it ({type(error).__name__}).") from None
    return notebook


def execute(notebook: Any, output: Path, folder: Path, kernel: str) -> Result:
    """Run a notebook's cells in order until one fails."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    running = 0

    def note_cell(cell: Any, cell_index: int) -> None:
        nonlocal running
        running = cell_index + 1

    def save(**_: Any) -> None:
        write_atomically(output, _dumps(notebook))

    client = NotebookClient(
        notebook,
        timeout=None,
        startup_timeout=_STARTUP_TIMEOUT,
        kernel_name=kernel,
        allow_errors=bool(notebook.metadata.get("allow_errors")),
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=note_cell,
        on_cell_executed=save,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        text = f"Cell {running} raised {error.ename}: {error.evalue}"
        return Result(UNKNOWN, text if len(text) <= _MESSAGE_MAX else f"{text[:_MESSAGE_MAX]}...")
    except DeadKernelError:
        return Result(UNKNOWN, f"The kernel died while it ran cell {running}.")
    except (NoSuchKernel, RuntimeError, OSError) as error:
        return Result(INTERNAL, f"The kernel {kernel!r} could not run the notebook: {error}"[:_MESSAGE_MAX])
    finally:
        if running or not notebook.cells:
            save()
    save()
    return Result(OK)


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that whoever reads it sees all of the old or all of the new."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _dumps(notebook: Any) -> str:
    import nbformat

    return nbformat.v4.writes(notebook) + "\n"


def _end_with_the_emulator() -> None:
    while os.read(0, 1024):
        pass
    processes.kill_descendants(os.getpid())
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
