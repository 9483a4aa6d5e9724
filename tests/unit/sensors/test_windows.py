"""Which of a schedule's jobs is the one of a run: a scheduled, backfilled, manual or asset-triggered one."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from airflow.sdk import DAG, Asset
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job.schedule_window import ScheduleWindow
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from airflow_provider_nbjob.sensors.window import moment, window_of
from tests.support.airflow_versions import CronDataIntervalTimetable, CronTriggerTimetable, DeltaTriggerTimetable
from tests.support.fake_google import FakeWait
from tests.support.fake_service import PARENT, SCHEDULE
from tests.support.running import event_of
from tests.support.tasks import make_context

UTC = timezone.utc
DAILY = "30 6 * * *"
WEEKDAYS = "30 6 * * 1-5"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def run_of(due: str, run_type: str = "scheduled", **changes: Any) -> SimpleNamespace:
    """Return a run of Airflow 3's default timetable, whose data interval has no width."""
    moment = at(due)
    values = {
        "run_type": SimpleNamespace(value=run_type),
        "run_after": moment,
        "logical_date": moment,
        "data_interval_start": moment,
        "data_interval_end": moment,
        "start_date": moment + timedelta(days=90),  # a run that was made long after it was due
    }
    return SimpleNamespace(**{**values, **changes})


def manual(due: str, **changes: Any) -> SimpleNamespace:
    return run_of(due, "manual", **changes)


def dag_of(schedule: Any) -> DAG:
    return DAG("d", schedule=schedule, start_date=at("2025-01-01"), max_active_runs=1)


def job_at(text: str) -> SimpleNamespace:
    return SimpleNamespace(create_time=at(text), text=text)


def chosen(run: Any, schedule: Any, launched: list[str], **bounds: Any) -> str | None:
    """Return which of the launches is taken for a run's, however the API may have been asked."""
    window = window_of(run, schedule and dag_of(schedule), **bounds)
    job = window.choose(job_at(text) for text in sorted(launched, reverse=True))
    return job and job.text


def days_at(clock: str, *days: int) -> list[str]:
    return [f"2026-01-{day:02} {clock}" for day in days]


@pytest.mark.parametrize(
    ("launched_at", "dag_at", "expected"),
    [
        ("06:00", "06:30", 0),  # today's, half an hour ago
        ("06:00:07", "06:00", 0),  # the same cron: the job starts a little later
        ("06:00", "06:00", 0),
        ("06:00", "05:30", 0),  # it is to come
        ("06:00", "20:00", 0),  # this morning's
        ("06:00", "00:15", 0),
        ("20:00", "06:30", -1),  # last night's
        ("23:45", "00:15", -1),
        ("00:15", "23:45", 1),  # half an hour later
    ],
)
@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_a_daily_dag_waits_for_the_job_that_a_person_would_name(launched_at, dag_at, expected, run_type):
    hour, minute = dag_at.split(":")
    run = run_of(f"2026-01-05 {dag_at}", run_type)
    launched = days_at(launched_at, 2, 3, 4, 5, 6, 7, 8)
    assert chosen(run, f"{int(minute)} {int(hour)} * * *", launched) == f"2026-01-{5 + expected:02} {launched_at}"


@pytest.mark.parametrize("launched_at", ["06:00", "06:30:05", "09:00"])
def test_a_past_run_does_not_take_a_later_job(launched_at):
    """Not even if its own is gone, or was never launched."""
    assert chosen(run_of("2026-01-05 06:30"), DAILY, days_at(launched_at, 1, 2, 3, 7, 8, 9)) is None


def test_what_a_run_takes_does_not_depend_on_when_it_looks():
    """A backfill finds what the run on that day found, though the schedule launches more often than the DAG runs."""
    hourly = [f"2026-01-05 {hour:02}:00" for hour in range(24)]
    seen_live = [text for text in hourly if text <= "2026-01-05 06:30"]
    assert chosen(run_of("2026-01-05 06:30"), DAILY, hourly) == "2026-01-05 06:00"
    assert chosen(run_of("2026-01-05 06:30"), DAILY, seen_live) == "2026-01-05 06:00"


def test_a_monday_waits_for_the_weekends_job_and_a_friday_does_not():
    weekly = ["2026-01-03 22:00", "2026-01-10 22:00"]  # Saturdays
    assert chosen(run_of("2026-01-05 06:30"), WEEKDAYS, weekly) == "2026-01-03 22:00"
    assert chosen(run_of("2026-01-09 06:30"), WEEKDAYS, weekly) is None


@pytest.mark.parametrize(
    ("schedule", "due", "launched", "expected"),
    [
        ("0 * * * *", "2026-01-05 07:00", "2026-01-05 07:00:20", True),
        ("0 * * * *", "2026-01-05 07:00", "2026-01-05 06:00:20", False),
        ("30 * * * *", "2026-01-05 07:30", "2026-01-05 07:00", True),
        ("30 * * * *", "2026-01-05 07:30", "2026-01-05 06:30", False),
        ("0 6 1 * *", "2026-02-01 06:00", "2026-01-15 06:00", True),
        ("0 6 1 * *", "2026-02-01 06:00", "2026-01-05 06:00", False),
        ("0 6 * * 1", "2026-01-05 06:00", "2026-01-04 06:00", True),
        ("0 6 * * 1", "2026-01-05 06:00", "2025-12-30 06:00", False),
        (timedelta(hours=8), "2026-01-05 07:13", "2026-01-05 02:00", True),
        (timedelta(hours=8), "2026-01-05 07:13", "2026-01-05 00:00", False),
        (DeltaTriggerTimetable(timedelta(days=3)), "2026-01-05 07:13", "2026-01-03 12:00", True),
        (DeltaTriggerTimetable(timedelta(days=3)), "2026-01-05 07:13", "2026-01-02 12:00", False),
        (CronTriggerTimetable(DAILY, timezone="America/New_York"), "2026-01-05 11:30", "2026-01-05 11:00", True),
        (CronTriggerTimetable(DAILY, timezone="America/New_York"), "2026-01-05 11:30", "2026-01-04 16:00", False),
        ("@yearly", "2026-01-01 00:00", "2025-06-01 00:00", True),
        ("@once", "2026-01-05 00:00", "2026-01-04 12:00", True),
        ("@continuous", "2026-01-05 00:00", "2026-01-04 12:00", True),
    ],
)
def test_the_window_is_as_wide_as_the_dag_is_frequent(schedule, due, launched, expected):
    assert (chosen(run_of(due), schedule, [launched]) is not None) is expected


def test_a_data_interval_makes_no_difference():
    """The setting `create_cron_data_intervals` moves nothing: the run is due at the same time."""
    start, end = at("2026-01-04 06:30"), at("2026-01-05 06:30")
    run = run_of("2026-01-05 06:30", data_interval_start=start, data_interval_end=end, logical_date=start)
    with_interval = window_of(run, dag_of(CronDataIntervalTimetable(DAILY, timezone="UTC")))
    assert with_interval == window_of(run_of("2026-01-05 06:30"), dag_of(DAILY))
    assert with_interval == window_of(run, None)


@pytest.mark.parametrize("schedule", [DAILY, WEEKDAYS, "0 */7 * * *", "17 3 1,15 * *"])
def test_each_job_belongs_to_one_run(schedule):
    dag = dag_of(schedule)
    from airflow_provider_nbjob.airflow_compat import core_timetable
    from airflow_provider_nbjob.sensors.window import _ticks

    ticks = list(_ticks(core_timetable(dag), at("2026-01-01"), until=at("2026-04-01")))
    windows = [window_of(run_of(tick.strftime("%Y-%m-%d %H:%M:%S")), dag) for tick in ticks]
    assert len(windows) >= 6
    for window, following in pairwise(windows):
        assert window.before == pytest.approx(following.after)


@pytest.mark.parametrize("schedule", [DAILY, None])
@pytest.mark.parametrize(
    ("run", "launched", "expected"),
    [
        (manual("2026-01-05 14:00"), days_at("06:00", 3, 4, 5, 6), "2026-01-05 06:00"),
        (manual("2026-01-05 20:00"), days_at("06:00", 3, 4, 5, 6), "2026-01-05 06:00"),
        (manual("2026-01-05 05:00"), days_at("06:00", 3, 4, 5, 6), "2026-01-04 06:00"),
        (manual("2026-01-05 05:00"), days_at("06:00", 3, 5, 6), "2026-01-05 06:00"),  # none before: the next
        (manual("2026-01-05 05:00"), days_at("06:00", 1, 2, 3, 8), None),
        # A person who gives a date means that date, whenever the run is started.
        (manual("2026-01-05 14:00", run_after=at("2026-03-01 09:00")), days_at("06:00", 4, 5, 6), "2026-01-05 06:00"),
        # Without a logical date, as the REST API allows: the time of the trigger.
        (manual("2026-01-05 14:00", logical_date=None, data_interval_start=None, data_interval_end=None),
         days_at("06:00", 4, 5, 6), "2026-01-05 06:00"),
        (run_of("2026-01-05 14:00", "asset_triggered", logical_date=None, data_interval_start=None,
                data_interval_end=None), days_at("06:00", 4, 5, 6), "2026-01-05 06:00"),
        (run_of("2026-01-05 14:00", "operator_triggered"), days_at("06:00", 4, 5, 6), "2026-01-05 06:00"),
    ],
)  # fmt: skip
def test_a_run_that_somebody_started_takes_the_newest_job_up_to_it(schedule, run, launched, expected):
    assert chosen(run, schedule, launched) == expected


def test_a_manual_run_of_a_weekly_dag_takes_the_weeks_job():
    assert chosen(manual("2026-01-09 12:00"), "0 6 * * 1", ["2026-01-05 06:00"]) == "2026-01-05 06:00"


def test_a_run_of_an_asset_has_a_window_of_days():
    run = run_of("2026-01-05 14:00", "asset_triggered", logical_date=None)
    assert chosen(run, [Asset("a")], days_at("06:00", 4, 5, 6)) == "2026-01-05 06:00"


class Broken:
    """A timetable of a user's own that raises."""

    @property
    def timetable(self) -> Any:
        raise RuntimeError("a fault of theirs")


def test_a_timetable_that_fails_is_one_of_days():
    assert window_of(run_of("2026-01-05 06:30"), Broken()) == window_of(run_of("2026-01-05 06:30"), None)


# --- bounds that are given ---


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"created_after": "2026-01-03"}, "2026-01-08 06:00"),
        ({"created_before": "2026-01-05"}, "2026-01-04 06:00"),
        ({"created_after": "2026-01-03", "created_before": "2026-01-04 06:00"}, "2026-01-03 06:00"),  # not at it
        ({"created_after": "2026-01-04T06:00:00Z", "created_before": "2026-01-04T06:00:01Z"}, "2026-01-04 06:00"),
        ({"created_after": at("2026-01-03"), "created_before": date(2026, 1, 5)}, "2026-01-04 06:00"),
        ({"created_after": "", "created_before": "2026-01-04T07:00:00+01:00"}, "2026-01-03 06:00"),
        ({"created_after": "2026-01-20"}, None),
        ({"created_before": "2026-01-01"}, None),
    ],
)
def test_bounds_that_are_given_are_the_only_ones(bounds, expected):
    launched = days_at("06:00", 1, 2, 3, 4, 5, 6, 7, 8)
    assert chosen(run_of("2026-01-02 06:30"), DAILY, launched, **bounds) == expected


def sensor(**changes: Any) -> NotebookExecutionJobSensor:
    values = {"task_id": "wait", "schedule": "77", "location": "us-central1", "deferrable": False, **changes}
    return NotebookExecutionJobSensor(**{"poke_interval": 0.01, **values})


@pytest.mark.parametrize("name", ["created_after", "created_before"])
@pytest.mark.parametrize("value", ["noon", "None", "P1D", 7, 1.5, True, ["2026-01-01"], "2026-13-01", timedelta(1)])
def test_what_is_no_time_is_refused_at_parse_time(name, value):
    with pytest.raises(InvalidJob, match=f"^{name}: .* is not a time") as caught:
        sensor(**{name: value})
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("name", ["created_after", "created_before"])
def test_what_a_template_comes_to_is_refused_for_good(name):
    waiting = sensor(**{name: "{{ time }}"})
    waiting.render_template_fields({"time": "soon"})
    with pytest.raises(InvalidJob, match=f"^{name}: 'soon' is not a time") as caught:
        waiting.execute(context_of(run_of("2026-01-05 06:30")))
    assert isinstance(caught.value, AirflowFailException)


def test_a_time_before_the_other_is_refused(google):
    waiting = sensor(created_after="2026-01-02", created_before="2026-01-02")
    with pytest.raises(InvalidJob, match="created_before: '2026-01-02' is not after created_after") as caught:
        waiting.execute(context_of(run_of("2026-01-05 06:30")))
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("value", ["2026-01-01T00:00:00", datetime(2026, 1, 1), date(2026, 1, 1), "2026-01-01"])
def test_a_time_without_a_zone_is_in_airflows(value):
    assert moment(value, "created_after") == at("2026-01-01").timestamp()


@given(st.none() | st.text() | st.integers() | st.floats() | st.datetimes() | st.dates() | st.binary())
def test_no_value_makes_the_check_of_a_time_fail(value):
    with suppress(InvalidJob):
        assert isinstance(moment(value, "created_after"), float)


# --- the sensor, when none can come any more ---


@pytest.fixture
def google(monkeypatch) -> FakeWait:
    return FakeWait(monkeypatch)


def context_of(run: Any) -> dict[str, Any]:
    return {**make_context("r"), "dag_run": run}


PAST = run_of("2026-01-05 06:30")


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_past_run_without_a_job_times_out_at_once(google, deferrable):
    google.service.put("SUCCEEDED", schedule_resource_name=SCHEDULE, create_time=at("2026-01-09 06:00"))
    with pytest.raises(AirflowSensorTimeout):
        sensor(deferrable=deferrable).execute(context_of(PAST))
    assert google.service.calls["list"] == 1
    with pytest.raises(AirflowSkipException):
        sensor(deferrable=deferrable, soft_fail=True).execute(context_of(PAST))


def test_a_past_run_waits_for_its_job_to_end(google):
    google.service.put("RUNNING", schedule_resource_name=SCHEDULE, create_time=at("2026-01-05 06:00"))
    waiting = sensor()
    assert not waiting.poke(context_of(PAST)).is_done
    google.service.put("SUCCEEDED", schedule_resource_name=SCHEDULE, create_time=at("2026-01-05 06:00"))
    assert waiting.execute(context_of(PAST))["job_state"] == "JOB_STATE_SUCCEEDED"


def test_a_trigger_ends_when_none_can_come_any_more(google):
    from airflow_provider_nbjob.triggers.notebook_execution_job import ScheduledNotebookExecutionJobTrigger

    trigger = ScheduledNotebookExecutionJobTrigger(
        "77",
        created_after=at("2026-01-05").timestamp(),
        created_before=at("2026-01-06").timestamp(),
        location="us-central1",
        poll_interval=0.01,
    )
    google.service.put("SUCCEEDED", schedule_resource_name=SCHEDULE, create_time=at("2026-01-09 06:00"))
    event = event_of(trigger)
    assert event["outcome"] == "timeout"
    assert "none can come any more" in event["message"]


def test_another_schedules_job_is_not_taken(google):
    google.service.put("SUCCEEDED", schedule_resource_name=f"{PARENT}/schedules/78", create_time=at("2026-01-05 06:00"))
    assert not sensor().poke(context_of(PAST)).is_done


def test_a_window_takes_no_more_jobs_than_it_needs():
    taken = []

    def jobs():
        for day in range(31, 0, -1):
            taken.append(day)
            yield job_at(f"2026-01-{day:02}")

    window = ScheduleWindow(at("2026-01-28").timestamp(), at("2026-01-30").timestamp())
    assert window.choose(jobs()).text == "2026-01-29"
    assert taken == [31, 30, 29]
