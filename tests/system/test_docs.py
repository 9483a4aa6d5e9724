"""The guides of the documentation, as a newcomer follows them: with the emulator and `airflow dags test`."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.processes import airflow_environment
from tests.support.docs import Block, blocks, commands
from tests.support.emulator_process import EmulatorProcess
from tests.support.fixtures import built
from tests.support.paths import NOTEBOOKS
from tests.support.patience import patient

FIRST = "docs/first-notebook.md"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def block(page: str, title: str) -> Block:
    (found,) = [found for found in blocks(page) if title in found.title]
    return found


@pytest.fixture(scope="module")
def bucket_emulator(tmp_path_factory):
    """Start an emulator with the buckets and the notebooks of the guides."""
    folder = tmp_path_factory.mktemp("notebooks")
    for name in ("report.ipynb", "train.ipynb"):
        shutil.copy(NOTEBOOKS / "untagged.ipynb", folder / name)
    options = ["--bucket", "my-bucket", "--cleanup-delay", "0.2"]
    for number, secret in enumerate(("api-token", "db", "db", "db")):  # whose third version a guide names
        (folder / f"{number}.txt").write_text(f"secret of the guides {number}")
        options += ["--secret", f"{secret}={folder / f'{number}.txt'}"]
    for bucket in ("my-bucket", "ml-team"):
        options += ["--upload", f"{folder}=gs://{bucket}"]

    def make(suffix: str) -> EmulatorProcess:
        return EmulatorProcess(tmp_path_factory.mktemp(f"docs{suffix}") / "data", *options)

    with built(make) as process:
        yield process


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return the folder of an Airflow with a database."""
    folder = tmp_path_factory.mktemp("airflow")
    environment = airflow_environment(folder, folder / "dags")
    subprocess.run(["airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    return folder


@pytest.fixture
def run(home: Path, bucket_emulator: EmulatorProcess, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Return a function that writes files of DAGs and runs a command of Airflow's: its exit status, what it printed."""

    def run_command(files: dict[str, str], *command: str) -> tuple[int, str]:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        environment = {**airflow_environment(home, tmp_path / "dags"), **bucket_emulator.exports}
        process = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patient(240),
            check=False,
        )
        return process.returncode, ANSI.sub("", process.stdout)

    return run_command


def first_files(**replaced: str) -> dict[str, str]:
    dag = block(FIRST, "dags/daily_report.py").text
    for old, new in replaced.items():
        assert old in dag
        dag = dag.replace(old, new)
    return {
        "dags/daily_report.py": dag,
        "dags/notebooks/report.py": block(FIRST, "dags/notebooks/report.py").text,
    }


def without_ids(text: str) -> str:
    return re.sub(r"nbjob-\w{12}-\w{8}-1|(?<=projects/)\d+", "*", text)


def test_the_first_notebook(run):
    status, printed = run(first_files(), *list(commands(FIRST))[-1])
    assert status == 0, printed
    (shown,) = [found.text for found in blocks(FIRST) if found.text.startswith("Passing parameters")]
    assert not [line for line in without_ids(shown).splitlines() if line not in without_ids(printed)]


def test_the_first_notebook_fails(run):
    _, printed = run(first_files(**{'"orders": 500': '"orders": "many"'}), "airflow", "dags", "test", "daily_report")
    (shown,) = [found.text for found in blocks(FIRST) if found.text.startswith("JobFailed")]
    assert not [line for line in without_ids(shown).splitlines() if line not in without_ids(printed)]


def test_a_dag_that_moved_from_papermill(run):
    page = "docs/how-to/papermill.md"
    files = {
        "dags/report.py": block(page, "dags/report.py").text,
        "dags/notebooks/report.ipynb": (NOTEBOOKS / "tagged.ipynb").read_text(),
    }
    status, printed = run(files, *list(commands(page))[-1])
    assert status == 0, printed
    assert "Passing parameters in python: day" in printed
    assert re.search(r"Executed notebook: gs://ml-team/reports/nbjob-\S+/content\.ipynb", printed)


def test_a_permission_that_is_denied(run, bucket_emulator):
    bucket_emulator.fault("CreateNotebookExecutionJob", "PERMISSION_DENIED", times=1)
    _, printed = run(first_files(), *list(commands("docs/how-to/permission-denied.md"))[-1])
    for part in (
        "was answered PERMISSION_DENIED",
        "lacks the permission aiplatform.notebookExecutionJobs.create, which roles/aiplatform.colabEnterpriseUser has",
        "It needs iam.serviceAccounts.actAs, which roles/iam.serviceAccountUser has, on",
    ):
        assert part in printed


def test_a_sensor_waits_for_the_job_of_a_schedule(run, bucket_emulator, tmp_path):
    page = "docs/how-to/colab-schedule.md"
    curl, airflow = list(commands(page))[-2:]
    (tmp_path / "job.json").write_text(block(page, "job.json").text)
    command = [word.replace("$REST", bucket_emulator.rest_url) for word in curl]
    subprocess.run([*command, "--fail", "--silent", "--noproxy", "*"], cwd=tmp_path, check=True)
    status, printed = run({"dags/after_the_report.py": block(page, "dags/after_the_report.py").text}, *airflow)
    assert status == 0, printed
    assert "JOB_STATE_SUCCEEDED" in printed


def test_a_gpu_without_a_template(run):
    page = "docs/how-to/gpu.md"
    found = [found.text for found in blocks(page) if found.language == "python"]
    status, printed = run({"dags/train_on.py": "\n".join([found[0], found[-1]])}, "airflow", "dags", "test", "train_on")
    assert status == 0, printed
    assert "JOB_STATE_SUCCEEDED" in printed


def test_another_host_of_the_api(run, bucket_emulator):
    page = "docs/how-to/private-endpoint.md"
    (check,) = [found.text for found in blocks(page) if 'DAG("check_vertex")' in found.text]
    named = check.replace('task_id="list",', f'task_id="list", api_endpoint="http://{bucket_emulator.grpc_address}",')
    assert named != check
    status, printed = run({"dags/check_vertex.py": named}, *list(commands(page))[-1])
    assert status == 0, printed


@pytest.mark.parametrize(("page", "dag_id"), [("secrets", "train"), ("workbench", "train_on_workbench")])
def test_other_guides(run, page, dag_id):
    (dag,) = [found.text for found in blocks(f"docs/how-to/{page}.md") if f'DAG("{dag_id}")' in found.text]
    status, printed = run({"dags/train.py": dag}, "airflow", "dags", "test", dag_id)
    assert status == 0, printed
    assert "JOB_STATE_SUCCEEDED" in printed
    assert "secret of the guides" not in printed


def test_many_notebooks(run):
    page = "docs/how-to/mapped-notebooks.md"
    notebook = '# %% tags=["parameters"]\ncustomer = day = ""\n# %% tags=["result:revenue"]\nlen(customer) * 1.5\n'
    dag = block(page, "dags/reports.py").text.replace(
        'gcs_notebook_source="gs://ml-team/report.ipynb"', 'direct_notebook_source="report_notebook.py"'
    )
    files = {"dags/reports.py": dag, "dags/report_notebook.py": notebook}
    status, printed = run(files, "airflow", "dags", "test", "reports")
    assert status == 0, printed
    assert "Returned value was: 15" in printed
