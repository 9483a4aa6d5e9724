"""Choose the job of a schedule that belongs to a run.

This module imports neither Airflow nor a package of Google's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

LATE_SECONDS = 300.0  # the delay with which a job may be listed, plus the difference between clocks

# The shares of the time between two runs by which the window of a scheduled run begins before it and ends after it.
SHARE_BEFORE, SHARE_AFTER = 0.75, 0.25


@dataclass(frozen=True)
class ScheduleWindow:
    """The window of time in which a job must have been launched, in POSIX seconds.

    :param after: begin of the window, inclusive
    :param before: end of the window, exclusive; None for no end
    :param run_time: time of the run: choose the newest job up to it, or else the first job after it. If it is None,
        choose the newest job
    """

    after: float
    before: float | None = None
    run_time: float | None = None

    @classmethod
    def of_scheduled_run(cls, at: float, *, previous: float, following: float) -> ScheduleWindow:
        """Return the window of a run that a timetable made.

        The windows of a timetable's runs meet without a gap and do not overlap, so each job belongs to one run. Most of
        a window lies before the run, because most DAGs are scheduled after the job that they wait for. The rest allows
        for a job that has the same schedule, or starts a little later.

        :param at: time at which the run is due, in POSIX seconds
        :param previous: time at which the run before it was due
        :param following: time at which the run after it is due
        """
        return cls(at - SHARE_BEFORE * (at - previous), at + SHARE_AFTER * (following - at), at)

    @classmethod
    def of_other_run(cls, at: float, *, period: float) -> ScheduleWindow:
        """Return the window of a run that no timetable made, but a person or an asset.

        :param at: time of the run, in POSIX seconds
        :param period: seconds between two runs of the DAG's timetable
        """
        return cls(at - period, at + period, at)

    def choose(self, newest_first: Iterable[Any]) -> Any:
        """Return the job that belongs to the run, or None.

        :param newest_first: jobs as the API returns them, newest first; consumed only as far as needed
        """
        chosen = None
        for job in newest_first:
            if not job.create_time:  # without a time the job cannot be placed
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
        """Return whether no job can appear in the window any more.

        :param now: POSIX seconds
        """
        return self.before is not None and now > self.before + LATE_SECONDS

    def __str__(self) -> str:
        if self.before is None:
            return f"at or after {_shown(self.after)}"
        return f"from {_shown(self.after)} until before {_shown(self.before)}"


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
