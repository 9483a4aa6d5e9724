"""Run a trigger as a triggerer does, and an operator to its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from importlib import import_module
from typing import Any, TypeVar

from airflow.providers.common.compat.sdk import TaskDeferred

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


def run_operator(operator: Any, context: Any) -> Any:
    """Execute an operator to its end, through its trigger if it defers."""
    try:
        return operator.execute(context)
    except TaskDeferred as deferred:
        return operator.execute_complete(context, event_of(deferred.trigger))
