"""NotebookService over gRPC: names, ids, views, validation; the jobs here end without a kernel."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.api_core.exceptions import AlreadyExists, InvalidArgument, NotFound
from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
from google.cloud.aiplatform_v1.types import JobState, NotebookExecutionJobView, NotebookRuntimeType

from tests.support.emulator_jobs import PARENT, create, job_name, make_job, new_id, template, wait_for_state
from tests.support.patience import patient

REPOSITORY = "projects/p/locations/us-central1/repositories/r"


# --- names and ids ---


def test_returned_names_carry_the_number_of_the_project(client: NotebookServiceClient) -> None:
    name = job_name(create(client, make_job(), new_id()))
    assert re.fullmatch(r"projects/\d{12}/locations/us-central1/notebookExecutionJobs/job-\d+", name)
    assert client.get_notebook_execution_job(name=name).name == name


def test_id_and_number_of_the_project_name_the_same_job(client: NotebookServiceClient) -> None:
    job_id = new_id()
    name = job_name(create(client, make_job(), job_id))
    assert client.get_notebook_execution_job(name=f"{PARENT}/notebookExecutionJobs/{job_id}").name == name
    by_number = create(client, make_job(), new_id(), parent=name.partition("/notebookExecutionJobs/")[0])
    assert job_name(by_number).rpartition("/")[0] == name.rpartition("/")[0]


def test_two_projects_have_two_numbers_and_their_own_jobs(client: NotebookServiceClient) -> None:
    job_id = new_id()
    names = {
        job_name(create(client, make_job(), job_id, parent=f"projects/{project}/locations/us-central1"))
        for project in ("one", "two")
    }
    assert len(names) == 2


def test_minted_ids_are_numbers_of_19_digits(client: NotebookServiceClient) -> None:
    ids = {job_name(create(client, make_job())).rpartition("/")[2] for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"[1-9]\d{18}", job_id) for job_id in ids)


@pytest.mark.parametrize("job_id", ["a", "my-execution-job", "my_job_1", "1234567890123456789", "a" + "b" * 62])
def test_a_custom_id_is_accepted(client: NotebookServiceClient, job_id: str) -> None:
    assert job_name(create(client, make_job(), job_id)).rpartition("/")[2] == job_id


@pytest.mark.parametrize("job_id", ["A", "_a", "a_", "-a", "a-", "a" * 64, "ä", "a b", "a/b", "a.b"])
def test_a_custom_id_is_refused(client: NotebookServiceClient, job_id: str) -> None:
    with pytest.raises(InvalidArgument, match=r"1\.Field: notebook_execution_job_id; Message: "):
        create(client, make_job(), job_id)


def test_an_id_that_is_taken_is_refused_and_free_again_once_deleted(client: NotebookServiceClient) -> None:
    job_id = new_id()
    name = job_name(create(client, make_job(), job_id))
    with pytest.raises(AlreadyExists, match=job_id):
        create(client, make_job(), job_id)
    client.delete_notebook_execution_job(name=name).result(timeout=patient(5))
    with pytest.raises(NotFound):
        client.get_notebook_execution_job(name=name)
    assert job_name(create(client, make_job(display_name="another"), job_id)) == name
    assert client.get_notebook_execution_job(name=name).display_name == "another"


def test_an_id_is_taken_only_in_its_location(client: NotebookServiceClient) -> None:
    job_id, parent = new_id(), PARENT.replace("us-central1", "europe-west4")
    create(client, make_job(), job_id)
    job = make_job(notebook_runtime_template_resource_name=template(location="europe-west4"))
    assert "/europe-west4/" in job_name(create(client, job, job_id, parent=parent))


# --- what a job shows ---


def test_output_only_fields_of_a_request_are_left_out(client: NotebookServiceClient) -> None:
    sent = make_job(name="mine", job_state=JobState.JOB_STATE_SUCCEEDED, create_time="2001-01-01T00:00:00Z")
    job = wait_for_state(client, job_name(create(client, sent, new_id())))
    assert (job.job_state, job.create_time.year > 2001) == (JobState.JOB_STATE_FAILED, True)
    assert job.update_time > job.create_time


def test_a_job_keeps_all_fields_that_it_was_sent_with(client: NotebookServiceClient) -> None:
    sent = make_job(
        labels={"team": "data"},
        execution_timeout={"seconds": 90},
        schedule_resource_name="projects/p/locations/us-central1/schedules/7",
        encryption_spec={"kms_key_name": "a-key"},
    )
    job = client.get_notebook_execution_job(name=job_name(create(client, sent, new_id())))
    assert dict(job.labels) == {"team": "data"}
    assert job.execution_timeout.total_seconds() == 90
    assert job.schedule_resource_name.endswith("/schedules/7")
    assert job.encryption_spec.kms_key_name == "a-key"
    assert job.service_account == sent["service_account"]


@pytest.mark.parametrize(("view", "has_content"), [(None, False), ("BASIC", False), ("FULL", True)])
def test_only_the_full_view_has_direct_content_and_all_keep_its_message(
    client: NotebookServiceClient, view: str | None, has_content: bool
) -> None:
    sent = make_job()
    name = job_name(create(client, sent, new_id()))
    number = NotebookExecutionJobView[f"NOTEBOOK_EXECUTION_JOB_VIEW_{view or 'UNSPECIFIED'}"]
    job = client.get_notebook_execution_job(request={"name": name, "view": number})
    assert "direct_notebook_source" in job
    assert job.direct_notebook_source.content == (sent["direct_notebook_source"]["content"] if has_content else b"")


def test_other_sources_are_whole_in_the_basic_view(client: NotebookServiceClient) -> None:
    gcs = {"uri": "gs://bucket/n.ipynb", "generation": "12"}
    sent = make_job(direct_notebook_source=None, gcs_notebook_source=gcs)
    job = client.get_notebook_execution_job(name=job_name(create(client, sent, new_id())))
    assert (job.gcs_notebook_source.uri, job.gcs_notebook_source.generation) == ("gs://bucket/n.ipynb", "12")


def test_the_workbench_runtime_is_not_returned(client: NotebookServiceClient) -> None:
    name = job_name(create(client, make_job(workbench_runtime={}, kernel_name="python3"), new_id()))
    job = client.get_notebook_execution_job(request={"name": name, "view": 2})
    assert "workbench_runtime" not in job
    assert job.kernel_name == "python3"


# --- validation: one row for every rule ---


def with_source(**source: Any) -> dict[str, Any]:
    return {"direct_notebook_source": None, **source}


REFUSED = {
    "no display name": ({"display_name": None}, "display_name", "Required field"),
    "long display name": ({"display_name": "x" * 129}, "display_name", "at most 128 characters"),
    "no source": (with_source(), "notebook_source", "Exactly one"),
    "empty direct source": (with_source(direct_notebook_source={}), "direct_notebook_source.content", "Required"),
    "GCS URI without object": (
        with_source(gcs_notebook_source={"uri": "gs://b"}),
        "gcs_notebook_source.uri",
        "must be of the format gs://bucket/notebook_file.ipynb",
    ),
    "GCS URI of a folder": (
        with_source(gcs_notebook_source={"uri": "gs://bucket/folder/"}),
        "gcs_notebook_source.uri",
        "format",
    ),
    "GCS generation": (
        with_source(gcs_notebook_source={"uri": "gs://bucket/n.ipynb", "generation": "new"}),
        "gcs_notebook_source.generation",
        "must be a number",
    ),
    "Dataform name": (
        with_source(dataform_repository_source={"dataform_repository_resource_name": "r"}),
        "dataform_repository_source.dataform_repository_resource_name",
        "not the name of a repository",
    ),
    "Dataform commit": (
        with_source(
            dataform_repository_source={"dataform_repository_resource_name": REPOSITORY, "commit_sha": "--output=x"}
        ),
        "dataform_repository_source.commit_sha",
        "not the SHA of a commit",
    ),
    "no environment": ({"notebook_runtime_template_resource_name": None}, "environment_spec", "Exactly one"),
    "bare template id": (
        {"notebook_runtime_template_resource_name": "plain"},
        "notebook_runtime_template_resource_name",
        "not the name of a NotebookRuntimeTemplate",
    ),
    "template elsewhere": (
        {"notebook_runtime_template_resource_name": template(location="europe-west1")},
        "notebook_runtime_template_resource_name",
        "must be in the location of the job",
    ),
    "kernel without workbench": ({"kernel_name": "python3"}, "kernel_name", "workbench_runtime only"),
    "no output": ({"gcs_output_uri": None}, "gcs_output_uri", "Required field"),
    "output elsewhere": ({"gcs_output_uri": "/tmp/out"}, "gcs_output_uri", "must be of the format gs://bucket-name"),
    "no identity": ({"service_account": None}, "execution_identity", "Exactly one"),
    "account without domain": ({"service_account": "runner"}, "service_account", "not an email address"),
    "account as user": (
        {"service_account": None, "execution_user": "a@p.iam.gserviceaccount.com"},
        "execution_user",
        "Service account is not allowed for this field.",
    ),
    "uppercase label": ({"labels": {"Team": "x"}}, "labels", "'Team' must be"),
    "long label": ({"labels": {"team": "x" * 65}}, "labels", "at most 64"),
    "label with a blank": ({"labels": {"team": "a b"}}, "labels", "'a b' must be"),
    "no time": ({"execution_timeout": {"seconds": 0}}, "execution_timeout", "Must be positive"),
    "negative time": ({"execution_timeout": {"seconds": -5}}, "execution_timeout", "Must be positive"),
}


@pytest.mark.parametrize(("changes", "field", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_job_that_breaks_a_rule_is_refused(
    client: NotebookServiceClient, changes: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        create(client, make_job(**changes), new_id())
    prefix = f"List of found errors:\t1.Field: notebook_execution_job.{field}; Message: "
    assert refused.value.message.startswith(prefix)
    assert message in refused.value.message
    assert "\t2." not in refused.value.message


ACCEPTED: dict[str, dict[str, Any]] = {
    "128 characters": {"display_name": "ü" * 128},
    "user": {"service_account": None, "execution_user": "someone@example.com"},
    "custom environment": {
        "notebook_runtime_template_resource_name": None,
        "custom_environment_spec": {"machine_spec": {"machine_type": "e2-standard-4"}},
    },
    "international label": {"labels": {"équipe": "données_1-2"}},
    "empty label value": {"labels": {"team": ""}},
    "system label": {"labels": {"aiplatform.googleapis.com/notebook_runtime_out_of_org_warning": "ack"}},
    "bucket only": {"gcs_output_uri": "gs://bucket"},
    "Dataform": with_source(dataform_repository_source={"dataform_repository_resource_name": REPOSITORY}),
    "long timeout": {"execution_timeout": {"seconds": 7 * 86_400}},
}


@pytest.mark.parametrize("changes", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_job_within_the_rules_is_accepted(client: NotebookServiceClient, changes: dict[str, Any]) -> None:
    assert "/operations/" in create(client, make_job(**changes), new_id()).operation.name


def test_all_errors_are_found_at_once(client: NotebookServiceClient) -> None:
    with pytest.raises(InvalidArgument) as refused:
        create(client, {}, "A")
    fields = re.findall(r"\t(\d)\.Field: ([\w.]+); Message: [^\t]+", refused.value.message)
    job = "notebook_execution_job"
    assert fields == [
        ("1", f"{job}.display_name"),
        ("2", f"{job}.notebook_source"),
        ("3", f"{job}.environment_spec"),
        ("4", f"{job}.gcs_output_uri"),
        ("5", f"{job}.execution_identity"),
        ("6", "notebook_execution_job_id"),
    ]


def test_a_template_that_is_not_there_is_not_found(client: NotebookServiceClient) -> None:
    with pytest.raises(NotFound, match=r"NotebookRuntimeTemplate .*/not-found was not found"):
        create(client, make_job(notebook_runtime_template_resource_name=template("not-found")), new_id())
    with pytest.raises(NotFound, match=r"NotebookRuntimeTemplate .*/not-found was not found"):
        client.get_notebook_runtime_template(name=template("not-found"))


def test_any_other_template_is_there(client: NotebookServiceClient) -> None:
    shown = client.get_notebook_runtime_template(name=template("a100"))
    assert re.fullmatch(r"projects/\d{12}/locations/us-central1/notebookRuntimeTemplates/a100", shown.name)
    assert (shown.display_name, shown.notebook_runtime_type) == ("a100", NotebookRuntimeType.ONE_CLICK)
    for name in (f"{PARENT}/notebookRuntimeTemplates/", PARENT, template("a", location="moon"), "a100"):
        with pytest.raises(InvalidArgument):
            client.get_notebook_runtime_template(name=name)


@pytest.mark.parametrize("location", ["global", "moon", "us-central", "US-CENTRAL1"])
def test_a_location_that_is_none_is_refused(client: NotebookServiceClient, location: str) -> None:
    parent = f"projects/p/locations/{location}"
    with pytest.raises(InvalidArgument, match=f"Location '{location}' is not a supported location"):
        create(client, make_job(), parent=parent)
    with pytest.raises(InvalidArgument, match=location):
        client.list_notebook_execution_jobs(parent=parent)


@pytest.mark.parametrize("parent", ["projects/p", "", f"{PARENT}/notebookExecutionJobs"])
def test_a_parent_that_is_no_location_is_refused(client: NotebookServiceClient, parent: str) -> None:
    with pytest.raises(InvalidArgument, match="not of the form projects/\\*/locations/\\*"):
        create(client, make_job(), parent=parent)


def test_a_job_that_is_not_there_is_not_found(client: NotebookServiceClient) -> None:
    name = f"{PARENT}/notebookExecutionJobs/never-made"
    with pytest.raises(NotFound, match="never-made"):
        client.get_notebook_execution_job(name=name)
    with pytest.raises(NotFound, match="never-made"):
        client.delete_notebook_execution_job(name=name)
