"""A bucket that does not answer, or answers byte by byte, holds nobody for longer than a bound."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_nbjob.exceptions import ApiError, OutputUnavailable
from airflow_provider_nbjob.hooks import bounded_calls, files
from airflow_provider_nbjob.hooks.bounded_calls import within
from airflow_provider_nbjob.hooks.clients import storage_client
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from airflow_provider_nbjob.lifecycle import outcome
from airflow_provider_nbjob.lifecycle.outcome import Conclusion
from tests.support.fake_google import REPOSITORY, FakeGoogle
from tests.support.fake_service import EXECUTED, ended_job
from tests.support.patience import wait_until

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
ANSWERS: dict[str, list[bytes]] = {
    "says nothing": [],
    "drips its headers": [b"HTTP/1.1 200 OK\r\n", *(b"X-%d: y\r\n" % number for number in range(5000))],
    "drips its content": [HEAD, *([b" "] * 5000)],
}


class SlowServer:
    """Accepts connections, and answers each with pieces, a tenth of a second apart, until it is closed."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces, self._is_open = pieces, threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            thread = threading.Thread(target=self._answer, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            for piece in self._pieces:
                try:
                    connection.sendall(piece)
                except OSError:
                    return
                if self._is_open.wait(0.1):
                    return
            self._is_open.wait()

    def close(self) -> None:
        self._is_open.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture(params=ANSWERS)
def server(request, monkeypatch) -> Iterator[SlowServer]:
    """A Cloud Storage that is reached and gives no whole answer, and a hook's way to it."""
    FakeGoogle(monkeypatch)
    slow = SlowServer(ANSWERS[request.param])
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", slow.url)
    monkeypatch.setattr(files, "storage_client", storage_client)
    yield slow
    slow.close()


@pytest.fixture
def bounds(monkeypatch) -> None:
    """Bounds of half a second: how long they are is of no account here, only that each is kept."""
    for name in ("OUTPUT_SECONDS", "ONCE_SECONDS", "SOURCE_SECONDS"):
        monkeypatch.setattr(files, name, 0.5)
    monkeypatch.setattr(outcome, "OUTPUT_SECONDS", 0.5)


STORED = files.StoredNotebook("gs://bucket/n.ipynb", 1, 10)
READS: dict[str, Callable[[NotebookExecutionJobHook], Any]] = {
    "find_output_notebook": lambda hook: hook.files.stat_output_notebook(ended_job(), timeout=0.5),
    "stat_notebook": lambda hook: hook.files.stat_notebook("gs://bucket/n.ipynb"),
    "read_stored_notebook": lambda hook: hook.files.read_stored_notebook(STORED),
    "read_output_notebook": lambda hook: hook.files.read_output_notebook(EXECUTED, timeout=0.5),
    "read_executed_notebook": lambda hook: hook.files.read_executed_notebook(EXECUTED, timeout=0.5),
    "read_gcs_notebook": lambda hook: hook.files.read_gcs_notebook("gs://bucket/n.ipynb"),
    "upload_notebook": lambda hook: hook.files.upload_notebook(b"{}", "gs://bucket/n.ipynb"),
}


@pytest.mark.usefixtures("bounds", "server")
@pytest.mark.parametrize("read", READS)
def test_a_read_is_given_up_when_its_time_is_over(read):
    with pytest.raises(ApiError, match=r"Could not .* longer than") as raised:
        READS[read](NotebookExecutionJobHook())
    assert raised.value.code == "DEADLINE_EXCEEDED"


@pytest.mark.usefixtures("bounds", "server")
def test_a_task_is_told_that_its_bucket_does_not_answer():
    hook, log = NotebookExecutionJobHook(), logging.getLogger("task")
    done = Conclusion().of(hook, ended_job(), log)
    assert "longer than" in done.output_error
    with pytest.raises(OutputUnavailable, match="longer than"):
        Conclusion(fail_on_cell_error=True).of(hook, ended_job(), log)


def test_a_repository_that_does_not_answer_is_given_up(monkeypatch):
    google, is_over = FakeGoogle(monkeypatch), threading.Event()
    monkeypatch.setattr(files, "SOURCE_SECONDS", 0.5)
    monkeypatch.setattr(google.dataform, "query_repository_directory_contents", lambda *_, **__: is_over.wait())
    with pytest.raises(ApiError, match=r"Could not .* longer than"):
        NotebookExecutionJobHook().files.read_dataform_notebook(REPOSITORY)
    is_over.set()


def test_an_unreachable_bucket_is_asked_for_less_long_than_the_bound(monkeypatch):
    """By default Google's library goes on for two minutes, at each request."""
    assert files.RETRY_SECONDS + files.ANSWER_SECONDS < files.OUTPUT_SECONDS <= 60
    google = FakeGoogle(monkeypatch)
    google.storage.fail("list", 503, "down", times=10_000)
    clock = iter(float(second) for second in range(10_000))
    monkeypatch.setattr("google.api_core.retry.retry_unary.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("google.api_core.retry.retry_unary.time.sleep", lambda _: None)
    with pytest.raises(ApiError, match="down"):
        NotebookExecutionJobHook().files.find_output_notebook(ended_job())
    assert google.storage.timeouts == {files.ANSWER_SECONDS}
    assert 1 < google.storage.requests.count(google.storage.requests[0]) <= files.RETRY_SECONDS


# --- calls with a bound ---


def test_what_a_call_returns_and_raises_is_passed_on():
    assert within(60, "do it", lambda: 42) == 42
    for error in (ValueError("x"), TimeoutError("its own"), KeyboardInterrupt()):

        def fails(error=error):
            raise error

        with pytest.raises(type(error)) as raised:
            within(60, "do it", fails)
        assert raised.value is error


def test_calls_that_were_given_up_are_limited_and_counted_until_they_end(monkeypatch):
    is_over = threading.Event()
    monkeypatch.setattr(bounded_calls, "_calls", threading.BoundedSemaphore(3))
    for _ in range(3):
        with pytest.raises(ApiError, match="it took longer than 0 s"):
            within(0.01, "wait", is_over.wait)
    with pytest.raises(ApiError, match="calls of this kind go on") as raised:
        within(60, "wait", lambda: 42)
    assert raised.value.code == "RESOURCE_EXHAUSTED"
    is_over.set()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "nbjob: wait"], timeout=20, what="its end")
    assert within(60, "do it", lambda: 42) == 42
