"""Credentials go to the hosts that the administrator allows, whatever a DAG, a record or `dag_run.conf` says."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from hypothesis import example, given
from hypothesis import strategies as st

import airflow_provider_nbjob
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.hooks import clients
from airflow_provider_nbjob.hooks.clients import resolve_endpoint
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.job import JobName, bucket_and_path, storage_console_url
from airflow_provider_nbjob.operators.notebook_execution_job import (
    CreateNotebookExecutionJobOperator,
    DeleteNotebookExecutionJobOperator,
    GetNotebookExecutionJobOperator,
    ListNotebookExecutionJobsOperator,
)
from airflow_provider_nbjob.sensors.notebook_execution_job import NotebookExecutionJobSensor
from airflow_provider_nbjob.triggers.notebook_execution_job import (
    NotebookExecutionJobTrigger,
    ScheduledNotebookExecutionJobTrigger,
)
from tests.security.hooks.channels import Dialled
from tests.support.tasks import make_context

PACKAGE = Path(airflow_provider_nbjob.__file__).parent
GOOD = "us-central1"
LOCATIONS = [
    "dns:localhost:18443?",
    "localhost:18443#",
    "evil.example.com:443#",
    "evil.example.com",
    "user@evil.example.com",
    "us-central1.evil.example.com",
    "//evil.example.com?",
    "unix:tmp",
    "us-central1\n",
    "us-central1 ",
    "us-central\u0661",  # a digit of another script
    "us-centra\u017f1",
    "US-CENTRAL1",
    "us-central1%2f",
    "us-central1\0",
    "us-" + "central" * 30 + "1",
    "..",
]
PROJECTS = [
    'p" OR displayName="x',
    "p?x",
    "p#",
    "p%2f..",
    "..",
    "p\n",
    "P",
    "p\0",
    "example.com:",
    ":p",
    "p:q:r",
    "-p",
    "p" * 64,
    "a.b",
    "p\u0661",
]
IDS = ["x?y", "x#y", 'x"', "..", "x\n", "X", "x%2f", "-x", "x" * 64, "x\0", "x\u0661"]


@pytest.mark.parametrize("location", [*LOCATIONS, "us/central1", ""])
def test_a_location_that_is_no_region_makes_no_name_and_no_host(channels, location):
    for make in (
        lambda: JobName("p", location, "x"),
        lambda: JobName.parse(f"projects/p/locations/{location}/notebookExecutionJobs/x"),
        lambda: JobName.parse(f"projects/p/locations/{location}/notebookExecutionJobs/x/operations/1"),
        lambda: resolve_endpoint(location, None),
        lambda: resolve_endpoint(location, "http://127.0.0.1:1"),
    ):
        with pytest.raises(InvalidJob, match=r"^(location|name): "):
            make()


@pytest.mark.parametrize("project", [*PROJECTS, "p/q", ""])
def test_a_malformed_project_makes_no_name(project):
    with pytest.raises(InvalidJob, match=r"^project_id: "):
        JobName(project, GOOD, "x")
    with pytest.raises(InvalidJob, match=r"^name: "):
        JobName.parse(f"projects/{project}/locations/{GOOD}/notebookExecutionJobs/x")


@pytest.mark.parametrize("job_id", [*IDS, "x/y", ""])
def test_a_malformed_id_makes_no_name(job_id):
    with pytest.raises(InvalidJob, match=r"^notebook_execution_job: "):
        JobName("p", GOOD, job_id)
    with pytest.raises(InvalidJob, match=r"^name: "):
        JobName.parse(f"projects/p/locations/{GOOD}/notebookExecutionJobs/{job_id}")


@pytest.mark.parametrize("project", ["my-project", "p", "123456789012", "example.com:my-project", "a.b.example:p1"])
@pytest.mark.parametrize("location", [GOOD, "northamerica-northeast1", "me-central2", "europe-west10"])
@pytest.mark.parametrize("job_id", ["1234567890123456789", "nbjob-3f9c0d5be1a2-4c77a0b1-1", "a_b", "7"])
def test_the_names_that_google_gives_are_read(project, location, job_id):
    name = f"projects/{project}/locations/{location}/notebookExecutionJobs/{job_id}"
    assert str(JobName.parse(name)) == name
    assert JobName.parse(f"{name}/operations/42") == JobName(project, location, job_id)


@pytest.mark.parametrize("value", [None, 7, b"x", ["x"], {"x": 1}])
def test_what_is_no_text_is_no_name(value):
    with pytest.raises(InvalidJob):
        JobName.parse(value)
    with pytest.raises(InvalidJob):
        JobName("p", value, "x")


# --- the hook, and what calls it ---

WITH_LOCATION = {
    "get": lambda hook, **way: hook.get_notebook_execution_job(name="x", **way),
    "list": lambda hook, **way: next(hook.list_notebook_execution_jobs(**way)),
    "list_changes": lambda hook, **way: hook.list_changes(**way),
    "delete": lambda hook, **way: hook.delete_notebook_execution_job(name="x", **way),
    "cancel": lambda hook, **way: hook.cancel_notebook_execution_job(name="x", **way),
    "schedule": lambda hook, **way: hook.find_scheduled_job(schedule="7", created_after=0, **way),
    "create": lambda hook, **way: hook.create_notebook_execution_job(job={}, **way),
}


@pytest.mark.parametrize("method", WITH_LOCATION)
def test_the_hook_refuses_a_hostile_way_before_it_connects(channels, method):
    call = WITH_LOCATION[method]
    for location in LOCATIONS:
        with pytest.raises(InvalidJob, match="location: "):
            call(NotebookExecutionJobHook(), location=location)
    for project in PROJECTS:
        with pytest.raises(InvalidJob, match="project_id: "):
            call(NotebookExecutionJobHook(), location=GOOD, project_id=project)
    assert channels.targets == []
    with pytest.raises(Dialled, match=f"^{GOOD}-aiplatform.googleapis.com"):
        call(NotebookExecutionJobHook(), location=GOOD, project_id="p")


@pytest.mark.parametrize("schedule", ['7" OR schedule="8', '7"', "", "a/7", "projects/p/schedules/7", "7\n", "7/"])
def test_a_hostile_schedule_gets_into_no_filter(channels, schedule):
    with pytest.raises(InvalidJob, match=r"^schedule: "):
        NotebookExecutionJobHook().find_scheduled_job(schedule=schedule, created_after=0, location=GOOD)
    assert channels.targets == []


def rendered(kind, fixed=None, **values):
    """Return a task whose templates came out as these values; while the DAG is parsed, they would be refused."""
    task = kind(task_id="t", retries=3, **dict.fromkeys(values, "{{ dag_run.conf.x }}"), **(fixed or {}))
    for name, value in values.items():
        setattr(task, name, value)
    return task


def operators_and_sensors(location, name):
    """Return what reads a location, and what reads the name of a job, from templates."""
    way = {"notebook_execution_job": name, "location": location}
    return [
        rendered(GetNotebookExecutionJobOperator, **way),
        rendered(DeleteNotebookExecutionJobOperator, **way),
        rendered(DeleteNotebookExecutionJobOperator, {"ignore_if_missing": True}, **way),
        rendered(NotebookExecutionJobSensor, **way),
        rendered(NotebookExecutionJobSensor, {"deferrable": True}, **way),
    ]


@pytest.mark.parametrize("location", LOCATIONS[:8])
def test_a_hostile_location_fails_the_task_without_a_retry(channels, location):
    tasks = [
        *operators_and_sensors(location, "x"),
        *operators_and_sensors(None, f"projects/p/locations/{location}/notebookExecutionJobs/x"),
        rendered(ListNotebookExecutionJobsOperator, location=location),
        rendered(NotebookExecutionJobSensor, schedule="7", location=location),
    ]
    for task in tasks:
        with pytest.raises(InvalidJob, match="location") as refused:
            task.execute(make_context("r"))
        assert isinstance(refused.value, AirflowFailException)
    assert channels.targets == []


@pytest.mark.parametrize("location", LOCATIONS[:8])
def test_the_operator_that_submits_refuses_a_hostile_way_with_all_that_is_wrong(channels, location):
    task = CreateNotebookExecutionJobOperator(
        task_id="t",
        location="{{ dag_run.conf.location }}",
        project_id="{{ dag_run.conf.project }}",
        gcs_notebook_source="gs://bucket/n.ipynb",
        gcs_output_uri="gs://bucket/runs",
        notebook_runtime_template_resource_name="t",
        service_account="sa@p.iam.gserviceaccount.com",
        retries=3,
    )
    task.location, task.project_id = location, "p?x"
    for try_number in (1, 2):  # a retry asks for the job of the try before
        with pytest.raises(InvalidJob, match=r"location: |project_id: ") as refused:
            task.execute(make_context("r", try_number=try_number, max_tries=3))
        assert isinstance(refused.value, AirflowFailException)
    assert channels.targets == []


@pytest.mark.parametrize("location", LOCATIONS[:8])
def test_a_trigger_of_a_hostile_name_ends_with_an_error(channels, monkeypatch, location):
    monkeypatch.setattr("airflow_provider_nbjob.triggers.notebook_execution_job.SETTLE_INTERVALS", 0)
    for trigger in (
        NotebookExecutionJobTrigger(f"projects/p/locations/{location}/notebookExecutionJobs/x", end_time=1e11),
        ScheduledNotebookExecutionJobTrigger("7", 0.0, location, end_time=1e11),
    ):
        event = asyncio.run(anext(trigger.run()))
        assert event.payload["outcome"] == "error"
        assert "location" in event.payload["message"]
    assert channels.targets == []


@pytest.mark.parametrize("chain", ["a@p/../b", "a@p?", ["a@p.example", "x#y"], "a@p\n"])
def test_an_account_to_impersonate_gets_into_no_url_unless_it_is_one(channels, chain):
    hook = NotebookExecutionJobHook(impersonation_chain=chain)
    with pytest.raises(InvalidJob, match=r"^impersonation_chain: "):
        hook.get_credentials()


# --- endpoints ---

NOT_ALLOWED = [
    "evil.example.com",
    "https://evil.example.com",
    "http://evil.example.com",
    "http://us-central1-aiplatform.googleapis.com",  # plaintext: its answers would be anybody's
    "googleapis.com.evil.example",
    "evilgoogleapis.com",
    "googleapis.com",
    "us-central1-aiplatform.googleapis.com@evil.example.com",
    "evil.example.com#.googleapis.com",
    "evil.example.com/.googleapis.com",
    "evil.example.com?.googleapis.com",
    "evil.example.com\\.googleapis.com",
    "evil.example.com:443,x.googleapis.com",
    "dns:evil.example.com",
    "dns:///evil.example.com",
    "dns://127.0.0.1/x.googleapis.com",
    "unix:/tmp/x.googleapis.com",
    "unix:1",
    "ipv4:10.0.0.1:443",
    "ipv6:[::2]:443",
    "xds:///x.googleapis.com",
    "ftp://x.googleapis.com",
    "http:evil.example.com",
    "x.googleapis.com.",
    "x.googleapis.com..",
    ".googleapis.com",
    "x\u3002googleapis.com",
    "\u212a.googleapis.com",
    "x.googleapis.com\n",
    " x.googleapis.com",
    "x.googleapis.com:99999",
    "x.googleapis.com:0",
    "x.googleapis.com:443:1",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0.0.0.0",
    "10.0.0.1",
    "[::]",
    "[::1%eth0]",
    "[fe80::1]",
    "[::ffff:10.0.0.1]",
    "169.254.169.254",
    "metadata.google.internal",
    "//127.0.0.1",
    "http://http://127.0.0.1",
    "http://127.0.0.1/../x",
    "http://user:pass@127.0.0.1",
]
ALLOWED = {
    "us-central1-aiplatform.googleapis.com": ("us-central1-aiplatform.googleapis.com", False),
    "https://Us-Central1-AIPlatform.GoogleAPIs.com:443/": ("us-central1-aiplatform.googleapis.com:443", False),
    "aiplatform-genai.p.googleapis.com": ("aiplatform-genai.p.googleapis.com", False),
    "http://127.0.0.1:8960": ("127.0.0.1:8960", True),
    "http://LOCALHOST:8960/": ("localhost:8960", True),
    "http://[::1]:8960": ("[::1]:8960", True),
    "127.8.9.10:1": ("127.8.9.10:1", False),
}


@pytest.mark.parametrize("configured", NOT_ALLOWED)
def test_an_endpoint_that_is_not_allowed_is_refused(channels, configured):
    with pytest.raises(InvalidJob, match=r"^api_endpoint: "):
        resolve_endpoint(GOOD, configured)
    with pytest.raises(InvalidJob, match=r"^api_endpoint: "):
        NotebookExecutionJobHook(api_endpoint=configured).get_conn(GOOD)
    assert channels.targets == []


def test_an_endpoint_of_the_connection_is_checked_alike(channels, monkeypatch):
    extra = '{"project": "p", "is_anonymous": true, "api_endpoint": "evil.example.com"}'
    monkeypatch.setenv(
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", f'{{"conn_type": "google_cloud_platform", "extra": {extra}}}'
    )
    with pytest.raises(InvalidJob, match=r"^api_endpoint: "):
        NotebookExecutionJobHook().get_conn(GOOD)
    assert channels.targets == []


@pytest.mark.parametrize("configured", ALLOWED)
def test_googles_own_hosts_and_loopback_are_allowed(channels, configured):
    assert resolve_endpoint(GOOD, configured) == ALLOWED[configured]


@pytest.mark.parametrize(
    ("listed", "configured", "is_allowed"),
    [
        ("api.example.com", "api.example.com:8443", True),
        ("api.example.com", "http://api.example.com", True),
        ("API.example.com , x", "api.EXAMPLE.com", True),
        ("api.example.com", "v2.api.example.com", False),
        ("api.example.com", "us-central1-aiplatform.googleapis.com", False),
        ("api.example.com", "http://127.0.0.1:1", False),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "http://a.example.com", False),
        ("*.example.com", "a.example.com.evil.test", False),
        ("*", "evil.example.com", False),
        ("*.", "evil.example.com", False),
        ("", "us-central1-aiplatform.googleapis.com", False),
        ("10.0.0.1", "http://10.0.0.1:8960", True),
        ("dns", "dns:1", False),
    ],
)
def test_the_administrator_says_what_is_allowed(channels, monkeypatch, listed, configured, is_allowed):
    monkeypatch.setenv("AIRFLOW__NBJOB__ALLOWED_API_ENDPOINTS", listed)
    if is_allowed:
        assert resolve_endpoint(GOOD, configured)
    else:
        with pytest.raises(InvalidJob, match=r"^api_endpoint: "):
            resolve_endpoint(GOOD, configured)
    assert str(resolve_endpoint(GOOD, None)) == "us-central1-aiplatform.googleapis.com"


@pytest.mark.parametrize("universe", ["evil", "evil.example/x", "evil.example#", "a@b.example", "x.example:1", "x\n.y"])
def test_a_malformed_universe_makes_no_host(channels, monkeypatch, universe):
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", universe)
    with pytest.raises(InvalidJob, match=r"^GOOGLE_CLOUD_UNIVERSE_DOMAIN: "):
        resolve_endpoint(GOOD, None)


def test_the_hosts_of_a_universe_are_its_own(channels, monkeypatch):
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "apis.example.cloud")
    assert str(resolve_endpoint(GOOD, None)) == "us-central1-aiplatform.apis.example.cloud"
    assert str(resolve_endpoint(GOOD, "x.apis.example.cloud")) == "x.apis.example.cloud"
    with pytest.raises(InvalidJob):
        resolve_endpoint(GOOD, "x.apis.example.com")


@pytest.mark.parametrize("host", ["unix:/tmp/x", "https://x:1", "x y", "dns:1", "x:1/y", "user@x:1"])
def test_a_malformed_emulator_is_refused(channels, monkeypatch, host):
    monkeypatch.setenv("NBJOB_EMULATOR_HOST", host)
    with pytest.raises(InvalidJob, match=r"^NBJOB_EMULATOR_HOST: "):
        resolve_endpoint(GOOD, None)


def test_an_emulator_gets_no_credentials(channels, monkeypatch):
    monkeypatch.setenv("NBJOB_EMULATOR_HOST", "emulator.internal:8960")
    with pytest.raises(Dialled):
        NotebookExecutionJobHook().get_conn(GOOD)
    assert (channels.plaintext, channels.with_credentials) == (["emulator.internal:8960"], [])


# --- searched for by machine ---

ODD = st.text(st.sampled_from("aAuspz019-_.:/?#@[]%\\ \n\0\u0661\u212a\u3002"), max_size=40)
PARTS = ["us", "-central1", "googleapis.com", ".", "evil.example", "localhost", "127.0.0.1", "[::1]", ":", "443", "/"]
TRICKS = ["http://", "https://", "dns:", "unix:", "@", "#", "?", "%2e", "\n", " ", "*", ","]
PIECES = st.lists(st.sampled_from([*PARTS, *TRICKS]), max_size=8).map("".join)
ALLOWED_TARGET = re.compile(
    r"[-_.a-z0-9]+\.googleapis\.com(:[0-9]+)?|localhost(:[0-9]+)?|127\.[0-9]+\.[0-9]+\.[0-9]+(:[0-9]+)?"
    r"|\[[0:]+:0*1\](:[0-9]+)?"
)


@given(st.one_of(ODD, PIECES, st.just(GOOD)), st.one_of(st.none(), ODD, PIECES, st.text(max_size=20)))
@example(GOOD, "x.googleapis.com#@evil.example")
def test_grpc_is_given_no_target_but_the_allowed_ones(location, configured):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NBJOB_EMULATOR_HOST", raising=False)
        patch.delenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", raising=False)
        patch.delenv("AIRFLOW__NBJOB__ALLOWED_API_ENDPOINTS", raising=False)
        try:
            endpoint = resolve_endpoint(location, configured)
        except InvalidJob:
            return
    assert ALLOWED_TARGET.fullmatch(endpoint.address)
    assert not endpoint.is_plaintext or not endpoint.address.endswith("googleapis.com")


@given(
    st.one_of(
        st.text(max_size=80),
        st.tuples(PIECES, PIECES, PIECES).map(lambda p: "projects/{}/locations/{}/notebookExecutionJobs/{}".format(*p)),
    )
)
def test_a_text_is_a_name_or_bad_input(text):
    try:
        name = JobName.parse(text)
    except InvalidJob:
        return
    assert re.fullmatch(r"[-.:a-z0-9]+ [-a-z0-9]+ [-_a-z0-9]+", f"{name.project} {name.location} {name.job_id}")
    assert text.startswith(str(name))


@given(st.one_of(st.text(max_size=80), st.text(max_size=30).map("gs://{}".format), PIECES.map("gs://{}".format)))
@example("gs://../x")
@example("gs://b/..")
@example("gs://@evil.example/x")
@example("gs://b\n/x")
def test_a_text_is_the_uri_of_an_object_or_bad_input(text):
    try:
        bucket, path = bucket_and_path(text)
    except InvalidJob:
        return
    assert re.fullmatch(r"[-_.a-z0-9]+", bucket)
    assert ".." not in bucket
    assert not set(path) & set("\n\r\0")
    assert path not in (".", "..")
    assert text in (f"gs://{bucket}/{path}", f"gs://{bucket}")
    assert "/../" not in f"{storage_console_url(text)}/"


def test_nothing_else_builds_a_host():
    """The texts of the package, without its docstrings, in which a host of Google's API stands."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
            if is_text and ("googleapis" in node.value or "-aiplatform" in node.value):
                found.add((path.relative_to(PACKAGE).parts[0], path.stem))
    others = {(room, module) for room, module in found if module not in ("clients", "get_provider_info")}
    # A prefix of system labels, the emulator's copy of it, the address that a notebook reads secrets at, the prefix of
    # the names of message types, and the command that is shown to a person who has to stop a job.
    assert others <= {
        ("job", "spec"),
        ("emulator", "validation"),
        ("notebook", "secrets"),
        ("emulator", "json_requests"),
        ("lifecycle", "cancellation"),
    }
    assert clients.ALLOWED_DEFAULT in str(airflow_provider_info())


def airflow_provider_info():
    from airflow_provider_nbjob.get_provider_info import get_provider_info

    return get_provider_info()["config"]["nbjob"]["options"]["allowed_api_endpoints"]
