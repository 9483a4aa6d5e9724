"""Where a job's notebook comes from: its own request, Cloud Storage, or a Dataform repository."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from google.api_core.exceptions import NotFound

from airflow_provider_nbjob.emulator.storage import Storage
from airflow_provider_nbjob.emulator.validation import REPOSITORY

DIRECT_NAME = "content.ipynb"


class SourceError(Exception):
    """The notebook cannot be read; the message becomes the job's status."""


def output_name(job: Any) -> str:
    """The name of the executed notebook: that of a Cloud Storage source is kept, any other is ``content.ipynb``.

    Undocumented; clients of Google's own read it so.
    """
    uri: str = job.gcs_notebook_source.uri
    return uri.rpartition("/")[2] or DIRECT_NAME


def read_source(job: Any, storage: Storage, data_dir: Path) -> bytes:
    """The content of a job's notebook.

    :param job: `NotebookExecutionJob` protobuf message
    :param data_dir: holds Dataform repositories as folders ``dataform/NAME``
    :raises SourceError: where it cannot be read
    """
    source = job.WhichOneof("notebook_source")
    if source == "direct_notebook_source":
        return bytes(job.direct_notebook_source.content)
    if source == "gcs_notebook_source":
        try:
            return storage.read(job.gcs_notebook_source.uri, job.gcs_notebook_source.generation)
        except NotFound as error:
            raise SourceError(f"404 {error.message}") from None
    dataform = job.dataform_repository_source
    match = REPOSITORY.fullmatch(dataform.dataform_repository_resource_name)
    if match is None:  # validated when the job was created
        raise SourceError(f"Not a repository: {dataform.dataform_repository_resource_name}")
    folder = data_dir / "dataform" / match["id"]
    return _read_repository(folder, dataform.commit_sha, dataform.dataform_repository_resource_name)


def _read_repository(folder: Path, commit_sha: str, name: str) -> bytes:
    if not folder.is_dir():
        raise SourceError(f"404 Repository {name} was not found.")
    is_git = (folder / ".git").exists()
    if commit_sha and not is_git:
        raise SourceError(f"404 Repository {name} has no commits, so none is {commit_sha}.")
    revision = commit_sha or "HEAD"
    if is_git:
        listed = _git(folder, "ls-tree", "--name-only", revision).decode().splitlines()
    else:
        listed = sorted(path.name for path in folder.iterdir())
    notebooks = [file for file in listed if file.endswith(".ipynb")]
    if DIRECT_NAME in notebooks:
        notebooks = [DIRECT_NAME]
    if len(notebooks) != 1:
        raise SourceError(f"Repository {name} is no single-file notebook repository: it has {len(notebooks)}.")
    if is_git:
        return _git(folder, "show", f"{revision}:{notebooks[0]}")
    return (folder / notebooks[0]).read_bytes()


def _git(folder: Path, *arguments: str) -> bytes:
    # The repository belongs to whoever started the emulator, also where git would doubt it (a mounted folder).
    command = ["git", "-c", f"safe.directory={folder}", *arguments]
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=60)
    except FileNotFoundError:
        raise SourceError("git is needed to read a Dataform repository that is a git repository.") from None
    except subprocess.CalledProcessError as error:
        raise SourceError(f"404 {error.stderr.decode(errors='replace').strip()}") from None
    return run.stdout
