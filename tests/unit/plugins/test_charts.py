from __future__ import annotations

import re
from datetime import timedelta

import pytest

from airflow_provider_nbjob.plugins.notebook_jobs.authorization import TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.charts import MARK, PLOT, charts_of
from airflow_provider_nbjob.plugins.notebook_jobs.durations import age_text, duration_text
from airflow_provider_nbjob.plugins.notebook_jobs.listing import JobRow
from tests.support.metadata import START

NOW = START + timedelta(hours=1)


def run(seconds, state="SUCCEEDED", task_state="success", **task):
    going = seconds is None
    return JobRow(
        task=TaskRef("reports", "run_1", "notebook", **{"try_number": 1, **task}),
        rendered_map_index=None,
        started=START,
        ended=None if going else START + timedelta(seconds=seconds),
        task_state="deferred" if going else task_state,
        state="ACTIVE" if going else f"JOB_STATE_{state}",
    )


def failed(seconds=60):
    return run(seconds, "FAILED", "failed")


def chart(*runs):
    (one,) = charts_of({("reports", "notebook"): runs}, NOW)
    return one


def test_bars_are_as_long_as_the_runs_and_stand_on_one_line():
    bars = chart(run(60), run(120), run(30)).bars
    assert [bar.height for bar in bars] == [PLOT / 2, PLOT, PLOT / 4]
    assert {bar.y + bar.height for bar in bars} == {MARK + PLOT}
    assert [bar.x for bar in bars] == sorted({bar.x for bar in bars})


def test_a_run_of_no_length_is_seen():
    assert [bar.height for bar in chart(run(0), run(0)).bars] == [2, 2]


def test_the_median_is_that_of_the_ended_runs():
    both = chart(run(60), run(120), run(180), run(None))
    assert both.median == 120
    assert both.median_y == pytest.approx(MARK + PLOT * (1 - 120 / 3600), abs=0.1)
    assert both.summary == "4 runs, median 2 min"
    assert chart(run(None)).median is None
    assert chart(run(None)).summary == "1 run"


def test_labels_say_what_the_bars_show():
    runs = [
        run(200, "FAILED", "failed"),
        run(60, "SUCCEEDED", "failed", try_number=2),
        run(None, map_index=3),
        run(61, "PARTIALLY_SUCCEEDED"),
    ]
    assert [bar.label for bar in chart(*runs).bars] == [
        "run run_1, try 1, failed, 3 min 20 s",
        "run run_1, try 2, succeeded, the task failed, 1 min",
        "run run_1 [3], try 1, active, 1 h",
        "run run_1, try 1, partially succeeded, 1 min 1 s",
    ]


def test_an_end_that_nobody_wrote_down_is_not_made_up():
    lost = JobRow(TaskRef("reports", "run_1", "notebook", -1, 1), None, START, None, "success", "UNKNOWN")
    only = chart(lost)
    assert only.bars[0].label == "run run_1, try 1, unknown, duration not known"
    assert only.median is None


@pytest.mark.parametrize(
    ("runs", "notes"),
    [
        ([run(60)] * 20, {}),
        ([run(60)], {}),
        ([failed()] * 5, {}),  # it fails, and is not flaky
        ([run(60), failed(), run(60)], {"flaky": "1 of 3 failed"}),
        ([run(60), run(60, "SUCCEEDED", "failed"), run(60)], {"flaky": "1 of 3 failed"}),
        ([run(60)] * 3 + [run(121)], {"slow": "the last took 2 min 1 s, the median is 1 min"}),
        ([run(60)] * 3 + [run(120)], {}),
        ([run(60)] * 3 + [run(None)], {"slow": "the last took 1 h so far, the median is 1 min"}),
        ([run(60), run(None)], {}),  # one is no median
        ([run(60), run(300), run(60)], {}),  # not the last
    ],
)
def test_what_stands_out(runs, notes):
    assert chart(*runs).notes == notes


def test_what_stands_out_comes_first():
    runs = {("a", "a"): [run(60)], ("b", "b"): [failed(), run(60)], ("c", "c"): [failed()]}
    assert [one.dag_id for one in charts_of(runs, NOW)] == ["b", "a", "c"]


def test_markup():
    markup = chart(run(60), failed(), run(None)).svg("/base/")
    assert len(re.findall(r'<a href="/base/task\?dag_id=reports&amp;run_id=run_1&amp;', markup)) == 3
    assert len(re.findall("<title>run run_1, try 1, ", markup)) == 3
    assert markup.count('class="mark"') == 1
    assert markup.count('class="bar open"') == markup.count('class="median"') == 1
    assert "style=" not in markup
    assert 'class="median"' not in chart(run(60)).svg("/")


def test_what_others_wrote_is_escaped_in_markup():
    evil = '"><script>alert(1)</script>'
    row = JobRow(TaskRef("d", evil, "t", 0, 1), evil, START, NOW, "success", f"JOB_STATE_{evil}")
    markup = str(charts_of({("d", "t"): [row]}, NOW)[0].svg("/"))
    assert "<script" not in markup
    assert '"&gt' not in markup
    assert "&lt;script&gt;" in markup


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),  # noqa: RUF001
        (0, "0 s"),
        (0.2, "under 1 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3659, "1 h"),
        (7_500, "2 h 5 min"),
        (86_400 * 2 + 3_600 * 3 + 59, "2 d 3 h"),
    ],
)
def test_durations(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "just now"), (59, "just now"), (61, "1 min ago"), (7_300, "2 h ago"), (1e6, "11 d ago")]
)
def test_ages(seconds, text):
    assert age_text(seconds) == text
