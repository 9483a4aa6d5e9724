"""Run one notebook, in a process of its own.

``python -m airflow_provider_nbjob.emulator.run_notebook FOLDER KERNEL [HIDDEN ...]``, see `main`.

Reads ``input.ipynb`` of the folder, writes ``output.ipynb`` beside it after every cell, and at the end
``outcome.json``: ``{"succeeded": bool, "message": str}``. The message quotes no source of a cell.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from airflow_provider_nbjob.emulator.processes import adopt_orphans, end_with_parent, kill_descendants

DEFAULT_KERNEL = "python3"
KERNEL_STARTS = 3


def main(folder: Path, kernel_name: str, hidden: list[str]) -> None:
    """Run the notebook of a folder.

    :param folder: holds ``input.ipynb``, and a folder ``work`` that is the notebook's working directory
    :param kernel_name: kernel to run it with; empty: the notebook's own
    :param hidden: names of variables of this process that the kernel does not get
    """
    for name in hidden:
        os.environ.pop(name, None)
    adopt_orphans()
    threading.Thread(target=end_with_parent, daemon=True).start()
    succeeded, message = execute(folder, kernel_name)
    (folder / "outcome.json").write_text(json.dumps({"succeeded": succeeded, "message": message}))
    kill_descendants(os.getpid())


def execute(folder: Path, kernel_name: str) -> tuple[bool, str]:
    """Run the notebook of a folder; whether it succeeded, and what went wrong where it did not."""
    try:
        notebook = nbformat.read(folder / "input.ipynb", as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises whatever a broken document makes it stumble upon
        return False, f"The notebook cannot be read: {type(error).__name__}."
    try:
        kernel = choose_kernel(notebook, kernel_name)
    except LookupError as error:
        return False, str(error)

    def save(**_: Any) -> None:
        partial = folder / "output.partial"
        nbformat.write(notebook, partial)
        partial.replace(folder / "output.ipynb")

    def make_client() -> NotebookClient:
        resources = {"metadata": {"path": str(folder / "work")}}
        return NotebookClient(notebook, timeout=None, kernel_name=kernel, on_cell_executed=save, resources=resources)

    try:
        run_cells(make_client)
    except CellExecutionError as error:
        return False, f"{failing_cell(notebook)} raised {error.ename}: {error.evalue}"
    except DeadKernelError:
        return False, "The kernel died while the notebook ran."
    except RuntimeError:
        return False, f"The kernel {kernel!r} did not start."
    finally:
        save()
    return True, ""


def run_cells(make_client: Callable[[], NotebookClient]) -> None:
    """Run a notebook's cells, with another try where its kernel did not start.

    Kernels that start at the same moment may choose the same free port, and one of them then dies.

    :param make_client: makes a client for one try: a client cannot be used again after its kernel did not start

    :raises RuntimeError: where the kernel did not start in `KERNEL_STARTS` tries
    """
    for attempt in range(1, KERNEL_STARTS + 1):
        try:
            make_client().execute()
            return
        except DeadKernelError:
            raise
        except RuntimeError:
            if attempt == KERNEL_STARTS:
                raise


def choose_kernel(notebook: nbformat.NotebookNode, kernel_name: str) -> str:
    """The kernel that was asked for, else the notebook's own where it is installed, else ``python3``.

    :raises LookupError: where the one that was asked for, or that of another language, is not installed
    """
    installed = KernelSpecManager().find_kernel_specs()
    spec = notebook.metadata.get("kernelspec", {})
    wanted = kernel_name or spec.get("name", DEFAULT_KERNEL)
    if wanted in installed:
        return str(wanted)
    if kernel_name or spec.get("language", "python") != "python":
        raise LookupError(f"Kernel {wanted!r} is not installed; there are {', '.join(sorted(installed))}.")
    return DEFAULT_KERNEL


def failing_cell(notebook: nbformat.NotebookNode) -> str:
    """Name the cell that stopped the run, counting all cells from 1."""
    for number, cell in enumerate(notebook.cells, 1):
        allowed = "raises-exception" in cell.metadata.get("tags", [])
        if not allowed and any(output.output_type == "error" for output in cell.get("outputs", [])):
            return f"Cell {number}"
    return "A cell"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
