"""A viewer or a worker with bad credentials is told at once, and without what only the log may say."""

from __future__ import annotations

import json
import pickle
from types import SimpleNamespace

import pytest
from google.api_core import exceptions as api
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from airflow_provider_nbjob.exceptions import ApiError, CredentialsUnavailable, NotebookExecutionJobError
from airflow_provider_nbjob.hooks import files, retrying
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.hooks.permissions import GET_JOB, Need
from tests.support.fake_google import FakeGoogle

NAME = "projects/p/locations/us-central1/notebookExecutionJobs/j"
NO_TOKEN = "Getting metadata from plugin failed with error: "
REFUSED = RefreshError("invalid_grant: Account not found", {"error": "invalid_grant"})
IMPERSONATION = RefreshError("Unable to acquire impersonated credentials", '{"error": {"code": 403}}')
DISABLED = RefreshError("the account is disabled", {"error": "account_disabled"})
NONE = DefaultCredentialsError("Your default credentials were not found.")
NO_ACCOUNT = RefreshError(TransportError("Failed to retrieve the token", SimpleNamespace(status=404)))
OUTAGES = [
    TransportError("connection reset"),
    RefreshError("internal_failure", retryable=True),
    RefreshError(TransportError("Failed to retrieve the token", SimpleNamespace(status=503))),
]
for wrapping in (NO_ACCOUNT, OUTAGES[2]):
    wrapping.__cause__ = wrapping.args[0]


NEED = Need(SimpleNamespace(impersonation_chain=None, gcp_conn_id="google"), GET_JOB, "the project")


class Attempts:
    """What a client answers, in order, and the last of it for ever; it counts what it is asked."""

    def __init__(self, *answers):
        self._answers, self.count, self.renewed = list(answers), 0, 0

    def __call__(self):
        self.count += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def renew(self):
        self.renewed += 1


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _: None))


def perform(attempts, *, codes=("UNAVAILABLE",), **changes):
    log = SimpleNamespace(warning=lambda *_: None, info=lambda *_: None)
    given = {"log": log, "codes": codes, "not_found": None, "renew": attempts.renew, "need": NEED, **changes}
    return retrying.perform(attempts, "get of x", **given)


@pytest.mark.parametrize(
    "error",
    [
        api.Unauthenticated("the token is no good"),
        api.ServiceUnavailable("down"),
        api.DeadlineExceeded("hung"),
        api.ResourceExhausted("quota"),
        TransportError("connection reset"),
        *OUTAGES,
        REFUSED,
        NONE,
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_retry_is_one_attempt(error):
    attempts = Attempts(error)
    with pytest.raises(ApiError):
        perform(attempts, codes=(), renews=False)
    assert attempts.count == 1


@pytest.mark.parametrize("codes", [(), ("UNAVAILABLE", "INTERNAL")])
def test_an_expired_token_is_renewed_once(codes):
    once = Attempts(api.Unauthenticated("expired"), "answer")
    assert perform(once, codes=codes) == "answer"
    assert (once.count, once.renewed) == (2, 1)
    always = Attempts(api.Unauthenticated("revoked"))
    with pytest.raises(ApiError, match="UNAUTHENTICATED: revoked"):
        perform(always, codes=codes)
    assert always.count == 2


@pytest.mark.parametrize("error", [REFUSED, IMPERSONATION, DISABLED, NONE, NO_ACCOUNT], ids=str)
def test_credentials_that_cannot_be_used_are_told_at_once(error):
    attempts = Attempts(error)
    with pytest.raises(CredentialsUnavailable) as told:
        perform(attempts)
    assert attempts.count == 1
    assert not told.value.is_transient


@pytest.mark.parametrize("error", OUTAGES, ids=str)
def test_an_outage_of_what_gives_credentials_is_retried(error):
    attempts = Attempts(error, error, "answer")
    assert perform(attempts) == "answer"


@pytest.mark.parametrize("error", [REFUSED, IMPERSONATION, DISABLED], ids=str)
def test_what_grpc_says_of_refused_credentials_is_no_outage(error):
    """gRPC says UNAVAILABLE of both; the credentials are asked for a token to tell them apart."""

    def refresh(request):
        raise error

    attempts = Attempts(api.ServiceUnavailable(f"{NO_TOKEN}{error}"))
    with pytest.raises(CredentialsUnavailable):
        perform(attempts, credentials=lambda: SimpleNamespace(refresh=refresh))
    assert attempts.count == 1


@pytest.mark.parametrize("error", [*OUTAGES, None], ids=str)
def test_what_grpc_says_of_an_outage_is_retried(error):
    def refresh(request):
        if error:
            raise error

    attempts = Attempts(api.ServiceUnavailable(f"{NO_TOKEN}{error}"), "answer")
    assert perform(attempts, credentials=lambda: SimpleNamespace(refresh=refresh)) == "answer"


# --- the hook ---

PATH = "/etc/keys/of-a-secret-place.json"


def bad_connections(tmp_path):
    broken = tmp_path / "of-a-secret-place.json"
    broken.write_text("{")
    return {
        "missing key file": {"key_path": PATH},
        "broken key file": {"key_path": str(broken)},
        "key file that is none": {"key_path": str(tmp_path)},
        "broken key": {"keyfile_dict": "{"},
        "key of nothing": {"keyfile_dict": '{"type": "service_account", "client_email": "of-a-secret-place"}'},
    }


@pytest.mark.parametrize("kind", ["missing key file", "broken key file", "key file that is none", "broken key"])
@pytest.mark.parametrize("retry", [True, False])
def test_a_faulty_connection_is_told_at_once_and_to_viewers_without_a_path(monkeypatch, tmp_path, kind, retry):
    extra = {"project": "p", **bad_connections(tmp_path)[kind]}
    connection = json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
    monkeypatch.delenv("NBJOB_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: pytest.fail("it is retried"), raising=False)
    hook = NotebookExecutionJobHook()
    for call in (
        lambda: hook.get_notebook_execution_job(name=NAME, retry=retry),
        lambda: next(hook.list_notebook_execution_jobs(location="us-central1", retry=retry)),
        lambda: hook.files.stat_notebook("gs://bucket/n.ipynb"),
        lambda: hook.files.read_output_notebook("gs://bucket/n.ipynb"),
    ):
        with pytest.raises(CredentialsUnavailable) as told:
            call()
        assert "of-a-secret-place" not in told.value.public
        assert "/" not in told.value.public
        assert pickle.loads(pickle.dumps(told.value)).public == told.value.public


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(2, "No such file or directory", PATH), PermissionError(13, "denied", PATH), OSError(PATH)],
    ids=repr,
)
def test_what_storage_stumbles_upon_on_this_machine_is_not_for_viewers(monkeypatch, error):
    FakeGoogle(monkeypatch)

    def client(_):
        raise error

    monkeypatch.setattr(files, "storage_client", client)
    with pytest.raises(NotebookExecutionJobError) as told:
        NotebookExecutionJobHook().files.read_output_notebook("gs://bucket/n.ipynb")
    assert PATH in str(told.value)
    assert PATH not in told.value.public


@pytest.mark.parametrize(
    "look",
    [
        lambda hook: hook.get_notebook_execution_job(name=NAME, retry=False),
        lambda hook: next(hook.list_notebook_execution_jobs(location="us-central1", retry=False)),
    ],
    ids=["get", "list"],
)
def test_one_look_of_a_viewer_is_one_request(monkeypatch, look):
    google = FakeGoogle(monkeypatch)
    attempts = Attempts(api.Unauthenticated("no"))
    methods = ("get_notebook_execution_job", "list_notebook_execution_jobs")
    client = SimpleNamespace(**dict.fromkeys(methods, lambda *_, **__: attempts()))
    monkeypatch.setattr(google, "service", client)
    with pytest.raises(ApiError, match="UNAUTHENTICATED"):
        look(NotebookExecutionJobHook())
    assert attempts.count == 1
