from __future__ import annotations

import pytest
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import DAG

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.queries import given_arguments
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import WAY

SHARED = {
    "task_id": "t",
    "gcs_notebook_source": "gs://bucket/n.ipynb",
    "notebook_runtime_template_resource_name": "r",
    "service_account": "a@p.iam.gserviceaccount.com",
    "gcs_output_uri": "gs://bucket/runs",
}


def arguments(monkeypatch, **given):
    """What is told of a task from its DAG alone; `expand` and `expand_kwargs` map it."""
    expand, expand_kwargs = given.pop("expand", None), given.pop("expand_kwargs", None)
    with DAG("d", schedule=None) as dag:
        if expand is None and expand_kwargs is None:
            CreateNotebookExecutionJobOperator(**SHARED, **given)
        else:
            partial = CreateNotebookExecutionJobOperator.partial(**SHARED, **given)
            partial.expand(**expand) if expand else partial.expand_kwargs(expand_kwargs)
    # The operator as it was written has the attributes that the serialized one has; seen in 3.1.8 and 3.3.2.
    monkeypatch.setattr(SerializedDagModel, "get_dag", classmethod(lambda cls, dag_id, session: dag))
    return given_arguments(None, TaskRef("d", "r", "t"))


def test_what_was_given_and_the_defaults(monkeypatch):
    told = arguments(monkeypatch, location="us-central1", gcp_conn_id="c", display_name="shown")
    assert set(WAY) <= set(told)
    assert (told["location"], told["gcp_conn_id"], told["project_id"], told["display_name"]) == (
        "us-central1",
        "c",
        None,
        "shown",
    )


def test_a_mapped_task_has_what_its_instances_share(monkeypatch):
    told = arguments(monkeypatch, location="us-central1", expand={"parameters": [{"a": 1}, {"a": 2}]})
    assert set(WAY) <= set(told)
    assert told["location"] == "us-central1"
    assert told["gcp_conn_id"] is None  # the default
    assert "parameters" not in told


@pytest.mark.parametrize(
    "given",
    [
        {"location": "us-central1", "gcp_conn_id": "{{ var.value.c }}"},
        {"location": "us-central1", "expand": {"gcp_conn_id": ["a", "b"]}},
        {"location": "us-central1", "expand_kwargs": [{"gcp_conn_id": "a"}]},
        {"expand": {"location": ["us-central1"]}},
    ],
)
def test_a_way_that_cannot_be_told_is_not_guessed(monkeypatch, given):
    assert not set(WAY) <= set(arguments(monkeypatch, **given))


def test_a_task_that_is_no_longer_in_its_dag(monkeypatch):
    with DAG("d", schedule=None) as dag:
        pass
    monkeypatch.setattr(SerializedDagModel, "get_dag", classmethod(lambda cls, dag_id, session: dag))
    assert given_arguments(None, TaskRef("d", "r", "t")) == {}
