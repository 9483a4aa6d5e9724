"""Where known secrets stand after a run: of the environment, a connection, a masked variable and Secret Manager."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.support.files import below, contents
from tests.support.patience import patient
from tests.system.canary import secrets
from tests.system.script import start

TASKS = ("blocking_success", "blocking_failure", "deferred_success", "deferred_failure")


@pytest.fixture(scope="module")
def run(airflow, emulator) -> str:
    """Run the DAG; its run's id."""
    folder = emulator.data_dir / "secrets" / "canary"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1").write_text(secrets.SECRET_PARAMETER)
    run_id = airflow.trigger("canary")
    assert airflow.wait_for_run("canary", run_id, timeout=300) == "failed"  # two of its tasks fail on purpose
    states = {task["task_id"]: task["state"] for task in airflow.task_instances("canary", run_id)}
    assert states == {task: "success" if task.endswith("success") else "failed" for task in TASKS}
    return run_id


def told(content: bytes) -> list[str]:
    """Name the secrets that stand in some content, plain or in base64."""
    return [
        name
        for name, secret in secrets.ALL.items()
        if secret.encode() in content or base64.b64encode(secret.encode()).rstrip(b"=") in content
    ]


def found_in(files: list[Path]) -> dict[str, list[str]]:
    """Name, for each file that has any, the secrets in it."""
    return {str(file): names for file, content in contents(files).items() if (names := told(content))}


def executed_notebooks(airflow, emulator, run_id: str) -> dict[str, Path]:
    uris = {
        task: airflow.xcom("canary", run_id, task, key="notebook_execution_job")["output_notebook_uri"]
        for task in TASKS
    }
    return {task: emulator.object_path(uri) for task, uri in uris.items()}


def test_the_notebooks_had_their_secrets(airflow, run):
    lengths = [len(secrets.MASKED_VARIABLE), len(secrets.SECRET_PARAMETER)]
    for task in ("blocking_success", "deferred_success"):
        assert airflow.xcom("canary", run, task)["results"] == {"result": {"lengths": lengths}}


def test_no_file_of_airflow_holds_one(airflow, run):
    """Logs, and the database with its XComs, rendered arguments and events of triggers."""
    assert (airflow.home / "airflow.db").exists()
    assert not found_in(below(airflow.home))


def test_the_logs_were_masked_not_empty(airflow, run):
    for task in TASKS:
        log = airflow.log("canary", run, task)
        assert not told(log.encode())
        assert "PATH" in log  # what the notebook printed is there
    assert "cannot sign in with ***" in airflow.log("canary", run, "blocking_failure")
    assert "cannot sign in with ***" in airflow.log("canary", run, "deferred_failure")


def test_no_xcom_holds_one(airflow, run):
    for task in TASKS:
        path = f"dags/canary/dagRuns/{run}/taskInstances/{task}/xcomEntries"
        for entry in airflow.request("GET", path)["xcom_entries"]:
            value = airflow.xcom("canary", run, task, key=entry["key"])
            assert not told(json.dumps(value).encode()), (task, entry["key"])


def test_no_page_shows_one(airflow, run):
    headers = {"authorization": f"Bearer {airflow.token('admin')}"}
    with httpx.Client(base_url=f"{airflow.url}/notebook-jobs/", headers=headers, timeout=patient(60)) as client:
        assert not told(client.get("").raise_for_status().content)
        for task in TASKS:
            query = f"dag_id=canary&run_id={quote(run, safe='')}&task_id={task}"
            for page in ("task", "notebook"):
                answer = client.get(f"{page}?{query}").raise_for_status()
                assert not told(answer.content), (page, task)
        assert "PermissionError" in client.get(f"task?dag_id=canary&run_id={run}&task_id=blocking_failure").text


def test_the_emulator_has_only_what_the_user_put_there(airflow, emulator, run):
    """A parameter stands in the executed notebook and in the submitted one; a secret parameter in neither."""
    notebooks = executed_notebooks(airflow, emulator, run)
    for path in notebooks.values():
        assert told(path.read_bytes()) == ["the masked variable"]
    put_by_the_user = {
        *notebooks.values(),
        *emulator.data_dir.glob("jobs.sqlite*"),  # the submitted content, with its parameters
        emulator.data_dir / "secrets" / "canary" / "1",
    }
    assert not found_in(
        [emulator.log_path, *(file for file in below(emulator.data_dir) if file not in put_by_the_user)]
    )
    assert set(told(b"".join(contents(list(emulator.data_dir.glob("jobs.sqlite*"))).values()))) == {
        "the masked variable"
    }


def test_the_demo_tells_none(checkout, monkeypatch):
    """`make demo`, with a notebook that prints its environment, in an environment full of secrets."""
    cells = [{"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
             for source in ("day = '2000-01-01'", "import os\nprint(dict(os.environ))")]  # fmt: skip
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells}
    (checkout / "example_dags" / "notebooks" / "environment.ipynb").write_text(json.dumps(document))
    for name, value in secrets.AIRFLOW_SETTINGS.items():
        monkeypatch.setenv(name, value)
    demo = start(checkout, "demo.py", "environment.ipynb")
    printed, _ = demo.communicate(timeout=patient(150))
    assert demo.returncode == 0, printed
    assert not told(printed.encode())
    executed = [path for path in below(checkout / ".demo" / "emulator") if "runs" in path.parts]
    assert any(b"PATH" in content for content in contents(executed).values())
    assert not found_in(below(checkout / ".demo"))
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == secrets.ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
