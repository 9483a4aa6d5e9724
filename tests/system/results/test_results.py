"""In a run of Airflow, other tasks get the results of a notebook by every spelling, or an error that says why not."""

from __future__ import annotations


def test_other_tasks_get_results_by_every_spelling(airflow):
    run_id = airflow.trigger("results")
    assert airflow.wait_for_run("results", run_id) == "failed"  # for one task, which asks for what is not there
    states = {(ti["task_id"], ti["map_index"]): ti["state"] for ti in airflow.task_instances("results", run_id)}
    assert [key for key, state in states.items() if state != "success"] == [("missing", -1)]
    result = {"rows": 3, "scores": [0.1, {"deep": "x"}]}
    train = airflow.xcom("results", run_id, "train")
    jobs_and_errors = ("train", "quiet_job", "missing")
    used = {name for name, index in states if index == -1 and name not in jobs_and_errors}
    assert {name: airflow.xcom("results", run_id, name) for name in used} == {
        "whole": {"result": result, "name": "of the model", "half": 1.5},
        "one": 1.5,
        "deep": "x",
        "taken": "of the model",
        "part": train["name"],
        "text": "1.5 of 3",
        "plain": 1.5,
        "quiet": 3,
        "mapped": [0.5, 1.0],
    }
    assert [airflow.xcom("results", run_id, "mapped_deep", map_index=index) for index in (0, 1)] == [1, 2]
    log = airflow.log("results", run_id, "missing")
    assert "Task 'train' returned no results['none']. It returned 'result', 'name', 'half'" in log
    assert airflow.xcom("results", run_id, "train", key="half") == 1.5
