"""The triggers of tasks that wait for nothing but the time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent


class Sleep(BaseTrigger):
    """Sleeps for so many seconds, then has the task resume."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{type(self).__name__}", {"seconds": self.seconds}

    def event(self) -> TriggerEvent:
        """Return what the trigger ends with."""
        return TriggerEvent({})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(self.seconds)
        yield self.event()


class SleepAndSucceed(Sleep):
    """Sleeps for so many seconds, then ends the task."""

    def event(self) -> TriggerEvent:
        return TaskSuccessEvent()
