"""What the links of a task lead to, by its record; and which tasks push them."""

from __future__ import annotations

import pytest
from airflow.sdk import BaseOperator

from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, parse_record
from airflow_provider_nbjob.links.notebook_execution_job import LINKED, LINKS
from airflow_provider_nbjob.operators import notebook_execution_job as operators
from airflow_provider_nbjob.sensors import notebook_execution_job as sensors
from tests.support.fake_google import FakeWait
from tests.support.metadata import record
from tests.support.tasks import REQUIRED, context_of, create_operator


class Derived(operators.CreateNotebookExecutionJobOperator):
    """An operator of a user's, whose links the API server does not make."""


def shown(written) -> list[str]:
    return [link.shown(parse_record(written)) for link in LINKS]


def test_they_lead_to_google_clouds_pages():
    executions, output, logs = shown(record("job-1"))
    assert executions == "https://console.cloud.google.com/vertex-ai/colab/execution-jobs?project=analytics"
    assert output == "https://console.cloud.google.com/storage/browser/analytics-runs/reports/job-1"
    assert logs.startswith("https://console.cloud.google.com/logs/query?query=")
    assert "job-1" in logs


def test_a_job_that_writes_nothing_has_no_link_to_its_output():
    assert [bool(url) for url in shown({**record("job-1"), "gcs_output_uri": ""})] == [True, False, True]


@pytest.mark.parametrize(
    "uri",
    [
        7,
        None,
        "https://evil.example",
        "javascript:alert(1)",
        "gs://",
        "gs://x\n/y",
        "gs://A_B//",
        "gs://b/" + "x" * 9000,
    ],
)
def test_an_output_that_is_none_has_no_link(uri):
    assert not shown({**record("job-1"), "gcs_output_uri": uri})[1]


@pytest.mark.parametrize("written", [None, 7, "x", [], {}, {"name": "evil"}, {"name": ["projects/p"]}])
def test_what_is_no_record_has_no_links(written):
    assert shown(written) == ["", "", ""]


def tasks_with_links():
    for module in (operators, sensors):
        for value in vars(module).values():
            is_of_module = getattr(value, "__module__", "") == module.__name__
            if is_of_module and isinstance(value, type) and issubclass(value, BaseOperator):
                yield value


def test_the_api_server_makes_those_of_every_task_that_has_some():
    assert {(task.__module__, task.__qualname__) for task in tasks_with_links() if task.operator_extra_links} == {
        *LINKED
    }


@pytest.fixture
def service(monkeypatch):
    return FakeWait(monkeypatch).service


def test_a_task_pushes_the_record_alone(service):
    context = context_of()
    create_operator(wait_for_completion=False, multiple_outputs=False).execute(context)
    assert set(context["ti"].pushed) == {JOB_XCOM_KEY}


def test_a_derived_operator_pushes_each_link(service):
    context = context_of()
    Derived(**REQUIRED, wait_for_completion=False, multiple_outputs=False).execute(context)
    pushed = context["ti"].pushed
    assert [pushed[link.xcom_key] for link in LINKS] == shown(pushed[JOB_XCOM_KEY])
    assert all(shown(pushed[JOB_XCOM_KEY]))
