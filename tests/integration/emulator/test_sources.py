"""Where notebooks come from: the request, Cloud Storage with generations, and Dataform repositories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from google.api_core.exceptions import InvalidArgument
from google.cloud import storage
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.cloud.aiplatform_v1.types import JobState
from google.rpc import code_pb2

from airflow_provider_nbjob.emulator.server import Emulator
from tests.support.emulator_jobs import BUCKET, create, make_job, notebook, run_job
from tests.support.repositories import commit

Read = Callable[[str], bytes]
REPOSITORIES = "projects/p/locations/us-central1/repositories"


def run(client: NotebookServiceClient, **source: Any) -> Any:
    """Run a job of a source that is not direct; the ended job."""
    return run_job(client, **{"direct_notebook_source": None, **source})


def result_of(read_object: Read, job: Any, name: str = "content.ipynb") -> str:
    """What the first cell of the executed notebook shows."""
    assert job.job_state == JobState.JOB_STATE_SUCCEEDED, job.status.message
    uri = f"{job.gcs_output_uri}/{job.name.rpartition('/')[2]}/{name}"
    return nbformat.reads(read_object(uri).decode(), as_version=4).cells[0].outputs[0].data["text/plain"]


def assert_not_found(job: Any, message: str) -> None:
    assert (job.job_state, job.status.code) == (JobState.JOB_STATE_FAILED, code_pb2.NOT_FOUND)
    assert message in job.status.message


def test_a_direct_notebook_is_written_as_content(client: NotebookServiceClient, read_object: Read) -> None:
    assert result_of(read_object, run_job(client, "'direct'")) == "'direct'"


# --- Cloud Storage ---


@pytest.fixture(scope="module")
def blob(gcs: storage.Client) -> storage.Blob:
    """A notebook in Cloud Storage."""
    made = gcs.bucket(BUCKET).blob("notebooks/daily report.ipynb")
    made.upload_from_string(notebook("'stored'"), content_type="application/json")
    made.reload()
    return made


def test_a_stored_notebook_keeps_its_name(client: NotebookServiceClient, read_object: Read, blob: storage.Blob) -> None:
    job = run(client, gcs_notebook_source={"uri": f"gs://{BUCKET}/{blob.name}", "generation": str(blob.generation)})
    assert result_of(read_object, job, "daily report.ipynb") == "'stored'"


@pytest.mark.parametrize("output", [f"gs://{BUCKET}", f"gs://{BUCKET}/", f"gs://{BUCKET}/a/b/"])
def test_the_output_is_below_its_uri_and_the_id_of_the_job(
    client: NotebookServiceClient, gcs: storage.Client, output: str
) -> None:
    job = run_job(client, "1", gcs_output_uri=output)
    folder = output.removeprefix(f"gs://{BUCKET}").strip("/")
    path = "/".join(part for part in (folder, job.name.rpartition("/")[2], "content.ipynb") if part)
    assert gcs.bucket(BUCKET).blob(path).exists(), job.status.message


def test_a_generation_that_is_not_there_fails_the_job(client: NotebookServiceClient, blob: storage.Blob) -> None:
    uri = f"gs://{BUCKET}/{blob.name}"
    job = run(client, gcs_notebook_source={"uri": uri, "generation": "1"})
    assert_not_found(job, f"404 No such object: {uri}#1")


@pytest.mark.parametrize("uri", [f"gs://{BUCKET}/gone.ipynb", "gs://no-such-bucket/notebook.ipynb"])
def test_an_object_that_is_not_there_fails_the_job(client: NotebookServiceClient, uri: str) -> None:
    assert_not_found(run(client, gcs_notebook_source={"uri": uri}), f"404 No such object: {uri}")


# --- Dataform ---


@pytest.fixture(scope="module")
def dataform(server: Emulator) -> Path:
    """The folder of Dataform repositories."""
    folder: Path = server.data_dir / "dataform"  # type: ignore[attr-defined]
    folder.mkdir(exist_ok=True)
    return folder


def of_repository(name: str, commit_sha: str = "") -> dict[str, Any]:
    return {
        "dataform_repository_source": {
            "dataform_repository_resource_name": f"{REPOSITORIES}/{name}",
            "commit_sha": commit_sha,
        }
    }


def test_a_repository_is_read_at_its_head_and_at_a_commit(
    client: NotebookServiceClient, read_object: Read, dataform: Path
) -> None:
    first = commit(dataform / "versions", content=notebook("'first'"))
    commit(dataform / "versions", content=notebook("'second'"))
    (dataform / "versions" / "content.ipynb").write_bytes(notebook("'not committed'"))
    assert result_of(read_object, run(client, **of_repository("versions"))) == "'second'"
    assert result_of(read_object, run(client, **of_repository("versions", first))) == "'first'"
    assert result_of(read_object, run(client, **of_repository("versions", first[:8]))) == "'first'"


def test_a_plain_folder_is_a_repository_without_commits(
    client: NotebookServiceClient, read_object: Read, dataform: Path
) -> None:
    (dataform / "plain").mkdir()
    (dataform / "plain" / "analysis.ipynb").write_bytes(notebook("'plain'"))
    assert result_of(read_object, run(client, **of_repository("plain"))) == "'plain'"
    assert_not_found(run(client, **of_repository("plain", "abcd")), "has no commits, so none is abcd")


def test_content_is_chosen_where_there_are_several(
    client: NotebookServiceClient, read_object: Read, dataform: Path
) -> None:
    commit(dataform / "several", content=notebook("'content'"), other=notebook("'other'"))
    assert result_of(read_object, run(client, **of_repository("several"))) == "'content'"


@pytest.mark.parametrize(("name", "files"), [("two", ["a", "b"]), ("none", [])])
def test_a_repository_of_not_one_notebook_fails_the_job(
    client: NotebookServiceClient, dataform: Path, name: str, files: list[str]
) -> None:
    (dataform / name).mkdir()
    for file in files:
        (dataform / name / f"{file}.ipynb").write_bytes(notebook("1"))
    job = run(client, **of_repository(name))
    assert_not_found(job, f"is no single-file notebook repository: it has {len(files)}.")


def test_a_commit_that_is_not_there_fails_the_job(client: NotebookServiceClient, dataform: Path) -> None:
    commit(dataform / "known", content=notebook("1"))
    assert_not_found(run(client, **of_repository("known", "0123456789abcdef" * 2)), "404 ")


def test_a_repository_that_is_not_there_fails_the_job(client: NotebookServiceClient) -> None:
    assert_not_found(run(client, **of_repository("gone")), f"404 Repository {REPOSITORIES}/gone was not found.")


@pytest.mark.parametrize("name", ["..", ".", "../secrets", "a/../../b", ".git", "-x", "", "a b", "a\n", "~root"])
def test_a_name_that_leads_elsewhere_is_refused(client: NotebookServiceClient, name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"dataform_repository_resource_name; Message: .* is not the name"):
        create(client, make_job(direct_notebook_source=None, **of_repository(name)))


@pytest.mark.parametrize("sha", ["HEAD", "main", "--help", "abc", "a" * 65, "HEAD:content.ipynb", "ABCD"])
def test_a_revision_that_is_no_sha_is_refused(client: NotebookServiceClient, sha: str) -> None:
    with pytest.raises(InvalidArgument, match=r"commit_sha; Message: .* is not the SHA of a commit"):
        create(client, make_job(direct_notebook_source=None, **of_repository("known", sha)))
