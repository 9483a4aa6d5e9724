"""The labels that every job gets: what they hold, whose win, and how many there may be."""

from __future__ import annotations

from typing import Any

import pytest
from airflow import __version__
from airflow.sdk import DAG
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob.job.labels import LABEL_VALUE_MAX, default_labels, label_value, merged
from airflow_provider_nbjob.job.spec import LABELS_MAX, NotebookExecutionJobSpec
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from tests.support.fake_google import FakeGoogle
from tests.support.tasks import arguments, make_context

VERSION = f"v{__version__}".replace(".", "-").replace("+", "-")


@pytest.fixture
def google(monkeypatch) -> FakeGoogle:
    return FakeGoogle(monkeypatch)


def submitted(google: FakeGoogle, dag_id: str = "d", task_id: str = "run_notebook", **changes: Any) -> dict[str, str]:
    """Return those of the labels of a submitted job that are told here."""
    with DAG("d"):
        task = CreateNotebookExecutionJobOperator(**arguments(wait_for_completion=False, **changes))
    task.execute(make_context("r", dag_id=dag_id, task_id=task_id))
    labels = dict(google.service.submitted[-1].labels)
    return {name: value for name, value in labels.items() if name != "airflow-submission"}


def problems(labels: dict[str, str]) -> list[str]:
    return [p for p in NotebookExecutionJobSpec(labels=labels).problems() if p.startswith("labels")]


def test_a_job_has_the_labels_of_its_task(google):
    assert submitted(google, "Daily.Reports", "group.train") == {
        "airflow-dag": "daily-reports",
        "airflow-task": "group-train",
        "airflow-version": VERSION,
    }


def test_labels_of_the_user_win(google):
    labels = submitted(google, labels={"team": "ml", "airflow-dag": "mine", "airflow-version": ""})
    assert labels == {"team": "ml", "airflow-dag": "mine", "airflow-task": "run_notebook", "airflow-version": ""}


@pytest.mark.parametrize("labels", [None, {}, {"team": "ml"}])
def test_a_job_may_have_none_of_them(google, labels):
    assert submitted(google, labels=labels, default_labels=False) == (labels or {})


def test_they_do_not_change_what_the_user_gave(google):
    labels = {"team": "ml"}
    submitted(google, labels=labels)
    assert labels == {"team": "ml"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Daily.Reports", "daily-reports"),
        ("a b/c", "a-b-c"),
        (".hidden", "-hidden"),
        ("1st", "1st"),
        ("日報", "日報"),
        ("ÄRGER", "ärger"),
        ("İstanbul", "i-stanbul"),  # its lower case has a mark
        ("ǅ", "dž"),
        ("x²", "x2"),
        ("a\u0301", "á"),
        ("x" * 250, "x" * LABEL_VALUE_MAX),
        ("é" * 250, "é" * LABEL_VALUE_MAX),
        ("a-_9", "a-_9"),
        ("", ""),
        ("v3.3.2+build.1", "v3-3-2-build-1"),
    ],
)
def test_a_name_is_cleaned_to_a_label(text, value):
    assert label_value(text) == value
    assert problems({"airflow-dag": value}) == []


@given(st.text(), st.text(), st.text())
def test_whatever_the_names_the_labels_are_valid(dag_id, task_id, version):
    labels = default_labels(dag_id=dag_id, task_id=task_id, airflow_version=version)
    assert problems(labels) == []
    assert all(len(value) <= LABEL_VALUE_MAX for value in labels.values())


@pytest.mark.parametrize("given_labels", [60, 61, 62, 63, 64])
def test_there_are_never_too_many(google, given_labels):
    mine = {f"k{number}": "" for number in range(given_labels)}
    labels = submitted(google, labels=mine)
    assert mine.items() <= labels.items()
    # One place is kept for the mark by which a create's answer is known, which `submitted` leaves out.
    assert len(labels) == max(given_labels, min(LABELS_MAX - 1, given_labels + 3))
    assert problems(labels) == []


def test_system_labels_take_no_room():
    mine = {f"aiplatform.googleapis.com/{number}": "ack" for number in range(70)}
    assert len(merged(mine, default_labels(dag_id="d", task_id="t", airflow_version="3.3.2"))) == 73
