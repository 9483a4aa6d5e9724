"""One rule says what a job's id may be: for a DAG, for the emulator, and for what reads names."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import InvalidArgument
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_nbjob.emulator.validation import check_job
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec


class Nothing:
    """A job without any field, which is wrong in other ways than by its id."""

    def __getattr__(self, name: str) -> object:
        return (lambda *_: None) if name in ("WhichOneof", "HasField") else ""

    labels: dict[str, str] = {}


def is_taken_by_emulator(job_id: str) -> bool:
    with pytest.raises(InvalidArgument) as refused:
        check_job(Nothing(), job_id, "us-central1")
    return "notebook_execution_job_id" not in refused.value.message


def is_taken_by_spec(job_id: str) -> bool:
    problems = NotebookExecutionJobSpec(notebook_execution_job_id=job_id).problems()
    return not any(problem.startswith("notebook_execution_job_id") for problem in problems)


def is_taken_in_a_name(job_id: str) -> bool:
    try:
        return JobName("p", "us-central1", job_id).job_id == job_id
    except InvalidJob:
        return False


@pytest.mark.parametrize(
    "job_id", ["my_job", "a_b", "1_2", "a__b", "nightly_report-2026_01_01", "a-_b", "a" + "_" * 61 + "b", "a", "7"]
)
def test_underscores_are_taken_inside_an_id(job_id: str) -> None:
    assert is_taken_by_spec(job_id)
    assert is_taken_by_emulator(job_id)
    assert is_taken_in_a_name(job_id)


@given(job_id=st.from_regex(r"[-_a-z0-9A-Z]{1,65}", fullmatch=True) | st.text(min_size=1, max_size=5))
@example("_a")
@example("a_")
@example("a" * 64)
@example("a\n")
def test_all_three_agree(job_id: str) -> None:
    assert is_taken_by_spec(job_id) == is_taken_by_emulator(job_id) == is_taken_in_a_name(job_id)
