"""`nbjob_emulator`: the fixture itself, in this process, and sessions of pytest that run at once or are interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from google.cloud.aiplatform_v1.types import JobState

from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from airflow_provider_nbjob.testing.emulator import NO_PROXY, NotebookEmulator
from tests.support.emulator_jobs import create, grpc_client, job_name, make_job, new_id, notebook, wait_for_state
from tests.support.emulator_process import lead_to
from tests.support.patience import patient, wait_until
from tests.support.running import run_operator
from tests.support.tasks import context_of
from tests.support.user_sessions import report_of, run_session, start_session

SESSIONS = Path(__file__).parent / "sessions"
VARIABLES = (
    *("NBJOB_EMULATOR_HOST", "NBJOB_EMULATOR_TOKEN", "STORAGE_EMULATOR_HOST"),
    *("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", "AIRFLOW_CONN_OTHER", *NO_PROXY),
)


def client_of(emulator: NotebookEmulator) -> Any:
    address, token = (emulator.environment[name] for name in VARIABLES[:2])
    return grpc_client(SimpleNamespace(grpc_address=address, token=token))  # type: ignore[arg-type]


def run(emulator: NotebookEmulator, name: str, *cells: str, **changes: Any) -> Any:
    """Create a job, and return it once it has ended."""
    source = {"content": notebook(*cells)}
    client = client_of(emulator)
    template = "projects/emulator-project/locations/us-central1/notebookRuntimeTemplates/plain"
    job = make_job(display_name=name, direct_notebook_source=source, notebook_runtime_template_resource_name=template)
    return wait_for_state(client, job_name(create(client, {**job, **changes}, new_id("kit"))))


def operator(**changes: Any) -> CreateNotebookExecutionJobOperator:
    arguments = {
        "task_id": "score",
        "location": "us-central1",
        "gcs_notebook_source": "gs://ml-team/notebooks/score.ipynb",
        "notebook_runtime_template_resource_name": "standard",
        "service_account": "a@p.iam.gserviceaccount.com",
        "gcs_output_uri": "gs://ml-team/runs",
    }
    return CreateNotebookExecutionJobOperator(**{**arguments, **changes})


@pytest.fixture
def no_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no worker whose end a trigger must not overtake."""
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")


# --- jobs ---


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_operator_gets_the_results_of_a_script(
    nbjob_emulator: NotebookEmulator, no_heartbeat: None, tmp_path: Path, deferrable: bool
) -> None:
    (tmp_path / "score.ipynb").write_bytes(notebook("1"))
    nbjob_emulator.upload(tmp_path, "gs://ml-team/notebooks")
    nbjob_emulator.script("score.ipynb", results={"auc": 0.4})
    result = run_operator(operator(deferrable=deferrable), context_of())
    assert result["results"] == {"auc": 0.4}
    (job,) = nbjob_emulator.jobs()
    assert (job.state, job.notebook) == ("JOB_STATE_SUCCEEDED", "gs://ml-team/notebooks/score.ipynb")
    assert job.output_notebook == result["output_notebook_uri"]
    executed = nbjob_emulator.executed_notebook(job)
    assert executed
    assert executed["cells"][0]["outputs"]


def test_a_job_without_a_script_runs_for_real(nbjob_emulator: NotebookEmulator) -> None:
    nbjob_emulator.script("another", state="FAILED", times=1)
    job = run(nbjob_emulator, "for real", "print(6 * 7)")
    assert job.job_state == JobState.JOB_STATE_SUCCEEDED
    assert "42" in json.dumps(nbjob_emulator.executed_notebook(nbjob_emulator.jobs()[0]))
    assert run(nbjob_emulator, "another", "1").status.message.startswith("Cell 1 raised RuntimeError: ")


def test_fake_all_is_for_jobs_that_no_script_matches(nbjob_emulator: NotebookEmulator) -> None:
    nbjob_emulator.fake_all()
    nbjob_emulator.script("bad", cell=1, error="KeyError: 'west'")
    assert run(nbjob_emulator, "good", "raise SystemExit").job_state == JobState.JOB_STATE_SUCCEEDED
    assert run(nbjob_emulator, "bad", "1").status.message == "Cell 1 raised KeyError: 'west'"
    assert [(job.display_name, job.message) for job in nbjob_emulator.jobs()] == [
        ("good", ""),
        ("bad", "Cell 1 raised KeyError: 'west'"),
    ]


def test_a_job_that_did_not_run_has_no_executed_notebook(nbjob_emulator: NotebookEmulator) -> None:
    nbjob_emulator.script("*", message="There is no machine.")
    run(nbjob_emulator, "unlucky")
    assert nbjob_emulator.executed_notebook(nbjob_emulator.jobs()[0]) is None


# --- values that are refused ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"job": None}, "^job: None is of type NoneType; it must be a text that is not empty$"),
        ({"job": "x", "cell": 0}, "^cell: 0 is refused; it must be a whole number from 1 to 100000$"),
        ({"job": "x", "state": "RUNNING"}, "^state: 'RUNNING' is no terminal state; it must be one of SUCCEEDED, "),
        ({"job": "x", "error": ValueError("x")}, "^error: ValueError.* is of type ValueError; it must be a text"),
        ({"job": "x", "results": {"a": object()}}, "^results: .* is not made of JSON values"),
        ({"job": "x", "seconds": float("nan"), "times": -1}, "^seconds: nan is refused; .*; times: -1 is refused; "),
    ],
)
def test_a_script_is_refused_with_the_argument_the_value_and_the_rule(
    nbjob_emulator: NotebookEmulator, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        nbjob_emulator.script(**arguments)
    assert nbjob_emulator.unused() == []


@pytest.mark.parametrize("uri", ["", "ml-team/x", "gs://", "gs://ml-team", "gs://ml-team/", "s3://a/b", "gs://A/b", 3])
def test_a_uri_is_refused(nbjob_emulator: NotebookEmulator, uri: Any) -> None:
    with pytest.raises(ValueError, match="uri: "):
        nbjob_emulator.write(uri, b"x")
    with pytest.raises(ValueError, match="uri: "):
        nbjob_emulator.read(uri)


def test_a_path_that_is_not_there_is_refused(nbjob_emulator: NotebookEmulator) -> None:
    with pytest.raises(ValueError, match="path: 'not/there' is neither a file nor a folder, in /"):
        nbjob_emulator.upload("not/there", "gs://a-bucket/x")


def test_a_fault_is_refused(nbjob_emulator: NotebookEmulator) -> None:
    with pytest.raises(ValueError, match="rpc: 'Nothing' is not allowed"):
        nbjob_emulator.fault("Nothing", "UNAVAILABLE")


# --- objects and variables ---


def test_files_and_folders_are_uploaded(nbjob_emulator: NotebookEmulator, tmp_path: Path) -> None:
    for name in ("a.ipynb", "deep/er/b #%.txt", ".hidden", ".git/config"):
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    nbjob_emulator.upload(tmp_path / "files", "gs://files/in/")
    nbjob_emulator.upload(str(tmp_path / "files" / "a.ipynb"), "gs://files/other name")
    found = nbjob_emulator.objects("gs://files")
    assert found == ["gs://files/in/a.ipynb", "gs://files/in/deep/er/b #%.txt", "gs://files/other name"]
    assert nbjob_emulator.read(found[1]) == b"deep/er/b #%.txt"
    assert nbjob_emulator.objects("gs://files/in/d") == found[1:2]
    with pytest.raises(FileNotFoundError, match="gs://files/none"):
        nbjob_emulator.read("gs://files/none")


def test_a_test_begins_with_nothing_and_ends_with_the_environment_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBJOB_EMULATOR_HOST", "mine:1")
    monkeypatch.setenv("NO_PROXY", "example.com")
    monkeypatch.delenv("AIRFLOW_CONN_OTHER", raising=False)
    before = {name: os.environ.get(name) for name in VARIABLES}
    with NotebookEmulator(tmp_path) as emulator:
        for _ in range(2):
            with emulator.lead_here():
                assert (emulator.jobs(), emulator.calls(), emulator.unused()) == ([], {}, [])
                assert emulator.objects("gs://a-bucket") == []
                emulator.connect("other")
                assert os.environ["AIRFLOW_CONN_OTHER"] == os.environ["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"]
                assert os.environ["NO_PROXY"] == "example.com,127.0.0.1,localhost"
                emulator.fake_all()
                emulator.script("never")
                emulator.write("gs://a-bucket/b", b"c")
                emulator.fault("DeleteNotebookExecutionJob", "UNAVAILABLE")
                run(emulator, "one")
            assert {name: os.environ.get(name) for name in VARIABLES} == before
        process = emulator._process
    assert process
    assert process.returncode == 0


def test_an_emulator_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(RuntimeError, match=r"(?s)did not start; .*emulator.log ends with:.*data cannot be used"):
        NotebookEmulator(tmp_path).__enter__()


def test_two_emulators_side_by_side(nbjob_emulator: NotebookEmulator, no_heartbeat: None, tmp_path: Path) -> None:
    with NotebookEmulator(tmp_path) as other:
        for emulator, results in ((nbjob_emulator, {"of": "one"}), (other, {"of": "another"})):
            emulator.write("gs://ml-team/notebooks/score.ipynb", notebook("1"))
            emulator.script("score.ipynb", results=results)
        seen = []
        for emulator in (nbjob_emulator, other):
            with pytest.MonkeyPatch.context() as patch:
                lead_to(SimpleNamespace(exports=emulator.environment), patch)  # type: ignore[arg-type]
                seen.append(run_operator(operator(deferrable=True), context_of())["results"])
        assert seen == [{"of": "one"}, {"of": "another"}]
        assert [len(emulator.jobs()) for emulator in (nbjob_emulator, other)] == [1, 1]


# --- sessions of a user ---


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "repository"
    (made / "seen").mkdir(parents=True)
    shutil.copy(SESSIONS / "jobs.py", made / "test_jobs.py")
    (made / "pytest.ini").write_text("[pytest]\nnbjob_airflow = true\n")
    return made


def test_two_processes_of_a_session_have_an_emulator_and_an_airflow_each(repository: Path) -> None:
    outcomes, printed = run_session(repository, "-n", "2", "-k", "side_by_side", SEEN=str(repository / "seen"))
    assert len(outcomes) == 4, printed
    assert set(outcomes.values()) == {"passed"}, printed
    seen = {tuple(path.read_text().split()) for path in (repository / "seen").iterdir()}
    assert len(seen) == 2
    assert [len(set(column)) for column in zip(*seen, strict=True)] == [2, 2, 2]
    assert not list((repository.with_name("repository-home") / "tmp").glob("nbjob-airflow-*"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_emulator_ends_with_an_interrupted_session(repository: Path, how: signal.Signals) -> None:
    seen = repository / "seen" / "waits"
    with start_session(repository, "-k", "waits", SEEN=str(seen.parent)) as session:
        wait_until(lambda: seen.exists() and len(seen.read_text().split()) == 2, timeout=60, what="the test")
        pid, emulator = (psutil.Process(int(number)) for number in seen.read_text().split())
        assert pid.pid == session.pid
        session.send_signal(how)
        printed, _ = session.communicate(timeout=patient(60))
        assert session.returncode != 0, printed
    wait_until(lambda: not is_running(emulator), timeout=20, what="the end of the emulator")
    if how is signal.SIGINT:
        assert "KeyboardInterrupt" in printed
        assert report_of(repository).exists()


def is_running(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


MISTAKES = """
def test_unused(nbjob_emulator):
    nbjob_emulator.script("scroe", state="FAILED")

def test_unfit(nbjob_emulator):
    nbjob_emulator.script("score", cell=9)
    import requests
    job = {
        "displayName": "score",
        "directNotebookSource": {"content": "eyJjZWxscyI6IFtdfQ=="},
        "notebookRuntimeTemplateResourceName": "projects/p/locations/us-central1/notebookRuntimeTemplates/t",
        "gcsOutputUri": "gs://output/runs",
        "serviceAccount": "a@p.iam.gserviceaccount.com",
    }
    url = f"{nbjob_emulator._rest_url}/v1/projects/p/locations/us-central1/notebookExecutionJobs"
    requests.post(url, json=job).raise_for_status()
    while not nbjob_emulator.jobs()[0].state.is_terminal:
        pass
"""


def test_a_script_that_is_not_used_is_a_warning_and_one_that_does_not_fit_an_error(repository: Path) -> None:
    (repository / "test_jobs.py").write_text(MISTAKES)
    outcomes, printed = run_session(repository)
    assert outcomes["test_unused"] == "passed", printed
    assert "UnusedScript: script('scroe') matched no job; the display names of the jobs are: none" in printed
    assert outcomes["test_unfit"].startswith("error"), printed
    assert "script('score'): cell: 9 is no code cell: the notebook that is run has 0 cells" in outcomes["test_unfit"]
