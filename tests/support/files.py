"""The files of a process that goes on writing and removing them."""

from __future__ import annotations

import os
from pathlib import Path


def below(folder: Path) -> list[Path]:
    """Return all files and folders below one; `Path.rglob` fails if one goes as it looks into it."""
    return [
        Path(parent, name) for parent, folders, files in os.walk(folder) for name in (*sorted(folders), *sorted(files))
    ]


def notebooks_of_runs(data_dir: Path) -> list[Path]:
    """Return the notebooks in the folders of an emulator's runs, each of which goes with its run."""
    return [path for path in below(data_dir) if path.parent.parent == data_dir and path.match("job-*/*.ipynb")]


def contents(files: list[Path]) -> dict[Path, bytes]:
    """Return what is in files, without those that are gone by now, and folders."""
    found = {}
    for file in files:
        try:
            found[file] = file.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            continue
    return found
