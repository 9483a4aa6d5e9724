"""The notebooks of jobs: where they are read before a job is submitted, and after it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import conf
from google.api_core.exceptions import NotFound

from airflow_provider_nbjob.exceptions import TRANSIENT_CODES, InvalidJob, NotebookExecutionJobError, NotebookUnreadable
from airflow_provider_nbjob.hooks.clients import dataform_client, storage_client
from airflow_provider_nbjob.hooks.requests import perform
from airflow_provider_nbjob.job import JobName, bucket_and_path
from airflow_provider_nbjob.notebook import OUTPUT_MAX_BYTES
from airflow_provider_nbjob.notebook.executed import ExecutedNotebook, read_executed

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_service import NotebookExecutionJob

# The API documents no limit for `direct_notebook_source`; gRPC servers take messages of 4 MiB by default.
DIRECT_CONTENT_MAX = 4_000_000
DIRECT_NAME = "content.ipynb"  # what the API calls the notebook of a direct or Dataform source
CHUNK = 8 * 2**20  # bytes that are fetched at once of an executed notebook
ONCE: dict[str, Any] = {"timeout": 8.0, "retry": None}  # a request for somebody who does not wait, and may ask again


class StoredNotebook(NamedTuple):
    """A notebook in Cloud Storage.

    :param uri: ``gs://bucket/notebook.ipynb``
    :param generation: of the object; another content has another one
    :param size: in bytes
    """

    uri: str
    generation: int
    size: int

    @classmethod
    def of(cls, blob: Any) -> StoredNotebook:
        """What the library says of an object."""
        return cls(f"gs://{blob.bucket.name}/{blob.name}", int(blob.generation or 0), int(blob.size or 0))


class NotebookFiles:
    """The part of `NotebookExecutionJobHook` that reads and writes notebooks, in Cloud Storage and Dataform."""

    log: Any
    get_endpoint: Any

    @property
    def direct_content_max_bytes(self) -> int:
        """Size up to which a notebook is sent in the request: ``[nbjob] direct_content_max_bytes``, or 4,000,000."""
        return conf.getint("nbjob", "direct_content_max_bytes", fallback=DIRECT_CONTENT_MAX)

    # --- what is to be run ---

    def read_gcs_notebook(self, uri: str, generation: int | None = None) -> bytes:
        """The content of a notebook in Cloud Storage.

        :param generation: of the object; default: the live one
        :raises InvalidJob: where there is no such object
        :raises NotebookExecutionJobError: where it cannot be read
        """
        bucket, path = bucket_and_path(uri)
        try:
            blob = storage_client(self).bucket(bucket).blob(path, generation=generation)
            content: bytes = blob.download_as_bytes()
        except NotFound:
            which = f"{uri!r}, generation {generation}," if generation else repr(uri)
            raise InvalidJob(f"gcs_notebook_source: there is no object {which} to put parameters into") from None
        except Exception as error:  # the library raises its own, requests' and google.auth's
            raise NotebookExecutionJobError(f"Could not read {uri} to put parameters into: {error}") from error
        return content

    def read_dataform_notebook(self, repository: str, commit_sha: str | None = None) -> bytes:
        """The content of the notebook in a Dataform repository of a single file.

        :param repository: ``projects/{project}/locations/{location}/repositories/{repository}``
        :param commit_sha: default: the head of the default branch
        :raises InvalidJob: where there is no such repository or commit, or not one notebook in it
        :raises ApiError: where it cannot be read
        """
        endpoint = self.get_endpoint(repository.split("/")[3])
        at: dict[str, Any] = {"name": repository, "commit_sha": commit_sha or ""}

        def ask(method: str, **request: Any) -> Any:
            return perform(
                lambda: getattr(dataform_client(self, endpoint), method)({**at, **request}, timeout=30.0, retry=None),
                f"{method} of {repository}",
                log=self.log,
                codes=TRANSIENT_CODES,
                not_found=InvalidJob,
                renew=lambda: dataform_client.forget(self, endpoint),
            )

        entries = ask("query_repository_directory_contents").directory_entries
        notebooks = [entry.file for entry in entries if entry.file.endswith(".ipynb")]
        if DIRECT_NAME in notebooks:
            notebooks = [DIRECT_NAME]
        if len(notebooks) != 1:
            raise InvalidJob(
                f"dataform_repository_source: {repository!r} is to hold a single notebook; it has {len(notebooks)}"
            )
        return bytes(ask("read_repository_file", path=notebooks[0]).contents)

    def upload_notebook(self, content: bytes, uri: str) -> None:
        """Write a notebook to Cloud Storage.

        :param uri: ``gs://bucket/notebook.ipynb``
        :raises NotebookExecutionJobError: where it cannot be written
        """
        bucket, path = bucket_and_path(uri)
        try:
            blob = storage_client(self).bucket(bucket).blob(path)
            blob.upload_from_string(content, content_type="application/x-ipynb+json")
        except Exception as error:
            raise NotebookExecutionJobError(f"Could not write the notebook that is to run to {uri}: {error}") from error

    # --- what was run ---

    def find_output_notebook(self, job: NotebookExecutionJob) -> str | None:
        """The ``gs://`` URI of the executed notebook, or `None` where there is none.

        A bucket that cannot be listed is logged, and taken for one without output: it decides nothing about the job.
        """
        try:
            stored = self.stat_output_notebook(job)
        except NotebookExecutionJobError as error:
            self.log.warning("%s", error)
            return None
        return stored and stored.uri

    def stat_output_notebook(self, job: NotebookExecutionJob, *, retry: bool = True) -> StoredNotebook | None:
        """The executed notebook as an object, or `None` where there is none.

        The API documents no object name: the job's folder below `gcs_output_uri` is listed.

        :param retry: false: one attempt, of at most 8 s without an answer
        :raises NotebookExecutionJobError: where the bucket cannot be listed
        """
        if not job.gcs_output_uri:
            return None
        folder = JobName.parse(job.name).output_uri(job.gcs_output_uri)
        bucket, prefix = bucket_and_path(folder)
        try:
            client, options = storage_client(self), {} if retry else ONCE
            blobs = list(client.list_blobs(bucket, prefix=prefix, max_results=1000, **options))
        except NotFound:
            return None
        except Exception as error:
            raise NotebookExecutionJobError(f"Could not look for the executed notebook in {folder}: {error}") from error
        expected = prefix + (job.gcs_notebook_source.uri.rpartition("/")[2] or DIRECT_NAME)
        notebooks = [blob for blob in blobs if blob.name.endswith(".ipynb")]
        notebooks.sort(key=lambda blob: blob.name != expected)
        return StoredNotebook.of(notebooks[0]) if notebooks else None

    def stat_notebook(self, uri: str, generation: int | None = None) -> StoredNotebook | None:
        """A notebook in Cloud Storage as an object, or `None` where there is none; one attempt.

        :param generation: default: the live one
        :raises NotebookExecutionJobError: where the bucket does not say
        """
        bucket, path = bucket_and_path(uri)
        try:
            blob = storage_client(self).bucket(bucket).get_blob(path, generation=generation, **ONCE)
        except Exception as error:
            raise NotebookExecutionJobError(f"Could not look for {uri}: {error}") from error
        return blob and StoredNotebook.of(blob)

    def read_stored_notebook(self, stored: StoredNotebook) -> bytes:
        """The content of a notebook, of the very generation that was looked at; one attempt.

        :raises NotebookExecutionJobError: where it cannot be read
        """
        bucket, path = bucket_and_path(stored.uri)
        try:
            blob = storage_client(self).bucket(bucket).blob(path, generation=stored.generation or None)
            content: bytes = blob.download_as_bytes(**ONCE)
        except Exception as error:
            raise NotebookExecutionJobError(f"Could not read {stored.uri}: {error}") from error
        return content

    def read_output_notebook(self, uri: str) -> bytes:
        """The content of an executed notebook, whole.

        :param uri: what `find_output_notebook` returned
        :raises NotebookExecutionJobError: where it cannot be read
        """
        bucket, path = bucket_and_path(uri)
        try:
            content: bytes = storage_client(self).bucket(bucket).blob(path).download_as_bytes()
        except Exception as error:
            raise NotebookExecutionJobError(f"Could not read {uri}: {error}") from error
        return content

    def read_executed_notebook(
        self, uri: str, *, keep_outputs: bool = False, max_bytes: int = OUTPUT_MAX_BYTES
    ) -> ExecutedNotebook:
        """What can be told of an executed notebook: its cells, what they raised, and what they handed out.

        It is read once, as a stream: its images are never in memory.

        :param uri: what `find_output_notebook` returned
        :param keep_outputs: whether the text of all outputs is wanted
        :param max_bytes: a larger one is not read
        :raises NotebookUnreadable: where it is larger, gone, or no notebook
        :raises NotebookExecutionJobError: where it cannot be read
        """
        bucket, path = bucket_and_path(uri)
        try:
            blob = storage_client(self).bucket(bucket).get_blob(path)
            if blob is None:
                raise NotebookUnreadable("it is gone")
            if (blob.size or 0) > max_bytes:
                raise NotebookUnreadable(f"it has {blob.size} bytes; at most {max_bytes} are read")
            with blob.open("rb", chunk_size=CHUNK, raw_download=True) as stream:
                return read_executed(stream, keep_outputs=keep_outputs, max_bytes=max_bytes)
        except NotebookUnreadable as error:
            raise NotebookUnreadable(f"The executed notebook {uri} cannot be read: {error}") from None
        except Exception as error:
            raise NotebookExecutionJobError(f"Could not read {uri}: {error}") from error
