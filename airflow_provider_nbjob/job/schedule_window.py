"""Which of the jobs that a schedule launched is the one of a run.

Pure: knows neither Airflow nor Google.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

LATE_SECONDS = 300.0  # how late a job may be listed, and how far clocks may differ

# Of the time between two runs, how much of the window of a scheduled run lies before it, and how much after it.
SHARE_BEFORE, SHARE_AFTER = 0.75, 0.25


@dataclass(frozen=True)
class ScheduleWindow:
    """The times at which a job may have been launched, in POSIX seconds.

    :param after: the first of them
    :param before: the first one that is too late; None if none is
    :param run_time: the run's own time: the newest job up to it counts, else the first one after it. None: the newest
    """

    after: float
    before: float | None = None
    run_time: float | None = None

    @classmethod
    def of_scheduled_run(cls, at: float, *, previous: float, following: float) -> ScheduleWindow:
        """Return the window of a run that a timetable made.

        The windows of a timetable's runs meet without a gap and do not overlap: each job belongs to one run. Most of
        a window lies before the run, as a DAG is mostly scheduled after what it waits for; the rest lets both have the
        same schedule, or the job start a little later.

        :param previous: when the run before was due
        :param following: when the run after it is due
        """
        return cls(at - SHARE_BEFORE * (at - previous), at + SHARE_AFTER * (following - at), at)

    @classmethod
    def of_other_run(cls, at: float, *, period: float) -> ScheduleWindow:
        """Return the window of a run that somebody or something started, as a person or an asset does.

        :param period: seconds between two runs of the DAG, had a timetable made them
        """
        return cls(at - period, at + period, at)

    def choose(self, newest_first: Iterable[Any]) -> Any:
        """Return the job that counts, or None.

        :param newest_first: jobs, as the API shows them; no more are taken than are needed
        """
        chosen = None
        for job in newest_first:
            if not job.create_time:  # an answer without it says nothing
                continue
            created = job.create_time.timestamp()
            if created < self.after:
                break
            if self.before is not None and created >= self.before:
                continue
            if self.run_time is None or created <= self.run_time:
                return job
            chosen = job
        return chosen

    def is_over(self, now: float) -> bool:
        """Return whether no job can come any more."""
        return self.before is not None and now > self.before + LATE_SECONDS

    def __str__(self) -> str:
        if self.before is None:
            return f"at or after {_shown(self.after)}"
        return f"from {_shown(self.after)} until before {_shown(self.before)}"


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
