"""Triggers of the benchmark's own: one that measures the event loop that it shares, and one that only sleeps."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

TICK = 0.01  # seconds


class Idle(BaseTrigger):
    """Waits for nothing, and asks nobody: what Airflow itself takes for a deferred task."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.Idle", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.Event().wait()
        yield TriggerEvent({})


class Probe(BaseTrigger):
    """Measures how late the event loop is, until a file is made; writes what it saw into that file's neighbour.

    :param folder: `stop` in it ends the probe, which then writes ``probe.json``
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.Probe", {"folder": self.folder}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        lags, threads = [], []
        stop = Path(self.folder, "stop")
        while not (len(lags) % 100 == 0 and stop.exists()):
            started = time.monotonic()
            await asyncio.sleep(TICK)
            lags.append((started, time.monotonic() - started - TICK))
            threads.append((started, threading.active_count()))
        channels = sum(
            type(thing).__name__ == "Channel" and type(thing).__module__.startswith("grpc.")
            for thing in gc.get_objects()
        )
        Path(self.folder, "probe.json").write_text(json.dumps({"lags": lags, "threads": threads, "channels": channels}))
        yield TriggerEvent({})
