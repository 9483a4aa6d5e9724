"""The rules for what is to be run: each broken one is named, with its field and value, and all at once."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec, as_timedelta

NOTEBOOK = nbformat.writes(nbformat.v4.new_notebook()).encode()
TEMPLATE = "projects/p/locations/us-central1/notebookRuntimeTemplates/t"
KEY = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
VALID = NotebookExecutionJobSpec(
    location="us-central1",
    display_name="d",
    gcs_notebook_source="gs://bucket/n.ipynb",
    notebook_runtime_template_resource_name="t",
    gcs_output_uri="gs://bucket/runs",
    service_account="sa@p.iam.gserviceaccount.com",
)


def test_a_valid_spec_has_no_problems():
    assert VALID.validated() == VALID


ACCEPTED = [
    {"gcs_notebook_source": {"uri": "gs://b-1/a b/n.ipynb", "generation": 17}},
    {"gcs_notebook_source": {"uri": "gs://bucket/n", "generation": "17"}},
    {"gcs_notebook_source": None, "direct_notebook_source": NOTEBOOK},
    {"gcs_notebook_source": None, "dataform_repository_source": "projects/p/locations/l/repositories/r"},
    {
        "gcs_notebook_source": None,
        "dataform_repository_source": {
            "dataform_repository_resource_name": "projects/p/locations/l/repositories/r",
            "commit_sha": "0123abc",
        },
    },
    {"notebook_runtime_template_resource_name": TEMPLATE},
    {
        "notebook_runtime_template_resource_name": None,
        "custom_environment_spec": {"machine_spec": {"machine_type": "n1-standard-4"}},
    },
    {"workbench_runtime": {}, "kernel_name": "python3"},
    {"service_account": None, "execution_user": "someone@example.com"},
    {"labels": {"team": "dätä_1-2", "aiplatform.googleapis.com/notebook_runtime_out_of_org_warning": "ack"}},
    {"labels": {"a" * 64: "b" * 64, "empty": ""}},
    {"encryption_spec": KEY},
    {"encryption_spec": {"kms_key_name": KEY}},
    {"job_timeout": timedelta(hours=1)},
    {"job_timeout": "90s"},
    {"job_timeout": 1},
    {"display_name": "x" * 128},
    {"gcs_output_uri": "gs://bucket"},
    {"notebook_execution_job_id": "my-job-1"},
    {"notebook_execution_job_id": "my_job_1"},
    {"notebook_execution_job_id": "7"},
]


@pytest.mark.parametrize("changes", ACCEPTED, ids=lambda changes: ",".join(changes))
def test_accepted(changes):
    assert replace(VALID, **changes).problems() == []


def notebook(**changes):
    return json.dumps({**json.loads(NOTEBOOK), **changes}).encode()


REFUSED = [
    ("location", "mars", "'mars' is not of the form us-central1"),
    ("location", None, "required, but not given"),
    ("location", 7, "7 is not of the form us-central1"),
    ("display_name", "x" * 129, "129 characters; at most 128"),
    ("display_name", "", "'' is not a text of 1 to 128"),
    ("display_name", None, "required, but not given"),
    ("gcs_notebook_source", "gs:/typo", "'gs:/typo' is not of the form gs://bucket/notebook.ipynb"),
    ("gcs_notebook_source", "gs://bucket/", "'gs://bucket/' is not of the form"),
    ("gcs_notebook_source", {"uri": "gs://bucket/n", "generation": "new"}, "generation 'new' is not of the form"),
    ("gcs_notebook_source", {"url": "gs://bucket/n"}, "unknown key 'url'; the keys are uri, generation"),
    ("gcs_notebook_source", {"generation": 1}, "key 'uri' is required"),
    ("dataform_repository_source", "repositories/r", "'repositories/r' is not of the form projects/"),
    (
        "dataform_repository_source",
        {"dataform_repository_resource_name": "projects/p/locations/l/repositories/r", "commit_sha": "HEAD"},
        "commit_sha 'HEAD' is not of the form",
    ),
    ("notebook_runtime_template_resource_name", "templates/t", "neither a template id nor of the form"),
    (
        "notebook_runtime_template_resource_name",
        "projects/p/locations/europe-west4/notebookRuntimeTemplates/t",
        "is not in the job's location 'us-central1'",
    ),
    ("custom_environment_spec", "n1-standard-4", "'n1-standard-4' is not a dict"),
    ("workbench_runtime", True, "True is not a dict"),
    ("kernel_name", "python3", "is for Workbench jobs; set workbench_runtime={}"),
    ("gcs_output_uri", "s3://b", "'s3://b' is not of the form gs://bucket"),
    ("gcs_output_uri", None, "required, but not given"),
    ("service_account", "me", "'me' is not of the form name@project"),
    ("execution_user", "sa@p.iam.gserviceaccount.com", "is a service account; give it as service_account"),
    ("labels", {"Team": "a"}, "key 'Team' may hold lowercase letters"),
    ("labels", {"team": "A B"}, "value 'A B' may hold lowercase letters"),
    ("labels", {"team": "a" * 65}, "has 65 characters; at most 64"),
    ("labels", {"team": 1}, "value 1 is not a text"),
    ("labels", ["team"], "['team'] is not a mapping"),
    ("encryption_spec", "my-key", "'my-key' is not of the form projects/"),
    ("encryption_spec", KEY.replace("us-central1", "us"), "is not in the job's location"),
    ("job_timeout", -1, "-1 is -1 s; it must be at least 1 s"),
    ("job_timeout", timedelta(0), "is 0 s; it must be at least 1 s"),
    ("job_timeout", "soon", "'soon' is no duration"),
    ("job_timeout", True, "True is no duration"),
    ("notebook_execution_job_id", "My_Job", "'My_Job' is not of the form 1 to 63 lowercase"),
    ("notebook_execution_job_id", "a" * 64, "is not of the form 1 to 63"),
    ("direct_notebook_source", b"secret = 1", "the notebook is not JSON"),
    ("direct_notebook_source", b"\xff\xfe", "the notebook is not JSON"),
    ("direct_notebook_source", b"[]", "JSON but no notebook"),
    ("direct_notebook_source", notebook(nbformat=3), "of notebook format 3"),
    ("direct_notebook_source", notebook(cells=[{"cell_type": "poem"}]), "no valid notebook: oneOf is violated"),
    ("direct_notebook_source", Path("no-such.ipynb"), "'no-such.ipynb': there is no such file"),
    ("direct_notebook_source", Path(), "'.' cannot be read"),
]


@pytest.mark.parametrize(("field", "value", "rule"), REFUSED)
def test_refused(field, value, rule):
    problems = replace(VALID, **{field: value}).problems()
    assert [p for p in problems if p.startswith(f"{field}: ") and rule in p], problems


def test_a_notebook_with_a_fault_is_not_quoted():
    content = notebook(cells=[{"cell_type": "code", "source": "password = 'hunter2'"}])
    problems = replace(VALID, gcs_notebook_source=None, direct_notebook_source=content).problems()
    assert problems
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"direct_notebook_source": NOTEBOOK},
            "gcs_notebook_source, direct_notebook_source: exactly one of gcs_notebook_source,"
            " direct_notebook_source, dataform_repository_source is allowed, 2 were given",
        ),
        (
            {"gcs_notebook_source": None},
            "gcs_notebook_source, direct_notebook_source, dataform_repository_source:"
            " exactly one is required, none was given",
        ),
        (
            {"notebook_runtime_template_resource_name": None},
            "notebook_runtime_template_resource_name, custom_environment_spec: exactly one is required, none was given",
        ),
        ({"service_account": None}, "service_account, execution_user: exactly one is required, none was given"),
        (
            {"service_account": None, "execution_user": "u@example.com", "workbench_runtime": {}},
            "execution_user: 'u@example.com' is for Colab Enterprise only, not with workbench_runtime",
        ),
    ],
)
def test_rules_between_fields(changes, problem):
    assert replace(VALID, **changes).problems() == [problem]


def test_all_problems_are_reported_at_once():
    broken = replace(VALID, location="mars", labels={"A": "B"}, job_timeout=-1, gcs_notebook_source="gs:/typo")
    with pytest.raises(InvalidJob) as error:
        broken.validated()
    assert [p.split(":")[0] for p in error.value.problems] == [
        *("location", "gcs_notebook_source", "labels", "labels", "job_timeout")
    ]


def test_what_is_not_known_yet_counts_as_given_and_is_not_judged():
    spec = replace(VALID, gcs_notebook_source="{{ a }}", location="{{ b }}", direct_notebook_source=NOTEBOOK)
    assert spec.problems(unknown={"gcs_notebook_source", "location"}) == []
    assert spec.problems() != []


def test_what_the_api_gets():
    spec = replace(
        VALID,
        gcs_notebook_source={"uri": "gs://bucket/n.ipynb", "generation": 17},
        encryption_spec=KEY,
        labels={"a": "b"},
        job_timeout="90s",
        workbench_runtime={},
    )
    assert spec.to_api("my-project") == {
        "display_name": "d",
        "gcs_notebook_source": {"uri": "gs://bucket/n.ipynb", "generation": "17"},
        "notebook_runtime_template_resource_name": (
            "projects/my-project/locations/us-central1/notebookRuntimeTemplates/t"
        ),
        "workbench_runtime": {},
        "gcs_output_uri": "gs://bucket/runs",
        "service_account": "sa@p.iam.gserviceaccount.com",
        "labels": {"a": "b"},
        "encryption_spec": {"kms_key_name": KEY},
        "execution_timeout": timedelta(seconds=90),
    }


def test_a_file_is_read_once_and_sent_as_it_stands(tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_bytes(NOTEBOOK)
    spec = replace(VALID, gcs_notebook_source=None, direct_notebook_source=path).validated()
    path.write_bytes(b"changed since")
    assert spec.to_api("p")["direct_notebook_source"] == {"content": NOTEBOOK}


def test_the_message_of_the_client_library_takes_every_field():
    from google.cloud.aiplatform_v1.types import NotebookExecutionJob

    for changes in ({}, *ACCEPTED):
        api = replace(VALID, **changes).to_api("p")
        message = NotebookExecutionJob(api)
        assert set(api) <= {f.name for f, _ in NotebookExecutionJob.pb(message).ListFields()} | {"workbench_runtime"}


_anything = st.none() | st.text() | st.integers() | st.dictionaries(st.text(), st.text()) | st.lists(st.text())


@given(st.fixed_dictionaries({f.name: _anything for f in fields(NotebookExecutionJobSpec) if "direct" not in f.name}))
def test_no_value_makes_validation_itself_fail(values):
    problems = NotebookExecutionJobSpec(**values).problems()
    assert all(": " in problem for problem in problems)


@given(
    st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_no_content_makes_reading_a_notebook_fail(content):
    assert replace(VALID, gcs_notebook_source=None, direct_notebook_source=content).problems()


@pytest.mark.parametrize(("value", "seconds"), [("90", 90), ("1.5s", 1.5), (2, 2), (timedelta(minutes=1), 60)])
def test_durations(value, seconds):
    assert as_timedelta(value) == timedelta(seconds=seconds)
