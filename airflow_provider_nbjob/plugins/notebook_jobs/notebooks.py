"""Read the notebooks of jobs: the executed ones, and the source of a job that has not ended."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import NotebookUnreadable
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.notebook.executed import ExecutedNotebook, read_executed
from airflow_provider_nbjob.notebook.parameters import INJECTED_TAG
from airflow_provider_nbjob.notebook.results import collect_results
from airflow_provider_nbjob.notebook.source import GZIP_MAGIC
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import Place
from airflow_provider_nbjob.plugins.notebook_jobs.ttl_cache import TTLCache
from airflow_provider_nbjob.rendering import NOTEBOOK_MAX_BYTES, NotRendered

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.files import StoredNotebook
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
    from airflow_provider_nbjob.hooks.notebook_service import NotebookExecutionJob

MIB = 1024 * 1024


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run as the executed notebook has it. It may contain secrets.

    :param parameters: those in the notebook's metadata
    :param injected: source of the cells that assign the parameters
    """

    failing_cell: int | None = None
    error: str = ""
    parameters: Mapping[str, Any] | None = None
    results: Mapping[str, Any] = field(default_factory=dict)
    injected: str = ""

    @classmethod
    def of(cls, notebook: ExecutedNotebook) -> Outcome:
        """Return the outcome that an executed notebook has."""
        cell = notebook.failing_cell
        error = f"{cell.error.ename}: {cell.error.evalue}" if cell and cell.error else ""
        injected = "\n".join(one.source for one in notebook.cells if INJECTED_TAG in one.tags)
        results = collect_results(notebook).values
        return cls(cell.number if cell else None, error, notebook.parameters, results, injected)

    @property
    def size(self) -> int:
        """Return the memory that the outcome needs, in bytes; an estimate."""
        values = json.dumps([self.parameters, self.results], default=str)
        return len(values) + len(self.injected) + len(self.error) + 1000


class Outcomes:
    """Read the outcomes of executed notebooks, and cache them, so that a notebook is read once.

    The content of the newest notebooks is cached too, for the time in which a page requests its rendering.
    """

    def __init__(self) -> None:
        self._kept: TTLCache[Outcome] = TTLCache(max_bytes=16 * MIB)
        self._contents: TTLCache[bytes] = TTLCache(max_bytes=NOTEBOOK_MAX_BYTES, max_items=4, seconds=30)

    def of(self, hook: NotebookExecutionJobHook, stored: StoredNotebook, place: Place) -> Outcome:
        """Return the outcome that an executed notebook has.

        :param place: the place by which it is read
        :raises NotebookExecutionJobError: if it cannot be read
        """
        outcome = self._kept.get((place, stored))
        if outcome is None:
            outcome = Outcome.of(self._read(hook, stored, place))
            self._kept.put((place, stored), outcome, outcome.size)
        return outcome

    def content(self, hook: NotebookExecutionJobHook, stored: StoredNotebook, place: Place) -> bytes:
        """Return the content of an executed notebook that may be rendered; see `read`."""
        return self._contents.get((place, stored)) or read(hook, stored)

    def _read(self, hook: NotebookExecutionJobHook, stored: StoredNotebook, place: Place) -> ExecutedNotebook:
        if stored.size > NOTEBOOK_MAX_BYTES:  # read as a stream, so its size does not matter
            return hook.files.read_executed_notebook(stored.uri)
        content = read(hook, stored)
        self._contents.put((place, stored), content, len(content))
        return read_executed(BytesIO(content), max_bytes=NOTEBOOK_MAX_BYTES)


def source_of(hook: NotebookExecutionJobHook, job: NotebookExecutionJob) -> bytes:
    """Return the notebook that a job runs.

    :param job: read with view FULL
    :raises NotRendered: if it is too large
    :raises NotebookExecutionJobError: if it cannot be read
    """
    if job.direct_notebook_source.content:
        return bytes(job.direct_notebook_source.content)
    if repository := job.dataform_repository_source.dataform_repository_resource_name:
        return hook.files.read_dataform_notebook(repository, job.dataform_repository_source.commit_sha or None)
    uri, generation = job.gcs_notebook_source.uri, job.gcs_notebook_source.generation
    stored = hook.files.stat_notebook(uri, int(generation) if generation else None)
    if stored is None:
        raise NotebookUnreadable(f"The notebook {uri} is gone.")
    return read(hook, stored)


def read(hook: NotebookExecutionJobHook, stored: StoredNotebook) -> bytes:
    """Return the content of a notebook that may be rendered.

    :raises NotRendered: if it is too large
    """
    if stored.size > NOTEBOOK_MAX_BYTES:
        raise NotRendered(f"It has {stored.size:,} bytes; up to {NOTEBOOK_MAX_BYTES:,} are shown here.")
    return hook.files.read_stored_notebook(stored, max_bytes=NOTEBOOK_MAX_BYTES)


def redacted(content: bytes) -> bytes:
    """Return a notebook without the secrets that Airflow's maskers know on the API server.

    :raises NotRendered: if it is compressed, and too large or broken
    """
    if content.startswith(GZIP_MAGIC):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            content = unpacker.decompress(content, NOTEBOOK_MAX_BYTES + 1)
        except zlib.error:
            raise NotRendered("Its gzip compression is broken.") from None
        if len(content) > NOTEBOOK_MAX_BYTES or not unpacker.eof:
            raise NotRendered(f"It is larger than {NOTEBOOK_MAX_BYTES:,} bytes, or its gzip compression is broken.")
    text = content.decode(json.detect_encoding(content), errors="replace")
    masked = redact(text)
    return content if masked == text else masked.encode()
