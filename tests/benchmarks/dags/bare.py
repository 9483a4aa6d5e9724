"""Airflow's floor: tasks that do nothing, or wait for nothing but the time."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, BaseOperator
from airflow.triggers.base import StartTriggerArgs

from tests.benchmarks.dags.triggers import Sleep, SleepAndSucceed
from tests.benchmarks.whole_kinds import (
    DEFERRED,
    EMPTY,
    IN_TRIGGERER,
    SECONDS_AT_LEAST,
    WARM_UP,
    mapped,
    seconds_of_job,
)


class Empty(BaseOperator):
    """Does nothing."""

    def __init__(self, *, number: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number

    def execute(self, context: Any) -> None:
        pass


class Deferred(Empty):
    """Sleeps in the triggerer."""

    seconds = seconds_of_job()

    def execute(self, context: Any) -> None:
        self.defer(trigger=Sleep(self.seconds), method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any) -> None:
        pass


class BrieflyDeferred(Deferred):
    """Sleeps no longer than it must."""

    seconds = SECONDS_AT_LEAST


class InTriggerer(Empty):
    """Sleeps in the triggerer, and no worker knows of it."""

    start_from_trigger = True
    start_trigger_args = StartTriggerArgs(
        trigger_cls=f"{SleepAndSucceed.__module__}.{SleepAndSucceed.__name__}",
        trigger_kwargs={"seconds": seconds_of_job()},
        next_method="execute_complete",  # which Airflow wants to be named; the trigger ends the task
        next_kwargs=None,
        timeout=None,
    )


for kind, operator in ((EMPTY, Empty), (DEFERRED, Deferred), (IN_TRIGGERER, InTriggerer)):
    for numbers in mapped(kind):
        operator.partial(task_id="task").expand(number=numbers)

with DAG(WARM_UP, schedule=None):
    BrieflyDeferred.partial(task_id="task").expand(number=[0, 1])
