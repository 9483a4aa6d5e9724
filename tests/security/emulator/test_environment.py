"""A notebook on the emulator sees what is allowed of the environment, and what `--env` names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest

from airflow_provider_nbjob.emulator.__main__ import main
from airflow_provider_nbjob.emulator.environment import hidden_from_kernel, runner_environment
from tests.security.emulator.case import JOBS, PARENT, create_job
from tests.support.emulator_process import EmulatorProcess
from tests.support.patience import patient, wait_until

CANARY = "canary-7f3c"
TOKEN = "chosen-by-the-environment"
SECRETS = {
    "AIRFLOW__CORE__FERNET_KEY": f"{CANARY}-fernet",
    "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": f"{CANARY}-connection",
    "GOOGLE_APPLICATION_CREDENTIALS": f"/{CANARY}/key.json",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}-aws",
    "GITHUB_TOKEN": f"{CANARY}-github",
    "DATABASE_URL": f"postgresql://user:{CANARY}@host/db",
    "HTTPS_PROXY": f"http://user:{CANARY}@127.0.0.1:1",
    "PYTHONPATH": f"/{CANARY}/python",
    "PATH_SECRET": f"{CANARY}-path",
    "XLC_ALL": f"{CANARY}-locale",
    "KUBECONFIG": f"/{CANARY}/kube",
    "NBJOB_EMULATOR_TOKEN": TOKEN,
}
GIVEN = {"HISTFILE": "given-by-name", "LC_TIME": "C.UTF-8", "TZ": "UTC"}
CELL = """
import json, os, subprocess, sys
print(json.dumps({
    "kernel": dict(os.environ),
    "child": subprocess.check_output(["env"], text=True).splitlines(),
    "runner": open(f"/proc/{os.getppid()}/environ").read() if os.path.exists("/proc/self/environ") else "",
    "path": sys.path,
}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a notebook sees of its environment, and its parent's."""
    folder = tmp_path_factory.mktemp("environment")
    (folder / "secret").write_text("the payload")
    options = ["--bucket", "nbjob-tests", "--env", "HISTFILE", "--secret", f"token={folder / 'secret'}"]
    environment = {**SECRETS, **GIVEN}
    with EmulatorProcess(folder / "data", *options, environment=environment) as process:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
        (folder / "data" / "dataform" / "seen").mkdir(parents=True)
        nbformat.write(notebook, folder / "data" / "dataform" / "seen" / "content.ipynb")
        with httpx.Client(base_url=f"{process.rest_url}/", timeout=patient(30), trust_env=False) as http:
            source = {"dataformRepositoryResourceName": f"{PARENT}/repositories/seen"}
            changes = {
                "directNotebookSource": None,
                "dataformRepositorySource": source,
                "notebookRuntimeTemplateResourceName": f"{PARENT}/notebookRuntimeTemplates/plain",
            }
            create_job(http, "seen", **changes)
            path = f"{JOBS}/seen"
            wait_until(lambda: "status" in http.get(path).json(), timeout=60, what="the notebook's end")
            assert http.get(path).json()["jobState"] == "JOB_STATE_SUCCEEDED", http.get(path).json()
        executed = nbformat.read(process.object_path("gs://nbjob-tests/results/seen/content.ipynb"), as_version=4)
        found = json.loads(executed.cells[0].outputs[0].text)
        found["rest_url"], found["log"] = process.rest_url, process.log_path.read_text()
        yield found


@pytest.mark.parametrize("name", SECRETS)
def test_a_notebook_does_not_see(seen: dict[str, Any], name: str) -> None:
    assert name not in seen["kernel"]
    assert CANARY not in json.dumps(seen["kernel"])
    assert name not in {line.partition("=")[0] for line in seen["child"]}
    assert CANARY not in json.dumps(seen["child"])


def test_neither_does_the_process_that_runs_it(seen: dict[str, Any]) -> None:
    names = {entry.partition("=")[0] for entry in seen["runner"].split("\0")}
    assert names.isdisjoint(set(SECRETS) - {"PYTHONPATH"})  # by which it may find this package
    assert not any(CANARY in part for part in seen["path"])


def test_the_log_of_the_emulator_shows_no_variable(seen: dict[str, Any]) -> None:
    assert CANARY not in seen["log"]
    assert seen["rest_url"].rpartition("/")[2] not in seen["log"]


def test_a_notebook_sees_what_it_needs_and_what_is_named(seen: dict[str, Any]) -> None:
    kernel = seen["kernel"]
    assert {name: kernel.get(name) for name in GIVEN} == GIVEN
    assert kernel["PATH"]
    assert kernel["IPYTHONDIR"].endswith("data/cache/ipython")
    assert kernel["SECRET_MANAGER_EMULATOR_HOST"] == seen["rest_url"]
    assert seen["rest_url"].endswith(f"/{TOKEN}")


def test_names_are_compared_whole() -> None:
    environment = {
        "LC_X": "1",
        "XLC_": "2",
        "path": "3",
        "PATH": "4",
        "PATHS": "5",
        "A": "6",
        "B": "7",
        "PYTHONPATH": "8",
    }
    made = runner_environment(environment, ["A"], Path("/cache"), {"B": "added"})
    caches = {"IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_RUNTIME_DIR"}
    assert {name: value for name, value in made.items() if name not in caches} == {
        "LC_X": "1",
        "PATH": "4",
        "A": "6",
        "B": "added",
        "PYTHONPATH": "8",
    }
    assert hidden_from_kernel(["A"]) == ["PYTHONPATH"]
    assert hidden_from_kernel(["PYTHONPATH"]) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("NBJOB_NO_SUCH_VARIABLE", "the variable NBJOB_NO_SUCH_VARIABLE is not set"),
        ("A=secret-value", "'A' is not the name of a variable"),
        ("", "'' is not the name of a variable"),
        ("A B", "is not the name of a variable"),
        ("A*", "is not the name of a variable"),
    ],
)
def test_a_variable_that_cannot_be_given_is_refused_by_name(
    value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--env", value])
    assert exit_.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "secret-value" not in errors
