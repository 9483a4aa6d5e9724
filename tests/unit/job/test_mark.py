"""The mark of a create, and the job ids that are tried: pure functions."""

from __future__ import annotations

import re

import pytest
from airflow.sdk import DAG
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job.mark import MARK_LABEL, Mark, new_nonce, problems_of_mapped_id
from airflow_provider_nbjob.lifecycle.tries import Tries, with_suffix
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from tests.support.fake_google import FakeGoogle
from tests.support.tasks import REQUIRED, context_of

JOB_IDS = st.from_regex(names.JOB_ID, fullmatch=True)


def hashed(length: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=length, max_size=length)


@given(
    st.builds(
        Mark,
        nonce=hashed(12),
        task=hashed(12),
        run=hashed(8),
        attempt=hashed(8),
        max_tries=st.integers(0, 10**9 - 1),
        clears=st.none() | st.integers(0, 10**9 - 1),
    )
)
def test_a_mark_is_read_back_from_a_label_that_the_api_takes(mark):
    assert re.fullmatch(r"[-a-z0-9]{1,63}", mark.label)
    assert Mark.of({MARK_LABEL: mark.label, "team": "data"}) == mark


@given(st.text(max_size=70))
def test_what_is_no_mark_is_none(text):
    mark = Mark.of({MARK_LABEL: text})
    assert mark is None or mark.label == text
    assert Mark.of({"another": text}) is None


def test_each_create_has_a_nonce_of_its_own():
    nonces = {new_nonce() for _ in range(1000)}
    assert len(nonces) == 1000
    assert Mark.of({MARK_LABEL: Mark(nonces.pop()).label})


@given(JOB_IDS, JOB_IDS, st.integers(2, 10**6))
def test_numbered_ids_are_ids_and_differ(one, other, number):
    numbered = with_suffix(one, str(number))
    assert re.fullmatch(names.JOB_ID, numbered)
    assert numbered.endswith(f"-{number}")
    assert (with_suffix(other, str(number)) == numbered) is (one == other)


@pytest.mark.parametrize("own_id", [None, "train-1", "a" * 63, "1", "train-1-2", "a_b"])
def test_the_tries_of_an_id_are_told(own_id):
    tries = Tries.from_context(context_of(12, retries=12), own_id=own_id)
    ids = [tries.job_id(number) for number in range(1, 14)]
    assert len(set(ids)) == len(ids)
    assert [tries.try_of(job_id) for job_id in ids[:12]] == list(range(1, 13))
    assert tries.is_earlier(ids[0])
    assert not tries.is_earlier(ids[11])
    assert not tries.is_earlier(ids[12])
    assert tries.try_of("somebody-elses") is None
    beside = tries.other_job_id(tries.new_mark())
    assert re.fullmatch(names.JOB_ID, beside)
    if own_id != "a" * 63:
        assert tries.try_of(beside) == 12
    test = Tries.from_context(context_of(12, retries=12), own_id=own_id, test="0a1b2c")
    assert tries.try_of(test.job_id()) is None


@pytest.mark.parametrize(
    "template",
    [
        "train",
        "train-{{ ds_nodash }}",
        "{{ run_id }}",
        "train-{{ ti.run_id }}-{{ task_instance.try_number }}",
    ],
)
def test_an_id_that_all_instances_share_is_a_problem(template):
    (problem,) = problems_of_mapped_id(template)
    assert problem.startswith(f"notebook_execution_job_id: {template!r} is the same for all instances")


@pytest.mark.parametrize(
    "template",
    [
        *("train-{{ ti.map_index }}", "train-{{ task_instance.map_index }}", "{{ task.labels.region }}", "{{ ti }}"),
        *(
            "train-{{ ti.run_id }}-{{ ti.map_index }}",
            "{{ params.region }}",
            "{{ ti.xcom_pull('a') }}",
            None,
            "",
            7,
            [],
        ),
    ],
)
def test_an_id_that_may_depend_on_the_index_is_none(template):
    assert problems_of_mapped_id(template) == []


def test_instances_that_share_an_id_submit_nothing(monkeypatch):
    google = FakeGoogle(monkeypatch)
    with DAG("d", schedule=None), pytest.raises(InvalidJob, match="the same for all instances of this mapped task"):
        CreateNotebookExecutionJobOperator.partial(
            **REQUIRED, notebook_execution_job_id="train-{{ ds_nodash }}"
        ).expand(labels=[{"n": "0"}, {"n": "1"}])
    assert not google.service.submitted


def rendered(template: str, value: str) -> CreateNotebookExecutionJobOperator:
    """Return a task as Airflow runs it in a mapped task group, of which the task itself tells nothing."""
    with DAG("d", schedule=None):
        task = CreateNotebookExecutionJobOperator(
            **REQUIRED, notebook_execution_job_id=template, wait_for_completion=False
        ).prepare_for_execution()
    task.notebook_execution_job_id = value
    return task


@pytest.mark.parametrize("map_index", [0, 1])
def test_instances_of_a_mapped_group_that_share_an_id_submit_nothing(monkeypatch, map_index):
    google = FakeGoogle(monkeypatch)
    with pytest.raises(InvalidJob, match="the same for all instances of this mapped task"):
        rendered("train-{{ ds_nodash }}", "train-20260101").execute(context_of(map_index=map_index))
    assert not google.service.submitted


@pytest.mark.parametrize("map_index", [0, 1])
def test_an_id_with_the_index_of_a_mapped_group_is_used(monkeypatch, map_index):
    google = FakeGoogle(monkeypatch)
    task = rendered("train-{{ ti.map_index }}", f"train-{map_index}")
    assert task.execute(context_of(map_index=map_index))["job_id"] == f"train-{map_index}"
    assert len(google.service.submitted) == 1
