"""Who is asking, for what, and whether it is theirs to see: Airflow's own checks, as its core routes do them.

The routes of Airflow 3.1 to 3.3 ask for TASK_INSTANCE to show a task instance with its rendered arguments, for XCOM to
show what it returned, and for TASK_LOGS to show its log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote, unquote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.batch_apis import IsAuthorizedDagRequest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.configuration import conf
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException, Request

NOT_READABLE = "You may not read the task instances of this DAG."
NOT_MAPPED = -1
ID_MAX = 1000  # characters; Airflow's ids have 250 at most, percent-encoded or not


class TaskRef(NamedTuple):
    """A task instance, and which of its tries is meant; `None` for the newest."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = NOT_MAPPED
    try_number: int | None = None

    def query(self, **changes: Any) -> str:
        """Return the query string that `parse` reads, with some parts changed; parts that are `None` are left out."""
        parts = {**self._asdict(), **changes}
        return "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parts.items() if value is not None)

    @classmethod
    def parse(cls, query: str) -> TaskRef:
        """Read it from a query string.

        A plus is a plus, not a blank: Airflow 3.1 puts ids into the query as they are.

        :raises ValueError: if it is malformed; the message names the part
        """
        values: dict[str, str] = {}
        for pair in filter(None, query.split("&")):
            name, _, value = pair.partition("=")
            if name in values:
                raise ValueError(f"{name[:50]}: given twice")
            values[name] = unquote(value, errors="replace")
        ids = {name: values.get(name, "") for name in ("dag_id", "run_id", "task_id")}
        for name, value in ids.items():
            if not 0 < len(value) <= ID_MAX or "\0" in value:
                raise ValueError(f"{name}: required, of at most {ID_MAX} characters")
        map_index = values.get("map_index", "")
        return cls(
            **ids,
            map_index=NOT_MAPPED if map_index in ("", "{MAP_INDEX}") else _number("map_index", map_index, NOT_MAPPED),
            try_number=_number("try_number", values["try_number"], 1) if values.get("try_number") else None,
        )


def _number(name: str, value: str, least: int) -> int:
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10) or int(value) < least:
        raise ValueError(f"{name}: must be a number, at least {least}")
    return int(value)


def readable_task(request: Request, user: GetUserDep) -> TaskRef:
    """Return the task instance that is asked for, which the user may read; whether it exists was not looked up.

    :raises HTTPException: 400 if the query is malformed, 403 if the user may not read it
    """
    try:
        task = TaskRef.parse(request.url.query)
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
    if not _may_read(user, DagAccessEntity.TASK_INSTANCE, _details(task.dag_id)):
        raise HTTPException(403, NOT_READABLE)
    return task


class Reader(NamedTuple):
    """Who asks about a task instance, and what of it they may read beside its state and its arguments.

    :param user_id: of Airflow's user
    :param xcoms: whether they may read what tasks of the DAG return: results, and the record of the job
    :param logs: whether they may read the logs of these tasks: errors, and the notebook
    """

    user_id: str
    xcoms: bool
    logs: bool


def reader_of(ref: Annotated[TaskRef, Depends(readable_task)], user: GetUserDep) -> Reader:
    """Return what the user may read of the DAG that they ask about."""
    details = _details(ref.dag_id)
    return Reader(
        user.get_id(),
        xcoms=_may_read(user, DagAccessEntity.XCOM, details),
        logs=_may_read(user, DagAccessEntity.TASK_LOGS, details),
    )


class ReadableDags(NamedTuple):
    """Those of some DAGs of which a user may read something.

    :param listed: ids of those whose jobs they may see: task instances and XComs, as all that is listed is of these
    :param with_errors: ids of those of them whose logs they may read too
    """

    listed: set[str]
    with_errors: set[str]


class DagReader(NamedTuple):
    """Who asks for the jobs of all DAGs.

    :param user: Airflow's
    :param dag_ids: ids of the DAGs that they may see
    """

    user: Any
    dag_ids: set[str]

    def narrow(self, dag_ids: set[str]) -> ReadableDags:
        """Return what the user may read of these DAGs."""
        teams = _teams(dag_ids)
        listed = _those_with(self.user, DagAccessEntity.TASK_INSTANCE, dag_ids, teams)
        listed = _those_with(self.user, DagAccessEntity.XCOM, listed, teams)
        return ReadableDags(listed, _those_with(self.user, DagAccessEntity.TASK_LOGS, listed, teams))


def dag_reader(user: GetUserDep) -> DagReader:
    """Return the user, who may list task instances.

    :raises HTTPException: 403 if they may list none at all
    """
    if not _may_read(user, DagAccessEntity.TASK_INSTANCE, DagDetails()):
        raise HTTPException(403, NOT_READABLE)
    return DagReader(user, get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))


def _those_with(user: Any, entity: DagAccessEntity, dag_ids: set[str], teams: Mapping[str, str | None]) -> set[str]:
    """Return the DAGs of which a user may read something.

    An auth manager may be asked over the network, so it is asked about all at once, and about each only if it says
    that these are not all.
    """
    details = {dag_id: DagDetails(id=dag_id, team_name=teams.get(dag_id)) for dag_id in dag_ids}
    requests: list[IsAuthorizedDagRequest] = [
        {"method": "GET", "access_entity": entity, "details": one} for one in details.values()
    ]
    if not requests or get_auth_manager().batch_is_authorized_dag(requests, user=user):
        return dag_ids
    return {dag_id for dag_id in dag_ids if _may_read(user, entity, details[dag_id])}


def _teams(dag_ids: set[str]) -> Mapping[str, str | None]:
    """Return the team of each DAG, as far as Airflow has teams."""
    if not conf.getboolean("core", "multi_team", fallback=False):
        return {}
    if hasattr(DagModel, "get_dag_id_to_team_name_mapping"):  # Airflow 3.1 has it not
        return DagModel.get_dag_id_to_team_name_mapping(list(dag_ids))
    return {dag_id: DagModel.get_team_name(dag_id) for dag_id in dag_ids}


def _details(dag_id: str) -> DagDetails:
    return DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))


def _may_read(user: Any, entity: DagAccessEntity, dag: DagDetails) -> bool:
    return bool(get_auth_manager().is_authorized_dag(method="GET", access_entity=entity, details=dag, user=user))


ReadableTask = Annotated[TaskRef, Depends(readable_task)]
ReaderOfTask = Annotated[Reader, Depends(reader_of)]
ReaderOfDags = Annotated[DagReader, Depends(dag_reader)]
