"""The arguments of a sensor that say what it waits for, and how often it looks: what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_nbjob import names
from airflow_provider_nbjob.arguments.checked_task import problems_of_job_name
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import checks
from airflow_provider_nbjob.job.checks import is_nothing, problems_of
from airflow_provider_nbjob.notebook.unknown import UNKNOWN

_EXACTLY_ONE = "notebook_execution_job, schedule: exactly one is required"


def problems_of_target(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with what is waited for; of two templates, one may come out as nothing."""
    job, schedule, location = values["notebook_execution_job"], values["schedule"], values["location"]
    if job is None and schedule is None:
        return [_EXACTLY_ONE]
    is_job, is_schedule = not is_nothing(job), not is_nothing(schedule)
    if is_job == is_schedule and None not in (job, schedule) and UNKNOWN not in (job, schedule):
        return [_EXACTLY_ONE]
    problems = problems_of_job_name(values) if is_job or schedule is None else []
    return problems + (_problems_of_schedule(schedule, location) if is_schedule or job is None else [])


def _problems_of_schedule(schedule: Any, location: Any) -> list[str]:
    if schedule is UNKNOWN or location is UNKNOWN:
        return []
    if checks.is_missing(location):
        return ["location: required with schedule"]
    try:
        names.schedule_id(schedule, location)
    except InvalidJob as error:
        return error.problems
    return []


def problems_of_interval(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with an interval that a trigger gets; Airflow checks that of a worker."""
    interval, deferrable = values["poke_interval"], values["deferrable"]
    if interval is UNKNOWN or interval is None or deferrable is not True:
        return []
    return problems_of({"poke_interval": interval}, {"poke_interval": checks.poll_interval})
