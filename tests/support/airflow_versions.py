"""What differs between the versions of Airflow that the tests run with, and nothing of it anywhere else.

A test that asserts what only some versions do asks here, so that it is not skipped where it should pass.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from airflow import __version__
from airflow.exceptions import AirflowRescheduleException
from airflow.sdk import DAG
from airflow.serialization import serialized_objects

__all__ = [
    "AIRFLOW",
    "FAULTY_EXTRA_IS_NO_CONNECTION",
    "MARK_STOPS_A_DEFERRED_JOB",
    "PROVIDERS_HAVE_COMMANDS",
    "STARTS_IN_TRIGGERER",
    "AirflowRescheduleException",
    "BundleDagBag",
    "CronDataIntervalTimetable",
    "CronTriggerTimetable",
    "DeltaTriggerTimetable",
    "deserialized",
    "serialized",
    "task_instance_id",
]

AIRFLOW = tuple(int(part) for part in __version__.split(".")[:2])

# Airflow 3.1 makes a URI of each connection that it looks up. One whose extra is not an object has none, and Airflow
# then says that the connection is not defined.
FAULTY_EXTRA_IS_NO_CONNECTION = AIRFLOW < (3, 2)
# Before 3.3, the triggerer calls no `on_kill` of a trigger whose task was marked.
MARK_STOPS_A_DEFERRED_JOB = AIRFLOW >= (3, 3)
# Before 3.2, no provider is asked for commands of Airflow's command line.
PROVIDERS_HAVE_COMMANDS = AIRFLOW >= (3, 2)
# Before 3.3, no templates are rendered in the triggerer.
STARTS_IN_TRIGGERER = AIRFLOW >= (3, 3)

if AIRFLOW >= (3, 2):
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.sdk import CronDataIntervalTimetable, CronTriggerTimetable, DeltaTriggerTimetable

    _Serialization = serialized_objects.DagSerialization
else:
    from airflow.models.dagbag import BundleDagBag
    from airflow.timetables.interval import CronDataIntervalTimetable
    from airflow.timetables.trigger import CronTriggerTimetable, DeltaTriggerTimetable

    _Serialization = serialized_objects.SerializedDAG


def task_instance_id() -> UUID | str:
    """Return a new id, as the column of task instances takes it: a text in Airflow 3.1."""
    return uuid4() if AIRFLOW >= (3, 2) else str(uuid4())


def serialized(dag: DAG) -> dict[str, Any]:
    """Return a DAG as Airflow stores it."""
    return dict(_Serialization.to_dict(dag))


def deserialized(stored: dict[str, Any]) -> Any:
    """Return a stored DAG as Airflow's scheduler and API server have it."""
    return _Serialization.from_dict(stored)
