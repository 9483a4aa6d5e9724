"""Read a job's notebook from its own request, from Cloud Storage, or from a Dataform repository."""

from __future__ import annotations

from pathlib import Path

from google.api_core.exceptions import GoogleAPICallError

from airflow_provider_nbjob.emulator.dataform import Repository
from airflow_provider_nbjob.emulator.messages import JobMessage
from airflow_provider_nbjob.emulator.storage import Storage
from airflow_provider_nbjob.job import DIRECT_NAME


class SourceError(Exception):
    """Raised if the notebook cannot be read; the message becomes the job's status."""


def output_name(job: JobMessage) -> str:
    """Return the name of the executed notebook: that of a Cloud Storage source, ``content.ipynb`` for other sources.

    The API does not document it; Google's own clients read these names.
    """
    return job.gcs_notebook_source.uri.rpartition("/")[2] or DIRECT_NAME


def read_source(job: JobMessage, storage: Storage, data_dir: Path) -> bytes:
    """Return the content of a job's notebook.

    :param data_dir: holds Dataform repositories as folders ``dataform/NAME``
    :raises SourceError: if it cannot be read
    """
    source = job.WhichOneof("notebook_source")
    if source == "direct_notebook_source":
        return job.direct_notebook_source.content
    if source == "gcs_notebook_source":
        try:
            return storage.read(job.gcs_notebook_source.uri, job.gcs_notebook_source.generation)
        except GoogleAPICallError as error:
            raise SourceError(f"{int(error.code or 500)} {error.message}") from None
    dataform = job.dataform_repository_source
    try:
        repository = Repository(data_dir, dataform.dataform_repository_resource_name, dataform.commit_sha)
        notebooks = [file for file in repository.files() if file.endswith(".ipynb")]
        if DIRECT_NAME in notebooks:
            notebooks = [DIRECT_NAME]
        if len(notebooks) != 1:
            raise SourceError(f"{repository} is no single-file notebook repository: it has {len(notebooks)}.")
        return repository.read(notebooks[0])
    except GoogleAPICallError as error:
        raise SourceError(f"{int(error.code or 500)} {error.message}") from None
