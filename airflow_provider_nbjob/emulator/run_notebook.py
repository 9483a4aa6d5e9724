"""Run one notebook, in a process of its own.

``python -m airflow_provider_nbjob.emulator.run_notebook FOLDER [HIDDEN ...]``, see `main`.

The process starts the kernel `DEFAULT_KERNEL` at once, before there is a notebook. If the process is started ahead of
a job, the job does not wait for the kernel. The process then waits for a line on its standard input: the name of the
kernel to use, as JSON. It reads ``input.ipynb`` of the folder, writes ``output.ipynb`` beside it after every cell, and
at the end ``outcome.json``: ``{"succeeded": bool, "message": str}``. The message quotes no source of a cell.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbclient.util import ensure_async

from airflow_provider_nbjob.emulator.processes import supervised

DEFAULT_KERNEL = "python3"
KERNEL_STARTS = 3


def main(folder: Path, hidden: list[str]) -> None:
    """Run the notebook of a folder.

    :param folder: holds ``work``, the notebook's working directory, and ``input.ipynb`` before the line is written
    :param hidden: names of variables of this process that the kernel does not get
    """
    for name in hidden:
        os.environ.pop(name, None)
    outcome = asyncio.run(run(folder))
    if outcome is not None:
        succeeded, message = outcome
        (folder / "outcome.json").write_text(json.dumps({"succeeded": succeeded, "message": message}))


async def run(folder: Path) -> tuple[bool, str] | None:
    """Start a kernel, wait for the line, and run the notebook.

    :return: whether the notebook succeeded, and the message if it did not; None if the input ended without a line
    """
    work = folder / "work"
    prepared = await start_kernel(work)
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return await execute(folder, json.loads(line), prepared) if line else None


def make_client(work: Path, kernel: str) -> NotebookClient:
    """Return a client without a notebook, for a kernel whose working directory is `work`.

    The file with the kernel's key is beside that directory. A kernel that is killed leaves the file behind, and
    jupyter_client 8 would have made it in the folder of all temporary files.
    """
    resources = {"metadata": {"path": str(work)}}
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=None, kernel_name=kernel, resources=resources)
    client.config.KernelManager.connection_file = str(work.with_name("connection.json"))
    return client


async def start_kernel(work: Path) -> NotebookClient | None:
    """Start `DEFAULT_KERNEL` and return its client, or None if it did not start; the run then tries again."""
    client = make_client(work, DEFAULT_KERNEL)
    try:
        client.create_kernel_manager()
        await client.async_start_new_kernel()
        await client.async_start_new_kernel_client()
    except (RuntimeError, NoSuchKernel):
        return None
    return client


async def execute(folder: Path, kernel_name: str, prepared: NotebookClient | None) -> tuple[bool, str]:
    """Run the notebook of a folder.

    :param prepared: client of a kernel that was started before, used if the notebook wants that kernel
    :return: whether it succeeded, and the message if it did not
    """
    try:
        notebook = nbformat.read(folder / "input.ipynb", as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # for a broken document nbformat raises errors of any kind
        return False, f"The notebook cannot be read: {type(error).__name__}."
    try:
        kernel = choose_kernel(notebook, kernel_name)
    except LookupError as error:
        return False, str(error)

    def save(**_: Any) -> None:
        partial = folder / "output.partial"
        nbformat.write(notebook, partial)
        partial.replace(folder / "output.ipynb")

    try:
        await run_cells(notebook, folder / "work", kernel, prepared, save)
    except CellExecutionError as error:
        return False, f"{failing_cell(notebook)} raised {error.ename}: {error.evalue}"
    except DeadKernelError:
        return False, "The kernel died while the notebook ran."
    except RuntimeError:
        return False, f"The kernel {kernel!r} did not start."
    finally:
        save()
    return True, ""


async def run_cells(
    notebook: nbformat.NotebookNode,
    work: Path,
    kernel: str,
    prepared: NotebookClient | None,
    save: Callable[..., None],
) -> None:
    """Run a notebook's cells; start the kernel again if it did not start.

    Kernels that start at the same moment may choose the same free port, and one of them then dies.

    :param save: called after every cell
    :raises RuntimeError: if the kernel did not start in `KERNEL_STARTS` tries
    """
    client = make_client(work, kernel)
    if prepared and prepared.km:
        if prepared.kernel_name == kernel and await ensure_async(prepared.km.is_alive()):
            client = prepared
        else:
            await ensure_async(prepared.km.shutdown_kernel(now=True))
    for attempt in range(1, KERNEL_STARTS + 1):
        client.nb, client.on_cell_executed = notebook, save
        try:
            await client.async_execute()
            return
        except DeadKernelError:
            raise
        except RuntimeError:
            if attempt == KERNEL_STARTS:
                raise
        client = make_client(work, kernel)  # a client cannot be used again after its kernel did not start


def choose_kernel(notebook: nbformat.NotebookNode, kernel_name: str) -> str:
    """Return the kernel that was asked for, else the notebook's own if it is installed, else ``python3``.

    :raises LookupError: if the one that was asked for, or that of another language, is not installed
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
    supervised(lambda: main(Path(sys.argv[1]), sys.argv[2:]))
