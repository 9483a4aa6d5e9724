"""All that the plugin uses of Airflow's core and that is not public API.

Each name was read in Airflow 3.1.8, 3.2.2 and 3.3.2, and is the same in them unless a comment says otherwise. A test
looks up each name, each column and each signature, so that an Airflow without one fails the test before it fails a
page.

The API server imports this module with the first request for a page. No DAG and no worker imports it: it loads the
models of the metadata database and FastAPI.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.batch_apis import IsAuthorizedDagRequest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, get_user
from airflow.configuration import conf
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import Table
from sqlalchemy.orm import Session

__all__ = [
    "HISTORY",
    "RENDERED",
    "RUN",
    "TI",
    "XCOM",
    "BaseUser",
    "DagAccessEntity",
    "DagDetails",
    "GetUserDep",
    "IsAuthorizedDagRequest",
    "create_session",
    "get_auth_manager",
    "get_user",
    "operator_arguments",
    "team_of",
    "teams_of",
]

RUN: Table = DagRun.__table__
TI: Table = TaskInstance.__table__
HISTORY: Table = TaskInstanceHistory.__table__
RENDERED: Table = RenderedTaskInstanceFields.__table__
XCOM: Table = XComModel.__table__


def team_of(dag_id: str) -> str | None:
    """Return the team of a DAG, or None if it has none."""
    team: str | None = DagModel.get_team_name(dag_id)
    return team


def teams_of(dag_ids: Collection[str]) -> Mapping[str, str | None]:
    """Return the team of each DAG; an empty mapping if this Airflow has no teams."""
    if not conf.getboolean("core", "multi_team", fallback=False):
        return {}
    if hasattr(DagModel, "get_dag_id_to_team_name_mapping"):  # not in Airflow 3.1.8
        teams: dict[str, str | None] = DagModel.get_dag_id_to_team_name_mapping(list(dag_ids))
        return teams
    return {dag_id: team_of(dag_id) for dag_id in dag_ids}


def operator_arguments(session: Session, dag_id: str, task_id: str) -> Mapping[str, Any]:
    """Return the arguments of an operator in the newest version of its DAG; empty if the DAG or the task is gone.

    All instances of a mapped task share the arguments that are returned. If the task is mapped by `expand_kwargs`,
    Airflow does not say which arguments it is mapped over.
    """
    dag = SerializedDagModel.get_dag(dag_id, session=session)
    if dag is None or not dag.has_task(task_id):
        return {}
    task = dag.get_task(task_id)
    if not task.is_mapped:
        given: Mapping[str, Any] = vars(task)
        return given
    partial: Mapping[str, Any] = task.partial_kwargs
    mapped_over = task.expand_input.value  # type: ignore[union-attr]  # the class of all mapped ones has it
    if not isinstance(mapped_over, Mapping):  # `expand_kwargs`
        return partial
    return {**dict.fromkeys(set(task.template_fields) - set(mapped_over)), **partial}
