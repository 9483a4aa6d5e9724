"""Run a trigger as a triggerer does, and an operator to its end; give Airflow's answers to what they ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from importlib import import_module
from typing import Any, TypeVar

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred, XCom
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_nbjob.job import JobName, JobState
from airflow_provider_nbjob.triggers.sweeps import Seen
from tests.support.fake_service import JOB
from tests.support.patience import patient

T = TypeVar("T")


def made_again(trigger: Any) -> Any:
    """Return the trigger as another process makes it, from its serialized form."""
    path, kwargs = json.loads(json.dumps(trigger.serialize()))
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)(**kwargs)


def run(coroutine: Coroutine[Any, Any, T], *, seconds: float = 20) -> T:
    """Run a coroutine on an event loop of its own, for a bounded time."""
    return asyncio.run(asyncio.wait_for(coroutine, patient(seconds)))


async def events_of(trigger: Any) -> list[dict[str, Any]]:
    """Return the payloads of all events of a trigger."""
    return [event.payload async for event in trigger.run()]


def event_of(trigger: Any, *, seconds: float = 60) -> dict[str, Any]:
    """Run a trigger as a triggerer does, and return the payload of its one event, as it arrives in the worker."""
    (event,) = run(events_of(made_again(trigger)), seconds=seconds)
    return json.loads(json.dumps(event))


async def state_at_end(waiting: Coroutine[Any, Any, Seen]) -> JobState:
    """Return the state in which a job is seen to end by one who waits for it."""
    return (await waiting).state


def run_operator(operator: Any, context: Any) -> Any:
    """Execute an operator to its end, through its trigger if it defers."""
    try:
        return operator.execute(context)
    except TaskDeferred as deferred:
        return operator.execute_complete(context, event_of(deferred.trigger))


def airflow_says(monkeypatch: pytest.MonkeyPatch, state: Any, job: JobName | str | None = JOB) -> None:
    """Have Airflow answer that a task instance is in a state.

    :param state: or an exception, raised in its place, or what is called for it
    :param job: the name of the job that the task's record is of
    """

    def answer(**asked: Any) -> dict[str, dict[str, Any]]:
        if isinstance(state, Exception):
            raise state
        told = state() if callable(state) else state
        return {run: dict.fromkeys(asked["task_ids"], told) for run in asked["run_ids"]}

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", answer)
    monkeypatch.setattr(XCom, "get_one", lambda **_: job and {"name": str(job)})
