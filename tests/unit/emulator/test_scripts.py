"""Scripts: which are refused and why, which jobs they match, and the executed notebook that they make."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

import pytest

from airflow_provider_nbjob.emulator.messages import JobMessage
from airflow_provider_nbjob.emulator.scripted_run import ScriptedRun, Unplayable, executed
from airflow_provider_nbjob.emulator.scripts import RESULTS_MAX, SCRIPTS_MAX, TEXT_MAX, Script, Scripts
from airflow_provider_nbjob.job import JobState
from airflow_provider_nbjob.job.labels import default_labels
from airflow_provider_nbjob.notebook.executed import read_executed
from airflow_provider_nbjob.notebook.results import collect_results


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


class Unprintable:
    def __repr__(self):
        raise RuntimeError


# --- fields ---


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("job", "", "must be a text that is not empty"),
        ("job", 3, "is of type int; it must be a text"),
        ("job", ["score"], "is of type list"),
        ("job", "x" * (TEXT_MAX + 1), f"has {TEXT_MAX + 1} characters"),
        ("job", "\ud800", "is no UTF-8"),
        ("map_index", -1, "must be a whole number from 0"),
        ("map_index", True, "must be a whole number"),
        ("map_index", "0", "must be a whole number"),
        ("state", "RUNNING", "is no terminal state; it must be one of SUCCEEDED, FAILED"),
        ("state", "failed", "is no terminal state"),
        ("state", "", "is no terminal state"),
        ("state", 4, "is no terminal state"),
        ("state", "JOB_STATE_JOB_STATE_FAILED", "is no terminal state"),
        ("cell", 0, "must be a whole number from 1"),
        ("cell", -3, "must be a whole number from 1"),
        ("cell", 2.0, "must be a whole number"),
        ("cell", False, "must be a whole number"),
        pytest.param("cell", 10**5000, "must be a whole number", id="cell-too-many-digits"),
        ("cell", "3", "must be a whole number"),
        ("error", "", "must be a text that is not empty"),
        ("error", "no name: x", "is not of the form KeyError"),
        ("error", "KeyError:west", "is not of the form KeyError"),
        ("error", "1Error", "is not of the form KeyError"),
        ("error", KeyError("west"), "is of type KeyError; it must be a text"),
        ("error", "KeyError: \udfff", "is no UTF-8"),
        ("results", [1], "is not made of JSON values"),
        ("results", {1: 2}, "is not made of JSON values"),
        ("results", {"a": {1, 2}}, "is not made of JSON values"),
        ("results", {"a": float("nan")}, "is not made of JSON values"),
        ("results", {"a": float("inf")}, "is not made of JSON values"),
        ("results", {"a": b"x"}, "is not made of JSON values"),
        ("results", {"a": (1, 2)}, "is not made of JSON values"),
        ("results", {"a": nested(10_000)}, "is not made of JSON values"),
        ("results", {"a": Unprintable()}, "is not made of JSON values"),
        ("results", {"": 1}, "has a result without a name"),
        ("results", {"a": "x" * RESULTS_MAX}, f"it may have {RESULTS_MAX}"),
        ("seconds", -1, "must be a number from 0 to 3600"),
        ("seconds", float("nan"), "must be a number from 0 to 3600"),
        ("seconds", float("inf"), "must be a number from 0 to 3600"),
        ("seconds", True, "must be a number"),
        ("seconds", None, "must be a number"),
        ("seconds", 10**400, "must be a number"),
        ("seconds", "1", "must be a number"),
        ("message", "", "must be a text that is not empty"),
        ("message", "x" * (TEXT_MAX + 1), "characters"),
        ("times", 0, "must be a whole number from 1"),
        ("times", 1.5, "must be a whole number"),
    ],
)
def test_a_value_is_refused_with_its_field_and_the_rule(field, value, rule):
    with pytest.raises(ValueError, match=f"^{field}: ") as raised:
        Script(**{field: value})
    assert rule in str(raised.value)
    assert len(str(raised.value)) < 600


def test_all_problems_are_reported_at_once():
    with pytest.raises(ValueError, match=r"^state: 'LOST' is no .*; cell: 0 is refused; .*; times: 0 is refused; "):
        Script(state="LOST", cell=0, times=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"state": "SUCCEEDED", "message": "all is well"}, "message: 'all is well' is refused: a job that succeeds"),
        ({"message": "no machine", "results": {"a": 1}}, "results: {'a': 1} is refused: with a message"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Script(**fields)


@pytest.mark.parametrize("body", [None, [], "x", {"job": "a", "stat": "FAILED"}, {"self": 1}])
def test_a_body_that_is_no_script_is_refused(body):
    with pytest.raises(ValueError, match="a script is an object with the fields job, map_index, state"):
        Script.from_json(body)


def test_a_script_is_the_same_after_json():
    script = Script("score", 1, "FAILED", 3, "KeyError: 'west'", {"a": [1, None]}, 0.5, "stopped", 2)
    assert Script.from_json(json.loads(json.dumps(asdict(script)))) == script


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, JobState.SUCCEEDED),
        ({"results": {"a": 1}}, JobState.SUCCEEDED),
        ({"cell": 2}, JobState.FAILED),
        ({"error": "KeyError"}, JobState.FAILED),
        ({"message": "no machine"}, JobState.FAILED),
        ({"state": "JOB_STATE_EXPIRED"}, JobState.EXPIRED),
        ({"state": "SUCCEEDED", "cell": 2}, JobState.SUCCEEDED),
        ({"state": "PARTIALLY_SUCCEEDED"}, JobState.PARTIALLY_SUCCEEDED),
    ],
)
def test_the_state_follows_from_the_other_fields(fields, state):
    assert Script(**fields).end is state


# --- jobs that match ---


def job(display_name="sales.group.Train_Model [2] manual__2026-01-01", task="group-train_model", **fields):
    labels = {"airflow-dag": "sales", "airflow-task": task}
    return JobMessage(
        display_name=display_name,
        labels=labels,
        gcs_notebook_source={"uri": "gs://ml-team/notebooks/train.ipynb"},
        **fields,
    )


@pytest.mark.parametrize(
    "pattern",
    [
        *("group.Train_Model", "group-train_model", "group.*", "*Train*", "group.Train_Mode?", "*"),
        "sales.group.Train_Model [2] manual__2026-01-01",
        "sales.*",
        *("train.ipynb", "*.ipynb", "gs://ml-team/notebooks/train.ipynb", "gs://ml-team/*"),
    ],
)
def test_a_job_is_matched_by_its_task_its_display_name_or_its_notebook(pattern):
    assert Script(pattern).matches(job())


@pytest.mark.parametrize("pattern", ["Train_Model", "group", "sales", "notebooks/train.ipynb", "train", "?", "[a-z]"])
def test_other_texts_match_no_job(pattern):
    assert not Script(pattern).matches(job())


@pytest.mark.parametrize("name", ["", "no index", "d.t [x] r", "d.t [3]"])
def test_a_map_index_is_read_from_the_display_name(name):
    assert Script("*", map_index=2).matches(job())
    assert not Script("*", map_index=1).matches(job())
    assert not Script("*", map_index=2).matches(job(name))


LONG = "extract_transform_load.regional_reports.europe_west.render_the_{}_report"


@pytest.mark.parametrize("pattern", [LONG.format("Monthly"), "*.render_the_Monthly_report", "extract_transform_load.*"])
def test_a_task_whose_label_is_cut_is_matched_by_its_whole_id(pattern):
    labels = default_labels(dag_id="a.dag", task_id=LONG.format("Monthly"), airflow_version="3.3.2")
    long = job(f"a.dag.{LONG.format('Monthly')} [2] manual__2026-01-01", labels["airflow-task"])
    assert Script(pattern).matches(long)
    assert Script(pattern, map_index=2).matches(long)
    assert not Script(LONG.format("Yearly")).matches(long)  # whose label is the same


def test_a_direct_source_has_the_name_of_its_content():
    assert Script("content.ipynb").matches(JobMessage(display_name="x"))


# --- which script is used ---


def test_the_first_script_that_is_not_used_up_is_used():
    first, second = Script("*", state="FAILED", times=2), Script("*")
    scripts = Scripts()
    scripts.add(Script("other"))
    scripts.add(first)
    scripts.add(second)
    assert [scripts.take(job()) for _ in range(4)] == [first, first, second, second]
    assert [(each["job"], each["used"]) for each in scripts.standing()] == [("other", 0), ("*", 2), ("*", 2)]


def test_a_script_without_a_job_is_for_what_no_other_matches():
    scripts = Scripts(otherwise=Script(message="not run"))
    assert scripts.take(job()).message == "not run"
    scripts.add(Script())
    scripts.add(Script("*", cell=2, times=1))
    assert [scripts.take(job()).cell for _ in range(2)] == [2, None]
    scripts.clear()
    assert scripts.take(job()).message == "not run"
    assert Scripts().take(job()) is None


def test_the_number_of_scripts_is_limited():
    scripts = Scripts()
    for _ in range(SCRIPTS_MAX):
        scripts.add(Script("x"))
    with pytest.raises(ValueError, match="1000 scripts stand already"):
        scripts.add(Script("x"))


# --- the executed notebook ---


def cell(kind="code", source="1 + 1", **fields):
    return {"cell_type": kind, "source": source, "metadata": {}, **fields}


def source(*cells):
    return json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": list(cells)}).encode()


NOTEBOOK = source(cell("markdown"), cell(), cell(outputs=[{"output_type": "stream"}], execution_count=7), cell())


def test_the_provider_reads_the_failing_cell():
    content, failing = executed(NOTEBOOK, Script(cell=3, error="my.Error: a: b\nc"))
    notebook = read_executed(io.BytesIO(content))
    assert failing == 3
    assert (notebook.failing_cell.number, notebook.failing_cell.error.ename) == (3, "my.Error")
    assert notebook.failing_cell.error.evalue == "a: b\nc"
    assert [each.execution_count for each in notebook.cells] == [None, 1, 2, None]


@pytest.mark.parametrize("script", [Script(results={"a": {"b": [1]}, "c": "x"}), Script(cell=2, results={"d": 1})])
def test_the_provider_reads_the_results(script):
    content, _ = executed(NOTEBOOK, script)
    assert collect_results(read_executed(io.BytesIO(content))).values == script.results


def test_earlier_outputs_are_removed_and_all_cells_have_run():
    notebook = read_executed(io.BytesIO(executed(NOTEBOOK, Script())[0]), keep_outputs=True)
    assert [each.execution_count for each in notebook.cells] == [None, 1, 2, 3]
    assert not any(each.outputs or each.error for each in notebook.cells)


@pytest.mark.parametrize("state", ["EXPIRED", "CANCELLED"])
def test_a_job_that_was_ended_has_run_no_cell(state):
    content, failing = executed(NOTEBOOK, Script(state=state))
    assert failing == 0
    assert not any(each.execution_count for each in read_executed(io.BytesIO(content)).cells)


def test_a_notebook_that_failed_has_a_failing_cell_by_default_the_last():
    assert executed(NOTEBOOK, Script(state="FAILED"))[1] == 4
    assert executed(NOTEBOOK, Script(error="KeyError"))[1] == 4


@pytest.mark.parametrize(
    ("content", "script", "problem"),
    [
        (
            NOTEBOOK,
            Script(cell=1),
            "cell: 1 is no code cell: .* has 4 cells, and code in 2, 3, 4",
        ),
        (NOTEBOOK, Script(cell=5), "cell: 5 is no code cell"),
        (source(), Script(state="FAILED"), "cell: None is no code cell: .* has 0 cells, and code in none of them"),
        (source(cell("markdown")), Script(results={"a": 1}), "results: the notebook has no code cell"),
        *[
            (broken, Script(), "is not a notebook of version 4")
            for broken in (b"", b"\xff", b"[]", b"{}", b'{"cells": 3}', b'{"cells": [3]}', b"[" * 100_000)
        ],
    ],
)
def test_a_script_that_does_not_fit_the_notebook_fails_the_job_and_is_reported(content, script, problem):
    with pytest.raises(Unplayable, match=problem):
        executed(content, script)
    scripts = Scripts()
    scripts.add(script)
    run = ScriptedRun(script, scripts)
    run.begin(content, "")
    assert run.wait(0)
    assert run.output() is None
    assert (run.outcome().state, len(scripts.standing()[0]["problems"])) == (JobState.FAILED, 1)
    assert "cannot be used" in run.outcome().message


def test_a_message_without_a_cell_says_that_the_notebook_did_not_run():
    run = ScriptedRun(Script(message="no machine"), Scripts())
    run.begin(b"not even a notebook", "")
    assert (run.output(), run.outcome().message) == (None, "no machine")


def test_a_run_takes_its_seconds_unless_it_is_killed():
    run = ScriptedRun(Script(seconds=3600), Scripts())
    run.begin(NOTEBOOK, "")
    assert not run.wait(0.01)
    run.kill()
    assert run.wait(3600)
