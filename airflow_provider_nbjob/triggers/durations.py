"""Learn how long the runs of a task take, from the jobs that the API shows anyway, and predict when others end.

Without I/O and without a clock. What is learned is bounded, and lives as long as the watch: nothing is stored.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

TASKS_MAX = 500  # of which durations are kept; the task that was learned of longest ago is forgotten first
RUNS_MAX = 8  # the newest runs of a task, whose durations are kept
NAME_MAX = 128  # characters of a display name that are looked at; the API's own limit
DURATION_MAX = 30 * 86_400.0  # seconds; a longer run is no pattern
# A run is expected to end around each duration that was seen: within this part of it, divided by the number of runs
# that were seen, and at least within the smaller one.
SPREAD, SPREAD_MIN = 0.25, 0.05
SPREAD_SECONDS_MIN = 2.0


class Window(NamedTuple):
    """A time of a run in which it is likely to end.

    :param opens: age of the run, in seconds
    :param closes: age of the run, in seconds
    :param rate: ends a second, if the run has reached the window
    """

    opens: float
    closes: float
    rate: float


class Outlook(NamedTuple):
    """The ends that are expected of all runs that are waited for.

    :param rate: expected ends a second, now
    :param opens_in: seconds until the next window of a job opens; infinite if none does
    """

    rate: float
    opens_in: float


def task_of(display_name: str) -> str:
    """Return what the display names of all runs of a task have in common.

    Of a default display name, ``{dag_id}.{task_id} [{map_index}] {run_id}``, these are DAG and task; see
    `Tries.default_display_name`. Of any other, all but the digits, which may be a date or a number.
    """
    name = display_name[:NAME_MAX]
    task, _, run = name.partition(" ")
    return task if run and "." in task else re.sub(r"\d+", "0", name)


@dataclass(slots=True)
class _Waiting:
    """The runs of a task that are waited for: when they started, sorted."""

    task: str
    starts: list[float] = field(default_factory=list)


class Durations:
    """Durations of earlier runs, by task, and the starts of the runs that are waited for.

    Ages are of one clock, the caller's monotonic one. If the clock of this machine differs from the API's, the windows
    are early or late by as much; that costs looks or seconds, and nothing else.
    """

    def __init__(self) -> None:
        self._learned: dict[str, list[float]] = {}  # the newest last; the task that was learned of last is the last
        self._waiting: dict[str, _Waiting] = {}  # by task
        self._starts: dict[str, tuple[_Waiting, float]] = {}  # by job id

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._starts

    def learn(self, display_name: str, seconds: float) -> None:
        """Note the duration of a run that has ended. One that is no duration is ignored."""
        if not 0 < seconds <= DURATION_MAX:
            return
        task = task_of(display_name)
        runs = self._learned.pop(task, [])
        self._learned[task] = [*runs[1 - RUNS_MAX :], seconds]
        if len(self._learned) > TASKS_MAX:
            del self._learned[next(iter(self._learned))]

    def add(self, job_id: str, display_name: str, start: float) -> bool:
        """Expect the end of a run; return whether anything is known of its task.

        :param start: when it started, by the monotonic clock; it may have been before that clock's zero
        """
        self.remove(job_id)
        task = task_of(display_name)
        waiting = self._waiting.setdefault(task, _Waiting(task))
        insort(waiting.starts, start)
        self._starts[job_id] = waiting, start
        return task in self._learned

    def remove(self, job_id: str) -> None:
        """Expect nothing of a run any more."""
        if job_id in self._starts:
            waiting, start = self._starts.pop(job_id)
            del waiting.starts[bisect_left(waiting.starts, start)]
            if not waiting.starts:
                del self._waiting[waiting.task]

    def outlook(self, now: float) -> Outlook:
        """Return the ends that are expected of all runs that are waited for."""
        rate, opens_in = 0.0, math.inf
        for task, waiting in self._waiting.items():
            starts = waiting.starts
            for window in self._windows(task) if task in self._learned else ():
                closed = bisect_right(starts, now - window.closes)
                opened = bisect_right(starts, now - window.opens)
                rate += (opened - closed) * window.rate
                if opened < len(starts):
                    opens_in = min(opens_in, starts[opened] + window.opens - now)
        return Outlook(rate, max(0.0, opens_in))

    def _windows(self, task: str) -> Iterator[Window]:
        """Yield a window for each run of a task that was seen: so many runs end in one as were that long, or longer."""
        runs = sorted(self._learned[task])
        for shorter, seconds in enumerate(runs):
            spread = max(SPREAD_SECONDS_MIN, seconds * max(SPREAD_MIN, SPREAD / len(runs)))
            yield Window(seconds - spread, seconds + spread, 1 / (2 * spread * (len(runs) - shorter)))
