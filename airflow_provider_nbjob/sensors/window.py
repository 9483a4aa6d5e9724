"""The time in which the job of a run was launched, from the run and the timetable of its DAG."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from airflow.sdk import timezone

from airflow_provider_nbjob import names
from airflow_provider_nbjob.airflow_compat import core_timetable
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job.checks import is_missing
from airflow_provider_nbjob.job.schedule_window import ScheduleWindow

DAY = timedelta(days=1)  # the period of a DAG whose timetable tells none
TIMETABLE_RUN_TYPES = ("scheduled", "backfill")
# How far before a run its predecessor is looked for, and how many runs are counted on the way.
LOOK_BACK = (timedelta(hours=1), timedelta(days=1, hours=2), timedelta(days=8), timedelta(days=63), timedelta(days=800))
TICKS_MAX = 1500


def moment(value: Any, field: str) -> float:
    """Return a time in POSIX seconds; one without a zone is in Airflow's default time zone, as all of Airflow has it.

    :param value: a datetime, a date (its first moment), or a text in ISO 8601
    :param field: how the error names it
    :raises InvalidJob: if it is anything else
    """
    try:
        parsed = timezone.parse(value) if isinstance(value, str) else value
        if isinstance(parsed, date) and not isinstance(parsed, datetime):
            parsed = datetime.combine(parsed, time.min)
        if isinstance(parsed, datetime):
            return float(timezone.convert_to_utc(parsed).timestamp())
    except (ValueError, OverflowError, TypeError, AttributeError):  # of pendulum's parser, or of a far year
        pass
    raise InvalidJob(
        f"{field}: {names.shown(value)} is not a time; give a datetime, or a text such as 2026-01-31T06:00Z"
    )


def window_of(run: Any, dag: Any, *, created_after: Any = None, created_before: Any = None) -> ScheduleWindow:
    """Return the times at which the job of a run may have been launched.

    :param run: the run of the DAG, as Airflow's context has it
    :param dag: None if there is none
    :param created_after: what the user gave, as for `created_before`. If either is given, the newest job counts, and a
        bound that is not given is none
    :raises InvalidJob: if a time is none, or there is none between the two
    """
    has_after, has_before = not is_missing(created_after), not is_missing(created_before)
    if has_after or has_before:
        after = moment(created_after, "created_after") if has_after else 0.0
        before = moment(created_before, "created_before") if has_before else None
        if before is not None and before <= after:
            raise InvalidJob(
                f"created_before: {names.shown(created_before)} is not after created_after {names.shown(created_after)}"
            )
        return ScheduleWindow(after, before)
    return _default_window(run, dag)


def _default_window(run: Any, dag: Any) -> ScheduleWindow:
    start, end = getattr(run, "data_interval_start", None), getattr(run, "data_interval_end", None)
    logical_date, run_after = getattr(run, "logical_date", None), getattr(run, "run_after", None)
    run_type = getattr(run, "run_type", None)
    is_scheduled = run_type is None or str(getattr(run_type, "value", run_type)) in TIMETABLE_RUN_TYPES
    at = (run_after or end or start if is_scheduled else logical_date or run_after) or run.start_date
    previous, following, is_tick = _neighbours(dag, at)
    if not is_scheduled:
        return ScheduleWindow.of_other_run(at.timestamp(), period=(following - previous).total_seconds())
    if start and end and start < end <= at:
        previous = start
        following = following if is_tick else at + (end - start)
    elif not is_tick:  # a timetable of fixed distances, or none that tells
        previous = at - (following - previous)
        following = at + (at - previous)
    return ScheduleWindow.of_scheduled_run(
        at.timestamp(), previous=previous.timestamp(), following=following.timestamp()
    )


def _neighbours(dag: Any, at: datetime) -> tuple[datetime, datetime, bool]:
    """Return when the runs before and after a time are due, and whether one is due at that time.

    A day before and half a day after it, if Airflow does not tell.
    """
    try:
        timetable = core_timetable(dag)
        for back in LOOK_BACK:
            ticks = [*_ticks(timetable, at - back, until=at)]
            earlier, later = [tick for tick in ticks if tick < at], [tick for tick in ticks if tick > at]
            if earlier and later:
                return earlier[-1], later[0], at in ticks
    except Exception:  # noqa: S110 - a timetable of the user's own, or none; the sensor says which window it took
        pass
    return at - DAY / 2, at + DAY / 2, False


def _ticks(timetable: Any, since: datetime, *, until: datetime) -> Iterator[datetime]:
    """Yield when runs are due from a time on, up to the first one after another."""
    from airflow.timetables.base import TimeRestriction

    restriction = TimeRestriction(earliest=timezone.coerce_datetime(since), latest=None, catchup=True)
    last = None
    for _ in range(TICKS_MAX):
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        if info is None:
            return
        yield info.run_after
        if info.run_after > until or info.data_interval is None:
            return
        last = info.data_interval
