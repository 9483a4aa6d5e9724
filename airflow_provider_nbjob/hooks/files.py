"""Read the notebooks of jobs, before a job is submitted and after it has ended; and upload them."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow.providers.common.compat.sdk import conf
from google.api_core.exceptions import NotFound
from google.auth.exceptions import GoogleAuthError

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import ApiError, InvalidJob, NotebookUnreadable
from airflow_provider_nbjob.hooks import permissions
from airflow_provider_nbjob.hooks.bounded_calls import within
from airflow_provider_nbjob.hooks.clients import storage_client
from airflow_provider_nbjob.hooks.dataform import DataformRepository
from airflow_provider_nbjob.hooks.hook_lineage import report_notebook
from airflow_provider_nbjob.hooks.retrying import code_of, counted, credentials_error, is_an_answer
from airflow_provider_nbjob.job import DIRECT_NAME, JobName, bucket_and_path
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.notebook import OUTPUT_MAX_BYTES, OUTPUT_SECONDS, SOURCE_MAX_BYTES
from airflow_provider_nbjob.notebook.executed import ExecutedNotebook, read_executed
from airflow_provider_nbjob.notebook.source import unpacked
from airflow_provider_nbjob.notebook.streaming import Sized

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
    from airflow_provider_nbjob.hooks.notebook_service import NotebookExecutionJob

T = TypeVar("T")

# The API documents no limit for `direct_notebook_source`; gRPC servers take messages of 4 MiB by default.
DIRECT_CONTENT_MAX = 4_000_000
CHUNK = 8 * 2**20  # bytes that are fetched at once of an executed notebook
ONCE: dict[str, Any] = {"timeout": 8.0, "retry": None}  # a request for somebody who does not wait, and may ask again
ONCE_SECONDS = 30.0  # that all requests of one call may take for such a one
ANSWER_SECONDS = 10.0  # without a byte, after which an attempt at a request of Cloud Storage is given up
RETRY_SECONDS = 15.0  # that attempts at one request of Cloud Storage go on
READ_BYTES_PER_SECOND = 4 * 2**20  # an executed notebook gets a second more than `OUTPUT_SECONDS` for each
SOURCE_SECONDS = 120.0  # that reading, or writing, the notebook that is to run may take, over all requests
STORED_MAX_BYTES = 32 * 2**20  # of a notebook that is read for such a one
LISTED_MAX = 1000  # objects below a job's output that are looked at for its notebook


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
        """Return the object that the library describes."""
        return cls(f"gs://{blob.bucket.name}/{blob.name}", int(blob.generation or 0), int(blob.size or 0))


class NotebookFiles:
    """The notebooks of a hook's jobs: reads and writes them in Cloud Storage, and reads them in Dataform."""

    def __init__(self, hook: NotebookExecutionJobHook) -> None:
        self._hook = hook

    @property
    def direct_content_max_bytes(self) -> int:
        """Size up to which a notebook is sent in the request: ``[nbjob] direct_content_max_bytes``, or 4,000,000."""
        return int(conf.getint("nbjob", "direct_content_max_bytes", fallback=DIRECT_CONTENT_MAX))

    # --- before the run ---

    def read_gcs_notebook(self, uri: str, generation: int | None = None) -> bytes:
        """Return the content of a notebook in Cloud Storage, of at most `SOURCE_MAX_BYTES` after unpacking.

        :param generation: of the object; default: the live one
        :raises InvalidJob: if there is no such object, or it is too large
        :raises ApiError: if it cannot be read within `SOURCE_SECONDS`
        """
        bucket, path = bucket_and_path(uri, "gcs_notebook_source")
        what = f"read {uri} to put parameters into"
        try:
            with counted(permissions.GET_OBJECT):
                content = within(
                    SOURCE_SECONDS, what, lambda: self._content(bucket, path, generation, SOURCE_MAX_BYTES)
                )
        except NotFound:
            which = f"{uri!r}, generation {generation}," if generation else repr(uri)
            raise InvalidJob(f"gcs_notebook_source: there is no object {which} to put parameters into") from None
        except InvalidJob:
            raise
        except NotebookUnreadable as error:
            raise InvalidJob(f"gcs_notebook_source: {uri!r} cannot be read: {error}") from None
        except Exception as error:  # the library raises its own, requests' and google.auth's
            raise self._failed(what, error, permissions.GET_OBJECT, bucket) from error
        report_notebook(self._hook, uri, "add_input_asset")
        return content

    def read_dataform_notebook(
        self,
        repository: str,
        commit_sha: str | None = None,
        *,
        max_bytes: int = SOURCE_MAX_BYTES,
        retry: bool = True,
    ) -> bytes:
        """Return the content of the notebook in a Dataform repository of a single file.

        :param repository: ``projects/{project}/locations/{location}/repositories/{repository}``
        :param commit_sha: default: the head of the default branch
        :param max_bytes: a larger one is refused
        :param retry: false: one attempt at each request
        :raises InvalidJob: if there is no such repository or commit, or not one notebook in it, or it is too large
        :raises ApiError: if it cannot be read within `SOURCE_SECONDS`
        """
        field = "dataform_repository_source"
        form = "projects/{project}/locations/{location}/repositories/{repository}"
        names.check(field, repository, names.REPOSITORY, form)
        if commit_sha:
            names.check(f"{field}: commit_sha", commit_sha, names.COMMIT_SHA, "a commit's SHA in hexadecimal")
        source = DataformRepository(self._hook, repository, commit_sha or "", retry)
        content = within(SOURCE_SECONDS, f"read the notebook of {repository}", source.read_notebook)
        if len(content) > max_bytes:
            raise InvalidJob(f"{field}: {repository!r} has {len(content)} bytes; at most {max_bytes} are read")
        return content

    def upload_notebook(self, content: bytes, uri: str) -> None:
        """Write a notebook to Cloud Storage.

        :param uri: ``gs://bucket/notebook.ipynb``
        :raises ApiError: if it cannot be written within `SOURCE_SECONDS`
        """
        bucket, path = bucket_and_path(uri, "gcs_output_uri")
        what = f"write the notebook that is to run to {uri}"

        def write() -> None:
            blob = storage_client(self._hook).bucket(bucket).blob(path)
            blob.upload_from_string(content, content_type="application/x-ipynb+json", **_patient())

        try:
            with counted(permissions.CREATE_OBJECT):
                within(SOURCE_SECONDS, what, write)
        except Exception as error:
            raise self._failed(what, error, permissions.CREATE_OBJECT, bucket) from error

    # --- after the run ---

    def find_output_notebook(self, job: NotebookExecutionJob) -> str | None:
        """Return the ``gs://`` URI of the executed notebook, or None if the job wrote none.

        :raises ApiError: if the bucket cannot be listed; then nobody knows whether there is one
        """
        stored = self.stat_output_notebook(job)
        return stored and stored.uri

    def stat_output_notebook(
        self, job: NotebookExecutionJob, *, retry: bool = True, timeout: float = OUTPUT_SECONDS
    ) -> StoredNotebook | None:
        """Return the executed notebook as an object, or None if the job wrote none, or has no `gcs_output_uri`.

        The API documents no object name: the job's folder below `gcs_output_uri` is listed.

        :param retry: false: one attempt, of at most 8 s without an answer
        :param timeout: seconds that all attempts may take
        :raises ApiError: if the bucket cannot be listed, or does not exist
        """
        if not job.gcs_output_uri:
            return None
        folder = JobName.parse(job.name).output_uri(job.gcs_output_uri)
        bucket, prefix = bucket_and_path(folder, "gcs_output_uri")
        expected = prefix + (job.gcs_notebook_source.uri.rpartition("/")[2] or DIRECT_NAME)

        def look() -> StoredNotebook | None:
            options = _patient() if retry else ONCE
            blobs = list(
                storage_client(self._hook).list_blobs(bucket, prefix=prefix, max_results=LISTED_MAX, **options)
            )
            notebooks = [blob for blob in blobs if blob.name.endswith(".ipynb")]
            notebooks.sort(key=lambda blob: blob.name != expected)
            return StoredNotebook.of(notebooks[0]) if notebooks else None

        found = self._within(
            timeout, f"look for the executed notebook in {folder}", look, permissions.LIST_OBJECTS, bucket
        )
        if found:
            report_notebook(self._hook, found.uri, "add_output_asset")
        return found

    def stat_notebook(self, uri: str, generation: int | None = None) -> StoredNotebook | None:
        """Return a notebook in Cloud Storage as an object, or None if there is none; one attempt of 30 s at most.

        :param generation: default: the live one
        :raises ApiError: if the bucket does not say
        """
        bucket, path = bucket_and_path(uri)

        def look() -> StoredNotebook | None:
            blob = storage_client(self._hook).bucket(bucket).get_blob(path, generation=generation, **ONCE)
            return blob and StoredNotebook.of(blob)

        return self._within(ONCE_SECONDS, f"look for {uri}", look, permissions.GET_OBJECT, bucket)

    def read_stored_notebook(self, stored: StoredNotebook, *, max_bytes: int = STORED_MAX_BYTES) -> bytes:
        """Return the content of a notebook, of the very generation that was looked at; one attempt of 30 s at most.

        :param max_bytes: bytes that are read at most, after unpacking
        :raises NotebookUnreadable: if it is larger, or its compression is broken
        :raises ApiError: if it cannot be read
        """
        return self._output(stored.uri, stored.generation or None, max_bytes, ONCE_SECONDS, **ONCE)

    def read_output_notebook(
        self, uri: str, *, max_bytes: int = OUTPUT_MAX_BYTES, timeout: float = OUTPUT_SECONDS
    ) -> bytes:
        """Return the content of an executed notebook, whole.

        :param uri: what `find_output_notebook` returned
        :param max_bytes: bytes that are read at most, after unpacking
        :param timeout: seconds that all requests may take
        :raises NotebookUnreadable: if it is larger, or its compression is broken
        :raises ApiError: if it cannot be read
        """
        return self._output(uri, None, max_bytes, timeout)

    def read_executed_notebook(
        self,
        uri: str,
        *,
        keep_outputs: bool = False,
        max_bytes: int = OUTPUT_MAX_BYTES,
        timeout: float = OUTPUT_SECONDS,
        stored: StoredNotebook | None = None,
    ) -> ExecutedNotebook:
        """Return the cells of an executed notebook, the errors that they raised, and the results that they handed out.

        It is read once, as a stream: its images are never in memory.

        :param uri: what `find_output_notebook` returned
        :param keep_outputs: whether the text of all outputs is wanted
        :param max_bytes: a larger one is not read
        :param timeout: seconds that all requests may take, and one more for each `READ_BYTES_PER_SECOND` of its size
        :param stored: the object, as `stat_output_notebook` returned it; by default it is asked for
        :raises NotebookUnreadable: if it is larger, gone, or no notebook
        :raises ApiError: if it cannot be read
        """
        bucket, path = bucket_and_path(uri)
        what, end_time = f"read {uri}", time.monotonic() + timeout

        def look() -> tuple[Any, int]:
            in_bucket = storage_client(self._hook).bucket(bucket)
            if stored:
                return in_bucket.blob(path, generation=stored.generation or None), stored.size
            blob = in_bucket.get_blob(path, **_patient())
            return blob, (blob and blob.size) or 0

        def read() -> ExecutedNotebook:
            with blob.open("rb", chunk_size=CHUNK, raw_download=True, **_patient()) as stream:
                whole: Any = Sized(stream, size) if size else stream
                return read_executed(whole, keep_outputs=keep_outputs, max_bytes=max_bytes)

        try:
            blob, size = self._within(timeout, what, look, permissions.GET_OBJECT, bucket)
            if blob is None:
                raise NotebookUnreadable("it is gone")
            if size > max_bytes:
                raise NotebookUnreadable(f"it has {size} bytes; at most {max_bytes} are read")
            left = end_time - time.monotonic() + size / READ_BYTES_PER_SECOND
            return self._within(left, what, read, permissions.GET_OBJECT, bucket)
        except NotebookUnreadable as error:
            raise NotebookUnreadable(f"The executed notebook {uri} cannot be read: {error}") from None

    # --- without a job ---

    def check_folder(self, uri: str) -> None:
        """Ask for one object below a bucket or folder, whether or not there is one; one attempt of 30 s at most.

        :param uri: ``gs://bucket`` or ``gs://bucket/folder``
        :raises ApiError: if it cannot be listed
        """
        bucket, path = bucket_and_path(uri)
        prefix = f"{path.rstrip('/')}/" if path else ""

        def look() -> None:
            next(iter(storage_client(self._hook).list_blobs(bucket, prefix=prefix, max_results=1, **ONCE)), None)

        self._within(ONCE_SECONDS, f"list {uri}", look, permissions.LIST_OBJECTS, bucket)

    def held_permissions(self, bucket: str, asked: Collection[str]) -> set[str]:
        """Return which of some permissions the caller has on a bucket; one attempt of 30 s at most.

        :raises ApiError: if Cloud Storage does not say
        """

        def ask() -> set[str]:
            return set(storage_client(self._hook).bucket(bucket).test_iam_permissions(list(asked), **ONCE))

        what = f"ask for the permissions on the bucket {bucket}"
        return self._within(ONCE_SECONDS, what, ask, permissions.GET_OBJECT, bucket)

    # --- inside ---

    def _output(self, uri: str, generation: int | None, max_bytes: int, seconds: float, **options: Any) -> bytes:
        bucket, path = bucket_and_path(uri)
        try:
            return self._within(
                seconds,
                f"read {uri}",
                lambda: self._content(bucket, path, generation, max_bytes, **options),
                permissions.GET_OBJECT,
                bucket,
            )
        except NotebookUnreadable as error:
            raise NotebookUnreadable(f"The notebook {uri} cannot be read: {error}") from None

    def _content(self, bucket: str, path: str, generation: int | None, max_bytes: int, **options: Any) -> bytes:
        """Return the content of an object, unpacked.

        It is fetched as it is stored, and unpacked here: the library would unpack it without a bound.

        :raises NotebookUnreadable: if it has more than `max_bytes`, packed or not, or is no gzip though it says so
        :raises Exception: of the library
        """
        blob = storage_client(self._hook).bucket(bucket).blob(path, generation=generation)
        fetched = _Bounded(max_bytes)
        blob.download_to_file(fetched, raw_download=True, **(options or _patient()))
        content = fetched.getvalue()
        return unpacked(content, max_bytes) if blob.content_encoding == "gzip" else content

    def _within(self, seconds: float, what: str, call: Callable[[], T], access: permissions.Access, bucket: str) -> T:
        """Return the result of requests to Cloud Storage, within a time; see `within`.

        :raises NotebookUnreadable: as the call does, and `InvalidJob`
        :raises ApiError: for any other error of the call
        """
        try:
            with counted(access):
                return within(seconds, what, call)
        except (NotebookUnreadable, InvalidJob):
            raise
        except Exception as error:  # the library raises its own, requests' and google.auth's
            raise self._failed(what, error, access, bucket) from error

    def _failed(self, what: str, error: Exception, access: permissions.Access, bucket: str) -> ApiError:
        """Translate an error of Cloud Storage's client.

        A text that is neither Google's answer nor ours may describe this machine, so the public message leaves it out.
        """
        if isinstance(error, ApiError) and str(error).startswith(f"Could not {what}: "):  # it took too long
            return error
        if isinstance(error, GoogleAuthError):
            return credentials_error(error, what, beginning=f"Could not {what}")
        message = redact(f"Could not {what}: {error}")
        if isinstance(error, ApiError):  # of the credentials
            translated: ApiError = type(error)(message, error.code)
            translated.public_message = error.public_message
            return translated
        code = code_of(error)
        if code == "PERMISSION_DENIED" and is_an_answer(error):
            return permissions.Need(self._hook, access, f"the bucket {bucket}").refused(message, str(error))
        translated = ApiError(message, code)
        if not is_an_answer(error):
            translated.public_message = f"Could not {what}; the log says why."
        return translated


class _Bounded(io.BytesIO):
    """Takes what is downloaded, up to a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._max_bytes:
            raise NotebookUnreadable(f"it has more than {self._max_bytes} bytes")
        return super().write(data)


def _patient() -> dict[str, Any]:
    """Return the options of a request to Cloud Storage that is tried again after transient errors."""
    from google.cloud.storage.retry import DEFAULT_RETRY  # as for the client: not needed to submit and to wait

    return {"timeout": ANSWER_SECONDS, "retry": DEFAULT_RETRY.with_timeout(RETRY_SECONDS)}
