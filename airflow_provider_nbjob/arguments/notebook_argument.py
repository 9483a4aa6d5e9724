"""The argument `direct_notebook_source` while a DAG is parsed: is the file there, and is the DAG to carry it."""

from __future__ import annotations

import os
import stat
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_provider_nbjob import names
from airflow_provider_nbjob.arguments.templating import untemplated
from airflow_provider_nbjob.notebook.unknown import UNKNOWN

# Airflow writes the arguments of a mapped task into the serialized DAG as they are, those of others cut to 4096
# characters; the scheduler and the API server read that row again and again.
SERIALIZED_NOTEBOOK_MAX_BYTES = 100 * 1024


def problems_of_source(source: Any, dag: Any) -> list[str]:
    """Return the problems of a source that show without opening a file.

    :param source: the argument
    :param dag: to whose file a relative path is relative; None or `UNKNOWN` if it is not known yet
    """
    problem = _problem_of_source(untemplated(source), None if dag is UNKNOWN else dag)
    return [f"direct_notebook_source: {problem}"] if problem else []


def _problem_of_source(source: Any, dag: Any) -> str | None:
    if source is None or source is UNKNOWN or isinstance(source, bytes) or source == "":
        return None
    if not isinstance(source, str):
        kind = type(source).__name__
        return f"{names.shown(source)} is of type {kind}; it must be a path, or a notebook as dict, JSON text or bytes"
    if "://" in source:
        return f"{source!r} is a URI; give the path of a file, or gs://bucket/notebook.ipynb as gcs_notebook_source"
    if dag is None and not os.path.isabs(source):
        return None
    problems = []
    for folder in _folders(dag):
        problem = _problem_of(folder / source)
        if problem is None:
            return None
        problems.append(problem)
    return problems[0]


def _folders(dag: Any) -> Iterator[Path]:
    """Yield the folder of the DAG's file, then those of the files that are being executed.

    A DAG that a function in another file makes has that file's name until Airflow has executed the whole file.
    """
    if dag is not None:
        yield Path(dag.fileloc).parent
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        yield Path(frame.f_code.co_filename).parent


def _problem_of(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"{str(path)!r}: there is no such file"
    except (OSError, ValueError) as error:
        # A worker may be allowed to read it, as another user; no user can read a name with NUL or one that is too long.
        return None if isinstance(error, PermissionError) else f"{str(path)[:200]!r} cannot be read: {error}"
    return f"{str(path)!r} is a folder, not a file" if stat.S_ISDIR(mode) else None


def warn_if_serialized(source: Any) -> None:
    """Warn about a large notebook that a mapped task carries in its DAG."""
    content = untemplated(source)
    if isinstance(content, bytes) and len(content) > SERIALIZED_NOTEBOOK_MAX_BYTES:
        warnings.warn(
            f"direct_notebook_source: a notebook of {len(content)} bytes is written into the serialized DAG, which the"
            f" scheduler and the API server read often; above {SERIALIZED_NOTEBOOK_MAX_BYTES} bytes give the path of"
            " its file, relative to the DAG's, or put it into Cloud Storage and give gcs_notebook_source",
            UserWarning,
            stacklevel=4,
        )
