"""Measure the CPU time and the memory of a whole Airflow, by its components."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.cpu import cpu_seconds

INTERVAL_SECONDS = 0.5
WHOLE_EVERY = 4  # samples: the resident memory of all processes takes the kernel long to sum up
SCHEDULER, WORKERS = "scheduler", "workers"
# A process of one task, by the title that Airflow 3.3.2 gives it (`airflow/sdk/execution_time/task_runner.py`); those
# of LocalExecutor, which start them, begin with the same words.
TASK_TITLE = re.compile(r"airflow worker -- [0-9a-f]{8}-[0-9a-f]{4}-")
Seconds = dict[str, float]


def cpu_by_component(pids: Mapping[str, int]) -> Seconds:
    """Return the CPU seconds of each component so far, of what it started too.

    What a scheduler started are the workers of LocalExecutor, with the tasks in them.

    :param pids: the process of each component
    """
    spent = {name: cpu_seconds(pid) for name, pid in pids.items()}
    own = psutil.Process(pids[SCHEDULER]).cpu_times()
    whole, spent[SCHEDULER] = spent[SCHEDULER], own.user + own.system
    return {**spent, WORKERS: whole - spent[SCHEDULER]}


def above_idle(before: Seconds, after: Seconds, idle: Seconds, seconds: float, tasks: int) -> Seconds:
    """Return the CPU seconds of each component that a task takes.

    :param before: CPU seconds when the tasks were started
    :param after: and when all had ended, so many seconds later
    :param idle: CPU seconds a second of a component without tasks
    """
    return {name: (after[name] - before[name] - idle[name] * seconds) / tasks for name in after}


def idle_rates(pids: Mapping[str, int], seconds: float) -> Seconds:
    """Return the CPU seconds a second of each component while nothing is asked of it."""
    before, began = cpu_by_component(pids), time.monotonic()
    time.sleep(seconds)
    after, took = cpu_by_component(pids), time.monotonic() - began
    return {name: (after[name] - before[name]) / took for name in after}


def machine_seconds() -> float:
    """Return the CPU seconds of all processes of the machine so far."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0))


def high_water_mb(status: str) -> float:
    """Return the megabytes that a process had resident at most, by ``/proc/{pid}/status``; 0 for one that has ended."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


@dataclass
class Peaks:
    """The most memory that was resident, in megabytes.

    :param task: of a process of one task
    :param triggerer: of the process that the triggers run in
    :param whole: of all of Airflow; what processes share counts once
    """

    task: float = 0.0
    triggerer: float = 0.0
    whole: float = 0.0
    first_triggerer: float = 0.0  # when the samples began

    def figures(self) -> dict[str, float]:
        """Return what a row tells of them."""
        return {
            "task_mb": self.task,
            "triggerer_mb": self.triggerer,
            "triggerer_growth_mb": self.triggerer - self.first_triggerer,
            "whole_mb": self.whole,
        }


class MemorySampler(threading.Thread):
    """Takes samples of the memory of a whole Airflow, until its context is left.

    :param pids: the process of each component
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        super().__init__(name="memory", daemon=True)
        self._pids = pids
        self._is_over = threading.Event()
        self.peaks = Peaks()

    def __enter__(self) -> MemorySampler:
        self._sample(whole=True)
        self.peaks.first_triggerer = self.peaks.triggerer
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.join()

    def run(self) -> None:
        """Take samples."""
        number = 0
        while not self._is_over.wait(INTERVAL_SECONDS):
            number += 1
            self._sample(whole=number % WHOLE_EVERY == 0)

    def _sample(self, *, whole: bool) -> None:
        peaks, resident = self.peaks, 0.0
        children = _children()
        for name, pid in self._pids.items():
            for process in _tree(pid, children):
                with suppress(psutil.Error, OSError, IndexError):
                    if name == "triggerer":
                        peaks.triggerer = max(peaks.triggerer, process.memory_info().rss / 1e6)
                    elif name == SCHEDULER and TASK_TITLE.match(process.cmdline()[0]):
                        status = Path(f"/proc/{process.pid}/status").read_text()
                        peaks.task = max(peaks.task, high_water_mb(status))
                    if whole:
                        resident += process.memory_full_info().pss / 1e6
        peaks.whole = max(peaks.whole, resident)


def _children() -> dict[int, list[psutil.Process]]:
    """Return the processes that each process started."""
    found: dict[int, list[psutil.Process]] = defaultdict(list)
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found[process.ppid()].append(process)
    return found


def _tree(pid: int, children: dict[int, list[psutil.Process]]) -> Iterator[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        yield psutil.Process(pid)
    for child in children.get(pid, ()):
        yield from _tree(child.pid, children)
