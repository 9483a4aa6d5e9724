"""An event loop whose clock jumps to what is due next, so that hours of waiting take seconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from contextlib import ExitStack
from types import ModuleType
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")


class Clock:
    """Stands in for the module `time` where it is patched.

    :param now: the monotonic time, in seconds
    :param wall: POSIX time at the monotonic time 0
    """

    def __init__(self, now: float = 1_000.0, wall: float = 1.7e9) -> None:
        self.now = now
        self.wall = wall

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall + self.now

    def jump(self, seconds: float) -> None:
        """Go on at once, as after a machine was suspended."""
        self.now += seconds


class _Skipping(selectors.SelectSelector):
    """Lets the clock pass where a loop would wait."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        assert ready or timeout is not None, "nothing will ever happen any more"
        if not ready:
            self._clock.now += max(0.0, timeout or 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop by such a clock. What it runs must not use threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__(_Skipping(clock))

    def time(self) -> float:
        return self._clock.now


def run_at_virtual_time(scene: Coroutine[Any, Any, T], clock: Clock, *modules: ModuleType) -> T:
    """Run a coroutine to its end, by a clock of its own.

    :param modules: these see the clock as the module `time`
    """
    loop = VirtualLoop(clock)
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(mock.patch.object(module, "time", clock))
        stack.callback(loop.close)
        stack.callback(asyncio.set_event_loop, None)
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(scene)
