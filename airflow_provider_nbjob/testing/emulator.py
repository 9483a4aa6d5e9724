"""Start an emulator in a process of its own, lead this process to it, and say how its jobs end."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from airflow_provider_nbjob.emulator.__main__ import NO_KERNELS, OF_KERNELS
from airflow_provider_nbjob.emulator.scripts import Script
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import bucket_and_path
from airflow_provider_nbjob.testing.jobs import Job

START_SECONDS = 120.0  # after which an emulator that does not serve is given up
STOP_SECONDS = 20.0  # after which one that was asked to end is killed
REQUEST_SECONDS = 60.0
CONNECTION = "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"
LOOPBACK = "127.0.0.1,localhost"
# requests reads `no_proxy`, else `NO_PROXY`; gRPC (1.85) reads `no_grpc_proxy`, else `no_proxy`. A proxy cannot reach
# the loopback interface of this machine.
NO_PROXY = ("no_grpc_proxy", "no_proxy", "NO_PROXY")


class UnusedScript(UserWarning):
    """A script matched no job of its test, so it may have a typing error."""


class NotebookEmulator:
    """An emulator with temporary data, on free ports of the loopback interface, while its context is entered.

    The emulator ends with this process, however that ends.

    :param folder: an empty folder for its data and its log
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy leads nowhere on this machine
        self._changes = pytest.MonkeyPatch()
        self._rest_url = ""
        self.environment: dict[str, str] = {}

    # --- its process ---

    def __enter__(self) -> NotebookEmulator:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def log_path(self) -> Path:
        """Return the path of its log."""
        return self._folder / "emulator.log"

    def _start(self) -> None:
        options = ["--grpc-port", "0", "--rest-port", "0", "--storage-port", "0", "--cleanup-delay", "0"]
        if any(importlib.util.find_spec(module) is None for module in OF_KERNELS):
            options.append(NO_KERNELS)
        with self.log_path.open("w") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "airflow_provider_nbjob.emulator"),
                    *("--data-dir", str(self._folder / "data"), "--make-buckets", "--parent", str(os.getpid())),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C reaches pytest alone, which then ends the emulator
            )
        timer = threading.Timer(START_SECONDS, self._process.kill)  # ends what it prints too
        timer.start()
        try:
            is_ready = self._read_addresses(self._process)
        finally:
            timer.cancel()
        if not is_ready:
            said = self.log_path.read_text(errors="replace")[-2_000:]
            raise RuntimeError(f"The emulator did not start; {self.log_path} ends with:\n{said}")

    def _read_addresses(self, process: subprocess.Popen[str]) -> bool:
        """Read the lines that the emulator prints until it serves; return False if it ends before that."""
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        for line in process.stdout:
            kind, _, text = line.strip().partition(" ")
            if kind == "export":
                name, _, value = text.partition("=")
                self.environment[name] = shlex.split(value)[0]
            elif kind == "rest":
                self._rest_url = text
            elif kind == "ready":
                return True
        return False

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.stdout:
            process.stdout.close()

    @contextmanager
    def lead_here(self) -> Iterator[None]:
        """Set the variables that lead this process to the emulator. At the end restore them, and empty the emulator."""
        others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        for name in NO_PROXY:
            self._changes.setenv(name, ",".join(filter(None, [os.environ.get(name) or others, LOOPBACK])))
        for name, value in self.environment.items():
            self._changes.setenv(name, value)
        try:
            yield
        finally:
            self._changes.undo()
            self._reset()

    def _reset(self) -> None:
        """Remove all jobs, buckets, scripts and faults, and set the counts of calls to zero."""
        for what in ("faults", "scripts"):
            self._request("DELETE", f"emulator/{what}")
        for job in self.jobs():
            self._request("DELETE", f"v1/{job.name}")
        for bucket in self._storage("GET", "b", params={"project": "tests"}).json().get("items", []):
            for name in self.objects(f"gs://{bucket['name']}"):
                self._storage("DELETE", _object_path(name))
            self._storage("DELETE", f"b/{bucket['name']}")
        self._request("DELETE", "emulator/calls")

    # --- what tests ask of it ---

    def script(
        self,
        job: str,
        *,
        state: str | None = None,
        cell: int | None = None,
        error: str | None = None,
        results: Mapping[str, Any] | None = None,
        seconds: float = 0,
        message: str | None = None,
        map_index: int | None = None,
        times: int | None = None,
    ) -> None:
        """Have the jobs that match end as a script says: at once, and without a kernel.

        If several scripts match a job, the first one that is not used up is used. The notebook must be there, and its
        bucket is made if it is not.

        :param job: a task id, a display name, or the path or the file name of a notebook, with wildcards ``*``, ``?``
            and ``[...]``
        :param state: terminal state of the job. Default: FAILED if `cell`, `error` or `message` is given, else
            SUCCEEDED
        :param cell: number of the cell that raises, as `JobFailed` counts: among all cells of the notebook that is run,
            from 1. With `parameters`, the cell that assigns them is one of these. Default: the last code cell, if the
            notebook failed
        :param error: exception that the cell raises, such as ``"KeyError"`` or ``"KeyError: 'west'"``
        :param results: results of the notebook by name
        :param seconds: time that the job runs; default 0
        :param message: status message of the job. Without `cell` and `error`, the job fails before its notebook runs,
            as if there were no machine for it
        :param map_index: only of this instance of a mapped task; the task must not have a `display_name` of its own
        :param times: number of jobs that the script is used for; default: all
        :raises ValueError: with one message for each problem, which names the argument, the value and the rule
        """
        if job is None:
            raise ValueError("job: None is of type NoneType; it must be a text that is not empty")
        self._add(Script(job, map_index, state, cell, error, results, seconds, message, times))

    def fake_all(self) -> None:
        """Have all jobs that no script matches succeed at once, without a kernel and without results."""
        self._add(Script())

    def _add(self, script: Script) -> None:
        self._request("POST", "emulator/scripts", json=asdict(script))

    def problems(self) -> list[str]:
        """Return one message for each script that could not be used for a job that it matched."""
        standing = self._request("GET", "emulator/scripts").json()
        return [f"script({script['job']!r}): {text}" for script in standing for text in script["problems"]]

    def unused(self) -> list[str]:
        """Return one message for each script that matched no job."""
        standing = self._request("GET", "emulator/scripts").json()
        names = ", ".join(repr(job.display_name) for job in self.jobs()) or "none"
        unused = [script["job"] for script in standing if not script["used"] and script["job"] is not None]
        return [f"script({job!r}) matched no job; the display names of the jobs are: {names}" for job in unused]

    def upload(self, path: str | os.PathLike[str], uri: str) -> None:
        """Upload a file, or all files of a folder, to the emulator's Cloud Storage; the bucket is made.

        :param path: of the file or the folder; hidden files of a folder are left out
        :param uri: of the object, or of the folder to upload into: ``gs://BUCKET/NAME``
        :raises ValueError: if the path is neither a file nor a folder, or the URI is invalid
        """
        source = Path(path)
        if source.is_file():
            self.write(uri, source.read_bytes())
            return
        if not source.is_dir():
            raise ValueError(f"path: {str(path)!r} is neither a file nor a folder, in {os.getcwd()}")
        for file in sorted(source.rglob("*")):
            parts = file.relative_to(source).parts
            if file.is_file() and not any(part.startswith(".") for part in parts):
                self.write("/".join([uri.rstrip("/"), *parts]), file.read_bytes())

    def write(self, uri: str, content: bytes) -> None:
        """Write an object; the bucket is made.

        :raises ValueError: if the URI is invalid
        """
        bucket, name = _bucket_and_name(uri)
        params = {"uploadType": "media", "name": name}
        self._storage("POST", f"b/{bucket}/o", prefix="upload/", params=params, data=content)

    def read(self, uri: str) -> bytes:
        """Return the content of an object.

        :raises FileNotFoundError: if there is none
        """
        answer = self._storage("GET", _object_path(uri), params={"alt": "media"}, is_expected=(404,))
        if answer.status_code == 404:
            raise FileNotFoundError(f"There is no object {uri}")
        return bytes(answer.content)

    def objects(self, uri: str) -> list[str]:
        """Return the URIs of all objects whose URIs begin with one: a bucket, ``gs://BUCKET``, or a longer text."""
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        found: list[str] = []
        page: dict[str, str] = {"prefix": prefix}
        while True:
            answer = self._storage("GET", f"b/{bucket}/o", params=page).json()
            found += [f"gs://{bucket}/{item['name']}" for item in answer.get("items", [])]
            if not (token := answer.get("nextPageToken")):
                return found
            page["pageToken"] = token

    def jobs(self) -> list[Job]:
        """Return all jobs of this test, the oldest first."""
        return [Job(resource) for resource in self._request("GET", "emulator/jobs").json()]

    def executed_notebook(self, job: Job) -> dict[str, Any] | None:
        """Return the executed notebook of a job, as its JSON, or None if there is none."""
        try:
            notebook: dict[str, Any] = json.loads(self.read(job.output_notebook))
        except FileNotFoundError:
            return None
        return notebook

    def connect(self, conn_id: str) -> None:
        """Have another connection of Airflow lead to the emulator too, until the end of the test.

        :param conn_id: such as ``"google_cloud_prod"``
        """
        self._changes.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", self.environment[CONNECTION])

    def fault(self, rpc: str, code: str, *, times: int | None = None, drop_response: bool = False) -> None:
        """Have requests to the API fail, until the end of the test.

        :param rpc: such as ``"CreateNotebookExecutionJob"``, or ``"*"`` for all
        :param code: name of a google.rpc.Code, such as ``"UNAVAILABLE"``
        :param times: number of requests that fail; default: all
        :param drop_response: perform the request, and lose the answer; default False
        :raises ValueError: if the emulator does not accept it; the message names the field
        """
        body = {"rpc": rpc, "code": code, "times": times, "drop_response": drop_response}
        self._request("POST", "emulator/faults", json=body)

    def calls(self) -> dict[str, int]:
        """Return how often each method of the API was called in this test, by its name."""
        counted: dict[str, int] = self._request("GET", "emulator/calls").json()
        return counted

    # --- requests ---

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        answer = self._session.request(method, f"{self._rest_url}/{path}", timeout=REQUEST_SECONDS, **options)
        if answer.status_code == 400:
            raise ValueError(answer.json()["error"]["message"])
        answer.raise_for_status()
        return answer

    def _storage(
        self, method: str, path: str, *, prefix: str = "", is_expected: tuple[int, ...] = (), **options: Any
    ) -> requests.Response:
        url = f"{self.environment['STORAGE_EMULATOR_HOST']}/{prefix}storage/v1/{path}"
        answer = self._session.request(method, url, timeout=REQUEST_SECONDS, **options)
        if answer.status_code == 400:
            raise ValueError(answer.json()["error"]["message"])
        if answer.status_code not in is_expected:
            answer.raise_for_status()
        return answer


def _bucket_and_name(uri: str) -> tuple[str, str]:
    """Return the bucket and the name of an object.

    :raises ValueError: if the URI is not of the form gs://BUCKET/NAME
    """
    try:
        bucket, name = bucket_and_path(uri)
    except InvalidJob as error:
        raise ValueError(str(error)) from None
    if not name:
        raise ValueError(f"uri: {uri!r} is not of the form gs://BUCKET/NAME")
    return bucket, name


def _object_path(uri: str) -> str:
    bucket, name = _bucket_and_name(uri)
    return f"b/{bucket}/o/{quote(name, safe='')}"
