"""Find out who sends a request, for which task instance, and what they may read, by Airflow's own checks.

The checks are those of Airflow's core routes. In Airflow 3.1 to 3.3 these require TASK_INSTANCE to show a task instance
with its rendered arguments, XCOM to show what it returned, and TASK_LOGS to show its log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple
from urllib.parse import quote, unquote

from fastapi import Depends, HTTPException, Request

from airflow_provider_nbjob.plugins.notebook_jobs.airflow_compat import (
    BaseUser,
    DagAccessEntity,
    DagDetails,
    GetUserDep,
    IsAuthorizedDagRequest,
    get_auth_manager,
    team_of,
    teams_of,
)

NOT_READABLE = "You may not read the task instances of this DAG."
NOT_MAPPED = -1
ID_MAX = 1000  # characters; Airflow's ids have 250 at most, percent-encoded or not


class TaskRef(NamedTuple):
    """The ids of a task instance, and the number of one of its tries; None for the newest."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = NOT_MAPPED
    try_number: int | None = None

    def query(self, **changes: str | int | None) -> str:
        """Return the query string that `parse` reads, with some parts changed; parts that are None are left out."""
        parts = {**self._asdict(), **changes}
        return "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parts.items() if value is not None)

    @classmethod
    def parse(cls, query: str) -> TaskRef:
        """Return the task instance that a query string names.

        A plus sign is kept, not read as a blank: Airflow 3.1 does not encode the ids in the query.

        :raises ValueError: if the query is malformed; the message names the part
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
    """Return the task instance of a request, after the check that the user may read it; it need not exist.

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
    """A user who may read a task instance with its arguments, and what else of it they may read.

    :param user_id: id of Airflow's user
    :param xcoms: whether they may read XComs of the DAG: results, and the record of the job
    :param logs: whether they may read logs of the DAG's tasks: errors, and the notebook
    """

    user_id: str
    xcoms: bool
    logs: bool


def reader_of(ref: Annotated[TaskRef, Depends(readable_task)], user: GetUserDep) -> Reader:
    """Return the user of a request, with what they may read of its DAG."""
    details = _details(ref.dag_id)
    return Reader(
        user.get_id(),
        xcoms=_may_read(user, DagAccessEntity.XCOM, details),
        logs=_may_read(user, DagAccessEntity.TASK_LOGS, details),
    )


class ReadableDags(NamedTuple):
    """The DAGs whose jobs a user may see.

    :param listed: ids of DAGs whose task instances and XComs they may read, from which all that is listed comes
    :param with_errors: those of `listed` whose logs they may read too
    """

    listed: set[str]
    with_errors: set[str]


class DagReader(NamedTuple):
    """A user who requests the jobs of all DAGs.

    :param user: Airflow's user
    :param dag_ids: ids of the DAGs that they may read
    """

    user: BaseUser
    dag_ids: set[str]

    def narrow(self, dag_ids: set[str]) -> ReadableDags:
        """Return what the user may read of these DAGs."""
        teams = teams_of(dag_ids)
        listed = _those_with(self.user, DagAccessEntity.TASK_INSTANCE, dag_ids, teams)
        listed = _those_with(self.user, DagAccessEntity.XCOM, listed, teams)
        return ReadableDags(listed, _those_with(self.user, DagAccessEntity.TASK_LOGS, listed, teams))


def dag_reader(user: GetUserDep) -> DagReader:
    """Return the user of a request, after the check that they may list task instances.

    :raises HTTPException: 403 if they may list none at all
    """
    if not _may_read(user, DagAccessEntity.TASK_INSTANCE, DagDetails()):
        raise HTTPException(403, NOT_READABLE)
    return DagReader(user, get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))


def _those_with(
    user: BaseUser, entity: DagAccessEntity, dag_ids: set[str], teams: Mapping[str, str | None]
) -> set[str]:
    """Return the DAGs of which a user may read an entity.

    An auth manager may send a request for each check. So all DAGs are checked at once, and one by one only if the user
    may not read all of them.
    """
    details = {dag_id: DagDetails(id=dag_id, team_name=teams.get(dag_id)) for dag_id in dag_ids}
    requests: list[IsAuthorizedDagRequest] = [
        {"method": "GET", "access_entity": entity, "details": one} for one in details.values()
    ]
    if not requests or get_auth_manager().batch_is_authorized_dag(requests, user=user):
        return dag_ids
    return {dag_id for dag_id in dag_ids if _may_read(user, entity, details[dag_id])}


def _details(dag_id: str) -> DagDetails:
    return DagDetails(id=dag_id, team_name=team_of(dag_id))


def _may_read(user: BaseUser, entity: DagAccessEntity, dag: DagDetails) -> bool:
    return bool(get_auth_manager().is_authorized_dag(method="GET", access_entity=entity, details=dag, user=user))


ReadableTask = Annotated[TaskRef, Depends(readable_task)]
ReaderOfTask = Annotated[Reader, Depends(reader_of)]
ReaderOfDags = Annotated[DagReader, Depends(dag_reader)]
