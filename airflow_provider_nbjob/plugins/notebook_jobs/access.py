"""Who is asking, for what, and whether it is theirs to see: Airflow's own checks, as its core routes do them."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple
from urllib.parse import quote, unquote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException, Request

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
        """The query string that `parse` reads, with some parts changed; parts that are `None` are left out."""
        parts = {**self._asdict(), **changes}
        return "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parts.items() if value is not None)

    @classmethod
    def parse(cls, query: str) -> TaskRef:
        """Read it from a query string.

        A plus is a plus, not a blank: Airflow 3.1 puts ids into the query as they are.

        :raises ValueError: where it is malformed; the message names the part
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
    """The task instance that is asked for, which the user may read; whether it exists was not looked up.

    :raises HTTPException: 400 where the query is malformed, 403 where the user may not read it
    """
    try:
        task = TaskRef.parse(request.url.query)
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
    _require_task_instances(user, DagDetails(id=task.dag_id, team_name=DagModel.get_team_name(task.dag_id)))
    return task


def readable_dag_ids(user: GetUserDep) -> set[str]:
    """The ids of the DAGs whose task instances the user may list.

    :raises HTTPException: 403 where the user may list none at all
    """
    _require_task_instances(user, DagDetails())
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


def _require_task_instances(user: Any, dag: DagDetails) -> None:
    is_allowed = get_auth_manager().is_authorized_dag(
        method="GET", access_entity=DagAccessEntity.TASK_INSTANCE, details=dag, user=user
    )
    if not is_allowed:
        raise HTTPException(403, "You may not read the task instances of this DAG.")


ReadableTask = Annotated[TaskRef, Depends(readable_task)]
ReadableDagIds = Annotated[set[str], Depends(readable_dag_ids)]
