"""What is inside the triggerer's runner: its clock, its secrets backend, and a trigger that counts what it holds."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from airflow.sdk.definitions.connection import Connection
from airflow.secrets import BaseSecretsBackend
from airflow.triggers.base import BaseTrigger, TriggerEvent

from tests.chaos.judge import CHANNEL
from tests.chaos.schedule import HANGS, RAISES, SLOW, SLOW_SECONDS, UNDEFINED

FOLDER_VARIABLE = "NBJOB_CHAOS_FOLDER"
LOOK_UP_SECONDS = 0.2  # between two looks of a look-up that hangs at whether it still does

# How far off the clock is, in seconds. The runner is forked from the process that sets it, and shares its memory.
clock_offset = multiprocessing.RawValue("d", 0.0)


def set_clock_apart() -> None:
    """Have `time.time` of this process go wrong by `clock_offset`, as after a step of the system's clock.

    gRPC alone keeps the right one: it passes the time at which a call is to be given up to its core, which reads the
    system's clock (grpcio 1.85, `_channel._deadline`).
    """
    right = time.time

    def read() -> float:
        is_grpc = sys._getframe(1).f_globals.get("__name__", "").startswith("grpc.")
        return right() + (0.0 if is_grpc else clock_offset.value)

    time.time = read


class Secrets(BaseSecretsBackend):
    """A secrets backend that fails on schedule: what it has to do now, it reads from a file.

    Airflow takes what it raises for "not defined here" and asks the next backend, which is the supervisor.
    """

    def get_connection(self, conn_id: str) -> Connection | None:
        """Return a connection, or fail."""
        how = told()[conn_id]["how"]
        if how == RAISES:
            raise ConnectionError("the secrets backend does not answer")
        if how == UNDEFINED:
            return None
        if how == SLOW:
            time.sleep(SLOW_SECONDS)
        while told()[conn_id]["how"] == HANGS:
            time.sleep(LOOK_UP_SECONDS)
        return Connection(
            conn_id=conn_id, conn_type="google_cloud_platform", extra=json.dumps(told()[conn_id]["extra"])
        )


def told() -> dict[str, Any]:
    """Return what the connections are now, as `tell` left it."""
    return json.loads(_file().read_text())


def tell(connections: dict[str, Any]) -> None:
    """Say what the connections are: for each its `extra`, and what a look-up does (`how`)."""
    new = _file().with_suffix(".new")
    new.write_text(json.dumps(connections))
    os.replace(new, _file())


def _file() -> Path:
    return Path(os.environ[FOLDER_VARIABLE], "connections.json")


class Census(BaseTrigger):
    """Counts what the runner holds, and fires with that."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.Census", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        gc.collect()
        pool = getattr(asyncio.get_running_loop(), "_default_executor", None)
        pooled = set(getattr(pool, "_threads", ()))
        tasks = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
        # The loop's own pool of threads grows to its size and stays; what is busy in it counts.
        # A thread of gRPC's core that called Python once stays in the list as a dummy, even when it has ended (3.11).
        threads = Counter(
            thread.name
            for thread in threading.enumerate()
            if thread not in pooled and not isinstance(thread, threading._DummyThread)
        )
        frames = sys._current_frames()
        threads["busy in the pool"] = sum(not _is_idle(frames.get(thread.ident)) for thread in pooled)
        channels = sum(map(_is_channel, gc.get_objects()))
        yield TriggerEvent({"threads": dict(threads), "channels": {CHANNEL: channels}, "tasks": dict(tasks)})


def _is_idle(frame: Any) -> bool:
    """Return whether a thread of a pool, by its innermost frame, waits for work, or has ended."""
    return frame is None or frame.f_code.co_name == "_worker"


def _is_channel(thing: Any) -> bool:
    """Return whether it is a channel itself, and no interceptor's around one.

    By its type, as a lazy value of a task's context, which `isinstance` would ask, asks Airflow.
    """
    return issubclass(type(thing), grpc.Channel) and type(thing).__module__ == "grpc._channel"
