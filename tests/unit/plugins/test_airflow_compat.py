"""Names of Airflow's core that are no public API: each is there, with the columns and arguments that are used."""

from __future__ import annotations

from inspect import iscoroutinefunction, signature
from typing import get_args

import pytest
from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager
from airflow.models.dag import DagModel
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import DAG
from fastapi.params import Depends

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.plugins.notebook_jobs import airflow_compat as compat
from tests.support.airflow_versions import deserialized, serialized

IDENTITY = {"dag_id", "task_id", "run_id", "map_index"}
TIMES = {"start_date", "end_date"}


@pytest.mark.parametrize(
    ("table", "name", "columns"),
    [
        (compat.RUN, "dag_run", {"dag_id", "run_id", "start_date"}),
        (compat.TI, "task_instance", {*IDENTITY, *TIMES, "try_number", "state", "rendered_map_index"}),
        (compat.HISTORY, "task_instance_history", {*IDENTITY, *TIMES, "try_number", "state", "rendered_map_index"}),
        (compat.RENDERED, "rendered_task_instance_fields", {*IDENTITY, "rendered_fields"}),
        (compat.XCOM, "xcom", {*IDENTITY, "key", "value", "timestamp"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_has_the_columns(table, name, columns):
    assert table.name == name
    assert columns <= set(table.c.keys())


@pytest.mark.parametrize(
    ("function", "arguments", "keywords"),
    [
        (compat.get_auth_manager, (), {}),
        (compat.create_session, (), {"scoped": False}),
        (DagModel.get_team_name, ("d",), {}),
        (SerializedDagModel.get_dag, ("d",), {"session": None}),
        (BaseAuthManager.is_authorized_dag, (None,), {"method": "GET", "access_entity": 1, "details": 1, "user": 1}),
        (BaseAuthManager.batch_is_authorized_dag, (None, []), {"user": 1}),
        (BaseAuthManager.get_authorized_dag_ids, (None,), {"user": 1, "method": "GET"}),
        (compat.BaseUser.get_id, (None,), {}),
        (compat.DagDetails, (), {"id": "d", "team_name": None}),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_function_takes_the_arguments(function, arguments, keywords):
    signature(function).bind(*arguments, **keywords)


def test_the_names_of_a_check():
    assert {"TASK_INSTANCE", "XCOM", "TASK_LOGS"} <= {entity.name for entity in compat.DagAccessEntity}
    assert {"method", "access_entity", "details"} == set(compat.IsAuthorizedDagRequest.__annotations__)


def test_the_user_of_a_request_is_who_signed_in():
    user, dependency = get_args(compat.GetUserDep)
    assert user is compat.BaseUser
    assert isinstance(dependency, Depends)
    assert dependency.dependency is compat.get_user
    assert iscoroutinefunction(compat.get_user)


@pytest.mark.parametrize("has_mapping", [True, False])
def test_the_teams_of_dags_are_found_with_and_without_airflow_s_mapping(monkeypatch, has_mapping):
    """Airflow 3.1.8 has no `get_dag_id_to_team_name_mapping`."""
    teams = {"a": "red", "b": None}
    monkeypatch.setattr(DagModel, "get_team_name", staticmethod(teams.get))
    assert compat.teams_of({"a", "b"}) == {}
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    if has_mapping:
        mapping = staticmethod(lambda dag_ids: {dag_id: teams[dag_id] for dag_id in dag_ids})
        monkeypatch.setattr(DagModel, "get_dag_id_to_team_name_mapping", mapping, raising=False)
    else:
        monkeypatch.delattr(DagModel, "get_dag_id_to_team_name_mapping", raising=False)
    assert compat.teams_of({"a", "b"}) == teams


def test_the_arguments_of_a_serialized_operator(monkeypatch):
    """A serialized operator, and a mapped one, have the attributes that are read."""
    given = {
        "gcs_notebook_source": "gs://bucket/n.ipynb",
        "notebook_runtime_template_resource_name": "r",
        "service_account": "a@p.iam.gserviceaccount.com",
        "gcs_output_uri": "gs://bucket/runs",
    }
    with DAG("d", schedule=None) as dag:
        CreateNotebookExecutionJobOperator(task_id="one", location="us-central1", **given)
        CreateNotebookExecutionJobOperator.partial(task_id="mapped", location="us-central1", **given).expand(
            parameters=[{"a": 1}]
        )
        CreateNotebookExecutionJobOperator.partial(task_id="by_kwargs", **given).expand_kwargs(
            [{"location": "us-central1"}]
        )
    stored = deserialized(serialized(dag))
    monkeypatch.setattr(SerializedDagModel, "get_dag", classmethod(lambda cls, dag_id, session: stored))

    def arguments(task_id):
        return compat.operator_arguments(None, "d", task_id)

    assert arguments("one")["location"] == arguments("mapped")["location"] == "us-central1"
    assert arguments("mapped")["gcp_conn_id"] is None
    assert "parameters" not in arguments("mapped")
    assert "location" not in arguments("by_kwargs")
    assert arguments("gone") == {}
